/** Stores in temporary directories over a real engine with fixed keys, and records to put into them. */
import { randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import { DEFAULT_CHUNKING, type SealingEngine } from "../../src/crypto/engine.ts";
import { openEngine } from "../../src/crypto/open-engine.ts";
import { deriveSubkeys } from "../../src/crypto/subkeys.ts";
import type { InodeRecord } from "../../src/format/records.ts";
import type { ChunkId, Epoch, InodeNumber, Name, PackId } from "../../src/ids.ts";
import { LevelMetadataStore, type LevelMetadataStoreOptions } from "../../src/metadata/level-metadata-store.ts";
import { systemClock } from "../../src/platform/clock.ts";
import { NodeDisk } from "../../src/platform/node-disk.ts";

const MIB = 1024 * 1024;

/** An engine as a session would open it: the same keys every time, a session id of its own. */
export function openTestEngine(): SealingEngine {
  const vaultId = new Uint8Array(16).fill(7);
  const subkeys = deriveSubkeys(new Uint8Array(32).fill(9), vaultId);
  return openEngine({ vaultId, subkeys, chunking: DEFAULT_CHUNKING, sessionId: randomBytes(8), keyEpoch: 1 });
}

/** A directory that goes when the test ends. */
export async function makeTemporaryDirectory(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "tcfs-metadata-"));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

/** A store that is closed, if it is not yet, when the test ends. */
export async function openTestStore(
  directory: string,
  options: Partial<LevelMetadataStoreOptions> = {},
): Promise<LevelMetadataStore> {
  const engine = openTestEngine();
  const store = await LevelMetadataStore.open({
    directory: join(directory, "meta"),
    journalDirectory: join(directory, "journal"),
    disk: new NodeDisk(),
    engine,
    clock: systemClock,
    createIfMissing: true,
    cacheBytes: 64 * MIB,
    ...options,
  });
  onTestFinished(async () => {
    await store.close();
    engine.close();
  });
  return store;
}

export function makeInode(ino: number, changes: Partial<InodeRecord> = {}): InodeRecord {
  const time = { seconds: 1_700_000_000 + ino, nanoseconds: 123_456_789 };
  return {
    ino: ino as InodeNumber,
    epoch: 1 as Epoch,
    mode: 0o100644,
    uid: 1000,
    gid: 1000,
    linkCount: 1,
    deviceNumber: 0,
    lengthBytes: 4096n,
    allocatedBytes: 4096,
    accessTime: time,
    modifyTime: time,
    changeTime: time,
    birthTime: time,
    entryCount: 0,
    parent: 0,
    hasXattrs: false,
    loggedCommit: 0,
    symlinkTarget: undefined,
    ...changes,
  };
}

export const inode = (ino: number): InodeNumber => ino as InodeNumber;
export const name = (text: string): Name => text as Name;
export const chunkId = (seed: number): ChunkId => new Uint8Array(32).fill(seed) as ChunkId;
export const packId = (seed: number): PackId => new Uint8Array(16).fill(seed) as PackId;
