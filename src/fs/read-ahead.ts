/** Notices sequential readers and asks for what they want next. */
import type { InodeRecord } from "../format/records.ts";
import type { InodeNumber } from "../ids.ts";
import type { Contents } from "./contents.ts";
import { READ_AHEAD_BYTES, READ_AHEAD_FILES } from "./limits.ts";

export class ReadAhead {
  readonly #contents: Contents;
  /** Where the last read of a file ended; in order of last use. */
  readonly #ends = new Map<InodeNumber, bigint>();

  constructor(contents: Contents) {
    this.#contents = contents;
  }

  /** A read was asked for. Two adjoining ones make a sequential reader. */
  note(inode: InodeRecord, offset: bigint, lengthBytes: number): void {
    const end = offset + BigInt(lengthBytes);
    if (end >= inode.lengthBytes) {
      this.#ends.delete(inode.ino);
      return;
    }
    const isSequential = this.#ends.get(inode.ino) === offset;
    this.#ends.delete(inode.ino);
    this.#ends.set(inode.ino, end);
    if (this.#ends.size > READ_AHEAD_FILES) {
      const [oldest] = this.#ends.keys();
      if (oldest !== undefined) this.#ends.delete(oldest);
    }
    if (isSequential) this.#contents.prefetch(inode, end, READ_AHEAD_BYTES);
  }

  forget(ino: InodeNumber): void {
    this.#ends.delete(ino);
  }
}
