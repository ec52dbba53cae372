import { setTimeout } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import type { BorrowedBytes } from "../../src/borrowed-bytes.ts";
import type { Extent, ExtentPage } from "../../src/format/records.ts";
import type { Contents } from "../../src/fs/contents.ts";
import { Defragmenter, pieceRuns } from "../../src/fs/defragmenter.ts";
import { FileTable } from "../../src/fs/file-table.ts";
import { blankInode } from "../../src/fs/inodes.ts";
import type { ChunkId, Epoch, InodeNumber } from "../../src/ids.ts";
import type { MetadataStore } from "../../src/metadata/metadata-store.ts";
import type { Clock } from "../../src/platform/clock.ts";

const chunk = new Uint8Array(32).fill(1) as ChunkId;
const piece = (start: number, lengthBytes: number): Extent => ({ start, lengthBytes, chunk, chunkOffset: 0 });
const pieces = (count: number, from = 0): Extent[] =>
  Array.from({ length: count }, (_, index) => piece(from + index * 4096, 4096));

describe("pieceRuns", () => {
  it("finds a stretch of many short extents", () => {
    expect(pieceRuns(pieces(20))).toEqual([{ start: 0, lengthBytes: 20 * 4096 }]);
  });

  it("leaves few short extents alone", () => {
    expect(pieceRuns(pieces(15))).toEqual([]);
  });

  it("leaves changed pieces between long extents alone: re-cutting would store their neighbours again", () => {
    const extents = [piece(0, 300_000), piece(300_000, 65_536), piece(365_536, 600_000)];
    expect(pieceRuns(extents)).toEqual([]);
  });

  it("does not join stretches over a hole or a long extent", () => {
    const extents = [...pieces(16), piece(100_000, 200_000), ...pieces(16, 300_000), ...pieces(16, 400_000)];
    expect(pieceRuns(extents)).toEqual([
      { start: 0, lengthBytes: 65_536 },
      { start: 300_000, lengthBytes: 65_536 },
      { start: 400_000, lengthBytes: 65_536 },
    ]);
  });
});

/** One fragmented page, and what is stored under it by the time its pieces were read. */
async function recut(later: ExtentPage, hasRoom = true): Promise<boolean> {
  const ino = 2 as InodeNumber;
  const owner = { mode: 0o100644, uid: 0, gid: 0 };
  const inode = blankInode(ino, 1 as Epoch, { seconds: 0, nanoseconds: 0 }, owner);
  let page = pieces(20);
  const metadata = { getInode: () => inode, getExtentPage: () => page } as unknown as MetadataStore;
  const read = (_inode: unknown, _offset: bigint, lengthBytes: number): Promise<BorrowedBytes> => {
    page = [...later];
    return Promise.resolve({ pieces: [new Uint8Array(lengthBytes)], release: () => undefined });
  };
  const files = new FileTable(metadata);
  let nowMs = 0;
  let pass = (): void => undefined;
  const after = (_ms: number, action: () => void): { cancel: () => void } => {
    pass = action;
    return { cancel: () => undefined };
  };
  const clock = { monotonicMs: () => nowMs, after } as unknown as Clock;
  const contents = { read } as unknown as Contents;
  const defragmenter = new Defragmenter({
    files,
    metadata,
    contents,
    clock,
    hasRoom: () => hasRoom,
    onChange: () => undefined,
  });
  defragmenter.note(ino, 0, page);
  nowMs = 10_000;
  pass();
  await setTimeout(1);
  defragmenter.close();
  return files.find(ino) !== undefined;
}

describe("Defragmenter", () => {
  it("writes the pieces of a quiet page anew", async () => {
    expect(await recut(pieces(20))).toBe(true);
  });

  it("leaves a page alone that was cut while its pieces were read", async () => {
    const cut = [...pieces(19), piece(19 * 4096, 100)];
    expect(await recut(cut)).toBe(false);
  });

  it("leaves a page alone whose pieces changed places within their chunk", async () => {
    const moved = pieces(20).map((extent, index) => ({ ...extent, chunkOffset: index }));
    expect(await recut(moved)).toBe(false);
  });

  it("takes no room that is kept for commits", async () => {
    expect(await recut(pieces(20), false)).toBe(false);
  });
});
