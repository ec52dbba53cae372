/** Vitest's JSON reports, counted and told in a few lines: which files took longest, what failed and how it began. */
import { readFileSync } from "node:fs";
import { relative } from "node:path";
import { ROOT } from "./run.mjs";

/** @typedef {{ passed: number, failed: number, skipped: number }} Counts */
/** @typedef {{ readonly path: string, readonly seconds: number }} FileTime */
/** @typedef {{ readonly where: string, readonly said: string }} FailedTest */
/** @typedef {{ readonly counts: Counts, readonly files: readonly FileTime[], readonly failures: readonly FailedTest[] }} Report */

/** Of vitest's own report, what is read here. */
/** @typedef {{ fullName: string, status: string, failureMessages?: string[] }} Assertion */
/** @typedef {{ name: string, startTime: number, endTime: number, status: string, message: string, assertionResults: Assertion[] }} FileResult */
/** @typedef {{ numPassedTests: number, numFailedTests: number, numPendingTests: number, numTodoTests: number, testResults: FileResult[] }} VitestReport */

const SLOWEST_SHOWN = 10;
const FAILURES_SHOWN = 12;
const FAILURE_LINES = 4;
const LINE_CHARACTERS = 200;

/**
 * @param {string} path - Vitest's JSON file; absent if it fell before writing it.
 * @param {number} code - Vitest's exit code.
 * @param {string} project - For what has no other name.
 * @returns {Report}
 */
export function readReport(path, code, project) {
  const counts = { passed: 0, failed: 0, skipped: 0 };
  /** @type {FileResult[]} */
  let results = [];
  /** @type {FailedTest[]} */
  let failures = [];
  try {
    const report = /** @type {VitestReport} */ (JSON.parse(readFileSync(path, "utf8")));
    counts.passed = report.numPassedTests;
    counts.failed = report.numFailedTests;
    counts.skipped = report.numPendingTests + report.numTodoTests;
    results = report.testResults;
    failures = results.flatMap(failuresOf);
  } catch {
    counts.failed = 1;
    failures = [{ where: project, said: "vitest ended without a report" }];
  }
  // A file that does not load, or something left behind, fails the run without failing a test.
  if (code !== 0 && counts.failed === 0) {
    counts.failed = 1;
    failures = [...failures, { where: project, said: "vitest failed, though no test did: see its errors above" }];
  }
  const files = results.map((file) => ({ path: nameOf(file), seconds: (file.endTime - file.startTime) / 1000 }));
  return { counts, files, failures };
}

/**
 * @param {FileResult} file
 * @returns {FailedTest[]}
 */
function failuresOf(file) {
  const where = nameOf(file);
  const failed = file.assertionResults.filter(({ status }) => status === "failed");
  if (failed.length === 0 && file.status === "failed") return [{ where, said: file.message }];
  return failed.map(({ fullName, failureMessages = [] }) => {
    return { where: `${where} > ${fullName}`, said: failureMessages.join("\n") };
  });
}

/** @param {FileResult} file */
function nameOf({ name }) {
  return relative(ROOT, name);
}

/**
 * @param {readonly FileTime[]} files
 * @returns {string} The slowest, a line each.
 */
export function formatSlowest(files) {
  const slowest = [...files].sort((a, b) => b.seconds - a.seconds).slice(0, SLOWEST_SHOWN);
  return slowest.map(({ path, seconds }) => `${seconds.toFixed(1).padStart(7)} s  ${path}`).join("\n");
}

/**
 * @param {readonly FailedTest[]} failures
 * @returns {string} Each with the first lines of what it said.
 */
export function formatFailures(failures) {
  const shown = failures.slice(0, FAILURES_SHOWN).flatMap(({ where, said }) => {
    const lines = said.split("\n").filter((line) => line.trim() !== "");
    return [`✗ ${where}`, ...lines.slice(0, FAILURE_LINES).map((line) => `    ${line.slice(0, LINE_CHARACTERS)}`)];
  });
  const more = failures.length - FAILURES_SHOWN;
  return [...shown, ...(more > 0 ? [`and ${String(more)} more`] : [])].join("\n");
}
