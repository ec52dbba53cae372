/** Does a store keep what uploads rest on? Asked with objects of its own, which it takes away again. */
import { toHex } from "../bytes.ts";
import { TcfsError, isTcfsError } from "../errors.ts";
import type { RandomSource } from "../platform/random.ts";
import type { ObjectStore } from "../remote/object-store.ts";

export interface ProbeReport {
  readonly putMs: number;
  readonly getMs: number;
  /** Of an object of a mebibyte. */
  readonly lengthBytes: number;
}

const PROBE_BYTES = 1024 * 1024;

/** @throws TcfsError what the store throws; `TCFS_UNSUPPORTED` if it does not keep conditions, `TCFS_CORRUPT` if not contents. */
export async function probeStore(store: ObjectStore, random: RandomSource, signal?: AbortSignal): Promise<ProbeReport> {
  const name = `probe/${toHex(random.bytes(8))}`;
  const content = random.bytes(PROBE_BYTES);
  try {
    const started = performance.now();
    const version = await store.putIfAbsent(name, content, signal);
    const put = performance.now();
    const found = await store.get(name, { maxBytes: PROBE_BYTES, signal });
    const got = performance.now();
    const range = await store.getRange(name, { offset: 1000, lengthBytes: 5000 }, signal);
    const isSame = found !== undefined && Buffer.compare(found.content, content) === 0;
    const isSameRange = range !== undefined && Buffer.compare(range, content.subarray(1000, 6000)) === 0;
    if (!isSame || !isSameRange)
      throw new TcfsError("TCFS_CORRUPT", `${store.place} does not give back what it was given`);
    const other = random.bytes(16);
    await requireConflict(store, () => store.putIfAbsent(name, other, signal));
    const next = await store.putIfMatch(name, other, version, signal);
    await requireConflict(store, () => store.putIfMatch(name, content, version, signal));
    if (next === version) throw unconditional(store);
    return { putMs: put - started, getMs: got - put, lengthBytes: PROBE_BYTES };
  } finally {
    await store.delete(name).catch(() => undefined); // the first failure is the one to tell
  }
}

async function requireConflict(store: ObjectStore, put: () => Promise<unknown>): Promise<void> {
  try {
    await put();
  } catch (error) {
    if (isTcfsError(error, "TCFS_REMOTE_CONFLICT")) return;
    throw error;
  }
  throw unconditional(store);
}

function unconditional(store: ObjectStore): TcfsError {
  const why =
    "does not keep conditional writes (If-Match, If-None-Match), without which two writers would ruin each other";
  return new TcfsError("TCFS_UNSUPPORTED", `${store.place} ${why}`);
}
