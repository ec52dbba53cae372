/**
 * `mount.tcfs VAULT MOUNTPOINT [-sfnv] [-o OPTIONS] [-t TYPE]`: what mount(8) calls for `mount -t tcfs` and for fstab
 * lines. Asks nothing: at boot nobody is there. Its exit codes are mount(8)'s.
 */
import { resolve } from "node:path";
import { TcfsError } from "../../errors.ts";
import { runMount } from "../commands/mount.ts";
import { runRemount } from "../commands/remount.ts";
import { credentialConfig } from "../access/credentials.ts";
import { EXIT_CODE, describeFailure, exitCodeOf } from "../exit-codes.ts";
import { parseMountOptions } from "./mount-options.ts";
import { canonicalMountPoint } from "./mount-point.ts";
import type { Settings } from "../settings.ts";

/** As mount.fuse: mount(8) hands on `nosuid` and `nodev`, also for users' mounts, but leaves out their opposites. */
const FIRST_OPTIONS = "suid,dev";

/** mount(8), “EXIT STATUS”. */
const MOUNT_EXIT = { OK: 0, USAGE: 1, FAILURE: 32 } as const;

export interface HelperArguments {
  readonly vault: string;
  readonly mountPoint: string;
  readonly optionLists: readonly string[];
  /** `-f`: check, and mount nothing. */
  readonly isFake: boolean;
  readonly isVerbose: boolean;
}

export async function runMountHelper(words: readonly string[], settings: Settings): Promise<number> {
  try {
    const { vault, mountPoint, optionLists, isFake, isVerbose } = parseHelperArguments(words);
    const options = parseMountOptions(optionLists);
    const { passphraseFile, recoveryFile, keyFile, onlyTpm } = options;
    if (options.isRemount) {
      if (!isFake) await runRemount(await canonicalMountPoint(mountPoint), optionLists);
      return MOUNT_EXIT.OK;
    }
    if (!onlyTpm && (passphraseFile ?? recoveryFile ?? keyFile) === undefined) {
      if ((await credentialConfig(vault, {}))?.hasPassphrase !== true)
        throw new TcfsError(
          "TCFS_USAGE",
          "an fstab line or mount -t tcfs needs the option passphrase_file=FILE, or tpm",
        );
    }
    if (isFake) return MOUNT_EXIT.OK;
    await runMount(
      {
        vault,
        mountpoint: mountPoint,
        options: [FIRST_OPTIONS, ...optionLists],
        isQuiet: !isVerbose,
        asksNobody: true,
      },
      settings,
    );
    return MOUNT_EXIT.OK;
  } catch (error) {
    process.stderr.write(`${describeFailure(error).replace(/^tcfs:/u, "mount.tcfs:")}\n`);
    return exitCodeOf(error) === EXIT_CODE.USAGE ? MOUNT_EXIT.USAGE : MOUNT_EXIT.FAILURE;
  }
}

/** Words in any order, single letters joined or not. @throws TcfsError `TCFS_USAGE`. */
export function parseHelperArguments(words: readonly string[]): HelperArguments {
  const places: string[] = [];
  const optionLists: string[] = [];
  const flags = new Set<string>();
  for (let at = 0; at < words.length; at++) {
    const word = words[at] ?? "";
    if (!/^-./u.test(word)) {
      places.push(word);
      continue;
    }
    for (let letterAt = 1; letterAt < word.length; letterAt++) {
      const letter = word[letterAt] ?? "";
      if (!"otN".includes(letter)) {
        if (!"sfnvrw".includes(letter)) throw new TcfsError("TCFS_USAGE", `the flag -${letter} is not known`);
        flags.add(letter);
        continue;
      }
      const value = letterAt + 1 < word.length ? word.slice(letterAt + 1) : words[++at];
      if (value === undefined) throw new TcfsError("TCFS_USAGE", `the flag -${letter} needs a value`);
      if (letter === "o") optionLists.push(value);
      break;
    }
  }
  const [vault, mountPoint] = places;
  if (vault === undefined || mountPoint === undefined || places.length > 2)
    throw new TcfsError("TCFS_USAGE", "mount.tcfs takes a vault directory and a mount point");
  if (flags.has("r")) optionLists.push("ro");
  return {
    vault: resolve(vault),
    mountPoint: resolve(mountPoint),
    optionLists,
    isFake: flags.has("f"),
    isVerbose: flags.has("v"),
  };
}
