import { expect, test } from "vitest";
import { calibrateKdfCost, checkKdfCost } from "../../src/keys/kdf.ts";
import type { Clock } from "../../src/platform/clock.ts";

/** A machine on which the floor takes `floorMs`. */
function machine(floorMs: number): Clock {
  let calls = 0;
  return {
    now: () => ({ seconds: 0, nanoseconds: 0 }),
    monotonicMs: () => floorMs * calls++,
    after: () => ({ cancel: () => undefined }),
  };
}

test.each([
  [2000, 64],
  [251, 64],
  [250, 128],
  [100, 256],
  [1, 256],
])("a machine that takes %i ms for the floor gets at most %i MiB", async (floorMs, mostMiB) => {
  const cost = await calibrateKdfCost(machine(floorMs));
  expect(cost.memoryKiB).toBeLessThanOrEqual(mostMiB * 1024);
  checkKdfCost(cost);
});
