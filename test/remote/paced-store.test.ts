import { expect, test } from "vitest";
import { Pace } from "../../src/remote/paced-store.ts";
import { SimulatedClock } from "../support/simulated-clock.ts";

/** @returns When each of the pieces was let go, in milliseconds. */
async function times(
  lengths: readonly number[],
  limit: number | null,
  at: ReadonlyMap<number, (pace: Pace) => void> = new Map(),
): Promise<number[]> {
  const clock = new SimulatedClock("2026-11-22T00:00:00Z");
  const pace = new Pace(clock);
  pace.limitBytesPerSecond = limit;
  const told: number[] = [];
  const all = lengths.map((length) => pace.take(length, undefined).then(() => told.push(clock.monotonicMs())));
  for (let second = 0; told.length < lengths.length && second < 1000; second++) {
    at.get(second)?.(pace);
    await new Promise(setImmediate);
    await clock.pass(1000, () => new Promise(setImmediate));
  }
  await Promise.all(all);
  return told;
}

test("lets objects go at the rate that was set, on the average", async () => {
  expect(await times([100, 100, 100], null)).toEqual([0, 0, 0]);
  const told = await times([1000, 1000, 500, 1], 500);
  for (const [index, expected] of [0, 2000, 4000, 5000].entries()) {
    expect(told[index]).toBeGreaterThanOrEqual(expected);
    expect(told[index]).toBeLessThan(expected + 600);
  }
});

test("takes another rate while somebody waits", async () => {
  const told = await times([100_000, 1], 100, new Map([[3, (pace) => (pace.limitBytesPerSecond = null)]]));
  expect(told[1]).toBeLessThan(4000);
});

test("gives up by its signal, and keeps the turn of the others", async () => {
  const clock = new SimulatedClock("2026-11-22T00:00:00Z");
  const pace = new Pace(clock);
  pace.limitBytesPerSecond = 10;
  await pace.take(10, undefined);
  const gone = pace.take(1, AbortSignal.abort());
  await expect(gone).rejects.toMatchObject({ code: "TCFS_CANCELLED" });
  pace.limitBytesPerSecond = null;
  await pace.take(1, undefined);
});
