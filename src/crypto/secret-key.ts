/** A key in memory, locked where that is to be had: never printed, wiped once, refused afterwards. */
import { inspect } from "node:util";

import { TcfsError } from "../errors.ts";
import { keyMemory } from "../platform/hardening.ts";

export class SecretKey {
  #bytes: Uint8Array | undefined;

  /** @param bytes - Copied. */
  constructor(bytes: Uint8Array) {
    this.#bytes = keyMemory(bytes.length);
    this.#bytes.set(bytes);
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
