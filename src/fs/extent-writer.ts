/** From a frozen generation, all of it sealed, to the extent pages that a commit stores (FORMAT.md §7). */
import { setImmediate as nextTurn } from "node:timers/promises";
import { isTcfsError } from "../errors.ts";
import { EXTENT_PAGE_BYTES, type Extent, type ExtentPage } from "../format/records.ts";
import { ZERO_CHUNK } from "../format/zero-chunk.ts";
import type { ChunkId, InodeNumber } from "../ids.ts";
import { type MaybePromise, andThen, inOrder } from "../maybe-promise.ts";
import type { FrozenBatch, MetadataStore } from "../metadata/metadata-store.ts";
import { DataSource, HOLE, type RunSource, ZERO, walkRuns } from "./dirty-runs.ts";
import type { FileData } from "./file-data.ts";
import type { DeletedFile } from "./file-table.ts";
import { MAX_BLIND_PAGES, MAX_SCANNED_PAGES, STEP_PAGES } from "./limits.ts";
import type { Overlay } from "./overlay.ts";

/** Told of each page that a commit stores. */
export type NotePage = (ino: InodeNumber, page: number, extents: ExtentPage) => void;

/** Put every changed page of the files into the batch; waits only where a great range has to be searched for pages. */
export function writeExtents(
  files: readonly FileData[],
  metadata: MetadataStore,
  batch: FrozenBatch,
  notePage: NotePage,
): MaybePromise<void> {
  const writePage = (file: FileData, overlay: Overlay, page: number): void => {
    const extents = extentsOf(file, overlay, page);
    batch.putExtentPage(file.ino, page, extents);
    notePage(file.ino, page, extents);
  };
  const writeFile = (file: FileData): MaybePromise<void> => {
    const overlay = file.frozen;
    if (overlay === undefined) return;
    const cut = overlay.cutPages;
    const removed = cut && removePages(file.ino, cut.from, cut.to, overlay, metadata, batch);
    return andThen(removed, () => {
      const split = overlay.splitPage;
      if (split !== undefined && !overlay.pages.has(split)) writePage(file, overlay, split);
      for (const page of overlay.pages.keys()) writePage(file, overlay, page);
    });
  };
  return inOrder(files.map((file) => () => writeFile(file)));
}

/** Put the removal of every page of the deleted inodes into the batch. */
export function removeExtents(
  deleted: readonly DeletedFile[],
  metadata: MetadataStore,
  batch: FrozenBatch,
): MaybePromise<void> {
  return inOrder(
    deleted.map(
      ({ ino, endPage }) =>
        () =>
          removePages(ino, 0, endPage, undefined, metadata, batch),
    ),
  );
}

function removePages(
  ino: InodeNumber,
  from: number,
  to: number,
  except: Overlay | undefined,
  metadata: MetadataStore,
  batch: FrozenBatch,
): MaybePromise<void> {
  if (to - from > MAX_SCANNED_PAGES) return removeSearched(ino, from, to, except, metadata, batch);
  for (let page = from; page < to; page++) {
    if (except?.pages.has(page) === true) continue;
    if (mayHold(metadata, ino, page)) batch.putExtentPage(ino, page, []);
  }
}

async function removeSearched(
  ino: InodeNumber,
  from: number,
  to: number,
  except: Overlay | undefined,
  metadata: MetadataStore,
  batch: FrozenBatch,
): Promise<void> {
  let count = 0;
  for (const page of await pagesToRemove(ino, from, to, except, metadata)) {
    if (except?.pages.has(page) === true) continue;
    batch.putExtentPage(ino, page, []);
    if (++count % STEP_PAGES === 0) await nextTurn();
  }
}

/** Where the search meets damage: all pages that there may be. It must not stop what everybody else changed. */
async function pagesToRemove(
  ino: InodeNumber,
  from: number,
  to: number,
  except: Overlay | undefined,
  metadata: MetadataStore,
): Promise<Iterable<number>> {
  try {
    return await metadata.extentPages(ino, from, to);
  } catch (error) {
    if (!isTcfsError(error, "TCFS_CORRUPT")) throw error;
    if (to - from <= MAX_BLIND_PAGES) return Array.from({ length: to - from }, (_, index) => from + index);
    if (except === undefined) return []; // of a deleted inode, whose number is never used again: they only take room
    throw error;
  }
}

/** A page that does not verify is removed as one that holds something. */
function mayHold(metadata: MetadataStore, ino: InodeNumber, page: number): boolean {
  try {
    return metadata.getExtentPage(ino, page).length > 0;
  } catch (error) {
    if (isTcfsError(error, "TCFS_CORRUPT")) return true;
    throw error;
  }
}

/** What a page holds once the overlay, all of it sealed, lies over the stored extents. */
function extentsOf(file: FileData, overlay: Overlay, page: number): Extent[] {
  const extents: Extent[] = [];
  const add = (start: number, end: number, source: RunSource, sourceOffset: number): void => {
    if (source === HOLE) return;
    if (source instanceof DataSource) throw new RangeError("a frozen run was not sealed");
    addExtent(extents, start, end - start, source === ZERO ? ZERO_CHUNK : source, sourceOffset);
  };
  const visible = overlay.visibleBytes(page);
  walkRuns(overlay.pages.get(page), 0, EXTENT_PAGE_BYTES, add, (start, end) => {
    if (start < visible) file.visitStored(page, start, Math.min(end, visible), add);
  });
  return extents;
}

/** Append an extent, joined to the last one where it goes on in the same chunk. */
function addExtent(extents: Extent[], start: number, lengthBytes: number, chunk: ChunkId, chunkOffset: number): void {
  const last = extents.at(-1);
  const isJoined =
    last !== undefined &&
    last.start + last.lengthBytes === start &&
    (chunk === ZERO_CHUNK ? last.chunk === ZERO_CHUNK : last.chunkOffset + last.lengthBytes === chunkOffset) &&
    Buffer.compare(last.chunk, chunk) === 0;
  if (isJoined) extents[extents.length - 1] = { ...last, lengthBytes: last.lengthBytes + lengthBytes };
  else extents.push({ start, lengthBytes, chunk, chunkOffset });
}
