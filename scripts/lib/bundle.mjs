/**
 * `node bundle.mjs DIRECTORY`: src/ as few files, so that a command starts in half of the time (ARCHITECTURE.md, “The build”).
 * For commands, what is loaded when it is needed stays a file of its own. The daemon is one file: it goes on when there is
 * another build in the place of its own.
 */
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { rolldown } from "rolldown";
import { ROOT } from "./run.mjs";

/** Packages that every command or every daemon loads, plain JavaScript all of them; what they are made of goes with them. */
const BUNDLED = ["@noble/ciphers", "@noble/hashes", "@scure/bip39", "lru-cache", "yargs", "zod"];

const [directory = ""] = process.argv.slice(2);
const { dependencies } = /** @type {{ dependencies: Record<string, string> }} */ (
  JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8"))
);
const external = Object.keys(dependencies).filter((name) => !BUNDLED.includes(name));

/** The command, and what scripts/bench opens a vault with in its own process. */
const COMMAND = ["cli/main", "cli/settings", "cli/access/vault-access", "vault/open-vault"];
const DAEMON = ["cli/daemon/daemon"];

const modules = [...(await write(COMMAND, { isSplit: true })), ...(await write(DAEMON, { isSplit: false }))];
writeFileSync(join(directory, "LICENSES.txt"), licensesOf(modules));

/**
 * @param {readonly string[]} entries - Of src.
 * @param {{ readonly isSplit: boolean }} options - Whether what is loaded when it is needed has files of its own.
 * @returns {Promise<readonly string[]>} The paths of all modules that went in.
 */
async function write(entries, { isSplit }) {
  const bundle = await rolldown({
    cwd: ROOT,
    input: Object.fromEntries(entries.map((path) => [basename(path), `src/${path}.ts`])),
    external: external.map((name) => new RegExp(`^${name}(/|$)`, "u")),
    platform: "node",
    tsconfig: join(ROOT, "tsconfig.json"),
    transform: { target: "node20" },
  });
  // All in one directory, as deep as rooms of src are: native/ and the daemon are found by relative paths.
  const { output } = await bundle.write({
    dir: join(directory, "cli"),
    format: "esm",
    sourcemap: true,
    entryFileNames: "[name].js",
    chunkFileNames: "[name]-[hash].js",
    codeSplitting: isSplit,
  });
  await bundle.close();
  return output.flatMap((file) => (file.type === "chunk" ? file.moduleIds : []));
}

/**
 * @param {readonly string[]} paths - Of the modules that went in.
 * @returns {string} What the licenses of the packages among them want to be passed on.
 */
function licensesOf(paths) {
  const homes = paths.flatMap((path) => /^.*\/node_modules\/(?:@[^/]+\/)?[^/]+(?=\/)/u.exec(path)?.[0] ?? []);
  const notes = [...new Set(homes)].sort().map((home) => {
    const { name, version, license } = /** @type {Record<string, string>} */ (
      JSON.parse(readFileSync(join(home, "package.json"), "utf8"))
    );
    const file = readdirSync(home).find((entry) => /^licen[cs]e/iu.test(entry));
    if (file === undefined) throw new Error(`${String(name)} carries no license`);
    return `${String(name)} ${String(version)} (${String(license)})\n\n${readFileSync(join(home, file), "utf8").trim()}\n`;
  });
  return `Parts of these packages are in the files beside this one.\n\n${notes.join(`\n${"-".repeat(80)}\n\n`)}`;
}
