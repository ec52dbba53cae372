/** What a policy may say, and how it is told what is wrong with it. */
import { fc, test as property } from "@fast-check/vitest";
import { describe, expect, test } from "vitest";
import { MAX_POLICY_SNAPSHOTS, POLICY_UNITS } from "../../src/format/policy-codec.ts";
import type { Epoch } from "../../src/ids.ts";
import { secondsUntilDue, unitsBegun, type KeptSnapshot } from "../../src/fs/snapshots/policy-plan.ts";
import { formatPolicy, parsePolicy } from "../../src/fs/snapshots/policy-text.ts";

describe("a policy", () => {
  test("is read in any order, with spaces and capitals", () => {
    expect(parsePolicy(" Daily = 7 ,hourly=24")).toEqual([
      { unit: "hourly", count: 24 },
      { unit: "daily", count: 7 },
    ]);
    expect(parsePolicy("None ")).toEqual([]);
  });

  property.prop([
    fc.uniqueArray(fc.record({ unit: fc.constantFrom(...POLICY_UNITS), count: fc.integer({ min: 1, max: 600 }) }), {
      selector: ({ unit }) => unit,
    }),
  ])("is told as it is typed", (classes) => {
    const sorted = classes.toSorted((a, b) => POLICY_UNITS.indexOf(a.unit) - POLICY_UNITS.indexOf(b.unit));
    expect(parsePolicy(formatPolicy(classes))).toEqual(sorted);
  });

  test.each([
    ["", "the policy is empty: say hourly=24,daily=7,weekly=4,monthly=12, or none"],
    [" , ", "the policy is empty"],
    ["hourly=24,", "a comma too many"],
    ["houry=24", "“houry” is no part of a policy: did you mean hourly?"],
    ["days=7", "did you mean daily?"],
    ["dialy=7", "did you mean daily?"],
    ["months=3", "did you mean monthly?"],
    ["every", "it may have minutely, hourly, daily, weekly, monthly, yearly"],
    ["24", "“24” is no part of a policy"],
    ["=24", "“” is no part of a policy: it may have minutely"],
    ["none,daily=1", "none stands alone"],
    ["none=1", "none stands alone"],
    ["hourly", "does not say how many: hourly=N"],
    ["daily=", "does not say how many: daily=N"],
    ["daily=0", "“daily=0”: the number must be 1 to 4095 (to keep none, leave daily out)"],
    ["daily=-1", "must be 1 to 4095"],
    ["daily=1.5", "must be 1 to 4095"],
    ["daily=7=7", "must be 1 to 4095"],
    ["daily=1e3", "must be 1 to 4095"],
    ["daily=4096", "must be 1 to 4095"],
    ["daily=99999999999999999999", "must be 1 to 4095"],
    ["daily=7;weekly=4", "must be 1 to 4095"],
    ["daily=7,daily=8", "says daily twice"],
    ["minutely=4000,hourly=96", "keeps 4096 snapshots: all classes together may keep 4095"],
  ])("%j is refused: %s", (text, why) => {
    expect(() => parsePolicy(text)).toThrow(expect.objectContaining({ code: "TCFS_USAGE" }));
    expect(() => parsePolicy(text)).toThrow(why);
  });

  property.prop([fc.string()])("of any text is refused with a sentence, or read", (text) => {
    try {
      const classes = parsePolicy(text);
      expect(classes.reduce((sum, { count }) => sum + count, 0)).toBeLessThanOrEqual(MAX_POLICY_SNAPSHOTS);
    } catch (error) {
      expect(error).toMatchObject({ code: "TCFS_USAGE" });
    }
  });
});

describe("a period begins", () => {
  const at = (time: string): number => Date.parse(time) / 1000;
  const newest = (wallSeconds: number): KeptSnapshot[] => [
    { epoch: 1 as Epoch, units: POLICY_UNITS, awakeSeconds: 0, wallSeconds },
  ];
  const begun = (from: number, to: number): readonly string[] =>
    unitsBegun({ wallSeconds: to, awakeSeconds: 1, behindSeconds: 0 }, newest(from));

  test.each([
    ["2026-11-22T10:59:59.9Z", "2026-11-22T10:59:59.99Z", []],
    ["2026-11-22T10:59:59.9Z", "2026-11-22T11:00:00Z", ["minutely", "hourly"]],
    ["2026-11-21T23:59:59Z", "2026-11-22T00:00:00Z", ["minutely", "hourly", "daily"]], // a Sunday
    ["2026-11-22T23:59:59Z", "2026-11-23T00:00:00Z", ["minutely", "hourly", "daily", "weekly"]],
    ["2026-11-30T23:59:59Z", "2026-12-01T00:00:00Z", ["minutely", "hourly", "daily", "monthly"]],
    ["2028-02-28T23:59:59Z", "2028-02-29T00:00:00Z", ["minutely", "hourly", "daily"]],
    ["2026-12-31T23:59:59Z", "2027-01-01T00:00:00Z", ["minutely", "hourly", "daily", "monthly", "yearly"]],
    ["1969-12-31T23:59:59Z", "1970-01-01T00:00:00Z", ["minutely", "hourly", "daily", "monthly", "yearly"]],
    ["0000-12-31T23:59:59Z", "0001-01-01T00:00:00Z", ["minutely", "hourly", "daily", "weekly", "monthly", "yearly"]],
    ["2027-01-01T00:00:00Z", "2026-12-31T23:59:59Z", []],
  ])("between %s and %s: %j", (from, to, units) => {
    expect(begun(at(from), at(to))).toEqual(units);
  });

  property.prop([fc.maxSafeInteger(), fc.maxSafeInteger(), fc.maxSafeNat()])(
    "or not, whatever the clocks say",
    (from, to, awake) => {
      const moment = { wallSeconds: to, awakeSeconds: awake, behindSeconds: 0 };
      const classes = POLICY_UNITS.map((unit) => ({ unit, count: 1 }));
      const isDue = secondsUntilDue(classes, moment, newest(from)) <= 0;
      if (to >= from) expect(isDue).toBe(unitsBegun(moment, newest(from)).length > 0);
      expect(secondsUntilDue(classes, moment, newest(from))).not.toBeNaN();
    },
  );
});
