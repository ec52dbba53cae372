/**
 * `npm run bench -- --unlock`: what opening a vault takes by each kind of key slot, as whole runs of `tcfs key test`. The TPM is
 * one in software: a chip is slower, by its maker.
 */
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Failure, ROOT } from "../lib/run.mjs";
import { stopping } from "./shell.mjs";

const COMMAND = join(ROOT, "dist/cli/main.js");
const TIMES = 9;
const START_TRIES = 100;
const PASSPHRASE = "a passphrase of some words";

/**
 * @param {string} base
 * @returns {Promise<string>} A table in Markdown.
 */
export async function measureUnlock(base) {
  const directory = join(base, "unlock");
  mkdirSync(directory);
  const tpm = await startTpm(directory);
  try {
    const lines = ["| slot | seconds | of them processor |", "|---|---:|---:|"];
    for (const [name, words] of makeSlots(directory, tpm.tcti)) {
      stopping.signal.throwIfAborted();
      const { wall, processor } = median(Array.from({ length: TIMES }, () => timed(words)));
      console.log(`  ${name}: ${wall.toFixed(2)} s`);
      lines.push(`| ${name} | ${wall.toFixed(2)} | ${processor.toFixed(2)} |`);
    }
    return lines.join("\n");
  } finally {
    await tpm.stop();
  }
}

/**
 * A vault for each kind, so that no other slot is tried first.
 * @param {string} directory
 * @param {string} tcti
 * @returns {(readonly [name: string, words: readonly string[]])[]}
 */
function makeSlots(directory, tcti) {
  const secret = (/** @type {string} */ name, /** @type {string} */ text) => {
    const path = join(directory, name);
    writeFileSync(path, `${text}\n`, { mode: 0o600 });
    return path;
  };
  const passphrase = secret("passphrase", PASSPHRASE);
  const pin = secret("pin", "2468-1357");
  const place = (/** @type {string} */ name) => ["--vault", join(directory, `vault-${name}`)];
  const init = (/** @type {string} */ name, /** @type {string[]} */ ...words) => {
    const recovery = ["--recovery-file", join(directory, `${name}.words`)];
    timed(["init", ...place(name), "--passphrase-file", passphrase, ...recovery, ...words]);
  };
  init("plain");
  init("tpm", "--tpm", "--tcti", tcti);
  init("pin", "--tpm", "--pin-file", pin, "--tcti", tcti);
  const keyFile = join(directory, "key");
  const hybrid = join(directory, "hybrid");
  const add = ["key", "add", ...place("plain"), "--passphrase-file", passphrase];
  timed([...add, "--new-key-file", keyFile]);
  timed([...add, "--hybrid", "--new-key-file", hybrid, "--new-passphrase-file", passphrase]);
  const test = (/** @type {string} */ name) => ["key", "test", ...place(name)];
  const both = ["--key-file", hybrid, "--passphrase-file", passphrase];
  const rows = /** @type {(readonly [string, readonly string[]])[]} */ ([
    ["none: `tcfs --version`", ["--version"]],
    ["recovery words", [...test("plain"), "--recovery-file", join(directory, "plain.words")]],
    ["key file", [...test("plain"), "--key-file", keyFile]],
    ["passphrase", [...test("plain"), "--passphrase-file", passphrase]],
    ["hybrid: passphrase and ML-KEM-768 key file", [...test("plain"), ...both]],
    ["TPM", [...test("tpm"), "--tcti", tcti]],
    ["TPM and PIN", [...test("pin"), "--tcti", tcti, "--pin-file", pin]],
  ]);
  return [...rows, ["passphrase out of a KeePassXC database", [...test("plain"), ...kdbxWords(directory, passphrase)]]];
}

/**
 * A database as KeePassXC makes one: its own default cost.
 * @param {string} directory
 * @param {string} master - A file.
 */
function kdbxWords(directory, master) {
  const file = join(directory, "own.kdbx");
  const cli = (/** @type {string[]} */ words, /** @type {string} */ input) => {
    const { status } = spawnSync("keepassxc-cli", words, {
      input,
      env: { ...process.env, QT_QPA_PLATFORM: "offscreen" },
    });
    if (status !== 0) throw new Failure(`keepassxc-cli ${words[0] ?? ""} failed`);
  };
  cli(["db-create", "-q", "-p", file], `${PASSPHRASE}\n${PASSPHRASE}\n`);
  cli(["add", "-q", "-p", file, "tcfs"], `${PASSPHRASE}\n${PASSPHRASE}\n`);
  return ["--passphrase-file", `kdbx:${file}#tcfs`, "--kdbx-password-file", master];
}

/** @param {readonly string[]} words */
function timed(words) {
  const script = "TIMEFORMAT='%R %U %S'; time \"$@\"";
  const { status, stderr } = spawnSync("bash", ["-c", script, "time", process.execPath, COMMAND, ...words], {
    encoding: "utf8",
    env: { ...process.env, LC_ALL: "C" },
    stdio: ["ignore", "ignore", "pipe"],
  });
  if (status !== 0) throw new Failure(`tcfs ${words.join(" ")} failed: ${stderr}`);
  const [wall = 0, user = 0, system = 0] = stderr.trim().split("\n").at(-1)?.split(" ").map(Number) ?? [];
  return { wall, processor: user + system };
}

/** @param {readonly { wall: number, processor: number }[]} runs */
function median(runs) {
  const middle = (/** @type {number[]} */ values) => values.sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;
  return { wall: middle(runs.map(({ wall }) => wall)), processor: middle(runs.map(({ processor }) => processor)) };
}

/** @param {string} directory */
async function startTpm(directory) {
  const socket = join(directory, "tpm");
  const state = join(directory, "tpm-state");
  mkdirSync(state);
  const sockets = ["--server", `type=unixio,path=${socket}`, "--ctrl", `type=unixio,path=${socket}.ctrl`];
  const words = [
    "socket",
    "--tpm2",
    "--tpmstate",
    `dir=${state}`,
    ...sockets,
    "--flags",
    "not-need-init,startup-clear",
  ];
  const server = spawn("swtpm", words, { stdio: "ignore" });
  const ended = once(server, "exit");
  const tcti = `swtpm:path=${socket}`;
  for (let tries = 0; spawnSync("tpm2_getcap", ["handles-persistent", "-T", tcti]).status !== 0; tries++) {
    if (tries === START_TRIES) throw new Failure("swtpm does not answer");
    await sleep(100);
  }
  return {
    tcti,
    stop: async () => {
      server.kill();
      await ended;
    },
  };
}
