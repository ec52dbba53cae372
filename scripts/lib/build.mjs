/** npm packages, native/ and dist/: each made only when what it is made from has changed. */
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { Failure, ROOT, runQuietly, step } from "./run.mjs";
import { BUILD_NEEDS, ensurePackages } from "./system-packages.mjs";

const NATIVE = join(ROOT, "native");
const NATIVE_OUTPUTS = ["tcfs_fuse.node", "tcfs_engine.node", "tcfs_host.node"].map((name) =>
  join(NATIVE, "build/Release", name),
);
const NATIVE_STAMP = join(NATIVE, "build/tcfs-inputs");
const DIST = join(ROOT, "dist");
const DIST_STAMP = join(DIST, "tcfs-inputs");

/** Install exactly what package-lock.json says, unless it stands in node_modules already. */
export function ensureNpmPackages() {
  if (npmPackagesMatch()) return;
  step("installing npm packages");
  // The packages' own install scripts are not needed: those with native parts ship them prebuilt.
  const args = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"];
  const npm = process.env["npm_execpath"];
  const result = npm === undefined ? runQuietly("npm", args) : runQuietly(process.execPath, [npm, ...args]);
  if (result.ok) return;
  console.error(result.output);
  throw new Failure(
    "npm could not install the packages of package-lock.json; its words are above. Is there a network?",
  );
}

/** @returns {boolean} Whether node_modules holds the versions that package-lock.json names, and no others. */
function npmPackagesMatch() {
  const installed = lockedVersions(join(ROOT, "node_modules/.package-lock.json"));
  const wanted = lockedVersions(join(ROOT, "package-lock.json"));
  if (installed === undefined || wanted === undefined) return false;
  // Optional packages are those of other machines.
  const allWanted = [...wanted].every(
    ([path, entry]) => installed.get(path)?.version === entry.version || entry.optional,
  );
  return allWanted && [...installed.keys()].every((path) => wanted.has(path));
}

/**
 * @param {string} path
 * @returns {Map<string, { version: string, optional: boolean }> | undefined} Undefined where there is no such file.
 */
function lockedVersions(path) {
  if (!existsSync(path)) return undefined;
  /** @typedef {{ packages: Record<string, { version: string, optional?: boolean }> }} Lock */
  const { packages } = /** @type {Lock} */ (JSON.parse(readFileSync(path, "utf8")));
  const entries = Object.entries(packages).filter(([name]) => name !== "");
  return new Map(entries.map(([name, { version, optional = false }]) => [name, { version, optional }]));
}

/** Build the addons of native/ with node-gyp; installs the compiler first where there is none. */
export function ensureNative() {
  const inputs = fingerprint(
    [NATIVE, join(ROOT, "package-lock.json")],
    `${process.arch} ${String(process.versions.node.split(".")[0])}`,
  );
  if (NATIVE_OUTPUTS.every(existsSync) && readStamp(NATIVE_STAMP) === inputs) return;
  ensurePackages(BUILD_NEEDS);
  step("building native/");
  const gyp = join(ROOT, "node_modules/node-gyp/bin/node-gyp.js");
  const result = runQuietly(process.execPath, [gyp, "rebuild", "--loglevel=error", ...nodeHeaders()], { cwd: NATIVE });
  if (!result.ok) {
    console.error(result.output);
    throw new Failure("native/ could not be built; the compiler's words are above.");
  }
  writeFileSync(NATIVE_STAMP, inputs);
}

/** @returns {string[]} node-gyp's option for the headers that came with this Node; none if it must fetch them. */
function nodeHeaders() {
  const prefix = dirname(dirname(process.execPath));
  return existsSync(join(prefix, "include/node/node_api.h")) ? [`--nodedir=${prefix}`] : [];
}

/** Bundle src/ to dist/. The old dist/ stands until the new one is whole. */
export function ensureDist() {
  const bundler = join(ROOT, "scripts/lib/bundle.mjs");
  const sources = ["src", "tsconfig.json", "package.json", "package-lock.json"].map((name) => join(ROOT, name));
  const inputs = fingerprint([...sources, bundler], "");
  if (readStamp(DIST_STAMP) === inputs) return;
  step("building src/ to dist/");
  const fresh = join(ROOT, "dist.new");
  rmSync(fresh, { recursive: true, force: true });
  const result = runQuietly(process.execPath, [bundler, fresh]);
  if (!result.ok) {
    rmSync(fresh, { recursive: true, force: true });
    console.error(result.output);
    throw new Failure("src/ could not be built; the bundler's words are above.");
  }
  writeFileSync(join(fresh, "tcfs-inputs"), inputs);
  const old = join(ROOT, "dist.old");
  rmSync(old, { recursive: true, force: true });
  if (existsSync(DIST)) renameSync(DIST, old);
  renameSync(fresh, DIST);
  rmSync(old, { recursive: true, force: true });
}

/**
 * @param {readonly string[]} paths - Files and directories; a directory named build is passed over.
 * @param {string} also - What else the result depends on.
 * @returns {string} A hash of every file's path and contents.
 */
function fingerprint(paths, also) {
  const hash = createHash("sha256").update(also);
  for (const path of paths.flatMap(filesIn)) hash.update(`\0${relative(ROOT, path)}\0`).update(readFileSync(path));
  return hash.digest("hex");
}

/**
 * @param {string} path
 * @returns {string[]}
 */
function filesIn(path) {
  if (!existsSync(path)) return [];
  let entries;
  try {
    entries = readdirSync(path, { withFileTypes: true });
  } catch {
    return [path];
  }
  return entries
    .filter((entry) => entry.name !== "build")
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .flatMap((entry) => (entry.isDirectory() ? filesIn(join(path, entry.name)) : [join(path, entry.name)]));
}

/** @param {string} path */
function readStamp(path) {
  return existsSync(path) ? readFileSync(path, "utf8") : undefined;
}
