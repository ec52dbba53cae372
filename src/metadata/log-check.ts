/**
 * LevelDB's logs, checked before LevelDB opens them (FORMAT.md §7.13). By itself it drops what does not verify and goes
 * on behind it: synced changes would be missing from the middle of history. Only reads.
 */
import { open, readdir, type FileHandle } from "node:fs/promises";
import { join } from "node:path";
import { TcfsError, isErrno } from "../errors.ts";
import { maskedCrc32c } from "./stored-checksum.ts";

export const BLOCK_BYTES = 32 * 1024;
/** Of a record: masked CRC-32C u32 of type and data, length u16, type u8. */
export const HEADER_BYTES = 7;
/** Of a batch: sequence number u64 of its first change, count u32 of its changes. */
const BATCH_HEADER_BYTES = 12;
const READ_BYTES = 32 * BLOCK_BYTES;

export const FULL = 1;
export const FIRST = 2;
export const MIDDLE = 3;
export const LAST = 4;

interface LogRecord {
  readonly type: number;
  readonly data: Buffer;
}

/**
 * @returns A sentence for each log whose last batch was cut short, as a power cut leaves it.
 * @throws TcfsError `TCFS_CORRUPT` if a batch is damaged or missing and a later one is there; what `node:fs` throws.
 */
export async function checkLogs(directory: string): Promise<string[]> {
  const files = await namesOf(directory);
  const names = files.filter((name) => /^\d+\.log$/u.test(name));
  if (names.length === 0 && files.includes("CURRENT")) throw withoutLog();
  names.sort((left, right) => Number.parseInt(left, 10) - Number.parseInt(right, 10));
  const torn: string[] = [];
  let before: LogWalk | undefined;
  for (const name of names) {
    const walk = await walkLog(directory, name);
    if (walk === undefined) continue;
    if (walk.damagedAt !== undefined) {
      torn.push(
        `the metadata log ${name} ends at byte ${walk.damagedAt} in a batch that was cut short: it is left out`,
      );
    }
    if (walk.firstSequence === undefined) continue;
    if (before?.nextSequence !== undefined && walk.firstSequence > before.nextSequence) throw before.hole();
    before = walk;
  }
  return torn;
}

/** LevelDB makes a log before it names it anywhere and takes the one before away after: there always is one. */
function withoutLog(): TcfsError {
  const why = "its log is missing (do your backups leave out *.log?): opening it would lose what was synced last";
  return new TcfsError(
    "TCFS_CORRUPT",
    `the metadata is not complete: ${why}. Restore the file from a copy of the vault`,
  );
}

async function namesOf(directory: string): Promise<string[]> {
  try {
    return await readdir(directory);
  } catch (error) {
    if (isErrno(error, "ENOENT")) return [];
    throw error;
  }
}

/** @returns undefined if the log has gone: another process has the database open, and opening will say so. */
async function walkLog(directory: string, name: string): Promise<LogWalk | undefined> {
  let file: FileHandle;
  try {
    file = await open(join(directory, name), "r");
  } catch (error) {
    if (isErrno(error, "ENOENT")) return undefined;
    throw error;
  }
  try {
    const { size } = await file.stat();
    const walk = new LogWalk(name);
    const piece = Buffer.allocUnsafe(Math.min(size, READ_BYTES));
    for (let start = 0; start < size;) {
      const { bytesRead } = await file.read(piece, 0, Math.min(piece.length, size - start), start);
      for (let at = 0; at < bytesRead; at += BLOCK_BYTES) {
        walk.addBlock(piece.subarray(at, Math.min(at + BLOCK_BYTES, bytesRead)), start + at);
      }
      if (bytesRead < piece.length) break;
      start += bytesRead;
    }
    walk.end();
    return walk;
  } finally {
    await file.close();
  }
}

class LogWalk {
  readonly #name: string;
  /** Where the first record that is no part of a whole batch begins. */
  damagedAt: number | undefined;
  firstSequence: bigint | undefined;
  nextSequence: bigint | undefined;
  #endBytes = 0;
  /** The first bytes of a batch whose last fragment is yet to come, and where it began. */
  #begun: { readonly at: number; head: Buffer } | undefined;

  constructor(name: string) {
    this.#name = name;
  }

  /** @param block - The next block of the log, shorter only at its end. Borrowed. */
  addBlock(block: Buffer, start: number): void {
    this.#endBytes = start + block.length;
    if (this.damagedAt !== undefined) {
      this.#refuseLaterBatch(block, 0);
      return;
    }
    let at = 0;
    while (at + HEADER_BYTES <= block.length) {
      const record = readRecord(block, at);
      if (record === undefined || !this.#add(record, start + at)) {
        this.damagedAt = this.#begun?.at ?? start + at;
        this.#refuseLaterBatch(block, at + 1);
        return;
      }
      at += HEADER_BYTES + record.data.length;
    }
    /* What is left of a whole block is padding, of the last one a header cut short. */
    if (at < block.length && block.length < BLOCK_BYTES) this.damagedAt = this.#begun?.at ?? start + at;
  }

  end(): void {
    this.damagedAt ??= this.#begun?.at;
  }

  hole(): TcfsError {
    const at = this.damagedAt ?? this.#begun?.at ?? this.#endBytes;
    return new TcfsError(
      "TCFS_CORRUPT",
      `the metadata log ${this.#name} is damaged at byte ${at}, and later batches follow: opening it would lose synced ` +
        "changes from the middle. Nothing was changed; restore the file from a copy of the vault",
    );
  }

  /** @returns False if it cannot stand here. */
  #add({ type, data }: LogRecord, at: number): boolean {
    const isBeginning = type === FULL || type === FIRST;
    if (isBeginning && this.#begun !== undefined) throw this.hole();
    if (isBeginning) this.#begun = { at, head: Buffer.alloc(0) };
    if (this.#begun === undefined) return false;
    if (this.#begun.head.length < BATCH_HEADER_BYTES) {
      this.#begun.head = Buffer.concat([this.#begun.head, data.subarray(0, BATCH_HEADER_BYTES)]);
    }
    return type === FIRST || type === MIDDLE || this.#endBatch(this.#begun.head);
  }

  #endBatch(head: Buffer): boolean {
    if (head.length < BATCH_HEADER_BYTES) return false;
    const sequence = head.readBigUInt64LE(0);
    if (this.nextSequence !== undefined && sequence !== this.nextSequence) throw this.hole();
    this.firstSequence ??= sequence;
    this.nextSequence = sequence + BigInt(head.readUInt32LE(8));
    this.#begun = undefined;
    return true;
  }

  /** Behind damage no length can be believed: a batch may begin at any byte. */
  #refuseLaterBatch(block: Buffer, from: number): void {
    for (let at = from; at + HEADER_BYTES <= block.length; at++) {
      const type = block[at + 6];
      if ((type === FULL || type === FIRST) && readRecord(block, at) !== undefined) throw this.hole();
    }
  }
}

/** @returns undefined if it does not verify; its data are a view. */
export function readRecord(block: Buffer, at: number): LogRecord | undefined {
  const type = block[at + 6] as number;
  const end = at + HEADER_BYTES + block.readUInt16LE(at + 4);
  if (type < FULL || type > LAST || end > block.length) return undefined;
  if (maskedCrc32c(block.subarray(at + 6, end)) !== block.readUInt32LE(at)) return undefined;
  return { type, data: block.subarray(at + HEADER_BYTES, end) };
}
