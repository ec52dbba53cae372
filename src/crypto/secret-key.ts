/** A key in memory: never printed, wiped once, refused afterwards. */
import { inspect } from "node:util";

import { TcfsError } from "../errors.ts";

export class SecretKey {
  #bytes: Uint8Array | undefined;

  /** @param bytes - Copied. */
  constructor(bytes: Uint8Array) {
    this.#bytes = Uint8Array.from(bytes);
  }

  /**
   * @returns The key itself: to be used in the same synchronous step, not kept, not changed.
   * @throws TcfsError `TCFS_CLOSED` once wiped.
   */
  expose(): Uint8Array {
    if (this.#bytes === undefined) throw new TcfsError("TCFS_CLOSED", "the key is wiped");
    return this.#bytes;
  }

  wipe(): void {
    this.#bytes?.fill(0);
    this.#bytes = undefined;
  }

  toJSON(): string {
    return "[key]";
  }

  [inspect.custom](): string {
    return "[key]";
  }
}
