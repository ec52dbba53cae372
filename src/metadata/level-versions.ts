/** Versions over LevelDB: kept in the next batch, read from what the last commit holds (FORMAT.md §7.16). */
import { corrupt } from "../bytes.ts";
import { TcfsError, isTcfsError } from "../errors.ts";
import {
  DEFAULT_VERSION_POLICY,
  decodeChain,
  encodeChain,
  encodeVersion,
  encodeVersionPolicy,
  type ChainLink,
  type VersionPolicy,
  type VersionRecord,
} from "../format/version-codec.ts";
import {
  VERSION_NUMBER_LIMIT,
  fileVersionKey,
  inodeOfChainKey,
  nameVersionKey,
  versionChainKey,
  versionPageKey,
  versionPageOf,
  versionPagesOf,
  versionPlaceOf,
  versionsOf,
  versionsOfName,
  type VersionNumber,
} from "../format/version-keys.ts";
import type { RecordChange } from "../format/journal-codec.ts";
import { allOfKind, extentsOf, pageOfKey, singleKey, type KeyRange } from "../format/record-keys.ts";
import type { ExtentPage, VolumeRecord } from "../format/records.ts";
import type { InodeNumber, Name } from "../ids.ts";
import type { StoredEntry } from "./database.ts";
import { BatchVersions } from "./batch-versions.ts";
import type { JournaledDatabase } from "./journaled-database.ts";
import type { NameHasher } from "./name-hasher.ts";
import type { RecordReader } from "./record-reader.ts";
import type { KeptState, VersionStore } from "./version-store.ts";
import { requireIntact, visitIntact } from "./walks.ts";

/** Files whose versions are looked for one after another; those of more in one walk over all between them. */
const SINGLE_LOOKUPS = 64;

export interface LevelVersionsOptions {
  readonly database: JournaledDatabase;
  readonly reader: RecordReader;
  readonly hasher: NameHasher;
  /** The live one. */
  readonly volume: VolumeRecord;
  readonly chains: Map<InodeNumber, readonly ChainLink[]>;
  readonly onDamage: (error: TcfsError) => void;
  /** Pages that one step of clearing away handles. */
  readonly stepPages: number;
  /** Put records into the next batch. */
  readonly put: (operations: readonly RecordChange[]) => void;
  /** Told of each page of an inode that is gone, when its deletion is put. */
  readonly onPageGone: (ino: InodeNumber, page: number) => void;
}

export class LevelVersions implements VersionStore {
  readonly #options: LevelVersionsOptions;
  #policy: VersionPolicy;
  /** Keys of the records that this session dropped and whose pages are still there. */
  readonly #dropped = new Map<VersionNumber, Uint8Array>();
  /** What the chains that changed since the last freeze were then. */
  #frozenChains = new Map<InodeNumber, readonly ChainLink[] | undefined>();

  constructor(options: LevelVersionsOptions) {
    this.#options = options;
    this.#policy = readPolicy(options);
  }

  get policy(): VersionPolicy {
    return this.#policy;
  }

  setPolicy(policy: VersionPolicy): void {
    const value = encodeVersionPolicy(this.#options.volume.epoch, policy);
    this.#policy = policy;
    this.#options.put([{ key: singleKey("versionPolicy"), value }]);
  }

  keep(state: KeptState, endPage: number): VersionNumber | undefined {
    const { volume } = this.#options;
    if (volume.nextInode >= VERSION_NUMBER_LIMIT) return undefined;
    const version = volume.nextInode as number as VersionNumber;
    const { kind, directory, name, keptAt, inode, xattrs, pages } = state;
    const [isDropped, isRestored] = [false, false];
    const record = { version, kind, directory, name, keptAt, inode, xattrs, pages, isDropped, isRestored };
    const change = { key: this.#keyOf(record), value: encodeVersion(volume.epoch, record) };
    volume.nextInode = (volume.nextInode + 1) as InodeNumber;
    this.#options.put([change]);
    if (state.pages === undefined) {
      const { ino } = state.inode;
      this.#setChain(ino, [...(this.chainOf(ino) ?? []), { version, endPage, isDropped: false }]);
    }
    return version;
  }

  chainOf(ino: InodeNumber): readonly ChainLink[] | undefined {
    return this.#options.chains.get(ino);
  }

  sharesPages(ino: InodeNumber): boolean {
    return this.chainOf(ino)?.some((link) => !link.isDropped) === true;
  }

  chains(): Iterable<readonly [InodeNumber, readonly ChainLink[]]> {
    return this.#options.chains;
  }

  /** What a batch of the present epoch has to keep. */
  freeze(): BatchVersions | undefined {
    const { reader, volume, chains } = this.#options;
    const frozen = new Map<InodeNumber, readonly ChainLink[] | undefined>();
    this.#frozenChains = frozen;
    if (chains.size === 0) return undefined;
    const chainOf = (ino: InodeNumber) => (frozen.has(ino) ? frozen.get(ino) : chains.get(ino));
    return new BatchVersions({ reader, epoch: volume.epoch, chainOf });
  }

  #keyOf({ directory, name, inode, version }: Pick<VersionRecord, "directory" | "name" | "inode" | "version">) {
    if (directory === undefined) return fileVersionKey(inode.ino, version);
    return nameVersionKey(directory, this.#options.hasher.hash(directory, name), version);
  }

  #setChain(ino: InodeNumber, chain: readonly ChainLink[]): void {
    const { chains, put, volume } = this.#options;
    const key = versionChainKey(ino);
    if (!this.#frozenChains.has(ino)) this.#frozenChains.set(ino, chains.get(ino));
    if (chain.length === 0) chains.delete(ino);
    else chains.set(ino, chain);
    put([{ key, value: chain.length === 0 ? undefined : encodeChain(volume.epoch, chain) }]);
  }

  async ofFile(ino: InodeNumber): Promise<VersionRecord[]> {
    return sorted(await this.#listed(versionsOf(ino), (record) => record.directory === undefined));
  }

  async ofName(directory: InodeNumber, name: Name): Promise<VersionRecord[]> {
    const range = versionsOfName(directory, this.#options.hasher.hash(directory, name));
    return sorted(await this.#listed(range, (record) => record.name === name));
  }

  async ofDirectory(directory: InodeNumber): Promise<VersionRecord[]> {
    return this.#listed(versionsOf(directory), (record) => record.directory !== undefined);
  }

  async ofFiles(files: ReadonlySet<InodeNumber>): Promise<VersionRecord[]> {
    const isWanted = (record: VersionRecord): boolean => record.directory === undefined && files.has(record.inode.ino);
    if (files.size > SINGLE_LOOKUPS) {
      let [first, last] = [Infinity, 0];
      for (const ino of files) [first, last] = [Math.min(first, ino), Math.max(last, ino)];
      return this.#listed(versionsOf(first as InodeNumber, last + 1), isWanted, files);
    }
    const found: VersionRecord[] = [];
    for (const ino of files) found.push(...(await this.#listed(versionsOf(ino), isWanted)));
    return found;
  }

  /** @param owners - Records of other owners are not even opened. */
  async #listed(
    range: KeyRange,
    isWanted: (record: VersionRecord) => boolean,
    owners?: ReadonlySet<InodeNumber>,
  ): Promise<VersionRecord[]> {
    const found: VersionRecord[] = [];
    for await (const records of this.#walk(range, owners)) {
      for (const record of records) if (!record.isDropped && isWanted(record)) found.push(record);
    }
    return found;
  }

  all(onDamage?: (error: TcfsError) => void): AsyncIterable<readonly VersionRecord[]> {
    return this.#walk(allOfKind("version"), undefined, onDamage);
  }

  async *#walk(
    range: KeyRange,
    owners: ReadonlySet<InodeNumber> | undefined,
    onDamage = this.#options.onDamage,
  ): AsyncGenerator<readonly VersionRecord[]> {
    const { database, reader } = this.#options;
    for await (const entries of database.walk(range)) {
      const records: VersionRecord[] = [];
      const damaged: TcfsError[] = [];
      const visit = (entry: StoredEntry): void => {
        if (owners?.has(versionPlaceOf(entry[0]).owner) === false) return;
        records.push(reader.storedVersion(entry));
      };
      visitIntact(entries, visit, damaged);
      damaged.forEach(onDamage);
      yield records;
    }
    requireIntact(database, range);
  }

  page(record: VersionRecord, page: number): ExtentPage {
    if (record.pages !== undefined) return record.pages.get(page) ?? [];
    const { reader } = this.#options;
    const { ino } = record.inode;
    this.#requireLinked(record);
    const live = reader.extentPage(ino, page); // first: a batch in between moves it to where is looked next
    for (const { version } of this.chainOf(ino) ?? []) {
      if (version < record.version) continue;
      const kept = reader.versionPage(version, page);
      if (kept !== undefined) return kept;
    }
    return live ?? [];
  }

  async pages(record: VersionRecord, fromPage: number, toPage: number): Promise<number[]> {
    const found = new Set<number>();
    const add = (page: number): void => {
      if (page >= fromPage && page < toPage) found.add(page);
    };
    if (record.pages !== undefined) for (const page of record.pages.keys()) add(page);
    else {
      const { ino } = record.inode;
      this.#requireLinked(record);
      // From the newest on: the way that batches in between move pages.
      await this.#walkKeys(extentsOf(ino, fromPage, toPage), (key) => add(pageOfKey(key)));
      for (const { version } of (this.chainOf(ino) ?? []).toReversed()) {
        if (version < record.version) continue;
        await this.#walkKeys(versionPagesOf(version, fromPage, toPage), (key) => add(versionPageOf(key).page));
      }
    }
    return [...found].sort((left, right) => left - right);
  }

  /** Without its chain nothing says which pages are its own: they may be newer ones. So it is while it is dropped. */
  #requireLinked({ inode, version }: VersionRecord): void {
    const link = this.#linkOf(inode.ino, version);
    if (link === undefined) throw corrupt(`version ${version} of inode ${inode.ino}`, "is in no chain");
    if (link.isDropped) throw new TcfsError("TCFS_STALE", `version ${version} of inode ${inode.ino} was given up`);
  }

  #linkOf(ino: InodeNumber, version: VersionNumber): ChainLink | undefined {
    return this.chainOf(ino)?.find((link) => link.version === version);
  }

  async #walkKeys(range: KeyRange, visit: (key: Uint8Array) => void): Promise<void> {
    const { database } = this.#options;
    for await (const entries of database.walk(range)) for (const [key] of entries) visit(key);
    requireIntact(database, range);
  }

  markRestored(record: VersionRecord): void {
    this.#rewrite({ ...record, isRestored: true });
  }

  #rewrite(record: VersionRecord): void {
    this.#options.put([{ key: this.#keyOf(record), value: encodeVersion(this.#options.volume.epoch, record) }]);
  }

  drop(record: VersionRecord): void {
    const { ino } = record.inode;
    if (record.pages !== undefined || this.#linkOf(ino, record.version) === undefined) {
      this.#options.put([{ key: this.#keyOf(record), value: undefined }]);
      return;
    }
    const chain = this.chainOf(ino) ?? [];
    this.#rewrite({ ...record, isDropped: true });
    this.#dropped.set(record.version, this.#keyOf(record));
    this.#setChain(
      ino,
      chain.map((link) => (link.version === record.version ? { ...link, isDropped: true } : link)),
    );
  }

  async *clearing(isGone: (ino: InodeNumber) => boolean): AsyncGenerator<void> {
    for (const [ino] of this.#options.chains) {
      // First: without a chain nothing would lead to these pages any more.
      while (isGone(ino) && (await this.#movePages(ino, isGone))) yield;
      for (;;) {
        const dropped = this.chainOf(ino)?.findIndex((link) => link.isDropped) ?? -1;
        if (dropped === -1) break;
        await this.#clearDropped(ino, dropped);
        yield;
      }
    }
  }

  /** Delete pages of an inode that is gone: the batch keeps them for the chain. @returns Whether there were any. */
  async #movePages(ino: InodeNumber, isGone: (ino: InodeNumber) => boolean): Promise<boolean> {
    const { database, put, stepPages, onPageGone } = this.#options;
    const changes: RecordChange[] = [];
    const range = extentsOf(ino, 0, Number.MAX_SAFE_INTEGER);
    for await (const entries of database.walk(range)) {
      for (const [key] of entries) changes.push({ key: new Uint8Array(key), value: undefined });
      if (changes.length >= stepPages) break;
    }
    requireIntact(database, range);
    if (!isGone(ino)) return false; // a rollback brought it back meanwhile
    for (const { key } of changes) onPageGone(ino, pageOfKey(key));
    put(changes);
    return changes.length > 0;
  }

  async #clearDropped(ino: InodeNumber, index: number): Promise<void> {
    const { database, reader, put, stepPages, chains } = this.#options;
    const chain = chains.get(ino) ?? [];
    const { version } = chain[index] as ChainLink;
    const changes: RecordChange[] = [];
    const range = versionPagesOf(version, 0, Number.MAX_SAFE_INTEGER);
    for await (const entries of database.walk(range)) {
      for (const entry of entries) {
        const { page } = versionPageOf(entry[0]);
        const target = chain.slice(0, index).findLastIndex((link) => !link.isDropped && link.endPage > page);
        const between = target === -1 ? [] : chain.slice(target, index);
        const isNeeded = target !== -1 && !between.some((link) => reader.has(versionPageKey(link.version, page)));
        if (isNeeded) {
          const value = new Uint8Array(reader.storedPlain(entry, "extent page of version", version));
          changes.push({ key: versionPageKey((chain[target] as ChainLink).version, page), value });
        }
        changes.push({ key: new Uint8Array(entry[0]), value: undefined });
      }
      if (changes.length >= stepPages) break;
    }
    requireIntact(database, range);
    put(changes);
    // Only what is durable may be relied on: by readers of older versions, and by batches that change these pages.
    if (changes.length > 0) return;
    const key = this.#dropped.get(version); // one that an earlier session dropped goes when all are looked through
    if (key !== undefined) put([{ key, value: undefined }]);
    this.#dropped.delete(version);
    this.#setChain(
      ino,
      (chains.get(ino) ?? []).filter((link) => link.version !== version),
    );
  }
}

/** One that is lost is told of; until another is set, the defaults count. */
function readPolicy({ reader, onDamage }: LevelVersionsOptions): VersionPolicy {
  try {
    return reader.versionPolicy() ?? DEFAULT_VERSION_POLICY;
  } catch (error) {
    if (!isTcfsError(error, "TCFS_CORRUPT")) throw error;
    const what = "versions of files are kept as in a new vault until a policy is set: the present one cannot be read";
    onDamage(new TcfsError("TCFS_CORRUPT", what, { cause: error }));
    return DEFAULT_VERSION_POLICY;
  }
}

function sorted(records: VersionRecord[]): VersionRecord[] {
  return records.sort((left, right) => left.version - right.version);
}

/** All chains, and where the walk did not verify, what is damaged told. */
export async function loadChains(
  database: JournaledDatabase,
  reader: RecordReader,
  onDamage: (error: TcfsError) => void,
): Promise<Map<InodeNumber, readonly ChainLink[]>> {
  const chains = new Map<InodeNumber, readonly ChainLink[]>();
  const damaged: TcfsError[] = [];
  for await (const entries of database.walk(allOfKind("versionChain"))) {
    const visit = (entry: StoredEntry): void => {
      const ino = inodeOfChainKey(entry[0]);
      chains.set(ino, decodeChain(ino, reader.storedPlain(entry, "version chain of inode", ino)));
    };
    visitIntact(entries, visit, damaged);
  }
  damaged.forEach(onDamage);
  return chains;
}
