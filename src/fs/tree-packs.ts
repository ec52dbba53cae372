/** Which packs hold what a tree's files have: each as often as it is met. Gives way to everything else. */
import { setImmediate as nextTurn } from "node:timers/promises";
import type { ChunkStore } from "../chunkstore/chunk-store.ts";
import { isTcfsError, unlessCorrupt } from "../errors.ts";
import type { InodeRecord } from "../format/records.ts";
import type { InodeNumber, PackId } from "../ids.ts";
import type { MetadataStore } from "../metadata/metadata-store.ts";
import type { MetadataView } from "../metadata/snapshot-store.ts";
import { endPageOf } from "./contents.ts";
import { isDirectoryMode, isRegularMode } from "./mode.ts";

/** Records between two turns of the event loop. */
const RECORDS_PER_TURN = 64;

export interface TreePacksOptions {
  readonly metadata: Pick<MetadataStore, "snapshots">;
  readonly chunks: Pick<ChunkStore, "packOf">;
}

/** As of the last commit. What cannot be read is left out: who reads it meets the damage. */
export async function* packsOfTree({ metadata, chunks }: TreePacksOptions, root: InodeNumber): AsyncGenerator<PackId> {
  const view = metadata.snapshots.committedView();
  const waiting = [root];
  let steps = 0;
  for (let ino = waiting.pop(); ino !== undefined; ino = waiting.pop()) {
    if (++steps % RECORDS_PER_TURN === 0) await nextTurn();
    const inode = unlessCorrupt(() => view.getInode(ino));
    if (inode === undefined) continue;
    if (isDirectoryMode(inode.mode)) for (const entry of await listing(view, ino)) waiting.push(entry);
    else if (isRegularMode(inode.mode)) yield* packsOfFile(view, chunks, inode);
  }
}

async function* packsOfFile(
  view: MetadataView,
  chunks: TreePacksOptions["chunks"],
  inode: InodeRecord,
): AsyncGenerator<PackId> {
  let steps = 0;
  for (const page of await view.extentPages(inode.ino, 0, endPageOf(inode.lengthBytes))) {
    if (++steps % RECORDS_PER_TURN === 0) await nextTurn();
    for (const { chunk } of unlessCorrupt(() => view.getExtentPage(inode.ino, page)) ?? []) {
      const pack = unlessCorrupt(() => chunks.packOf(chunk));
      if (pack !== undefined) yield pack;
    }
  }
}

async function listing(view: MetadataView, directory: InodeNumber): Promise<InodeNumber[]> {
  try {
    return (await view.listDirectory(directory)).map(({ ino }) => ino);
  } catch (error) {
    if (isTcfsError(error, "TCFS_CORRUPT")) return [];
    throw error;
  }
}
