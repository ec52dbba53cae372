/**
 * `npm test`: set up, then every check and test. `npm run check` (--quick): format, lint, types, knip and unit tests alone.
 * The last line is `N passed, N failed[, N skipped]`, over everything that ran; a static check counts as one.
 */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Failure, ROOT, runMain, runShown } from "./lib/run.mjs";
import { ensureSeaweed } from "./lib/seaweed.mjs";
import { TEST_NEEDS } from "./lib/system-packages.mjs";
import { setup } from "./setup.mjs";

/** @typedef {{ passed: number, failed: number, skipped: number }} Counts */

/** Name, then the script of the npm package and its arguments. @type {readonly [string, string, ...string[]][]} */
const STATIC_CHECKS = [
  ["format", "prettier/bin/prettier.cjs", "--check", "--log-level=warn", "."],
  ["types", "typescript/bin/tsc", "-p", "tsconfig.check.json"],
  ["lint", "eslint/bin/eslint.js", "."],
  ["knip", "knip/bin/knip.js", "--no-progress"],
];

await runMain(async () => {
  const isQuick = process.argv.includes("--quick");
  const startedAt = Date.now();
  const total = { passed: 0, failed: 0, skipped: 0 };
  if (isSetUp(isQuick)) {
    for (const [name, script, ...args] of STATIC_CHECKS) add(total, await staticCheck(name, script, args));
    for (const project of isQuick ? ["unit"] : ["unit", "mount", "slow"]) add(total, await vitest(project));
  } else {
    total.failed = 1;
  }
  if (total.failed > 0) console.log("\nThis run failed; what failed is above.");
  console.log(`\nThe run took ${String(Math.round((Date.now() - startedAt) / 1000))} s.`);
  const skipped = total.skipped > 0 ? `, ${String(total.skipped)} skipped` : "";
  console.log(`${String(total.passed)} passed, ${String(total.failed)} failed${skipped}`);
  return total.failed === 0 && total.passed > STATIC_CHECKS.length ? 0 : 1;
});

/**
 * @param {boolean} isQuick
 * @returns {boolean} Whether everything that the tests need is there; if not, the reason has been told.
 */
function isSetUp(isQuick) {
  try {
    setup(isQuick ? { isBuilt: false } : { alsoNeeded: TEST_NEEDS });
    if (!isQuick) installSeaweed();
    return true;
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    console.error(`tcfs: ${error.message}`);
    return false;
  }
}

/** Without it the tests of S3 are skipped, and say so. */
function installSeaweed() {
  try {
    ensureSeaweed();
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    console.log(`· no SeaweedFS: ${error.message}`);
  }
}

/**
 * @param {string} name
 * @param {string} script - Path in node_modules.
 * @param {readonly string[]} args
 * @returns {Promise<Counts>}
 */
async function staticCheck(name, script, args) {
  const startedAt = Date.now();
  const code = await runShown(process.execPath, [join(ROOT, "node_modules", script), ...args]);
  console.log(`${code === 0 ? "✓" : "✗"} ${name} (${((Date.now() - startedAt) / 1000).toFixed(1)} s)`);
  return { passed: code === 0 ? 1 : 0, failed: code === 0 ? 0 : 1, skipped: 0 };
}

/**
 * @param {string} project - One of vitest.config.ts.
 * @returns {Promise<Counts>}
 */
async function vitest(project) {
  console.log(`\n${project} tests`);
  const scratch = mkdtempSync(join(tmpdir(), "tcfs-report-"));
  try {
    const report = join(scratch, "report.json");
    const script = join(ROOT, "node_modules/vitest/vitest.mjs");
    const reporters = ["--reporter=default", "--reporter=json", `--outputFile.json=${report}`];
    const code = await runShown(process.execPath, [
      script,
      "run",
      "--project",
      project,
      "--passWithNoTests",
      ...reporters,
    ]);
    return countReport(report, code);
  } finally {
    rmSync(scratch, { recursive: true });
  }
}

/**
 * @param {string} report - Vitest's JSON file; absent if it fell before writing it.
 * @param {number} code - Vitest's exit code.
 * @returns {Counts}
 */
function countReport(report, code) {
  const counts = { passed: 0, failed: 0, skipped: 0 };
  try {
    /** @typedef {{ numPassedTests: number, numFailedTests: number, numPendingTests: number, numTodoTests: number }} Report */
    const parsed = /** @type {Report} */ (JSON.parse(readFileSync(report, "utf8")));
    const skipped = parsed.numPendingTests + parsed.numTodoTests;
    add(counts, { passed: parsed.numPassedTests, failed: parsed.numFailedTests, skipped });
  } catch {
    console.log("vitest ended without a report");
    counts.failed = 1;
  }
  // A file that does not load, or something left behind, fails the run without failing a test.
  if (code !== 0 && counts.failed === 0) counts.failed = 1;
  return counts;
}

/**
 * @param {Counts} total - Changed.
 * @param {Counts} more
 */
function add(total, more) {
  total.passed += more.passed;
  total.failed += more.failed;
  total.skipped += more.skipped;
}
