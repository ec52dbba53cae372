/**
 * A child process that uses the addon as roughly as a program can, and must still end by itself: how, says argv[2].
 * It calls the binding as src/crypto/native-engine.ts does; plain JavaScript, since the child runs no TypeScript.
 */
import { fileURLToPath } from "node:url";
import { isMainThread, Worker, workerData } from "node:worker_threads";

const MIB = 2 ** 20;
const CALLS = 8;
const addon = { exports: {} };
process.dlopen(addon, fileURLToPath(new URL("../../native/build/Release/tcfs_engine.node", import.meta.url)));
const binding = /** @type {import("../../src/crypto/binding.ts").EngineBinding} */ (addon.exports);

function openHandles() {
  const staging = new Uint8Array(4096);
  const engine = binding.openEngine(
    new Uint8Array(128),
    new Uint8Array(8),
    new Uint8Array(33),
    staging,
    4096,
    16384,
    65536,
  );
  return { engine, pack: binding.openPack(new Uint8Array(32), new Uint8Array(48)) };
}

/** @param {{engine: import("../../src/crypto/binding.ts").EngineHandle, pack: import("../../src/crypto/binding.ts").PackHandle}} handles */
function startCalls({ engine, pack }) {
  const plain = new Uint8Array(4 * MIB).map((_, i) => (i * i) >> 7);
  const one = Uint32Array.of(1);
  return Array.from({ length: CALLS }, () => {
    const output = new Uint8Array(plain.length + 64 * 20);
    const lengths = Uint32Array.of(plain.length);
    const sealing = binding.seal(pack, [plain], one, lengths, 0, output, new Uint32Array(64), true);
    const ids = new Uint8Array(32 * 1025);
    const [chunkLengths, counts] = [new Uint32Array(1025), new Uint32Array(1)];
    const naming = binding.nameChunks(engine, [plain], one, Uint8Array.of(1), ids, chunkLengths, counts, true);
    return Promise.all([sealing, naming]);
  });
}

/** Only the calls themselves keep their buffers and handles alive. */
async function collectGarbage() {
  for (let round = 0; round < 5; round++) {
    const calls = startCalls(openHandles());
    globalThis.gc?.();
    for (const call of calls) if ((await call).some((status) => status !== 0)) throw new Error("a call failed");
    globalThis.gc?.();
  }
}

/** @param {string} mode */
async function startWorkers(mode) {
  const workers = [1, 2].map(() => new Worker(new URL(import.meta.url), { workerData: mode }));
  const exits = workers.map((worker) => new Promise((resolve) => worker.on("exit", resolve)));
  await Promise.all(workers.map((worker) => new Promise((resolve) => worker.on("message", resolve))));
  if (mode === "terminate") await Promise.all(workers.map((worker) => worker.terminate()));
  await Promise.all(exits);
}

/** @returns {number} */
function overflow() {
  binding.openPack(new Uint8Array(32), new Uint8Array(48));
  return overflow() + 1;
}

/** @param {(number | string)[]} values */
function misuse(...values) {
  let refused = 0;
  const { engine, pack } = openHandles();
  const calls = /** @type {((...values: unknown[]) => unknown)[]} */ (Object.values(binding));
  for (const call of calls) {
    for (const first of [undefined, engine, pack, {}, ...values]) {
      try {
        call(first, values, -1, new Uint8Array(3), Uint32Array.of(2 ** 31), 5n, "x", true, null, first);
      } catch {
        refused += 1;
      }
    }
  }
  return refused;
}

if (!isMainThread) {
  const { parentPort } = await import("node:worker_threads");
  const calls = startCalls(openHandles());
  parentPort?.postMessage("started");
  if (workerData === "exit") process.exit(0);
  await Promise.all(calls);
} else {
  const mode = process.argv[2] ?? "";
  if (mode === "exit-under-way") void Promise.all(startCalls(openHandles()));
  else if (mode === "uncaught") {
    void Promise.all(startCalls(openHandles()));
    process.on("uncaughtException", () => process.exit(0));
    setImmediate(() => {
      throw new Error("while calls are under way");
    });
  } else if (mode === "garbage") await collectGarbage();
  else if (mode === "full-stack") {
    try {
      overflow();
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
    }
  } else if (mode === "misuse") misuse(1, "text", -3.5);
  else await startWorkers(mode);
  process.stdout.write("survived");
  if (mode === "exit-under-way") process.exit(0);
}
