/** A place in a run of bytes that lies in several pieces. Borrows the pieces. */

export class PieceCursor {
  readonly #pieces: readonly Uint8Array[];
  #index: number;
  #offset: number;

  constructor(pieces: readonly Uint8Array[], index = 0, offset = 0) {
    this.#pieces = pieces;
    this.#index = index;
    this.#offset = offset;
  }

  copy(): PieceCursor {
    return new PieceCursor(this.#pieces, this.#index, this.#offset);
  }

  /** @returns A view of the next contiguous bytes, at most `limit` of them, and steps over it; undefined at the end. */
  next(limit: number): Uint8Array | undefined {
    for (;;) {
      const piece = this.#pieces[this.#index];
      if (piece === undefined) return undefined;
      if (this.#offset < piece.length) {
        const view = piece.subarray(this.#offset, this.#offset + limit);
        this.#offset += view.length;
        return view;
      }
      this.#index += 1;
      this.#offset = 0;
    }
  }

  /** @returns Views of the next `lengthBytes`, or of what there is. */
  *take(lengthBytes: number): Generator<Uint8Array> {
    for (let left = lengthBytes; left > 0;) {
      const view = this.next(left);
      if (view === undefined) return;
      left -= view.length;
      yield view;
    }
  }
}
