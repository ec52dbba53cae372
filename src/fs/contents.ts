/**
 * Reading and changing the bytes of regular files. Keeps `lengthBytes` and `allocatedBytes` of the inode true;
 * times and set-id bits are the caller's (attributes.ts).
 */
import { type BorrowedBytes, joinLoans, lend, settleLoans } from "../borrowed-bytes.ts";
import { copyOf } from "../bytes.ts";
import type { ChunkStore } from "../chunkstore/chunk-store.ts";
import { TcfsError, isTcfsError } from "../errors.ts";
import { EXTENT_PAGE_BYTES, type ExtentPage, type InodeRecord } from "../format/records.ts";
import { isZeroChunk } from "../format/zero-chunk.ts";
import type { ChunkId, InodeNumber } from "../ids.ts";
import { type MaybePromise, isPromise } from "../maybe-promise.ts";
import type { MetadataStore } from "../metadata/metadata-store.ts";
import { DataSource, HOLE, type RunSource, ZERO } from "./dirty-runs.ts";
import { type FileData, visitExtents } from "./file-data.ts";
import { type FileTable, requireWrites } from "./file-table.ts";
import { type VisitFrom, findInPage } from "./hole-search.ts";
import { MAX_FILE_BYTES, MAX_SCANNED_PAGES, STEP_PAGES } from "./limits.ts";
import type { Pause } from "./steps.ts";
import { HeldCopy, type SharedSource, type StoredSource, copyOfHeld } from "./shared-source.ts";
import { StreamSealer } from "./stream-sealer.ts";

const PAGE_BITS = BigInt(Math.log2(EXTENT_PAGE_BYTES));
const PAGE_MASK = BigInt(EXTENT_PAGE_BYTES - 1);
const ZEROS = new Uint8Array(EXTENT_PAGE_BYTES);

/** Extent page that a byte lies in. */
function pageOf(offset: bigint): number {
  return Number(offset >> PAGE_BITS);
}

/** Offset of a byte within its extent page. */
function restOf(offset: bigint): number {
  return Number(offset & PAGE_MASK);
}

/** First page that a file of this length does not reach. */
export function endPageOf(lengthBytes: bigint): number {
  return pageOf(lengthBytes + PAGE_MASK);
}

/** @throws TcfsError `TCFS_FILE_TOO_LARGE` if a range ends after the largest offset. */
export function checkRange(offset: bigint, lengthBytes: bigint): void {
  if (offset < 0n || offset + lengthBytes > MAX_FILE_BYTES) {
    throw new TcfsError("TCFS_FILE_TOO_LARGE", "the range ends beyond the largest file offset");
  }
}

/** Call `action` for each page's part of a range. */
function forEachPage(
  offset: bigint,
  lengthBytes: number,
  action: (page: number, start: number, end: number, done: number) => void,
): void {
  let page = pageOf(offset);
  let start = restOf(offset);
  let done = 0;
  while (done < lengthBytes) {
    const take = Math.min(EXTENT_PAGE_BYTES - start, lengthBytes - done);
    action(page, start, start + take, done);
    done += take;
    page++;
    start = 0;
  }
}

/**
 * Bytes that a write to a range of a page replaces; none past the end. A page's first change reads what is stored of it
 * even so: a page that cannot be read must fail its writer, not the commit of all.
 */
function replacedBytes(file: FileData, page: number, start: number, end: number, isBeyondEnd: boolean): number {
  return isBeyondEnd && file.live.pages.has(page) ? 0 : file.occupiedBytes(page, start, end);
}

/** One read of a chunk, put together from adjacent extents. */
interface ChunkPiece {
  readonly id: ChunkId;
  readonly offset: number;
  lengthBytes: number;
}

/** What is used of the metadata: a snapshot's view has it too. */
type ContentsMetadata = Pick<MetadataStore, "getInode" | "putInode" | "getExtentPage" | "extentPages" | "volume">;

export interface ContentsOptions {
  readonly files: FileTable;
  readonly metadata: ContentsMetadata;
  readonly chunks: ChunkStore;
  /** Called when sealing has freed memory. */
  readonly onSealed: () => void;
}

export class Contents {
  readonly #files: FileTable;
  readonly #metadata: ContentsMetadata;
  readonly #chunks: ChunkStore;
  readonly #sealer: StreamSealer;

  constructor(options: ContentsOptions) {
    this.#files = options.files;
    this.#metadata = options.metadata;
    this.#chunks = options.chunks;
    this.#sealer = new StreamSealer(options.chunks, options.onSealed);
  }

  /** Visit what a range of one page of a file holds; the newest layer wins. */
  visit(
    inode: InodeRecord,
    page: number,
    start: number,
    end: number,
    visit: (start: number, end: number, source: RunSource, sourceOffset: number) => void,
  ): void {
    const file = this.#files.find(inode.ino);
    if (file !== undefined) file.visit(page, start, end, visit);
    else {
      requireWrites(inode);
      visitExtents(this.#metadata, inode.ino, page, start, end, visit);
    }
  }

  /** @returns Lent pieces in order; plain where everything is in memory. */
  read(inode: InodeRecord, offset: bigint, lengthBytes: number): MaybePromise<BorrowedBytes> {
    const rest = inode.lengthBytes - offset;
    if (rest <= 0n) return lend([]);
    const wanted = rest < BigInt(lengthBytes) ? Number(rest) : lengthBytes;
    const pieces = this.#pieces(inode, offset, wanted);
    const loans = pieces.map((piece) => {
      if (piece instanceof Uint8Array) return lend([piece]);
      try {
        return this.#chunks.read(piece.id, piece.offset, piece.lengthBytes);
      } catch (error) {
        return rejected(error); // what is borrowed beside it has to be given back
      }
    });
    return areThere(loans) ? joinLoans(loans) : gather(pieces, loans);
  }

  /** Ask for what a sequential reader wants next. */
  prefetch(inode: InodeRecord, offset: bigint, lengthBytes: number): void {
    for (const piece of this.#storedPieces(inode, offset, lengthBytes)) {
      this.#chunks.prefetch(piece.id, piece.offset, piece.lengthBytes);
    }
  }

  /** Whether some of what is stored may be in a store alone. */
  get hasStore(): boolean {
    return this.#chunks.hasStore;
  }

  /** Tell what a reader will come to before long. @returns False where enough is under way: to be told again. */
  approach(inode: InodeRecord, offset: bigint, lengthBytes: number): boolean {
    return this.#chunks.approach(this.#storedPieces(inode, offset, lengthBytes).map(({ id }) => id));
  }

  /** What chunks have of a range. Nothing where that cannot be read: the read that comes for it is told. */
  #storedPieces(inode: InodeRecord, offset: bigint, lengthBytes: number): ChunkPiece[] {
    const rest = inode.lengthBytes - offset;
    const wanted = rest < BigInt(lengthBytes) ? Number(rest) : lengthBytes;
    try {
      const pieces = wanted > 0 ? this.#pieces(inode, offset, wanted) : [];
      return pieces.filter((piece): piece is ChunkPiece => !(piece instanceof Uint8Array));
    } catch (error) {
      if (!isTcfsError(error)) throw error;
      return [];
    }
  }

  #pieces(inode: InodeRecord, offset: bigint, lengthBytes: number): (Uint8Array | ChunkPiece)[] {
    const pieces: (Uint8Array | ChunkPiece)[] = [];
    forEachPage(offset, lengthBytes, (page, start, end) => {
      this.visit(inode, page, start, end, (from, to, source, sourceOffset) => {
        addPiece(pieces, to - from, source, sourceOffset);
      });
    });
    return pieces;
  }

  /** Take written bytes: copied before this returns. */
  write(inode: InodeRecord, offset: bigint, data: Uint8Array): void {
    const file = this.#files.open(inode);
    const isBeyondEnd = offset >= inode.lengthBytes;
    let writtenBytes = 0;
    const writePage = (page: number, start: number, end: number, done: number): void => {
      const occupied = replacedBytes(file, page, start, end, isBeyondEnd);
      if (occupied > 0) this.#files.noteReleased(occupied);
      file.write(page, start, data.subarray(done, done + (end - start)));
      this.#occupy(inode, end - start - occupied);
      writtenBytes = done + (end - start);
      if (end !== EXTENT_PAGE_BYTES) return;
      file.noteStream(page);
      this.#sealer.consider(file);
    };
    try {
      forEachPage(offset, data.length, writePage);
    } finally {
      const end = offset + BigInt(writtenBytes);
      if (writtenBytes > 0 && end > inode.lengthBytes) inode.lengthBytes = end;
      if (writtenBytes < data.length) this.#metadata.putInode(inode); // a page that cannot be read: the rest is written
    }
  }

  #occupy(inode: InodeRecord, bytes: number): void {
    inode.allocatedBytes += bytes;
    if (bytes < 0) this.#files.noteReleased(-bytes);
    this.#metadata.volume.allocatedBytes += bytes;
  }

  /**
   * Set the length: bytes past a shorter one are gone, up to a longer one they are a hole. All at once, after a search
   * in steps where much is cut off.
   */
  truncate(inode: InodeRecord, lengthBytes: bigint, pause: Pause): void | Promise<void> {
    if (lengthBytes >= inode.lengthBytes) {
      inode.lengthBytes = lengthBytes;
      return;
    }
    const first = pageOf(lengthBytes);
    const end = endPageOf(inode.lengthBytes);
    if (lengthBytes > 0n && end - first > MAX_SCANNED_PAGES) return this.#cutSearched(inode.ino, lengthBytes, pause);
    const pages = lengthBytes === 0n ? [] : Array.from({ length: end - first }, (_, index) => first + index);
    const cutBytes = lengthBytes === 0n ? inode.allocatedBytes : this.#occupiedBytes(inode, lengthBytes, pages);
    this.#cut(inode, lengthBytes, cutBytes);
  }

  async #cutSearched(ino: InodeNumber, lengthBytes: bigint, pause: Pause): Promise<void> {
    for (;;) {
      const { allocatedBytes, lengthBytes: lengthBefore } = this.#present(ino);
      if (lengthBytes >= lengthBefore) break;
      let cutBytes = 0;
      const pages = await this.#storedPages(ino, lengthBytes, lengthBefore);
      for (let from = 0; from < pages.length; from += STEP_PAGES) {
        if (from > 0) await pause();
        cutBytes += this.#occupiedBytes(this.#present(ino), lengthBytes, pages.slice(from, from + STEP_PAGES));
      }
      const present = this.#present(ino);
      // The kernel lets nobody else at the file, unless the caller was killed meanwhile: then it is counted again.
      if (present.allocatedBytes !== allocatedBytes || present.lengthBytes !== lengthBefore) continue;
      this.#cut(present, lengthBytes, cutBytes);
      this.#metadata.putInode(present);
      return;
    }
    const grown = this.#present(ino);
    grown.lengthBytes = lengthBytes;
    this.#metadata.putInode(grown);
  }

  /** After an await: the record may have left the cache and come back as another object. Put it in the same step. */
  #present(ino: InodeNumber): InodeRecord {
    const inode = this.#metadata.getInode(ino);
    if (inode === undefined) throw new TcfsError("TCFS_STALE", `inode ${ino} does not exist`);
    return inode;
  }

  /** Bytes that some pages occupy at or after an offset. @throws TcfsError `TCFS_CORRUPT` if one cannot be read. */
  #occupiedBytes(inode: InodeRecord, offset: bigint, pages: readonly number[]): number {
    const file = this.#files.open(inode);
    let bytes = 0;
    for (const page of pages) {
      bytes += file.occupiedBytes(page, page === pageOf(offset) ? restOf(offset) : 0, EXTENT_PAGE_BYTES);
    }
    return bytes;
  }

  #cut(inode: InodeRecord, lengthBytes: bigint, cutBytes: number): void {
    const file = lengthBytes === 0n ? this.#files.openToEmpty(inode) : this.#files.open(inode);
    this.#occupy(inode, -cutBytes);
    file.stream = undefined;
    file.live.cut(pageOf(lengthBytes), restOf(lengthBytes), endPageOf(inode.lengthBytes));
    inode.lengthBytes = lengthBytes;
  }

  /** Pages in a byte range that hold anything, in any layer; ascending. */
  async #storedPages(ino: InodeNumber, from: bigint, to: bigint): Promise<number[]> {
    const first = pageOf(from);
    const last = endPageOf(to);
    const pages = new Set(await this.#metadata.extentPages(ino, first, last));
    const file = this.#files.find(ino);
    for (const layer of [file?.live, file?.frozen]) {
      for (const page of layer?.pages.keys() ?? []) if (page >= first && page < last) pages.add(page);
    }
    return [...pages].sort((a, b) => a - b);
  }

  /** Make a range a hole, in steps where it is large; the length stays. The range is within the file. */
  punch(inode: InodeRecord, offset: bigint, lengthBytes: bigint, pause: Pause): void | Promise<void> {
    const end = offset + lengthBytes;
    if (endPageOf(end) - pageOf(offset) > STEP_PAGES) return this.#punchSearched(inode.ino, offset, end, pause);
    this.punchSmall(inode, offset, lengthBytes);
  }

  async #punchSearched(ino: InodeNumber, offset: bigint, end: bigint, pause: Pause): Promise<void> {
    const pages = await this.#storedPages(ino, offset, end);
    for (let from = 0; from < pages.length; from += STEP_PAGES) {
      if (from > 0) await pause();
      const present = this.#present(ino);
      this.#punchPages(present, offset, end, pages.slice(from, from + STEP_PAGES));
      this.#metadata.putInode(present);
    }
  }

  /** The same for a range that the caller bounds, at once. */
  punchSmall(inode: InodeRecord, offset: bigint, lengthBytes: bigint): void {
    const end = offset + lengthBytes;
    const pages = Array.from({ length: endPageOf(end) - pageOf(offset) }, (_, index) => pageOf(offset) + index);
    this.#punchPages(inode, offset, end, pages);
  }

  #punchPages(inode: InodeRecord, offset: bigint, end: bigint, pages: readonly number[]): void {
    const file = this.#files.open(inode);
    file.stream = undefined;
    for (const page of pages) {
      const from = page === pageOf(offset) ? restOf(offset) : 0;
      const to = page === pageOf(end) ? restOf(end) : EXTENT_PAGE_BYTES;
      const occupied = from < to ? file.occupiedBytes(page, from, to) : 0;
      if (occupied === 0) continue;
      file.live.punch(page, from, to);
      this.#occupy(inode, -occupied);
    }
  }

  /** Give every hole in a range allocated zeros, at once. The range is within the file; the caller bounds it. */
  allocate(inode: InodeRecord, offset: bigint, lengthBytes: bigint): void {
    const file = this.#files.open(inode);
    file.stream = undefined;
    forEachPage(offset, Number(lengthBytes), (page, start, end) => {
      const holes: { readonly from: number; readonly to: number }[] = [];
      file.visit(page, start, end, (from, to, source) => {
        if (source === HOLE) holes.push({ from, to });
      });
      for (const { from, to } of holes) {
        file.live.replace(page, from, to, ZERO, 0);
        this.#occupy(inode, to - from);
      }
    });
  }

  /**
   * Let a range share the chunks of another; bytes still in memory are copied. Ranges are within a page count that
   * the caller bounds, do not overlap, and the source range is within its file.
   */
  share(from: InodeRecord, fromOffset: bigint, to: InodeRecord, toOffset: bigint, lengthBytes: number): void {
    const target = this.#files.open(to);
    target.stream = undefined;
    const pieces: { readonly lengthBytes: number; readonly source: SharedSource; readonly sourceOffset: number }[] = [];
    forEachPage(fromOffset, lengthBytes, (page, start, end) => {
      this.visit(from, page, start, end, (pieceStart, pieceEnd, source, sourceOffset) => {
        pieces.push({
          lengthBytes: pieceEnd - pieceStart,
          source: copyOfHeld(source, sourceOffset, pieceEnd - pieceStart),
          sourceOffset,
        });
      });
    });
    let position = toOffset;
    for (const piece of pieces) {
      const { source, sourceOffset } = piece;
      if (source instanceof HeldCopy) {
        this.write(to, position, source.bytes);
      } else {
        if (source instanceof Uint8Array) this.#chunks.retain(source);
        this.#place(to, target, position, { lengthBytes: piece.lengthBytes, source, sourceOffset });
      }
      position += BigInt(piece.lengthBytes);
    }
    if (position > to.lengthBytes) to.lengthBytes = position;
  }

  /** Let a whole page hold what it did in a snapshot, by the same chunks. The caller sets the length and puts the inode. */
  replacePage(inode: InodeRecord, page: number, extents: ExtentPage): void {
    const file = this.#files.open(inode);
    file.stream = undefined;
    const replacedBytes = file.occupiedBytes(page, 0, EXTENT_PAGE_BYTES);
    file.live.punch(page, 0, EXTENT_PAGE_BYTES);
    this.#occupy(inode, this.#lay(file, page, extents) - replacedBytes);
  }

  #place(
    to: InodeRecord,
    target: FileData,
    offset: bigint,
    piece: { readonly lengthBytes: number; readonly source: StoredSource; readonly sourceOffset: number },
  ): void {
    const isPlaced = piece.source instanceof Uint8Array;
    forEachPage(offset, piece.lengthBytes, (page, start, end, done) => {
      const occupied = replacedBytes(target, page, start, end, offset >= to.lengthBytes);
      target.live.replace(page, start, end, piece.source, isPlaced ? piece.sourceOffset + done : 0);
      this.#occupy(to, (piece.source === HOLE ? 0 : end - start) - occupied);
    });
  }

  /** Give a page of a new file, which has nothing there, the stored extents of another. The caller puts the inode. */
  adopt(to: InodeRecord, page: number, extents: ExtentPage): void {
    this.#occupy(to, this.#lay(this.#files.open(to), page, extents));
  }

  /** Lay stored extents over a page. @returns The bytes that they occupy. */
  #lay(file: FileData, page: number, extents: ExtentPage): number {
    let laidBytes = 0;
    for (const { start, lengthBytes, chunk, chunkOffset } of extents) {
      const isZero = isZeroChunk(chunk);
      if (!isZero) this.#chunks.retain(chunk);
      file.live.replace(page, start, start + lengthBytes, isZero ? ZERO : chunk, isZero ? 0 : chunkOffset);
      laidBytes += lengthBytes;
    }
    return laidBytes;
  }

  /** Whether a range holds bytes that are only in memory: a commit gives them chunks to share. */
  isHeld(inode: InodeRecord, offset: bigint, lengthBytes: number): boolean {
    if (this.#files.find(inode.ino) === undefined) return false;
    let isHeld = false;
    forEachPage(offset, lengthBytes, (page, start, end) => {
      this.visit(inode, page, start, end, (_from, _to, source) => {
        isHeld ||= source instanceof DataSource;
      });
    });
    return isHeld;
  }

  /**
   * First offset at or after `offset` that is data, or a hole.
   * @throws TcfsError `TCFS_NO_OFFSET` if `offset` is not within the file, or the file ends before there is data.
   */
  async seek(inode: InodeRecord, offset: bigint, whence: "data" | "hole"): Promise<bigint> {
    if (offset < 0n || offset >= inode.lengthBytes) throw new TcfsError("TCFS_NO_OFFSET", "offset past the end");
    const found = await this.#find(inode, offset, whence);
    if (found === undefined) throw new TcfsError("TCFS_NO_OFFSET", "no data after the offset");
    return found;
  }

  /** @returns undefined if the file ends first. */
  async #find(inode: InodeRecord, offset: bigint, whence: "data" | "hole"): Promise<bigint | undefined> {
    const pages = await this.#storedPages(inode.ino, offset, inode.lengthBytes);
    let expected = pageOf(offset);
    for (const page of pages) {
      if (whence === "hole" && page > expected) break;
      const start = page === pageOf(offset) ? restOf(offset) : 0;
      const visitFrom: VisitFrom = (from, visit) => {
        this.visit(inode, page, from, EXTENT_PAGE_BYTES, visit);
      };
      const found = findInPage(visitFrom, start, whence);
      if (found !== undefined) return clip((BigInt(page) << PAGE_BITS) + BigInt(found), inode, whence);
      expected = page + 1;
    }
    if (whence === "data") return undefined;
    const position = BigInt(expected) << PAGE_BITS;
    return clip(position > offset ? position : offset, inode, whence);
  }
}

async function rejected(error: unknown): Promise<BorrowedBytes> {
  await Promise.resolve();
  throw error;
}

function areThere(loans: readonly MaybePromise<BorrowedBytes>[]): loans is readonly BorrowedBytes[] {
  return !loans.some(isPromise);
}

/** Memory of runs may be sealed and used anew before the last piece is here: copied before anything is awaited. */
async function gather(
  pieces: readonly (Uint8Array | ChunkPiece)[],
  loans: readonly MaybePromise<BorrowedBytes>[],
): Promise<BorrowedBytes> {
  const lasting = loans.map((loan, index) => {
    const piece = pieces[index];
    return piece instanceof Uint8Array ? lend([copyOf(piece)]) : loan;
  });
  return joinLoans(await settleLoans(lasting));
}

function clip(position: bigint, inode: InodeRecord, whence: "data" | "hole"): bigint | undefined {
  if (position < inode.lengthBytes) return position;
  return whence === "hole" ? inode.lengthBytes : undefined;
}

function addPiece(
  pieces: (Uint8Array | ChunkPiece)[],
  lengthBytes: number,
  source: RunSource,
  sourceOffset: number,
): void {
  if (source === HOLE || source === ZERO) {
    pieces.push(ZEROS.subarray(0, lengthBytes));
    return;
  }
  if (source instanceof DataSource) {
    pieces.push(source.bytes.subarray(sourceOffset, sourceOffset + lengthBytes));
    return;
  }
  const last = pieces.at(-1);
  const isJoined =
    last !== undefined &&
    !(last instanceof Uint8Array) &&
    last.offset + last.lengthBytes === sourceOffset &&
    Buffer.compare(last.id, source) === 0;
  if (isJoined) last.lengthBytes += lengthBytes;
  else pieces.push({ id: source, offset: sourceOffset, lengthBytes });
}
