/** What is written into the filesystems: trees and text taken from this machine, and the compiled load generator. */
import { lstatSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { ROOT } from "../lib/run.mjs";
import { run } from "./shell.mjs";

/**
 * @typedef {object} Sources
 * @property {string} load - The load generator.
 * @property {string} text - A file of source text.
 * @property {string} treeTar - A source tree.
 * @property {number} treeFiles
 * @property {number} treeBytes
 * @property {string} copyTree - A tree of programs and libraries, to be copied.
 * @property {number} copyFiles
 * @property {number} copyBytes
 *
 * @typedef {{ files: number, bytes: number, largestBytes: number }} Limits
 */

/**
 * @param {string} base - Scratch; everything is made in it.
 * @param {{ tree: Limits, copy: Limits, treeRoot: string | undefined, copyRoot: string | undefined }} options
 * @returns {Promise<Sources>}
 */
export async function makeSources(base, { tree, copy, treeRoot, copyRoot }) {
  const at = (/** @type {string} */ name) => join(base, name);
  await run("gcc", ["-O2", "-o", at("load"), join(ROOT, "scripts/bench/load.c")]);
  const nodeHeaders = join(dirname(dirname(process.execPath)), "include/node");
  const treeRoots = treeRoot === undefined ? [join(ROOT, "node_modules"), nodeHeaders, "/usr/include"] : [treeRoot];
  const treeFound = collect(treeRoots, tree);
  writeFileSync(at("tree.list"), treeFound.paths.join("\0"));
  await run("tar", ["-C", "/", "-cf", at("tree.tar"), "--null", "-T", at("tree.list")]);
  const text = treeFound.paths.filter((path) => /\.(c|h|hpp|js|mjs|ts|md|json)$/.test(path)).slice(0, 4000);
  writeFileSync(at("text.list"), text.join("\0"));
  await run("sh", ["-c", 'cd / && xargs -0 cat < "$1" > "$2"', "sh", at("text.list"), at("text")]);
  const copyFound = collect(copyRoot === undefined ? ["/usr/share", "/usr/lib"] : [copyRoot], copy);
  mkdirSync(at("copy"));
  writeFileSync(at("copy.list"), copyFound.paths.join("\0"));
  await run("sh", ["-c", 'tar -C / -cf - --null -T "$1" | tar -xf - -C "$2"', "sh", at("copy.list"), at("copy")]);
  return {
    load: at("load"),
    text: at("text"),
    treeTar: at("tree.tar"),
    treeFiles: treeFound.paths.length,
    treeBytes: treeFound.bytes,
    copyTree: at("copy"),
    copyFiles: copyFound.paths.length,
    copyBytes: copyFound.bytes,
  };
}

/**
 * Walk `roots` in a fixed order until a limit is reached.
 * @param {readonly string[]} roots
 * @param {Limits} limits
 * @returns {{ paths: string[], bytes: number }} Paths relative to /; of regular files alone.
 */
function collect(roots, limits) {
  /** @type {string[]} */
  const paths = [];
  let bytes = 0;
  const waiting = [...roots].reverse();
  for (let path = waiting.pop(); path !== undefined; path = waiting.pop()) {
    const stat = lstatSync(path, { throwIfNoEntry: false });
    if (stat?.isDirectory() === true) {
      const names = readdirSync(path).sort().reverse();
      for (const name of names) waiting.push(join(path, name));
    } else if (stat?.isFile() === true && stat.size <= limits.largestBytes) {
      if (paths.length >= limits.files || bytes + stat.size > limits.bytes) break;
      paths.push(path.slice(1));
      bytes += stat.size;
    }
  }
  return { paths, bytes };
}
