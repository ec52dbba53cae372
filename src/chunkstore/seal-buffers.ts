/** Output buffers of sealing jobs: a fixed number of one size, reused; whoever finds none waits its turn. */

export class SealBuffers {
  readonly #bufferBytes: number;
  readonly #maxBuffers: number;
  readonly #idle: Uint8Array[] = [];
  readonly #waiting: ((buffer: Uint8Array) => void)[] = [];
  #made = 0;

  constructor(options: { readonly bufferBytes: number; readonly maxBuffers: number }) {
    this.#bufferBytes = options.bufferBytes;
    this.#maxBuffers = options.maxBuffers;
  }

  /** @returns A buffer to give back with {@link release}; first come, first served. */
  acquire(): Uint8Array | Promise<Uint8Array> {
    const buffer = this.#idle.pop();
    if (buffer !== undefined) return buffer;
    if (this.#made < this.#maxBuffers) {
      this.#made += 1;
      return new Uint8Array(this.#bufferBytes);
    }
    return new Promise((resolve) => {
      this.#waiting.push(resolve);
    });
  }

  release(buffer: Uint8Array): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#idle.push(buffer);
    else next(buffer);
  }
}
