/** Large changes in steps: other requests have their turn between two of them, and a signal ends the change there. */
import { setImmediate as nextTurn } from "node:timers/promises";
import { TcfsError } from "../errors.ts";
import { EXTENT_PAGE_BYTES } from "../format/records.ts";
import type { MaybePromise } from "../maybe-promise.ts";
import type { Committer } from "./committer.ts";
import { STEPS_PER_COMMIT, STEP_PAGES } from "./limits.ts";
import type { Caller } from "./operations.ts";

const STEP_BYTES = BigInt(STEP_PAGES * EXTENT_PAGE_BYTES);

/** Called between two steps. @throws TcfsError `TCFS_INTERRUPTED`, and what a commit throws. */
export type Pause = () => Promise<void>;

/** @returns The pauses of one caller's change; what it changed by then is committed every so often. */
export function pausesFor(caller: Caller, committer: Committer): Pause {
  let isInterrupted = false;
  let isListening = false;
  let steps = 0;
  return async () => {
    if (!isListening) {
      isListening = true;
      caller.onInterrupt(() => {
        isInterrupted = true;
      });
    }
    if (++steps % STEPS_PER_COMMIT === 0) await committer.commit();
    await nextTurn();
    if (isInterrupted) throw new TcfsError("TCFS_INTERRUPTED", "interrupted between two steps");
  };
}

/** Call `step` for one piece of a range after another. */
export function inSteps(
  range: { readonly offset: bigint; readonly lengthBytes: bigint },
  pause: Pause,
  step: (offset: bigint, lengthBytes: bigint) => MaybePromise<void>,
): MaybePromise<void> {
  const { offset, lengthBytes } = range;
  if (lengthBytes <= STEP_BYTES) return step(offset, lengthBytes);
  return (async () => {
    for (let done = 0n; done < lengthBytes; done += STEP_BYTES) {
      if (done > 0n) await pause();
      const rest = lengthBytes - done;
      await step(offset + done, rest < STEP_BYTES ? rest : STEP_BYTES);
    }
  })();
}
