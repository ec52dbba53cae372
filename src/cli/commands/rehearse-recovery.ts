/**
 * `tcfs rehearse-recovery`: what a new machine would do with the store and a secret alone, in a scratch directory that is
 * taken away again; and what of the vault here would be lost if this machine were.
 */
import { rmSync } from "node:fs";
import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { toHex } from "../../bytes.ts";
import { counted } from "../../counted.ts";
import type { SecretKey } from "../../crypto/secret-key.ts";
import { TcfsError, isTcfsError } from "../../errors.ts";
import { hasHeader, readHeader } from "../../keys/header-file.ts";
import type { VaultHeader } from "../../keys/header.ts";
import { unlockHeader } from "../../keys/keyring.ts";
import { onEndingSignal } from "../../platform/ending-signals.ts";
import { NodeDisk, toTcfsError } from "../../platform/node-disk.ts";
import type { ObjectStore } from "../../remote/object-store.ts";
import type { S3Credentials } from "../../remote/s3-store.ts";
import { formatStoreUrl, parseStoreUrl } from "../../remote/store-url.ts";
import { type LostPackName, describeLost, lostPackNames } from "../../replica/lost-packs.ts";
import { usableLength } from "../../replica/remote-epoch.ts";
import { readState } from "../../replica/replica-state.ts";
import { noteOf } from "../../replica/step-writer.ts";
import { attachVault, readRemoteHeader } from "../../vault/attach-vault.ts";
import { askDaemon } from "../control/control-client.ts";
import { parseBytes } from "../../vault/durations.ts";
import { EXIT_CODE } from "../exit-codes.ts";
import type { OpenVault } from "../../vault/open-vault.ts";
import { withSecret } from "../access/secrets.ts";
import type { DaemonStatus } from "../daemon/serve-mount.ts";
import type { Settings } from "../settings.ts";
import { formatBytes } from "../../vault/status.ts";
import { credentialsForUrl, openPatiently } from "../access/store-setup.ts";
import { type VaultArguments, secretSource, vaultDirectory } from "../access/vault-access.ts";
import { openQuietly } from "../access/with-open-vault.ts";

export interface RehearsalArguments extends VaultArguments {
  readonly url?: string | undefined;
  readonly scratch?: string | undefined;
  /** Bytes to read, as {@link parseBytes} takes them. */
  readonly sample: string;
  readonly all?: boolean | undefined;
  readonly json?: boolean | undefined;
}

/** What there is in this directory that the store's root does not have; bytes are null where no daemon says. */
interface LocalLoss {
  readonly commits: number;
  readonly lastCommitAt: string;
  readonly backlogBytes: number | null;
}

interface Report {
  readonly store: string;
  readonly root: { readonly number: number; readonly time: string; readonly commit: number };
  readonly ageSeconds: number;
  readonly inodeCount: number;
  readonly bytes: number;
  readonly packCount: number;
  /** Not in the store, or shorter than they must be. */
  readonly missingPackCount: number;
  /** That the root says to be lost: they were not whole any more when they were to be sent. */
  readonly lostPacks: readonly LostPackName[];
  readonly checkedBytes: number;
  readonly damageCount: number;
  /** The first hundred. */
  readonly damages: readonly string[];
  readonly attachMs: number;
  readonly totalMs: number;
  /** Null: there is no vault here that has this store. */
  readonly wouldBeLost: LocalLoss | null;
}

/** Asked for at once. */
const HEADS_AT_ONCE = 8;
const MAX_DAMAGES = 100;

/** @returns The exit code: `CORRUPT` if the vault would not come back whole. @throws what {@link attachVault} throws. */
export async function runRehearsal(parameters: RehearsalArguments, settings: Settings): Promise<number> {
  const sampleBytes = parseBytes(parameters.sample);
  const local = await vaultDirectory(parameters, settings);
  const url = await urlOf(parameters.url, local);
  const startedMs = performance.now();
  const credentials = await credentialsForUrl(url, settings, secretSource(parameters), local);
  const store = await openPatiently(url, credentials, { create: false });
  try {
    const header = await readRemoteHeader(store);
    const { key } = await withSecret(secretSource(parameters), settings, (secret) => unlockHeader(header, secret));
    try {
      await using scratch = await scratchDirectory(parameters.scratch);
      const copy = { directory: join(scratch.path, "vault"), header, key, url };
      const wanted = { sampleBytes, isAll: parameters.all === true };
      const found = await rehearse(store, copy, wanted, credentials);
      const wouldBeLost = await localLoss(local, url, { header, key }, found.root.commit);
      const report: Report = { ...found, totalMs: Math.round(performance.now() - startedMs), wouldBeLost };
      process.stdout.write(`${parameters.json === true ? JSON.stringify(report, null, 2) : format(report)}\n`);
      const isWhole = report.missingPackCount + report.damageCount + report.lostPacks.length === 0;
      return isWhole ? EXIT_CODE.OK : EXIT_CODE.CORRUPT;
    } finally {
      key.wipe();
    }
  } finally {
    await store.close();
  }
}

async function urlOf(url: string | undefined, local: string): Promise<string> {
  const text = url ?? (await readState(new NodeDisk(), local))?.url;
  if (text === undefined) throw new TcfsError("TCFS_USAGE", "this vault has no store: say which with a URL");
  return formatStoreUrl(parseStoreUrl(text));
}

/** One that is taken away whatever happens short of SIGKILL. */
async function scratchDirectory(parent = tmpdir()): Promise<AsyncDisposable & { readonly path: string }> {
  const path = await mkdtemp(join(resolve(parent), "tcfs-rehearsal-")).catch((error: unknown) => {
    throw error instanceof Error ? toTcfsError(error, "make a scratch directory in", resolve(parent)) : error;
  });
  const remove = (): void => {
    rmSync(path, { recursive: true, force: true });
  };
  const endWatch = onEndingSignal(remove);
  return {
    path,
    [Symbol.asyncDispose]: () => {
      remove();
      endWatch();
      return Promise.resolve();
    },
  };
}

interface Copy {
  readonly directory: string;
  readonly header: VaultHeader;
  readonly key: SecretKey;
  readonly url: string;
}

async function rehearse(
  store: ObjectStore,
  copy: Copy,
  { sampleBytes, isAll }: { readonly sampleBytes: number; readonly isAll: boolean },
  credentials: S3Credentials | undefined,
): Promise<Omit<Report, "totalMs" | "wouldBeLost">> {
  const startedMs = performance.now();
  const { root, volume, packCount, lost } = await attachVault(store, copy);
  const attachMs = Math.round(performance.now() - startedMs);
  const { directory, header, key } = copy;
  await using vault = await openQuietly({ directory, header, key, isReadOnly: true, credentials });
  const { present, missing } = await askForPacks(store, vault);
  const { bytes: checkedBytes, damages } = isAll
    ? await checkAll(vault)
    : await checkSample(vault, present, sampleBytes);
  const { number, time, commit } = noteOf(root, "");
  return {
    store: store.place,
    root: { number, time, commit },
    ageSeconds: Math.max(0, Math.round((Date.now() - Date.parse(time)) / 1000)),
    inodeCount: volume.inodeCount,
    bytes: volume.allocatedBytes,
    packCount,
    missingPackCount: missing,
    lostPacks: lostPackNames(lost),
    checkedBytes,
    damageCount: damages.length,
    damages: damages.slice(0, MAX_DAMAGES),
    attachMs,
  };
}

interface PackLength {
  readonly name: string;
  readonly lengthBytes: number;
}

/** Is every pack there, and as long as the state says? */
async function askForPacks(
  store: ObjectStore,
  vault: OpenVault,
): Promise<{ readonly present: PackLength[]; readonly missing: number }> {
  const present: PackLength[] = [];
  let missing = 0;
  const packs = vault.remotePacks();
  const ask = async (): Promise<void> => {
    for await (const { pack, lengthBytes } of packs) {
      const found = await usableLength(store, pack, vault.packRooms);
      if (found === undefined || found < lengthBytes) missing += 1;
      else present.push({ name: toHex(pack), lengthBytes });
    }
  };
  await Promise.all(Array.from({ length: HEADS_AT_ONCE }, ask));
  return { present, missing };
}

/** Packs at random, until they come to so many bytes. */
async function checkSample(
  vault: OpenVault,
  present: readonly PackLength[],
  sampleBytes: number,
): Promise<{ readonly bytes: number; readonly damages: readonly string[] }> {
  const chosen = new Set<string>();
  let bytes = 0;
  const rest = [...present];
  while (rest.length > 0 && bytes < sampleBytes) {
    const [pack] = rest.splice(Math.floor(Math.random() * rest.length), 1);
    if (pack === undefined) break;
    chosen.add(pack.name);
    bytes += pack.lengthBytes;
  }
  return vault.checkPacks(chosen);
}

async function checkAll(vault: OpenVault): Promise<{ readonly bytes: number; readonly damages: readonly string[] }> {
  const { bytes, damages } = await vault.volume.check(new AbortController().signal);
  return { bytes, damages: damages.map(({ path, message }) => `${path}: ${message}`) };
}

/** What the vault here has beyond the store's root. */
async function localLoss(
  directory: string,
  url: string,
  { header, key }: { readonly header: VaultHeader; readonly key: SecretKey },
  rootCommit: number,
): Promise<LocalLoss | null> {
  const disk = new NodeDisk();
  if (!(await hasHeader(disk, directory)) || (await readState(disk, directory))?.url !== url) return null;
  const reply = await askDaemon(directory, { operation: "status" });
  if (reply !== undefined) {
    const { lastCommit, store, dirtyBytes } = (reply.result as DaemonStatus).figures;
    const backlogBytes = store === null ? null : store.backlogBytes + dirtyBytes;
    return { commits: Math.max(0, lastCommit.number - rootCommit), lastCommitAt: lastCommit.time, backlogBytes };
  }
  const own = await readHeader(disk, directory);
  if (toHex(own.vaultId) !== toHex(header.vaultId)) return null;
  try {
    await using vault = await openQuietly({ directory, header: own, key, isReadOnly: true });
    const { lastCommit } = vault.figures();
    return { commits: Math.max(0, lastCommit.number - rootCommit), lastCommitAt: lastCommit.time, backlogBytes: null };
  } catch (error) {
    if (isTcfsError(error, "TCFS_VAULT_IN_USE")) return null;
    throw error;
  }
}

function format(report: Report): string {
  const { root, wouldBeLost, missingPackCount, lostPacks, damageCount, damages } = report;
  const seconds = (ms: number): string => `${(ms / 1000).toFixed(1)} s`;
  const rows = [
    ["store", report.store],
    ["state", `step ${root.number} of ${root.time}, ${formatAge(report.ageSeconds)} old`],
    [
      "brought back",
      `${counted(report.inodeCount, "inode")}, ${formatBytes(report.bytes)}, in ${seconds(report.attachMs)}`,
    ],
    ["packs there", `${report.packCount - missingPackCount} of ${report.packCount}`],
    [
      "read and verified",
      `${formatBytes(report.checkedBytes)}: ${damageCount === 0 ? "whole" : `${damageCount} damaged`}`,
    ],
    ...(lostPacks.length === 0 ? [] : [["lost already", describeLost(lostPacks)] as const]),
    ["would be lost", formatLoss(wouldBeLost)],
    ["took", seconds(report.totalMs)],
  ] as const;
  return [...rows.map(([name, value]) => `${name.padEnd(19)}${value}`), ...damages].join("\n");
}

function formatLoss(loss: LocalLoss | null): string {
  if (loss === null) return "what changed after that time: no vault here tells more";
  if (loss.commits === 0) return "nothing";
  const bytes = loss.backlogBytes === null ? "" : `, ${formatBytes(loss.backlogBytes)}`;
  return `${counted(loss.commits, "commit")}${bytes}, the last of ${loss.lastCommitAt}`;
}

function formatAge(seconds: number): string {
  if (seconds < 120) return `${seconds} s`;
  if (seconds < 2 * 3600) return `${Math.round(seconds / 60)} min`;
  return seconds < 48 * 3600 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86_400)} days`;
}
