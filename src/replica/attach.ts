/**
 * A vault directory made from a store: header and records; packs come when they are read (FORMAT.md §11). The header is
 * written last, by the caller: a directory that an attach left half made is no vault.
 */
import { join } from "node:path";
import { copyOf, corrupt, toHex } from "../bytes.ts";
import type { ObjectSealer } from "../crypto/object-seal.ts";
import { TcfsError, isTcfsError } from "../errors.ts";
import { ChangeCursor } from "../format/journal-codec.ts";
import { RECORD_KIND, packIdOfKey } from "../format/record-keys.ts";
import type { VolumeRecord } from "../format/records.ts";
import type { LostPack, Manifest, Root } from "../format/replica-codec.ts";
import type { PackId } from "../ids.ts";
import { DeviceBook, type NewIdentity, writeDevices } from "../keys/devices/device-book.ts";
import { RecordSink } from "../metadata/record-sink.ts";
import type { Disk } from "../platform/disk.ts";
import type { ObjectStore } from "../remote/object-store.ts";
import { LostPacks } from "./lost-packs.ts";
import { StreamReader, type StreamRooms } from "./record-stream.ts";
import { MAX_ROOT_BYTES, ROOT_NAME, sha256 } from "./object-names.ts";
import { type RemoteRoot, readRoot, readSteps } from "./remote-root.ts";
import { newLink, writeState } from "./replica-state.ts";
import { noteOf } from "./step-writer.ts";
import { StoredPacks } from "./stored-packs.ts";

export interface AttachOptions extends StreamRooms {
  readonly store: ObjectStore;
  readonly url: string;
  readonly disk: Disk;
  /** The new vault's: empty. */
  readonly directory: string;
  readonly sealer: ObjectSealer;
  readonly headerRevision: number;
  /** Of the root, if not the present one. */
  readonly rootName?: string | undefined;
  /** Of the new copy, which becomes a device. */
  readonly identity: NewIdentity;
  readonly signal?: AbortSignal | undefined;
}

export interface AttachReport {
  readonly volume: VolumeRecord;
  readonly root: Root;
  readonly packCount: number;
  /** Of them, those that the root says to be lost. */
  readonly lost: readonly LostPack[];
}

/**
 * @throws TcfsError `TCFS_NO_VAULT` if the store has no root; `TCFS_REMOTE_CONFLICT` if its root was replaced meanwhile, and
 *   what it led to is gone; `TCFS_REMOTE_DIVERGED` for an older header than the root's;
 *   what {@link readRoot} throws, and what the store throws.
 */
export async function attachRecords(options: AttachOptions): Promise<AttachReport> {
  const { store, sealer, signal } = options;
  const found = await readRoot(store, sealer, { signal, name: options.rootName });
  if (found === undefined) throw new TcfsError("TCFS_NO_VAULT", `${store.place} has no finished upload of a vault yet`);
  const { root, hash } = found;
  if (options.headerRevision < root.headerRevision) {
    throw new TcfsError("TCFS_REMOTE_DIVERGED", "the store shows an older header than its root was written with");
  }
  try {
    return await attachRoot(options, found);
  } catch (error) {
    if (!isTcfsError(error, "TCFS_CORRUPT")) throw error;
    const now = await store.get(options.rootName ?? ROOT_NAME, { maxBytes: MAX_ROOT_BYTES, signal });
    if (now !== undefined && toHex(sha256(now.content)) === hash) throw error;
    const message = "the store's state was replaced while it was read, and what it was is gone: try again";
    throw new TcfsError("TCFS_REMOTE_CONFLICT", message, { cause: error });
  }
}

async function attachRoot(options: AttachOptions, found: RemoteRoot): Promise<AttachReport> {
  const { store, sealer, disk, directory, engine, signal } = options;
  const { root, hash } = found;
  const steps = await readSteps(store, sealer, found, signal);
  const reader = new StreamReader(options, store, signal);
  const packs = new Map<string, PackId>();
  await using sink = await RecordSink.create({
    directory: join(directory, "meta"),
    journalDirectory: join(directory, "journal"),
    disk,
    records: engine.records,
  });
  for (const { stream } of steps) {
    for await (const changes of reader.read(stream)) {
      notePacks(packs, changes);
      await sink.put(changes);
    }
  }
  const volume = await sink.finish();
  if (volume.commit !== root.commit)
    throw corrupt("the store's root", `it names commit ${root.commit}, not ${volume.commit}`);
  const lost = (steps.at(-1)?.lost ?? []).filter(({ pack }) => packs.delete(toHex(pack)));
  await StoredPacks.create(disk, directory, packs.values());
  await LostPacks.create(disk, directory, lost);
  await writeDevices(options, found.devices);
  const { identity } = await DeviceBook.open(options, options.identity);
  const deviceId = toHex(identity.id);
  const last = { ...noteOf(root, hash), streamBytes: streamBytes(steps.slice(1)) };
  const link = newLink(options.random);
  const kept = root.kept.map((one) => ({ ...one, missingSince: null }));
  const state = { url: options.url, deviceId, last, pending: [], keptBelow: 0, kept, link };
  await writeState(disk, directory, state, sealer);
  return { volume, root, packCount: packs.size + lost.length, lost };
}

/** What the changes make of the state's packs. @param changes - Encoded, whole. */
export function notePacks(packs: Map<string, PackId>, changes: Uint8Array): void {
  const cursor = new ChangeCursor(changes);
  while (cursor.next()) {
    if (changes[cursor.keyAt] !== RECORD_KIND.pack) continue;
    const pack = packIdOfKey(copyOf(changes.subarray(cursor.keyAt, cursor.keyEnd)));
    if (cursor.isDeleted) packs.delete(toHex(pack));
    else packs.set(toHex(pack), pack);
  }
}

function streamBytes(commits: readonly Manifest[]): number {
  let sum = 0;
  for (const { stream } of commits) {
    if (stream.kind === "inline") sum += stream.content.length;
    else for (const { lengthBytes } of stream.chunks) sum += lengthBytes;
  }
  return sum;
}
