import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { EXTENT_PAGE_BYTES } from "../../src/format/records.ts";
import { DataSource, HOLE, type Run, firstRunAfter, replaceRuns, walkRuns } from "../../src/fs/dirty-runs.ts";
import { HeldBytes, Overlay } from "../../src/fs/overlay.ts";
import { WriteLog } from "../../src/fs/write-log.ts";
import type { ChunkId } from "../../src/ids.ts";

const SPAN = 64;

/** What each byte of a small range is, as a list: the plain model of a run list. */
function paint(runs: readonly Run[]): string[] {
  const bytes = Array.from({ length: SPAN }, () => "-");
  walkRuns(
    runs,
    0,
    SPAN,
    (start, end, source, sourceOffset) => {
      for (let at = start; at < end; at++) {
        if (source === HOLE) bytes[at] = "hole";
        else if (source instanceof DataSource) bytes[at] = `m${source.bytes[sourceOffset + at - start] ?? -1}`;
        else bytes[at] = `c${sourceOffset + at - start}`;
      }
    },
    () => undefined,
  );
  return bytes;
}

const change = fc.record({
  start: fc.nat(SPAN - 1),
  lengthBytes: fc.integer({ min: 1, max: SPAN }),
  kind: fc.constantFrom("hole", "memory", "chunk"),
  value: fc.nat(255),
});

describe("replaceRuns", () => {
  it("agrees with painting bytes one by one, and keeps runs sorted and apart", () => {
    fc.assert(
      fc.property(fc.array(change, { maxLength: 30 }), (changes) => {
        const runs: Run[] = [];
        const model = Array.from({ length: SPAN }, () => "-");
        let held = 0;
        for (const { start, lengthBytes, kind, value } of changes) {
          const end = Math.min(SPAN, start + lengthBytes);
          const memory = new DataSource(SPAN);
          memory.bytes.fill(value);
          const source = kind === "hole" ? HOLE : kind === "memory" ? memory : (new Uint8Array(32) as ChunkId);
          held -= replaceRuns(runs, start, end, [{ start, end, source, sourceOffset: kind === "chunk" ? value : 0 }]);
          if (kind === "memory") held += end - start;
          for (let at = start; at < end; at++) {
            model[at] = kind === "hole" ? "hole" : kind === "memory" ? `m${value}` : `c${value + at - start}`;
          }
        }
        expect(paint(runs)).toEqual(model);
        expect(held).toBe(model.filter((byte) => byte.startsWith("m")).length);
        runs.forEach((run, index) => {
          expect(run.start).toBeLessThan(run.end);
          expect(runs[index + 1]?.start ?? SPAN).toBeGreaterThanOrEqual(run.end);
        });
      }),
    );
  });

  it("finds the first run that ends after an offset", () => {
    const runs: Run[] = [
      { start: 0, end: 4, source: HOLE, sourceOffset: 0 },
      { start: 8, end: 12, source: HOLE, sourceOffset: 0 },
    ];
    expect([0, 3, 4, 8, 11, 12].map((offset) => firstRunAfter(runs, offset))).toEqual([0, 0, 1, 1, 1, 2]);
  });
});

describe("Overlay", () => {
  it("accounts for held bytes over writes, cuts and conversion", () => {
    const ledger = new HeldBytes();
    const overlay = new Overlay(ledger, new WriteLog());
    const source = new DataSource(100);
    overlay.replace(0, 10, 110, source, 0);
    expect(ledger.bytes).toBe(100);
    overlay.cut(0, 60, 1);
    expect(overlay.heldBytes).toBe(50);
    expect([overlay.visibleBytes(0), overlay.visibleBytes(1)]).toEqual([60, 0]);
    const chunk = new Uint8Array(32) as ChunkId;
    const segment = { page: 0, start: 10, end: 110, source, sourceOffset: 0 };
    overlay.convert(segment, [{ start: 10, end: 110, source: chunk, sourceOffset: 0 }]);
    expect(overlay.heldBytes).toBe(0);
    expect(overlay.pages.get(0)).toEqual([{ start: 10, end: 60, source: chunk, sourceOffset: 0 }]);
    overlay.clear();
    expect(overlay.isEmpty).toBe(true);
  });

  it("converts only what still lies in the sealed memory, and only as far as it was sealed", () => {
    const overlay = new Overlay(new HeldBytes(), new WriteLog());
    const sealed = new DataSource(100);
    const newer = new DataSource(100);
    overlay.replace(0, 0, 100, sealed, 0);
    overlay.replace(0, 40, 50, newer, 0);
    const chunk = new Uint8Array(32) as ChunkId;
    const segment = { page: 0, start: 0, end: 100, source: sealed, sourceOffset: 0 };
    overlay.convert(segment, [{ start: 0, end: 70, source: chunk, sourceOffset: 7 }]);
    expect(overlay.pages.get(0)).toEqual([
      { start: 0, end: 40, source: chunk, sourceOffset: 7 },
      { start: 40, end: 50, source: newer, sourceOffset: 0 },
      { start: 50, end: 70, source: chunk, sourceOffset: 57 },
      { start: 70, end: 100, source: sealed, sourceOffset: 70 },
    ]);
    expect(overlay.heldBytes).toBe(40);
  });

  it("remembers the deepest cut and the furthest page that it hides", () => {
    const overlay = new Overlay(new HeldBytes(), new WriteLog());
    overlay.cut(5, 100, 9);
    overlay.cut(7, 0, 12);
    expect(overlay.visibleBytes(5)).toBe(100);
    expect(overlay.visibleBytes(4)).toBe(EXTENT_PAGE_BYTES);
    expect(overlay.cutPages).toEqual({ from: 6, to: 12 });
    expect(overlay.splitPage).toBe(5);
  });
});
