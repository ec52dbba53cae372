/** `tcfs mount`: unlock the vault, start its daemon, return when the mount answers (or stay, in the foreground). */
import type { ChildProcess } from "node:child_process";
import { join, resolve } from "node:path";
import { TcfsError } from "../../errors.ts";
import { hasHeader, hasHeaderCopy, noVault } from "../../keys/header-file.ts";
import { NodeDisk } from "../../platform/node-disk.ts";
import { requireOpenFiles } from "../../platform/open-files.ts";
import { credentialConfig, credentialsIfAny, renewalRequest } from "../access/credentials.ts";
import { EXIT_CODE } from "../exit-codes.ts";
import { launchDaemon } from "../daemon/launch.ts";
import { DEFAULT_MOUNT_OPTIONS, parseMountOptions } from "../mounts/mount-options.ts";
import type { MountOptions } from "../mounts/mount-options.ts";
import { canonicalMountPoint, prepareMountPoint } from "../mounts/mount-point.ts";
import { describeUse, findMount, listDaemons } from "../mounts/mount-table.ts";
import type { Settings } from "../settings.ts";
import { askYes, hasTerminal } from "../terminal.ts";
import { resealAfterUnlock, tpmOptions } from "../access/tpm-slots.ts";
import { secretSource, unlockVault, vaultDirectory } from "../access/vault-access.ts";
import type { UnlockedVault, VaultArguments } from "../access/vault-access.ts";
import { waitFor } from "../wait.ts";
import { configureUploads, parseRate } from "./upload.ts";
import { printable, warn } from "../printable.ts";

export interface MountArguments extends VaultArguments {
  readonly mountpoint: string;
  readonly foreground?: boolean | undefined;
  readonly pidFile?: string | undefined;
  readonly readOnly?: boolean | undefined;
  readonly allowOther?: boolean | undefined;
  /** Name of the snapshot to mount alone. */
  readonly snapshot?: string | undefined;
  readonly autoReseal?: boolean | undefined;
  /** Bytes per second, or `none`. */
  readonly uploadLimit?: string | undefined;
  readonly tpmFreshness?: boolean | undefined;
  readonly acceptOlder?: boolean | undefined;
  readonly options?: readonly string[] | undefined;
  /** Where nobody is to be asked, though there may be a terminal. */
  readonly asksNobody?: boolean | undefined;
  /** Whether to say so when it is done. */
  readonly isQuiet?: boolean | undefined;
}

/** A daemon keeps up to 256 packs open, and has some for LevelDB, a store, commands and itself. */
const DAEMON_OPEN_FILES = 384;

/** A daemon whose mount has ended may take this long to flush before its vault can be opened again. */
const CLOSING_TIMEOUT_MS = 60_000;

/** @returns The exit code: the daemon's own if it stayed in the foreground. */
export async function runMount(parameters: MountArguments, settings: Settings): Promise<number> {
  const options = mountOptions(parameters);
  if (options.isRemount) throw new TcfsError("TCFS_USAGE", "-o remount is for mount(8): mount -o remount,… MOUNTPOINT");
  requireOpenFiles(DAEMON_OPEN_FILES, "a mount");
  const vault = await vaultDirectory(parameters, settings);
  const mountPoint = await canonicalMountPoint(parameters.mountpoint);
  const healed = await prepareMountPoint(mountPoint, vault, options.nonEmpty);
  if (healed) warn("tcfs: took away the stale mount of a daemon that is gone");
  await refuseVaultInUse(vault, options.snapshot);
  const { uploadLimit } = parameters;
  const { key, ...unlocked } = await unlockOrCreate(vault, options, settings);
  let daemon: ChildProcess;
  try {
    if (uploadLimit !== undefined) await configureUploads(vault, { limitBytesPerSecond: parseRate(uploadLimit) });
    const config = await credentialConfig(vault, options);
    const mayAsk = options.asksNobody ? false : undefined;
    const credentials = unlocked.credentials ?? (await credentialsIfAny(vault, config, settings, mayAsk));
    const renewal = renewalRequest(config, settings);
    const tpm = tpmOptions(options, settings);
    const isForeground = parameters.foreground === true;
    const request = { vault, mountPoint, options, isForeground, credentials, renewal, tpm };
    daemon = await launchDaemon(request, key, settings);
  } finally {
    key.wipe();
  }
  if (parameters.isQuiet !== true) process.stdout.write(`${printable(`${vault} is mounted at ${mountPoint}`)}\n`);
  return parameters.foreground === true ? stayWith(daemon) : EXIT_CODE.OK;
}

function mountOptions(parameters: MountArguments): MountOptions {
  const fromFlags: MountOptions = {
    ...DEFAULT_MOUNT_OPTIONS,
    readOnly: parameters.readOnly === true,
    allowOther: parameters.allowOther === true,
    pidFile: parameters.pidFile === undefined ? undefined : resolve(parameters.pidFile),
    passphraseFile: parameters.passphraseFile,
    recoveryFile: parameters.recoveryFile,
    keyFile: parameters.keyFile,
    kdbxPasswordFile: parameters.kdbxPasswordFile,
    kdbxKeyFile: parameters.kdbxKeyFile,
    credentials: parameters.credentials,
    asksNobody: parameters.asksNobody === true,
    pinFile: parameters.pinFile,
    tcti: parameters.tcti,
    autoReseal: parameters.autoReseal === true,
    tpmFreshness: parameters.tpmFreshness,
    acceptOlder: parameters.acceptOlder === true,
    snapshot: parameters.snapshot,
  };
  const options = parseMountOptions(parameters.options ?? [], fromFlags);
  return options.snapshot === undefined ? options : { ...options, readOnly: true };
}

/** @throws TcfsError `TCFS_VAULT_IN_USE` if another daemon serves it; one that is only just ending is waited for. */
async function refuseVaultInUse(vault: string, snapshot: string | undefined): Promise<void> {
  const isMounted = (mountPoint: string): boolean => findMount(mountPoint) !== undefined;
  let ending: number | undefined;
  const isFree = await waitFor(CLOSING_TIMEOUT_MS, () => {
    const daemon = listDaemons().find((candidate) => candidate.vault === vault);
    if (daemon === undefined) return true;
    ending = daemon.pid;
    if (!isMounted(daemon.mountPoint)) return false;
    const { mountPoint } = daemon;
    const advice = snapshot === undefined ? "" : `: the snapshot is ${join(mountPoint, ".snapshots", snapshot)} there`;
    throw new TcfsError("TCFS_VAULT_IN_USE", `${describeUse(vault, daemon)}${advice}`);
  });
  if (isFree) return;
  const why = `its daemon (pid ${ending}) is unmounted and still flushing, or has files open for programs that go on`;
  throw new TcfsError("TCFS_VAULT_IN_USE", `the vault ${vault} is in use: ${why}`);
}

async function unlockOrCreate(
  vault: string,
  options: MountOptions,
  settings: Settings,
): Promise<Pick<UnlockedVault, "key" | "credentials">> {
  const { passphraseFile, kdbxPasswordFile, kdbxKeyFile } = options;
  const disk = new NodeDisk();
  if (!(await hasHeader(disk, vault))) {
    if (!hasTerminal() || (await hasHeaderCopy(disk, vault))) throw await noVault(disk, vault);
    if (!(await askYes(`There is no vault in ${vault}. Make one?`)))
      throw new TcfsError("TCFS_NO_VAULT", `there is no vault in ${vault}`);
    const { createVault } = await import("./init.ts");
    return await createVault({ vault, passphraseFile, kdbxPasswordFile, kdbxKeyFile }, settings);
  }
  const mayAsk = options.onlyTpm || options.asksNobody ? false : undefined;
  const source = { ...secretSource(options), mayAsk };
  const unlocked = await unlockVault(vault, source, settings);
  if (!options.readOnly)
    await resealAfterUnlock(vault, unlocked, { ...source, autoReseal: options.autoReseal }, settings);
  return unlocked;
}

/** Pass signals on to the daemon and end as it does. */
function stayWith(daemon: ChildProcess): Promise<number> {
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.on(signal, () => daemon.kill(signal));
  process.on("SIGHUP", () => undefined);
  return new Promise((settle) => {
    daemon.once("exit", (code) => {
      settle(code ?? EXIT_CODE.DAEMON_ENDED);
    });
  });
}
