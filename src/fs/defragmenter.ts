/**
 * Re-cuts what small synced writes left in pieces: once a file falls quiet, stretches of many short extents are read
 * and written anew as whole chunks. Contents, times and lengths stay as they are; a file that changes is left alone.
 */
import { type BorrowedBytes, settleLoans } from "../borrowed-bytes.ts";
import { isSamePage } from "../format/extent-codec.ts";
import { EXTENT_PAGE_BYTES, type Extent, type ExtentPage, type InodeRecord } from "../format/records.ts";
import { isZeroChunk } from "../format/zero-chunk.ts";
import type { InodeNumber } from "../ids.ts";
import type { MetadataStore } from "../metadata/metadata-store.ts";
import type { Clock, Timer } from "../platform/clock.ts";
import type { Contents } from "./contents.ts";
import type { FileTable } from "./file-table.ts";

/** An extent shorter than this counts as a piece. */
const PIECE_BYTES = 64 * 1024;
/** So many pieces in a row are worth re-cutting: fewer would cost more bytes than the order is worth. */
const MIN_PIECES = 16;
/** A file is quiet when nothing was committed of it for this long. */
const QUIET_MS = 3000;
/** Bytes re-cut between two looks at the clock; leaves room for the user's own writes. */
const MAX_PASS_BYTES = 8 * 1024 * 1024;
/** Pages remembered; beyond, the oldest are left as they are. */
const MAX_CANDIDATES = 4096;

/** A run of a page worth re-cutting. */
interface PieceRun {
  readonly start: number;
  readonly lengthBytes: number;
}

/** @returns The stretches of a page that consist of many short extents. */
export function pieceRuns(extents: ExtentPage): PieceRun[] {
  const runs: PieceRun[] = [];
  let first = 0;
  for (let index = 0; index <= extents.length; index++) {
    const extent = extents[index];
    const previous = extents[index - 1];
    const isPiece = extent !== undefined && extent.lengthBytes < PIECE_BYTES && !isZeroChunk(extent.chunk);
    const isAdjoining = previous === undefined || extent === undefined || endOf(previous) === extent.start;
    if (isPiece && (isAdjoining || index === first)) continue;
    if (index - first >= MIN_PIECES && previous !== undefined) {
      const { start } = extents[first] as Extent;
      runs.push({ start, lengthBytes: endOf(previous) - start });
    }
    first = isPiece ? index : index + 1;
  }
  return runs;
}

function endOf(extent: Extent): number {
  return extent.start + extent.lengthBytes;
}

export interface DefragmenterOptions {
  readonly files: FileTable;
  readonly metadata: MetadataStore;
  readonly contents: Contents;
  readonly clock: Clock;
  /** Whether there is room for what can wait: on the disk and in memory. */
  readonly hasRoom: () => boolean;
  /** Changes wait for a commit. */
  readonly onChange: () => void;
}

export class Defragmenter {
  readonly #options: DefragmenterOptions;
  /** Fragmented pages, with the time they were last committed. */
  readonly #candidates = new Map<
    string,
    { readonly ino: InodeNumber; readonly page: number; readonly sinceMs: number }
  >();
  #timer: Timer | undefined;
  #isRunning = false;
  #isClosed = false;
  /** Set while nothing may be changed. */
  isPaused = false;

  constructor(options: DefragmenterOptions) {
    this.#options = options;
  }

  /** A commit stores this page. */
  note(ino: InodeNumber, page: number, extents: ExtentPage): void {
    const key = `${ino}/${page}`;
    this.#candidates.delete(key);
    if (extents.length < MIN_PIECES || pieceRuns(extents).length === 0) return;
    if (this.#candidates.size >= MAX_CANDIDATES) {
      const [oldest] = this.#candidates.keys();
      if (oldest !== undefined) this.#candidates.delete(oldest);
    }
    this.#candidates.set(key, { ino, page, sinceMs: this.#options.clock.monotonicMs() });
    this.#schedule();
  }

  /** Stop; what is under way ends without effect. */
  close(): void {
    this.#isClosed = true;
    this.#timer?.cancel();
  }

  #schedule(): void {
    if (this.#isClosed || this.#isRunning || this.#candidates.size === 0) return;
    this.#timer ??= this.#options.clock.after(QUIET_MS, () => {
      this.#timer = undefined;
      this.#isRunning = true;
      void this.#pass().finally(() => {
        this.#isRunning = false;
        this.#schedule();
      });
    });
  }

  async #pass(): Promise<void> {
    let bytes = 0;
    const now = this.#options.clock.monotonicMs();
    for (const [key, { ino, page, sinceMs }] of this.#candidates) {
      if (bytes >= MAX_PASS_BYTES || this.#isClosed || !this.#options.hasRoom()) return;
      if (now - sinceMs < QUIET_MS || this.#options.files.find(ino) !== undefined) continue;
      this.#candidates.delete(key);
      try {
        bytes += await this.#recut(ino, page);
      } catch {
        // unreadable pieces stay as they are: a reader of the file is told, not this pass
      }
    }
  }

  async #recut(ino: InodeNumber, page: number): Promise<number> {
    const { metadata, contents, files, onChange } = this.#options;
    const inode = metadata.getInode(ino);
    if (inode === undefined) return 0;
    const extents = metadata.getExtentPage(ino, page);
    const runs = pieceRuns(extents);
    const base = BigInt(page) * BigInt(EXTENT_PAGE_BYTES);
    const read = async (run: PieceRun): Promise<BorrowedBytes> =>
      contents.read(inode, base + BigInt(run.start), run.lengthBytes);
    const loans = await settleLoans(runs.map(read));
    // From here to the end nothing else runs: a file with changes of its own in memory is left alone.
    const isUnchanged =
      !this.#isClosed &&
      !this.isPaused &&
      files.find(ino) === undefined &&
      (metadata.getInode(ino)?.linkCount ?? 0) > 0 &&
      isSamePage(extents, metadata.getExtentPage(ino, page));
    if (isUnchanged) {
      runs.forEach((run, index) => {
        this.#rewrite(inode, page, run.start, loans[index]?.pieces ?? []);
      });
    }
    for (const { release } of loans) release();
    if (!isUnchanged) return 0;
    onChange();
    return runs.reduce((sum, run) => sum + run.lengthBytes, 0);
  }

  #rewrite(inode: InodeRecord, page: number, start: number, pieces: readonly Uint8Array[]): void {
    const file = this.#options.files.open(inode);
    let position = start;
    for (const piece of pieces) {
      file.write(page, position, piece);
      position += piece.length;
    }
  }
}
