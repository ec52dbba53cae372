/** `tcfs store set|show|test`: where the vault's store is. */
import { counted } from "../../counted.ts";
import { TcfsError } from "../../errors.ts";
import { NodeDisk } from "../../platform/node-disk.ts";
import { systemRandom } from "../../platform/random.ts";
import { formatStoreUrl, parseStoreUrl } from "../../remote/store-url.ts";
import { readState } from "../../replica/replica-state.ts";
import { probeStore } from "../../replica/store-probe.ts";
import { noteCacheSize, parseCacheSize } from "../cache-size.ts";
import type { OpenVault } from "../../vault/open-vault.ts";
import type { Settings } from "../settings.ts";
import { formatBytes } from "../../vault/status.ts";
import { type StoreSetting, keepCredentials, openNamedStore, setStore } from "../access/store-setup.ts";
import { secretSource, unlockVault, vaultDirectory } from "../access/vault-access.ts";
import type { VaultArguments } from "../access/vault-access.ts";
import { openQuietly } from "../access/with-open-vault.ts";

export interface StoreSetArguments extends VaultArguments {
  readonly url: string;
  readonly cacheSize?: string | undefined;
}

export interface StoreShowArguments {
  readonly vault?: string | undefined;
  readonly json?: boolean | undefined;
}

export interface StoreTestArguments extends VaultArguments {
  readonly url?: string | undefined;
}

/** @throws TcfsError `TCFS_VAULT_IN_USE` while it is mounted. */
export async function runStoreSet(parameters: StoreSetArguments, settings: Settings): Promise<void> {
  const cacheBytes = parameters.cacheSize === undefined ? undefined : parseCacheSize(parameters.cacheSize);
  const directory = await vaultDirectory(parameters, settings);
  const { header, key } = await unlockVault(directory, secretSource(parameters), settings);
  try {
    // Open, so that no daemon has it: one that ran would not know of its store.
    await using vault = await openQuietly({ directory, header, key, isReadOnly: true });
    const store = await openNamedStore(parameters.url, settings, secretSource(parameters), {
      create: true,
      directory,
    });
    let setting: StoreSetting;
    try {
      await probeStore(store, systemRandom);
      await requireWhole(vault, directory, parameters.url);
      setting = await setStore(store, { directory, header, key, url: parameters.url });
      await keepCredentials(directory, secretSource(parameters));
      await noteCacheSize(directory, cacheBytes);
    } finally {
      await store.close();
    }
    process.stdout.write(describeSetting(setting, store.place));
  } finally {
    key.wipe();
  }
}

function describeSetting(setting: StoreSetting, place: string): string {
  switch (setting) {
    case "new":
      return `The vault's store is ${place}. It fills while the vault is mounted; tcfs wait waits for it.\n`;
    case "present":
      return `${place} is the vault's store already. It keeps contents and conditions, and its root is the one that this directory knows; nothing was changed. Its packs were not asked for: tcfs rehearse-recovery does that, and reads some.\n`;
    case "changed":
      return `${place} is the vault's store already, and nothing was changed; but its root is not the one that this directory knows, so uploads will end: tcfs store accept tells what is where.\n`;
  }
}

/** @throws TcfsError `TCFS_USAGE` if leaving the present store would leave data behind that only it has. */
async function requireWhole(vault: OpenVault, directory: string, url: string): Promise<void> {
  const state = await readState(new NodeDisk(), directory);
  if (state === undefined || state.url === formatStoreUrl(parseStoreUrl(url))) return;
  let count = 0;
  for await (const _pack of vault.remotePacks()) count += 1;
  if (count === 0) return;
  const message = `${counted(count, "pack is", "packs are")} only in the present store, ${state.url}: bring ${count === 1 ? "it" : "them"} with tcfs warm or pin, with a cache that is large enough, then set another`;
  throw new TcfsError("TCFS_USAGE", message);
}

export async function runStoreShow(parameters: StoreShowArguments, settings: Settings): Promise<void> {
  const directory = await vaultDirectory(parameters, settings);
  const state = await readState(new NodeDisk(), directory);
  const { url = null, deviceId = null } = state ?? {};
  const last = state?.pending.at(-1) ?? state?.last ?? null;
  if (parameters.json === true) {
    const root = last && { number: last.number, commit: last.commit, time: last.time };
    process.stdout.write(`${JSON.stringify({ store: url, deviceId, lastRoot: root }, null, 2)}\n`);
    return;
  }
  if (url === null) process.stdout.write("This vault has no store.\n");
  else {
    const root = last === null ? "none yet" : `${last.number}, commit ${last.commit}, ${last.time}`;
    process.stdout.write(`store           ${url}\nlast root       ${root}\n`);
  }
}

export async function runStoreTest(parameters: StoreTestArguments, settings: Settings): Promise<void> {
  const url = parameters.url ?? (await urlOfStore(parameters, settings));
  const directory = await vaultDirectory(parameters, settings);
  const store = await openNamedStore(url, settings, secretSource(parameters), { create: false, directory });
  try {
    const { putMs, getMs, lengthBytes } = await probeStore(store, systemRandom);
    const speed = (ms: number): string => `${Math.round(ms)} ms`;
    const told = `${formatBytes(lengthBytes)} written in ${speed(putMs)}, read in ${speed(getMs)}`;
    process.stdout.write(`${store.place} keeps contents and conditions; ${told}.\n`);
  } finally {
    await store.close();
  }
}

/** @throws TcfsError `TCFS_USAGE` where the vault has none. */
export async function urlOfStore(parameters: VaultArguments, settings: Settings): Promise<string> {
  const state = await readState(new NodeDisk(), await vaultDirectory(parameters, settings));
  if (state === undefined) throw new TcfsError("TCFS_USAGE", "this vault has no store: say which with a URL");
  return state.url;
}
