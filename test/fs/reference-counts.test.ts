import { fc, test } from "@fast-check/vitest";
import { describe, expect } from "vitest";
import { ReferenceCounts } from "../../src/fs/reference-counts.ts";
import type { InodeNumber } from "../../src/ids.ts";

/** Neighbours, the ends of pages, and numbers that 32 bits do not hold. */
const anyInode = fc.oneof(
  fc.integer({ min: 1, max: 300 }),
  fc.integer({ min: 2 ** 32 - 70, max: 2 ** 32 + 70 }),
  fc.integer({ min: 1, max: 2 ** 48 - 1 }),
);
const anySteps = fc.array(fc.record({ ino: anyInode, drop: fc.option(fc.nat({ max: 5 }), { nil: undefined }) }), {
  maxLength: 400,
});

describe("the kernel's references to inodes", () => {
  test.prop([anySteps])("are counted as in a plain map, whatever comes and goes", (steps) => {
    const counts = new ReferenceCounts();
    const model = new Map<number, number>();
    for (const { ino, drop } of steps) {
      const before = model.get(ino) ?? 0;
      if (drop === undefined) {
        counts.add(ino as InodeNumber);
        model.set(ino, before + 1);
      } else {
        const left = Math.max(0, before - drop);
        expect(counts.drop(ino as InodeNumber, drop)).toBe(left);
        model.set(ino, left);
      }
      for (const near of [ino - 1, ino, ino + 1])
        expect(counts.has(near as InodeNumber)).toBe((model.get(near) ?? 0) > 0);
    }
  });

  test("to a million inodes take a few megabytes, which serve the next million once they are gone", () => {
    const counts = new ReferenceCounts();
    const before = process.memoryUsage().arrayBuffers;
    for (let first = 1; first < 10_000_000; first += 1_000_000) {
      for (let i = 0; i < 1_000_000; i++) counts.add((first + i) as InodeNumber);
      let left = 0;
      for (let i = 0; i < 1_000_000; i++) left += counts.drop((first + i) as InodeNumber, 1);
      expect(left).toBe(0);
    }
    // 4 bytes each; if none were used again it would be 40 MiB.
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(16 * 2 ** 20);
  });
});
