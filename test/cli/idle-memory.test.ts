/** When memory is given back: once a time of work is over, not while there is some, and not again without new work. */
import { expect, test } from "vitest";
import { IdleMemory } from "../../src/cli/daemon/idle-memory.ts";
import { collectGarbage, trimFreeMemory } from "../../src/platform/free-memory.ts";
import { SimulatedClock } from "../support/simulated-clock.ts";

const MIB = 1024 * 1024;
const SECOND_MS = 1000;

/** @param spentMs - Processor time of each interval of ten seconds. @returns What was done after which of them. */
async function done(spentMs: readonly number[]): Promise<string[]> {
  const clock = new SimulatedClock("2026-11-23T00:00:00Z");
  const steps: string[] = [];
  let processorMs = 0;
  let interval = 0;
  const step = (name: string) => (): void => {
    processorMs += 5 * SECOND_MS; // it is no work that asks for the next time
    steps.push(`${name} ${interval}`);
  };
  using _memory = new IdleMemory({
    clock,
    processorMs: () => processorMs,
    collectGarbage: step("collect"),
    trimFreeMemory: step("trim"),
  });
  for (const ms of spentMs) {
    processorMs += ms;
    await clock.pass(10 * SECOND_MS, () => Promise.resolve());
    interval++;
  }
  return steps;
}

test("memory is given back after work, at its end and once more when everybody has let go", async () => {
  const steps = await done([5000, 3000, 20, 10, 10, 10, 10, 10, 10, 10]);
  expect(steps).toEqual(["collect 2", "trim 3", "collect 6", "trim 7"]);
});

test("a vault that was just opened gives back, too, and then rests", async () => {
  expect(await done([0, 0, 0, 0, 0, 0, 0, 0, 0])).toEqual(["collect 0", "trim 1", "collect 4", "trim 5"]);
});

test("new work begins anew, a little of it does not", async () => {
  expect(await done([0, 400, 400, 0, 0, 2000, 400, 0])).toEqual(["collect 0", "trim 3", "collect 7"]);
});

test("nothing is given back while there is work", async () => {
  expect(await done([1000, 2000, 900, 101, 1500])).toEqual([]);
});

const nothing = (): void => undefined;

test("the timer ends with it", async () => {
  const clock = new SimulatedClock("2026-11-23T00:00:00Z");
  {
    using _memory = new IdleMemory({ clock, processorMs: () => 0, collectGarbage: nothing, trimFreeMemory: nothing });
    expect(clock.timerCount).toBe(1);
  }
  expect(clock.timerCount).toBe(0);
});

test("garbage and what malloc holds free go back to the system", async () => {
  const before = process.memoryUsage.rss();
  const most = fill();
  expect(most - before).toBeGreaterThan(200 * MIB);
  collectGarbage();
  const givenBack = (): number => {
    trimFreeMemory();
    return most - process.memoryUsage.rss();
  };
  await expect.poll(givenBack).toBeGreaterThan(150 * MIB);
});

/** Small buffers, so that malloc has them in its heap; every hundredth stays, so that the heap cannot just be cut off. */
const kept: Uint8Array[] = [];
function fill(): number {
  const all = Array.from({ length: 8192 }, () => Buffer.allocUnsafeSlow(32 * 1024).fill(1));
  kept.push(...all.filter((_, index) => index % 100 === 99));
  return process.memoryUsage.rss();
}
