/**
 * Everything that keeps the past, mixed: random histories of writing, versions, trash, snapshots, restores, undo, cleaning,
 * collection, reopening and power cuts, against plain copies of every state that is kept.
 */
import fc from "fast-check";
import { afterEach, test, vi } from "vitest";
import { History } from "./fixtures/yesterday-history.ts";
import { operation } from "./fixtures/yesterday-operations.ts";
import { YesterdayWorld } from "./fixtures/yesterday-world.ts";

afterEach(() => vi.restoreAllMocks());

// TCFS_YESTERDAY_SEED and TCFS_YESTERDAY_PATH, both printed by a failure, replay; TCFS_YESTERDAY_RUNS looks for more.
const { TCFS_YESTERDAY_SEED: seedText, TCFS_YESTERDAY_PATH: replayedPath, TCFS_YESTERDAY_RUNS: runs } = process.env;

test("after any history the present, every version and every snapshot are what plain copies say", async () => {
  const histories = fc.asyncProperty(
    fc.array(operation, { minLength: 20, maxLength: 60, size: "max" }),
    async (history) => {
      const world = await YesterdayWorld.open();
      await using _ = world.vault;
      const run = new History(world);
      for (const directory of ["d", "d/s"] as const) await run.step({ kind: "make directory", directory });
      for (const step of history) await run.step(step);
      await world.check();
      await run.end();
    },
  );
  await fc.assert(histories, {
    numRuns: Number(runs ?? 4),
    ...(seedText === undefined ? {} : { seed: Number(seedText) }),
    ...(replayedPath === undefined ? {} : { path: replayedPath }),
    endOnFailure: false,
  });
}, 3_600_000);
