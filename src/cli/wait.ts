/** Waiting for what nobody announces: the end of a process that is not our child. */

const INTERVAL_MS = 20;

/** @returns Whether `isTrue` came true within `timeoutMs`. */
export async function waitFor(timeoutMs: number, isTrue: () => boolean): Promise<boolean> {
  const deadline = performance.now() + timeoutMs;
  while (!isTrue()) {
    if (performance.now() > deadline) return false;
    await new Promise((resolve) => setTimeout(resolve, INTERVAL_MS));
  }
  return true;
}
