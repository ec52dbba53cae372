import { describe, expect, test } from "vitest";
import { InlineChunks } from "../../src/chunkstore/inline-chunks.ts";
import { chunkIdKey } from "../../src/format/record-keys.ts";
import type { ChunkId } from "../../src/ids.ts";
import { noise } from "../crypto/fixtures.ts";

const idOf = (seed: string): ChunkId => noise(seed, 32) as ChunkId;

describe("numbers of inline lists", () => {
  test("begin anew behind the last, and leave out those in use", () => {
    const inline = new InlineChunks();
    inline.add({ list: 1, chunks: [idOf("old")] });
    inline.add({ list: 0xffff_fffe, chunks: [idOf("last but one")] });
    const numbers: number[] = [];
    for (const seed of ["a", "b", "c"]) {
      const lists = inline.plan([idOf(seed)], new Set());
      inline.committed(lists, []);
      numbers.push(...lists.map(({ list }) => list));
    }
    expect(numbers).toEqual([0xffff_ffff, 2, 3]);
  });

  test("of a list that is still to be deleted are not given to another", () => {
    const inline = new InlineChunks();
    inline.add({ list: 1, chunks: [idOf("first")] });
    inline.remove([chunkIdKey(idOf("first"))]);
    inline.add({ list: 0xffff_ffff, chunks: [idOf("full")] });
    expect(inline.plan([idOf("new")], new Set())).toEqual([
      { list: 2, chunks: [idOf("new")] },
      { list: 1, chunks: [] },
    ]);
  });
});
