/**
 * One long history of everything that touches the disk; in each run one call of the disk or of LevelDB fails, once, or is
 * the last before the power goes. The session goes on to show what was acknowledged, and the next mount shows a state since
 * the last sync, whole.
 */
import fc from "fast-check";
import { test } from "vitest";
import { TcfsError } from "../../src/errors.ts";
import { FaultScript, toldLevel } from "./fixtures/fault-script.ts";
import { TestVault, clockWithoutTimers } from "./fixtures/test-vault.ts";

type Fault = "TCFS_IO" | "TCFS_STORE_FULL" | "power cut";
type End = "reopen" | "crash" | "losePower";

/** @param at - The call that fails; none where there is no such call. @returns How many there were. */
async function runWith(at: number | undefined, fault: Fault, end: End): Promise<number> {
  let [callCount, isCounting] = [0, false];
  const onCall = (call: string): void => {
    if (!isCounting || callCount++ !== at) return;
    if (fault === "power cut") vault.disk.cutPower();
    throw new TcfsError(fault === "power cut" ? "TCFS_IO" : fault, `made to fail: ${call}, call ${at}`);
  };
  await using vault = await TestVault.create({
    canFail: true,
    clock: clockWithoutTimers,
    openLevel: toldLevel(onCall),
  });
  vault.disk.onCall = onCall;
  const script = new FaultScript(vault);
  isCounting = true;
  await script.run();
  isCounting = false;
  if (fault === "power cut") await vault.losePower();
  else {
    await script.checkLive();
    await vault[end]();
  }
  await script.checkReopened();
  return callCount;
}

// TCFS_CALLS_SEED and TCFS_CALLS_PATH, both printed by a failure, replay; TCFS_CALLS_RUNS looks at more calls.
const { TCFS_CALLS_SEED: seedText, TCFS_CALLS_PATH: replayedPath, TCFS_CALLS_RUNS: runs } = process.env;

test("whichever call fails, what was acknowledged is read, and what was synced is there afterwards", async () => {
  const callCount = await runWith(undefined, "TCFS_IO", "reopen");
  const faults = fc.asyncProperty(
    fc.nat(callCount - 1),
    fc.constantFrom<Fault>("TCFS_IO", "TCFS_STORE_FULL", "power cut"),
    fc.constantFrom<End>("reopen", "crash", "losePower"),
    async (at, fault, end) => {
      await runWith(at, fault, end);
    },
  );
  await fc.assert(faults, {
    numRuns: Number(runs ?? 12),
    ...(seedText === undefined ? {} : { seed: Number(seedText) }),
    ...(replayedPath === undefined ? {} : { path: replayedPath }),
    endOnFailure: true,
  });
}, 3_600_000);
