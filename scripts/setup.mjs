/** `npm run setup`: whatever is missing to run tcfs. Plain JavaScript without packages, since it comes before `npm ci`. */
import { fileURLToPath } from "node:url";
import { ensureDist, ensureNative, ensureNpmPackages } from "./lib/build.mjs";
import { Failure, runMain } from "./lib/run.mjs";
import { ensurePackages, MOUNT_NEEDS } from "./lib/system-packages.mjs";

/** What the bundler asks for; the built package runs on any Node 20. */
const OLDEST_NODE = [20, 19];

/**
 * Install and build what is missing; quiet when nothing is.
 * @param {object} [options]
 * @param {readonly import("./lib/system-packages.mjs").Need[]} [options.alsoNeeded] - System packages beyond those that a mount needs.
 * @param {boolean} [options.isBuilt] - Whether dist/ is needed.
 */
export function setup({ alsoNeeded = [], isBuilt = true } = {}) {
  if (process.platform !== "linux") throw new Failure("tcfs runs on Linux only.");
  const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
  const [oldestMajor = 0, oldestMinor = 0] = OLDEST_NODE;
  if (major < oldestMajor || (major === oldestMajor && minor < oldestMinor)) {
    throw new Failure(`Node ${OLDEST_NODE.join(".")} or newer is needed; this is ${process.versions.node}.`);
  }
  ensurePackages([...MOUNT_NEEDS, ...alsoNeeded]);
  ensureNpmPackages();
  ensureNative();
  if (isBuilt) ensureDist();
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await runMain(() => {
    setup();
    return Promise.resolve(undefined);
  });
}
