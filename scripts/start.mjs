/** `npm start [-- MOUNTPOINT] [--vault DIR] [--passphrase-file F]`: set up, create the vault on first use, mount it. */
import { createHash, randomBytes } from "node:crypto";
import {
  accessSync,
  constants,
  existsSync,
  mkdirSync,
  readFileSync,
  realpathSync,
  statfsSync,
  writeFileSync,
} from "node:fs";
import { homedir } from "node:os";
import { basename, dirname, join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { Failure, ROOT, runMain, runShown } from "./lib/run.mjs";
import { setup } from "./setup.mjs";

const USAGE = `npm start                      mount the vault at ~/tcfs; set up and create whatever is missing
npm start -- /mnt/vault        choose the mount point
npm start -- --vault DIR --passphrase-file FILE [MOUNTPOINT]`;

/** @typedef {{ mountPoint: string, vault: string, passphraseFile: string | undefined }} Settings */

await runMain(async () => {
  const settings = readArguments();
  if (settings === undefined) {
    console.log(USAGE);
    return 0;
  }
  setup();
  makeMountPoint(settings.mountPoint);
  if (isMounted(settings.mountPoint)) {
    console.log(`Already mounted at ${settings.mountPoint}.`);
    return 0;
  }
  const passphraseFile = settings.passphraseFile ?? passphraseFileWithoutTerminal(settings.vault);
  const unlock = passphraseFile === undefined ? [] : ["--passphrase-file", passphraseFile];
  // At a terminal `tcfs mount` itself offers to make a vault, and so asks for the passphrase only once.
  if (!hasVault(settings.vault) && !process.stdin.isTTY) {
    const recovery = ["--recovery-file", keptFile("recovery-words", settings.vault)];
    const code = await tcfs(["init", "--vault", settings.vault, ...unlock, ...recovery]);
    if (code !== 0) return code;
  }
  const code = await tcfs(["mount", settings.mountPoint, "--vault", settings.vault, ...unlock]);
  if (code === 0) explain(settings, passphraseFile);
  return code;
});

/** @returns {Settings | undefined} Undefined if help was asked for. */
function readArguments() {
  let parsed;
  try {
    parsed = parseArgs({
      allowPositionals: true,
      options: {
        vault: { type: "string" },
        "passphrase-file": { type: "string" },
        help: { type: "boolean", short: "h" },
      },
    });
  } catch (error) {
    // Node goes on with how to give a word that begins with a hyphen, which npm does not hand on.
    throw new Failure(`${(error instanceof Error ? error.message : String(error)).split(". To ")[0] ?? ""}\n${USAGE}`);
  }
  const { values, positionals } = parsed;
  if (values.help === true) return undefined;
  if (positionals.length > 1) throw new Failure(`one mount point at most\n${USAGE}`);
  // npm runs scripts in the repository; INIT_CWD is where the user stands.
  const from = process.env["INIT_CWD"] ?? process.cwd();
  const passphraseFile = values["passphrase-file"];
  const dataHome = baseDirectory("XDG_DATA_HOME", ".local/share");
  return {
    mountPoint: resolve(from, positionals[0] ?? join(homedir(), "tcfs")),
    vault: resolve(from, (values.vault ?? process.env["TCFS_VAULT"]) || join(dataHome, "tcfs/default")),
    passphraseFile: passphraseFile === undefined ? undefined : resolve(from, passphraseFile),
  };
}

/** @param {string} path */
function makeMountPoint(path) {
  try {
    mkdirSync(path, { recursive: true });
  } catch (error) {
    // EEXIST: a stale mount, or not a directory; `tcfs mount` heals the one and explains the other.
    const code = error instanceof Error && "code" in error ? error.code : undefined;
    if (code !== "EEXIST" && code !== "ENOTCONN")
      throw new Failure(`the mount point ${path} cannot be created: ${String(error)}`);
  }
}

/**
 * @param {string} path
 * @returns {boolean} Whether a living tcfs is mounted there.
 */
function isMounted(path) {
  try {
    const real = realpathSync(path);
    statfsSync(real);
    return readFileSync("/proc/self/mounts", "utf8")
      .split("\n")
      .map((line) => line.split(" "))
      .some(([, where = "", type = ""]) => type === "fuse.tcfs" && unescapeMount(where) === real);
  } catch {
    return false;
  }
}

/** @param {string} path - As /proc/self/mounts writes it: blanks and backslashes as octal numbers. */
function unescapeMount(path) {
  return path.replace(/\\([0-7]{3})/g, (_, octal) => String.fromCharCode(Number.parseInt(String(octal), 8)));
}

/** @param {string} vault */
function hasVault(vault) {
  return existsSync(join(vault, "vault.json"));
}

/**
 * A passphrase for a run that cannot ask: the one kept from the first use, or on first use a random one.
 * @param {string} vault
 * @returns {string | undefined} Its file; undefined if the terminal will be asked.
 */
function passphraseFileWithoutTerminal(vault) {
  const file = keptFile("passphrase", vault);
  if (existsSync(file)) return file;
  if (process.stdin.isTTY) return undefined;
  if (hasVault(vault)) {
    throw new Failure(`there is no terminal to ask for the passphrase of ${vault} on: give --passphrase-file FILE`);
  }
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
  writeFileSync(file, `${randomBytes(24).toString("base64url")}\n`, { mode: 0o600, flag: "wx" });
  return file;
}

/**
 * @param {string} variable
 * @param {string} usual Below the home directory.
 * @returns {string} A base directory of the XDG specification: what is not an absolute path is ignored.
 */
function baseDirectory(variable, usual) {
  const value = process.env[variable];
  return value?.startsWith("/") === true ? value : join(homedir(), usual);
}

/**
 * @param {string} what
 * @param {string} vault
 * @returns {string} The path of a file about this vault in the user's configuration directory.
 */
function keptFile(what, vault) {
  const configHome = baseDirectory("XDG_CONFIG_HOME", ".config");
  const digest = createHash("sha256").update(vault).digest("hex").slice(0, 8);
  return join(configHome, "tcfs", `${what}-${basename(vault)}-${digest}`);
}

/** @param {readonly string[]} args */
function tcfs(args) {
  return runShown(process.execPath, [join(ROOT, "dist/cli/main.js"), ...args], { terminal: process.stdin.isTTY });
}

/**
 * @param {Settings} settings
 * @param {string | undefined} passphraseFile
 */
function explain({ mountPoint, vault }, passphraseFile) {
  console.log(`\nYour vault is mounted at ${mountPoint}; what you put there lies encrypted in ${vault}.`);
  if (passphraseFile === keptFile("passphrase", vault)) {
    console.log(
      `Its passphrase is in ${passphraseFile} (only you can read it): whoever has that file opens the vault.`,
    );
    const words = keptFile("recovery-words", vault);
    if (existsSync(words))
      console.log(`The 24 recovery words are in ${words}: write them down, then delete that file.`);
  }
  console.log(`Next, in this directory:
  npx tcfs status ${quoted(mountPoint)}
  npx tcfs umount ${quoted(mountPoint)}
  npx tcfs --help
To type tcfs anywhere: ${canLink() ? "" : "sudo "}npm link`);
}

/**
 * @param {string} path
 * @returns {string} As one word of a shell.
 */
function quoted(path) {
  return /^[\w@%+=:,./-]+$/u.test(path) ? path : `'${path.replaceAll("'", "'\\''")}'`;
}

/** @returns {boolean} Whether this user may write where npm links commands to. */
function canLink() {
  try {
    accessSync(join(dirname(dirname(process.execPath)), "lib/node_modules"), constants.W_OK);
    return true;
  } catch {
    return false;
  }
}
