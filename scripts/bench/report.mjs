/** Medians, the table, and the record in docs/PERFORMANCE.md (between its markers) and docs/performance.json. */
import { readFileSync, writeFileSync } from "node:fs";
import { cpus, loadavg, totalmem } from "node:os";
import { join } from "node:path";
import { Failure, hasCommand, ROOT, runQuietly } from "../lib/run.mjs";
import { ROWS } from "./rows.mjs";

/**
 * Values of every round, by system, then by row.
 * @typedef {Map<string, Map<string, number[]>>} Results
 *
 * @typedef {object} Run
 * @property {string} command
 * @property {string} where - The kind of disk beneath.
 * @property {string} data - What was written, in words.
 * @property {number} rounds
 */

const PAGE = join(ROOT, "docs/PERFORMANCE.md");
const RECORD = join(ROOT, "docs/performance.json");
const BASELINE = "ext4";

/** @param {readonly number[]} values */
export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const upper = sorted[middle] ?? NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? NaN) + upper) / 2;
}

/**
 * @param {Results} results
 * @returns {string} A Markdown table: the median, and in brackets the speed relative to ext4.
 */
export function formatTable(results) {
  const systems = [...results.keys()];
  const lines = [`| measure | unit | ${systems.join(" | ")} |`, `|---|---|${systems.map(() => "---:|").join("")}`];
  for (const row of ROWS) {
    const medians = systems.map((system) => median(results.get(system)?.get(row.name) ?? []));
    if (medians.every(Number.isNaN)) continue;
    const base = medians[systems.indexOf(BASELINE)] ?? NaN;
    const cells = medians.map((value, index) => formatCell(value, base, row.better, systems[index] === BASELINE));
    lines.push(`| ${row.name} | ${row.unit} | ${cells.join(" | ")} |`);
  }
  return lines.join("\n");
}

/**
 * @param {number} value
 * @param {number} base
 * @param {import("./rows.mjs").Row["better"]} better
 * @param {boolean} isBase
 */
function formatCell(value, base, better, isBase) {
  if (Number.isNaN(value)) return "";
  const digits = Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : 2;
  const ratio = better === "more" ? value / base : base / value;
  const isCompared = !isBase && better !== "none" && !Number.isNaN(ratio);
  return `${value.toFixed(digits)}${isCompared ? ` (${ratio.toFixed(2)})` : ""}`;
}

/**
 * Replace what stands between the markers, and the JSON record beside the page.
 * @param {Results} results
 * @param {Run} run
 */
export function recordRun(results, run) {
  const machine = describeMachine();
  const date = new Date().toISOString().slice(0, 10);
  const facts = [
    `- ${date}, tcfs ${version()}: \`${run.command}\`, medians of ${String(run.rounds)} rounds`,
    `- machine: ${machine}`,
    `- beneath: ${run.where}`,
    `- data: ${run.data}`,
    ...[...results.keys()].map(systemVersion).filter((line) => line !== ""),
  ];
  replaceOnPage("bench", `${facts.join("\n")}\n\n${formatTable(results)}`);
  const values = Object.fromEntries([...results].map(([system, rows]) => [system, Object.fromEntries(rows)]));
  writeFileSync(RECORD, `${JSON.stringify({ date, version: version(), machine, ...run, values }, null, 2)}\n`);
}

/**
 * @param {"snapshots" | "unlock" | "store"} part
 * @param {string} tables
 * @param {string} command
 */
export function recordTables(part, tables, command) {
  const date = new Date().toISOString().slice(0, 10);
  const facts = [`- ${date}, tcfs ${version()}: \`${command}\``, `- machine: ${describeMachine()}`];
  replaceOnPage(part, `${facts.join("\n")}\n\n${tables}`);
}

/**
 * @param {string} part - Its markers are `part:begin` and `part:end`.
 * @param {string} text
 */
function replaceOnPage(part, text) {
  const page = readFileSync(PAGE, "utf8");
  const match = new RegExp(`(<!-- ${part}:begin -->\n)[\\s\\S]*(\n<!-- ${part}:end -->)`, "u").exec(page);
  if (match === null) throw new Failure(`${PAGE} has lost its ${part}:begin and ${part}:end markers`);
  writeFileSync(
    PAGE,
    page.replace(match[0], () => `${match[1] ?? ""}${text}${match[2] ?? ""}`),
  );
}

function describeMachine() {
  const processors = cpus();
  const kernel = runQuietly("uname", ["-sr"]).output;
  const memory = `${String(Math.round(totalmem() / 2 ** 30))} GiB`;
  const load = `load ${(loadavg()[0] ?? 0).toFixed(1)} at the end`;
  const model = processors[0]?.model ?? "unknown";
  return `${String(processors.length)} × ${model}, ${memory}, ${kernel}, Node ${process.versions.node}, ${load}`;
}

function version() {
  return /** @type {{ version: string }} */ (JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8"))).version;
}

/** @param {string} system */
function systemVersion(system) {
  if (["ext4", "tcfs"].includes(system) || !hasCommand(system)) return "";
  const words = system === "securefs" ? "version" : "--version";
  return `- ${runQuietly(system, [words]).output.split("\n")[0] ?? system}`;
}
