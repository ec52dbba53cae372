/**
 * `npm test`: set up, then every check and test. `npm run check` (--quick): format, lint, types, knip and unit tests alone.
 * At the end it names the files that took longest and what failed, since a log may be cut to its last lines. The last line
 * is `N passed, N failed[, N skipped]`, over everything that ran; a static check counts as one.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Failure, ROOT, runMain, runShown } from "./lib/run.mjs";
import { ensureSeaweed } from "./lib/seaweed.mjs";
import { TEST_NEEDS } from "./lib/system-packages.mjs";
import { formatFailures, formatSlowest, readReport } from "./lib/test-report.mjs";
import { setup } from "./setup.mjs";

/** @typedef {import("./lib/test-report.mjs").Counts} Counts */
/** @typedef {import("./lib/test-report.mjs").Report} Report */

/** Name, then the script of the npm package and its arguments. @type {readonly [string, string, ...string[]][]} */
const STATIC_CHECKS = [
  ["lint", "eslint/bin/eslint.js", "."],
  ["types", "typescript/bin/tsc", "-p", "tsconfig.check.json"],
  ["format", "prettier/bin/prettier.cjs", "--check", "--log-level=warn", "."],
  ["knip", "knip/bin/knip.js", "--no-progress"],
];
/** Those that take longest are begun first. */
const CHECKS_AT_ONCE = 2;
/** Of vitest.config.ts: those in a row run at the same time. */
const PROJECTS = [["unit"], ["mount", "slow"]];

await runMain(async () => {
  const isQuick = process.argv.includes("--quick");
  const startedAt = Date.now();
  /** @type {Report[]} */
  const reports = [];
  if (isSetUp(isQuick)) {
    reports.push(...(await staticChecks()));
    for (const projects of isQuick ? [["unit"]] : PROJECTS) reports.push(await vitest(projects));
  } else {
    reports.push(result({ failed: 1 }));
  }
  const total = summedUp(reports.map(({ counts }) => counts));
  const files = reports.flatMap((report) => report.files);
  if (files.length > 0) console.log(`\nThe slowest of ${String(files.length)} files:\n${formatSlowest(files)}`);
  const failures = reports.flatMap((report) => report.failures);
  if (total.failed > 0) console.log(`\nThis run failed; more is above.\n${formatFailures(failures)}`);
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

/** @returns {Promise<Report[]>} */
async function staticChecks() {
  /** @type {Report[]} */
  const reports = [];
  const queue = STATIC_CHECKS.values();
  const work = async () => {
    for (const [name, script, ...args] of queue) reports.push(await staticCheck(name, script, args));
  };
  await Promise.all(Array.from({ length: CHECKS_AT_ONCE }, work));
  return reports;
}

/**
 * @param {string} name
 * @param {string} script - Path in node_modules.
 * @param {readonly string[]} args
 * @returns {Promise<Report>}
 */
async function staticCheck(name, script, args) {
  const startedAt = Date.now();
  const code = await runShown(process.execPath, [join(ROOT, "node_modules", script), ...args]);
  console.log(`${code === 0 ? "✓" : "✗"} ${name} (${((Date.now() - startedAt) / 1000).toFixed(1)} s)`);
  if (code === 0) return result({ passed: 1 });
  return { ...result({ failed: 1 }), failures: [{ where: name, said: "its words are above, at the beginning" }] };
}

/**
 * @param {readonly string[]} projects
 * @returns {Promise<Report>}
 */
async function vitest(projects) {
  const name = projects.join(" and ");
  console.log(`\n${name} tests`);
  const scratch = mkdtempSync(join(tmpdir(), "tcfs-report-"));
  try {
    const report = join(scratch, "report.json");
    const script = join(ROOT, "node_modules/vitest/vitest.mjs");
    const reporters = ["--reporter=default", "--reporter=json", `--outputFile.json=${report}`];
    const chosen = projects.flatMap((project) => ["--project", project]);
    const code = await runShown(process.execPath, [script, "run", ...chosen, "--passWithNoTests", ...reporters]);
    return readReport(report, code, name);
  } finally {
    rmSync(scratch, { recursive: true });
  }
}

/**
 * @param {Partial<Counts>} counts
 * @returns {Report} Of what is no file of tests.
 */
function result(counts) {
  return { counts: summedUp([counts]), files: [], failures: [] };
}

/**
 * @param {readonly Partial<Counts>[]} all
 * @returns {Counts}
 */
function summedUp(all) {
  const total = { passed: 0, failed: 0, skipped: 0 };
  for (const { passed = 0, failed = 0, skipped = 0 } of all) {
    total.passed += passed;
    total.failed += failed;
    total.skipped += skipped;
  }
  return total;
}
