/** When memory is given back: once a time of work is over, not while there is some, and not again without new work. */
import { expect, test } from "vitest";
import { IdleMemory } from "../../src/cli/daemon/idle-memory.ts";
import { giveBackFreeMemory } from "../../src/platform/free-memory.ts";
import { SimulatedClock } from "../support/simulated-clock.ts";

const MIB = 1024 * 1024;
const SECOND_MS = 1000;

/** @param spentMs - Processor time of each interval of ten seconds. @returns After which of them memory was given back. */
async function givenBack(spentMs: readonly number[]): Promise<number[]> {
  const clock = new SimulatedClock("2026-11-23T00:00:00Z");
  const times: number[] = [];
  let processorMs = 0;
  let interval = 0;
  using _memory = new IdleMemory({
    clock,
    processorMs: () => processorMs,
    giveBack: () => {
      processorMs += 5 * SECOND_MS; // it is no work that asks for the next time
      times.push(interval);
    },
  });
  for (const ms of spentMs) {
    processorMs += ms;
    await clock.pass(10 * SECOND_MS, () => Promise.resolve());
    interval++;
  }
  return times;
}

test("memory is given back after work, once at its end and once when everybody has let go", async () => {
  expect(await givenBack([5000, 3000, 20, 10, 10, 10, 10, 10, 10, 10])).toEqual([2, 6]);
});

test("a vault that was just opened gives back, too, and then rests", async () => {
  expect(await givenBack([0, 0, 0, 0, 0, 0, 0, 0, 0])).toEqual([0, 4]);
});

test("new work begins anew, a little of it does not", async () => {
  expect(await givenBack([0, 400, 400, 0, 0, 2000, 400, 0])).toEqual([0, 7]);
});

test("nothing is given back while there is work", async () => {
  expect(await givenBack([1000, 2000, 900, 101, 1500])).toEqual([]);
});

test("the timer ends with it", async () => {
  const clock = new SimulatedClock("2026-11-23T00:00:00Z");
  {
    using _memory = new IdleMemory({ clock, processorMs: () => 0, giveBack: () => undefined });
    expect(clock.timerCount).toBe(1);
  }
  expect(clock.timerCount).toBe(0);
});

test("garbage and what malloc holds free go back to the system", () => {
  const before = process.memoryUsage.rss();
  const most = fill();
  giveBackFreeMemory();
  expect(most - before).toBeGreaterThan(200 * MIB);
  expect(most - process.memoryUsage.rss()).toBeGreaterThan(150 * MIB);
});

/** Small buffers, so that malloc has them in its heap; every hundredth stays, so that the heap cannot just be cut off. */
const kept: Uint8Array[] = [];
function fill(): number {
  const all = Array.from({ length: 8192 }, () => Buffer.allocUnsafeSlow(32 * 1024).fill(1));
  kept.push(...all.filter((_, index) => index % 100 === 99));
  return process.memoryUsage.rss();
}
