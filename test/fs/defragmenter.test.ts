import { describe, expect, it } from "vitest";
import type { Extent } from "../../src/format/records.ts";
import { pieceRuns } from "../../src/fs/defragmenter.ts";
import type { ChunkId } from "../../src/ids.ts";

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
