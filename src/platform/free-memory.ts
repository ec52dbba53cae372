/** Memory of this process that nothing uses, and that V8 and malloc would keep for what comes. */
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { optionalHost } from "./optional-host.ts";

/** With less free memory there is nothing to be had by looking for whole pages of it. */
const WORTHWHILE_BYTES = 8 * 1024 * 1024;
let collector: (() => void) | undefined;

/**
 * The calling thread stops meanwhile: a tenth of a second or two. Buffers that are garbage go back to malloc soon after, on
 * another thread.
 */
export function collectGarbage(): void {
  collector ??= makeCollector();
  collector();
}

/** Give what malloc holds free to the system; takes some milliseconds. */
export function trimFreeMemory(): void {
  optionalHost?.trimMemory(WORTHWHILE_BYTES);
}

/** `--expose-gc` shows it to contexts made from then on alone. */
function makeCollector(): () => void {
  setFlagsFromString("--expose-gc");
  return runInNewContext("gc") as () => void;
}
