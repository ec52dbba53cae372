/**
 * Walks of the database that must show changes made while they run. A walk begins with what the layers say at the
 * moment the database's view is taken, is told of every later change, and lays all that over what it found at the end.
 */
import { corrupt } from "../bytes.ts";
import { isTcfsError, type TcfsError } from "../errors.ts";
import type { PlainRecord, RecordCipher } from "../crypto/engine.ts";
import { EVERYTHING, allOfKind, dentriesOf, extentsOf, pageOfKey, type KeyRange } from "../format/record-keys.ts";
import type { DirectoryEntryRecord, InodeRecord } from "../format/records.ts";
import type { InodeNumber, Name } from "../ids.ts";
import type { StoredEntry } from "./database.ts";
import type { CachedDentry, DirectoryCache } from "./directory-cache.ts";
import type { LevelFrozenBatch } from "./frozen-batch.ts";
import type { JournaledDatabase } from "./journaled-database.ts";
import type { Layer } from "./layer.ts";
import type { RecordReader } from "./record-reader.ts";

/* Of a mode: what kind of file. */
const FILE_TYPE = 0o170000;
const DIRECTORY = 0o040000;

/** The state above the database at one moment. */
interface Overlays {
  readonly live: Layer;
  readonly frozen: LevelFrozenBatch | undefined;
}

interface Walk<Key, Value> {
  readonly ino: InodeNumber;
  readonly changes: Map<Key, Value>;
}

export interface WalkContext {
  readonly database: JournaledDatabase;
  readonly reader: RecordReader;
  readonly overlays: () => Overlays;
  readonly getInode: (ino: InodeNumber) => InodeRecord | undefined;
  /** Told of each record that a walk leaves out because it is damaged. */
  readonly onDamage: (error: TcfsError) => void;
}

type DirectoryWalk = Walk<Name, CachedDentry | null> & {
  result: Promise<readonly DirectoryEntryRecord[]> | undefined;
};

/** What a walk found, not yet kept. */
interface FoundEntries {
  readonly found: CachedDentry[];
  readonly damaged: readonly TcfsError[];
}

/** Lists directories; two callers share one walk. */
export class DirectoryWalks {
  readonly #context: WalkContext;
  readonly #cache: DirectoryCache;
  readonly #running = new Map<InodeNumber, DirectoryWalk>();
  #paused: Promise<void> | undefined;
  #pauseCount = 0;

  constructor(context: WalkContext, cache: DirectoryCache) {
    this.#context = context;
    this.#cache = cache;
  }

  changed(directory: InodeNumber, name: Name, dentry: CachedDentry | null): void {
    if (this.#running.size > 0) this.#running.get(directory)?.changes.set(name, dentry);
  }

  /**
   * Records are about to change in a way that {@link changed} is not told of: walks wait, and those under way begin anew.
   * @returns Ends the pause: everything is as it is to be, and the cache empty.
   */
  pause(): () => void {
    let end = (): void => undefined;
    this.#pauseCount++;
    this.#paused = new Promise((resolve) => {
      end = resolve;
    });
    return () => {
      this.#paused = undefined;
      end();
    };
  }

  /** @returns The listing that the cache now holds. */
  list(directory: InodeNumber): Promise<readonly DirectoryEntryRecord[]> {
    let walk = this.#running.get(directory);
    if (walk === undefined) {
      walk = { ino: directory, changes: new Map(), result: undefined };
      this.#running.set(directory, walk);
      walk.result = this.#run(walk).finally(() => this.#running.delete(directory));
    }
    return walk.result as Promise<readonly DirectoryEntryRecord[]>;
  }

  async #run(walk: DirectoryWalk): Promise<readonly DirectoryEntryRecord[]> {
    for (;;) {
      if (this.#paused !== undefined) await this.#paused;
      const pauseCount = this.#pauseCount;
      const entries = await this.#find(walk);
      if (pauseCount === this.#pauseCount) return this.#keep(walk, entries);
    }
  }

  async #find({ ino, changes }: DirectoryWalk): Promise<FoundEntries> {
    let found: CachedDentry[] = [];
    let damaged: TcfsError[] = [];
    await this.#context.database.scan(
      dentriesOf(ino),
      { values: true },
      {
        begin: () => {
          found = [];
          damaged = [];
          changes.clear();
          const { live, frozen } = this.#context.overlays();
          for (const layer of [frozen?.layer, live]) {
            for (const [name, dentry] of layer?.dentries.get(ino) ?? []) changes.set(name, dentry);
          }
        },
        visit: (entries) => {
          visitIntact(entries, (entry) => found.push(this.#context.reader.storedDentry(ino, entry)), damaged);
        },
      },
    );
    return { found, damaged };
  }

  #keep({ ino, changes }: DirectoryWalk, { found, damaged }: FoundEntries): readonly DirectoryEntryRecord[] {
    damaged.forEach(this.#context.onDamage);
    requireIntact(this.#context.database, dentriesOf(ino));
    const kept = changes.size === 0 ? found : found.filter((dentry) => !changes.has(dentry.name));
    const added = [...changes.values()].filter((dentry) => dentry !== null);
    this.#requireAll(ino, kept.length + added.length, damaged.length);
    return this.#cache.keepListing(ino, kept, added, damaged.length === 0);
  }

  /** A directory's inode says how many entries it has: one that is missing without a trace shows here. */
  #requireAll(directory: InodeNumber, listedCount: number, damagedCount: number): void {
    const inode = this.#context.getInode(directory);
    if (inode === undefined || (inode.mode & FILE_TYPE) !== DIRECTORY) return;
    if (listedCount <= inode.entryCount && listedCount + damagedCount >= inode.entryCount) return;
    const error = corrupt(`directory ${directory}`, `${listedCount} of ${inode.entryCount} entries found`);
    this.#context.onDamage(error);
    throw error;
  }
}

/** Lists the numbers of stored extent pages. */
export class ExtentWalks {
  readonly #context: WalkContext;
  readonly #running = new Set<Walk<number, boolean>>();

  constructor(context: WalkContext) {
    this.#context = context;
  }

  /** @param isStored - False: the page's record was deleted. */
  changed(ino: InodeNumber, page: number, isStored: boolean): void {
    for (const walk of this.#running) {
      if (walk.ino === ino) walk.changes.set(page, isStored);
    }
  }

  /** Pages in [fromPage, toPage), ascending. */
  async list(ino: InodeNumber, fromPage: number, toPage: number): Promise<number[]> {
    const walk: Walk<number, boolean> = { ino, changes: new Map() };
    let found = new Set<number>();
    this.#running.add(walk);
    try {
      await this.#context.database.scan(
        extentsOf(ino, fromPage, toPage),
        { values: false },
        {
          begin: () => {
            found = new Set();
            walk.changes.clear();
            const pages = this.#context.overlays().frozen?.extents.get(ino) ?? [];
            for (const [page, extents] of pages) walk.changes.set(page, extents.length > 0);
          },
          visit: (entries) => {
            for (const [key] of entries) found.add(pageOfKey(key));
          },
        },
      );
    } finally {
      this.#running.delete(walk);
    }
    requireIntact(this.#context.database, extentsOf(ino, fromPage, toPage));
    for (const [page, isStored] of walk.changes) {
      if (!isStored) found.delete(page);
      else if (page >= fromPage && page < toPage) found.add(page);
    }
    return [...found].sort((left, right) => left - right);
  }
}

/** All orphans, ascending. Called at mount, before anything changes. */
export async function listOrphans(context: WalkContext): Promise<InodeNumber[]> {
  let found = new Set<InodeNumber>();
  let damaged: TcfsError[] = [];
  await context.database.scan(
    allOfKind("orphan"),
    { values: true },
    {
      begin: () => {
        found = new Set();
        damaged = [];
      },
      visit: (entries) => {
        visitIntact(entries, (entry) => found.add(context.reader.storedOrphan(entry)), damaged);
      },
    },
  );
  damaged.forEach(context.onDamage);
  const { live, frozen } = context.overlays();
  for (const layer of [frozen?.layer, live]) {
    for (const [ino, isOrphan] of layer?.orphans ?? []) {
      if (isOrphan) found.add(ino);
      else found.delete(ino);
    }
  }
  return [...found].sort((left, right) => left - right);
}

/** Every record, opened. The view of the database is taken in this call. @throws TcfsError `TCFS_CORRUPT` at the first that does not open. */
export function plainRecords(
  database: JournaledDatabase,
  records: RecordCipher,
): AsyncGenerator<readonly PlainRecord[]> {
  const walk = database.walk(EVERYTHING);
  return (async function* opened() {
    for await (const entries of walk) {
      yield entries.map(([key, value, isPlain]) => ({ key, value: isPlain ? value : records.unseal(key, value) }));
    }
    await requireChecked(database, EVERYTHING);
  })();
}

/** {@link requireIntact}, once every table has been checked. @throws TcfsError `TCFS_CORRUPT`, `TCFS_CANCELLED` */
export async function requireChecked(database: JournaledDatabase, range: KeyRange): Promise<void> {
  await database.damage.checked();
  requireIntact(database, range);
}

/** @throws TcfsError `TCFS_CORRUPT` if a walk of the range may have left something out. */
export function requireIntact(database: JournaledDatabase, range: KeyRange): void {
  const damage = database.damage.ofRange(range);
  if (damage !== undefined) throw damage;
}

/** Visit what verifies, collect the errors of what does not. */
export function visitIntact(
  entries: readonly StoredEntry[],
  visit: (entry: StoredEntry) => void,
  damaged: TcfsError[],
): void {
  for (const entry of entries) {
    try {
      visit(entry);
    } catch (error) {
      if (!isTcfsError(error, "TCFS_CORRUPT")) throw error;
      damaged.push(error);
    }
  }
}
