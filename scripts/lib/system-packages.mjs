/** Which Debian packages each job needs, and installing the missing ones with apt-get. */
import { existsSync } from "node:fs";
import { Failure, hasCommand, runQuietly, step } from "./run.mjs";

/**
 * @typedef {object} Need
 * @property {string} name - The package.
 * @property {string[]} [commands] - It is there if all of these are.
 * @property {string} [file] - It is there if this is.
 */

/** To mount. @type {readonly Need[]} */
export const MOUNT_NEEDS = [{ name: "fuse3", commands: ["fusermount3"] }];

/** To build native/. @type {readonly Need[]} */
export const BUILD_NEEDS = [
  { name: "build-essential", commands: ["gcc", "g++", "make"] },
  { name: "python3", commands: ["python3"] },
  { name: "liblz4-dev", file: "/usr/include/lz4.h" },
];

/** To run the tests. @type {readonly Need[]} */
export const TEST_NEEDS = [
  { name: "acl", commands: ["setfacl", "getfacl"] },
  { name: "attr", commands: ["setfattr", "getfattr"] },
  { name: "build-essential", commands: ["gcc", "make"] },
  { name: "dbus", commands: ["dbus-daemon"] },
  { name: "diffutils", commands: ["diff", "cmp"] },
  { name: "e2fsprogs", commands: ["mkfs.ext4"] },
  { name: "git", commands: ["git"] },
  { name: "gnome-keyring", commands: ["gnome-keyring-daemon"] },
  { name: "keepassxc", commands: ["keepassxc-cli"] },
  { name: "libsecret-tools", commands: ["secret-tool"] },
  { name: "mount", commands: ["mount", "losetup"] },
  { name: "procps", commands: ["ps"] },
  { name: "python3-pip", commands: ["pip3"] },
  { name: "rsync", commands: ["rsync"] },
  { name: "sqlite3", commands: ["sqlite3"] },
  { name: "strace", commands: ["strace"] },
  { name: "swtpm", commands: ["swtpm"] },
  { name: "swtpm-tools", commands: ["swtpm_setup", "swtpm_localca"] },
  { name: "tar", commands: ["tar"] },
  { name: "tpm2-tools", commands: ["tpm2_unseal"] },
];

/** To open vaults by each kind of key slot. @type {readonly Need[]} */
export const UNLOCK_NEEDS = [
  { name: "keepassxc", commands: ["keepassxc-cli"] },
  { name: "swtpm", commands: ["swtpm"] },
  { name: "tpm2-tools", commands: ["tpm2_unseal"] },
];

/** To compare with other filesystems. @type {readonly Need[]} */
export const BENCH_NEEDS = [
  { name: "build-essential", commands: ["gcc"] },
  { name: "e2fsprogs", commands: ["mkfs.ext4"] },
  { name: "git", commands: ["git"] },
  { name: "gocryptfs", commands: ["gocryptfs"] },
  { name: "sqlite3", commands: ["sqlite3"] },
];

/**
 * Install what is missing; quiet if nothing is.
 * @param {readonly Need[]} needs
 */
export function ensurePackages(needs) {
  const missing = [...new Set(needs.filter((need) => !isThere(need)).map((need) => need.name))];
  if (missing.length === 0) return;
  const names = missing.join(" ");
  if (!hasCommand("apt-get")) {
    throw new Failure(`these packages are missing, and there is no apt-get to install them with: ${names}`);
  }
  step(`installing system packages: ${names}`);
  const prefix = administratorPrefix(names);
  if (aptGet(prefix, ["install", ...missing]).ok) return;
  // A fresh machine has no package lists, or old ones.
  const update = aptGet(prefix, ["update"]);
  const install = aptGet(prefix, ["install", ...missing]);
  if (install.ok) return;
  console.error([update.ok ? "" : update.output, install.output].join("\n").trim());
  throw new Failure(`apt-get could not install ${names}; its words are above. Is there a network, and disk space?`);
}

/** @param {Need} need */
function isThere({ commands = [], file }) {
  return commands.every(hasCommand) && (file === undefined || existsSync(file));
}

/**
 * @param {readonly string[]} prefix
 * @param {readonly string[]} args
 */
function aptGet(prefix, args) {
  const options = ["-y", "-q", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=120"];
  const [command = "env", ...rest] = [
    ...prefix,
    "env",
    "DEBIAN_FRONTEND=noninteractive",
    "apt-get",
    ...options,
    ...args,
  ];
  return runQuietly(command, rest, { terminal: prefix.length > 0 && process.stdin.isTTY });
}

/**
 * @param {string} names - For the sentence, if there is no right to install.
 * @returns {string[]} What to put before a command so that root runs it.
 */
function administratorPrefix(names) {
  if (process.getuid?.() === 0) return [];
  if (!hasCommand("sudo")) {
    throw new Failure(
      `packages are missing and you are neither root nor is there sudo. Run as root: apt-get install ${names}`,
    );
  }
  if (process.stdin.isTTY) return ["sudo"];
  if (runQuietly("sudo", ["-n", "true"]).ok) return ["sudo", "-n"];
  throw new Failure(
    `sudo wants a password and there is no terminal to ask on. Run first: sudo apt-get install ${names}`,
  );
}
