/** Notices sequential readers and asks for what they want next. */
import type { InodeRecord } from "../format/records.ts";
import type { InodeNumber } from "../ids.ts";
import type { Contents } from "./contents.ts";
import {
  APPROACH_STEP_BYTES,
  APPROACH_TRUST,
  MAX_APPROACH_BYTES,
  READ_AHEAD_BYTES,
  READ_AHEAD_FILES,
} from "./limits.ts";

interface Reader {
  /** Where its last read ended. */
  readonly end: bigint;
  /** What it has read without leaving the neighbourhood. */
  readonly readBytes: number;
  /** To where the store was asked for what it comes to. */
  approached: bigint;
}

export class ReadAhead {
  readonly #contents: Pick<Contents, "prefetch" | "approach" | "hasStore">;
  /** In order of last use. */
  readonly #readers = new Map<InodeNumber, Reader>();

  constructor(contents: Pick<Contents, "prefetch" | "approach" | "hasStore">) {
    this.#contents = contents;
  }

  /** A read was asked for. Two adjoining ones make a sequential reader. */
  note(inode: InodeRecord, offset: bigint, lengthBytes: number): void {
    const end = offset + BigInt(lengthBytes);
    const before = this.#readers.get(inode.ino);
    this.#readers.delete(inode.ino);
    if (end >= inode.lengthBytes) return;
    const reader = nextOf(before, offset, lengthBytes);
    this.#readers.set(inode.ino, reader);
    if (this.#readers.size > READ_AHEAD_FILES) {
      const [oldest] = this.#readers.keys();
      if (oldest !== undefined) this.#readers.delete(oldest);
    }
    if (before?.end === offset) this.#contents.prefetch(inode, end, READ_AHEAD_BYTES);
    if (this.#contents.hasStore) this.#approach(inode, reader);
  }

  /** Who has come so far is trusted to go on {@link APPROACH_TRUST} times as far: who stops early has cost little, and soon there is much ahead. */
  #approach(inode: InodeRecord, reader: Reader): void {
    const { end, readBytes } = reader;
    const goal = end + BigInt(Math.min(APPROACH_TRUST * readBytes, MAX_APPROACH_BYTES));
    if (reader.approached < end) reader.approached = end;
    for (;;) {
      const next = reader.approached + BigInt(APPROACH_STEP_BYTES);
      if (next > goal || reader.approached >= inode.lengthBytes) return;
      if (!this.#contents.approach(inode, reader.approached, APPROACH_STEP_BYTES)) return;
      reader.approached = next;
    }
  }

  forget(ino: InodeNumber): void {
    this.#readers.delete(ino);
  }
}

/** The kernel's own reading ahead may come out of order. */
function nextOf(before: Reader | undefined, offset: bigint, lengthBytes: number): Reader {
  const end = offset + BigInt(lengthBytes);
  const near = BigInt(READ_AHEAD_BYTES);
  if (before === undefined || offset < before.end - near || offset > before.end + near) {
    return { end, readBytes: lengthBytes, approached: end };
  }
  return { end, readBytes: before.readBytes + lengthBytes, approached: before.approached };
}
