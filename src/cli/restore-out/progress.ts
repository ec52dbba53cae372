/** How far a long command is: one line that is written over on a terminal, a plain line now and then elsewhere. */

const TERMINAL_INTERVAL_MS = 200;
const PLAIN_INTERVAL_MS = 30_000;

export class Progress implements Disposable {
  readonly #stream: NodeJS.WriteStream;
  readonly #describe: () => string;
  #last = performance.now();
  #isShown = false;

  /** @param describe - The line as it is now. */
  constructor(stream: NodeJS.WriteStream, describe: () => string) {
    this.#stream = stream;
    this.#describe = describe;
  }

  /** Something was done; cheap. */
  step(): void {
    const now = performance.now();
    if (now - this.#last < (this.#stream.isTTY ? TERMINAL_INTERVAL_MS : PLAIN_INTERVAL_MS)) return;
    this.#last = now;
    const line = this.#describe();
    this.#isShown = this.#stream.isTTY;
    if (this.#isShown) this.#stream.write(`\r${line.slice(0, this.#stream.columns - 1)}\u001b[K`);
    else this.#stream.write(`${line}\n`);
  }

  [Symbol.dispose](): void {
    if (this.#isShown) this.#stream.write("\r\u001b[K");
  }
}
