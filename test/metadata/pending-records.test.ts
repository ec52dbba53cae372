/** What the database lacks is laid over walks the same way however many of them there are between two changes. */
import fc from "fast-check";
import { expect, test } from "vitest";
import type { RecordChange } from "../../src/format/journal-codec.ts";
import type { KeyRange } from "../../src/format/record-keys.ts";
import type { StoredEntry } from "../../src/metadata/database.ts";
import { PendingRecords } from "../../src/metadata/pending-records.ts";

/** Few and short, so that they meet; bytes above 127 sort behind the others. */
const key = fc
  .array(fc.constantFrom(0, 1, 127, 128, 200, 255), { minLength: 1, maxLength: 3 })
  .map((bytes) => Uint8Array.from(bytes));
const change: fc.Arbitrary<RecordChange> = fc.record({
  key,
  value: fc.option(fc.uint8Array({ minLength: 1, maxLength: 2 }), { nil: undefined }),
});
const step = fc.oneof(
  { weight: 2, arbitrary: fc.record({ add: fc.array(change, { maxLength: 4 }) }) },
  { weight: 1, arbitrary: fc.constant({ leave: true }) },
  { weight: 1, arbitrary: fc.constant({ left: true }) },
  { weight: 4, arbitrary: fc.record({ first: key, end: key }) },
);

const EVERYTHING = { first: Uint8Array.of(0), end: Uint8Array.of(255, 255, 255, 255) };

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

test("a walk sees the newest change of each record of its range, in the order of the keys", () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40, size: "max" }), (steps) => {
      const pending = new PendingRecords();
      let newest = new Map<string, RecordChange>();
      let leaving = new Map<string, RecordChange>();
      for (const each of steps) {
        if ("add" in each) {
          pending.add(each.add);
          for (const one of each.add) newest.set(hex(one.key), one);
        } else if ("leave" in each) {
          pending.leave();
          leaving = new Map([...leaving, ...newest]);
          newest = new Map();
        } else if ("left" in each) {
          pending.left();
          leaving = new Map();
        } else {
          const all = [...new Map([...leaving, ...newest]).values()];
          for (const range of [each, EVERYTHING, each]) expectWalk(pending, range, all);
        }
      }
    }),
    { numRuns: 300 },
  );
});

/** @param all - Changes as they should be laid over the walk, in any order. */
function expectWalk(pending: PendingRecords, range: KeyRange, all: readonly RecordChange[]): void {
  const within = all.filter(
    (one) => Buffer.compare(one.key, range.first) >= 0 && Buffer.compare(one.key, range.end) < 0,
  );
  within.sort((left, right) => Buffer.compare(left.key, right.key));
  const stored = within.map(({ key: known }): StoredEntry => [known, Uint8Array.of(7)]); // older than the change
  const wanted = within.flatMap(({ key: known, value }) =>
    value === undefined ? [] : [`${hex(known)} ${hex(value)}`],
  );
  const seen = (entries: readonly StoredEntry[]): string[] => entries.map(([at, value]) => `${hex(at)} ${hex(value)}`);
  expect(seen(pending.over(range).rest())).toEqual(wanted);
  const overlay = pending.over(range);
  expect(seen([...overlay.merge(stored), ...overlay.rest()])).toEqual(wanted);
  expect(seen(pending.over(range).within(range, stored))).toEqual(wanted);
}
