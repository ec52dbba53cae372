/** Giving a vault a store: what must be true of the store first, and what is written then. */
import { setTimeout as sleep } from "node:timers/promises";
import { toHex } from "../../bytes.ts";
import type { SecretKey } from "../../crypto/secret-key.ts";
import { TcfsError, isTcfsError } from "../../errors.ts";
import { type VaultHeader, formatHeader, parseHeader } from "../../keys/header.ts";
import { systemClock } from "../../platform/clock.ts";
import { NodeDisk } from "../../platform/node-disk.ts";
import { systemRandom } from "../../platform/random.ts";
import type { ObjectStore } from "../../remote/object-store.ts";
import { openStore } from "../../remote/open-store.ts";
import { patientStore } from "../../remote/patient-store.ts";
import type { S3Credentials } from "../../remote/s3-store.ts";
import { formatStoreUrl, parseStoreUrl } from "../../remote/store-url.ts";
import { HEADER_NAME, MAX_HEADER_OBJECT_BYTES, ROOT_NAME } from "../../replica/object-names.ts";
import { rotatedElsewhere } from "../../replica/remote-epoch.ts";
import { type RemoteRoot, readRoot } from "../../replica/remote-root.ts";
import { type ReplicaState, newLink, readState, verifyState, writeState } from "../../replica/replica-state.ts";
import { probeStore } from "../../replica/store-probe.ts";
import { StoredPacks } from "../../replica/stored-packs.ts";
import { writeCredentialConfig } from "./credential-config.ts";
import { credentialConfig, readCredentials } from "./credentials.ts";
import type { CredentialFlags } from "./credentials.ts";
import { openDeviceBook, withSealer } from "../../vault/device-setup.ts";
import type { Settings } from "../settings.ts";
import { warn } from "../printable.ts";

/**
 * Open the store that a URL names, with the credentials that are to be had. The caller closes it.
 * @param directory - The vault's, where there is one.
 */
export async function openNamedStore(
  url: string,
  settings: Settings,
  flags: CredentialFlags,
  { create, directory }: { readonly create: boolean; readonly directory?: string | undefined },
): Promise<ObjectStore> {
  return openPatiently(url, await credentialsForUrl(url, settings, flags, directory), { create });
}

/** Open a store for somebody who waits for what is asked of it. The caller closes it. @throws TcfsError as {@link openStore} */
export async function openPatiently(
  url: string,
  credentials: S3Credentials | undefined,
  { create }: { readonly create: boolean },
): Promise<ObjectStore> {
  const onWait = (): void => {
    warn("the store does not answer yet, trying on");
  };
  return patientStore(await openStore(url, { credentials, create }), { clock: systemClock, pause: sleep, onWait });
}

/** @returns Those for the store that a URL names; undefined for a directory. @param directory - The vault's, where there is one. */
export async function credentialsForUrl(
  url: string,
  settings: Settings,
  flags: CredentialFlags,
  directory: string | undefined,
): Promise<S3Credentials | undefined> {
  if (parseStoreUrl(url).kind === "directory") return undefined;
  const { credentials, passphrase } = await readCredentials(await credentialConfig(directory, flags), settings);
  passphrase?.fill(0);
  return credentials;
}

/** What a command that gives a vault its store was told of credentials is what the vault uses from now on. */
export async function keepCredentials(directory: string, flags: CredentialFlags): Promise<void> {
  if (flags.credentials === undefined) return;
  const config = await credentialConfig(directory, flags);
  if (config !== undefined) await writeCredentialConfig(new NodeDisk(), directory, config);
}

/** @throws TcfsError `TCFS_VAULT_EXISTS` unless the store is empty; what {@link probeStore} throws. */
export async function requireEmptyStore(store: ObjectStore): Promise<void> {
  await probeStore(store, systemRandom);
  for (const name of [HEADER_NAME, ROOT_NAME]) {
    if ((await store.head(name)) !== undefined) {
      throw new TcfsError("TCFS_VAULT_EXISTS", `there is a vault in ${store.place} already: tcfs attach opens it here`);
    }
  }
}

export interface StoreToSet {
  /** The vault's; nobody has it open, or who has holds its lock for this call. */
  readonly directory: string;
  readonly header: VaultHeader;
  /** Lent until settled. */
  readonly key: SecretKey;
  readonly url: string;
}

/** `present`: it was the vault's already, as this directory knows it; `changed`: likewise, but with another root, or none. */
export type StoreSetting = "new" | "present" | "changed";

/**
 * Make `store` the vault's. The next mount uploads what is there; done again for the same store, it changes nothing.
 * @returns What was found. @throws TcfsError `TCFS_VAULT_EXISTS` if it holds another vault, `TCFS_REMOTE_DIVERGED` if it holds this one as
 *   another directory uploaded it.
 */
export async function setStore(store: ObjectStore, { directory, header, key, url }: StoreToSet): Promise<StoreSetting> {
  const disk = new NodeDisk();
  return withSealer(header, key, async (sealer) => {
    const text = formatStoreUrl(parseStoreUrl(url));
    const state = await readState(disk, directory);
    const known = state && verifyState(state, sealer);
    await requireSameVault(store, header);
    const root = await readRoot(store, sealer);
    if (known?.url === text && isKnown(known, root)) return isPresent(known, root) ? "present" : "changed";
    if (root !== undefined) {
      const message = `${store.place} holds this vault already, from another directory: tcfs attach opens it in a new one`;
      throw new TcfsError("TCFS_REMOTE_DIVERGED", message);
    }
    await store.putIfAbsent(HEADER_NAME, formatHeader(header)).catch((error: unknown) => {
      if (!isTcfsError(error, "TCFS_REMOTE_CONFLICT")) throw error; // an older one of ours: the upload replaces it
    });
    await StoredPacks.forget(disk, directory);
    const { identity } = await openDeviceBook({ disk, directory, sealer }, header.deviceId);
    const deviceId = toHex(identity.id);
    const next = { url: text, deviceId, last: null, pending: [], keptBelow: 0, kept: [], link: newLink(systemRandom) };
    await writeState(disk, directory, next, sealer);
    return "new";
  });
}

/** Whether a directory that has this store needs nothing: what became of a root that is not its own, uploads tell. */
function isKnown({ last, pending }: ReplicaState, root: RemoteRoot | undefined): boolean {
  if (root === undefined) return last === null;
  return last !== null || pending.some(({ rootHash }) => rootHash === root.hash);
}

function isPresent({ last, pending }: ReplicaState, root: RemoteRoot | undefined): boolean {
  return [last, ...pending].some((note) => note?.rootHash === root?.hash);
}

/** @throws TcfsError `TCFS_VAULT_EXISTS` for another vault's, `TCFS_REMOTE_DIVERGED` if the vault's key was rotated from another directory. */
export async function requireSameVault(store: ObjectStore, header: VaultHeader): Promise<void> {
  const found = await store.get(HEADER_NAME, { maxBytes: MAX_HEADER_OBJECT_BYTES });
  if (found === undefined) return;
  const { vaultId, keyEpoch } = parseHeader(found.content);
  if (toHex(vaultId) === toHex(header.vaultId)) {
    if (keyEpoch > header.keyEpoch) throw rotatedElsewhere(keyEpoch);
    return;
  }
  throw new TcfsError("TCFS_VAULT_EXISTS", `${store.place} holds another vault: choose another bucket or prefix`);
}
