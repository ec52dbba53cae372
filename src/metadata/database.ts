/**
 * LevelDB as the metadata store uses it: exact reads on the calling thread, batches flushed to the device, walks.
 * Knows keys and sealed values only. After any failed write it refuses further writes until it has closed and opened
 * the database anew: LevelDB's log is then torn in the middle, and what it would append behind the tear is lost at the
 * next recovery; after a failed flush it is read-only for good. Recovery reads the log, writes it as a new table
 * and flushes that, so nothing rests on a flush that failed.
 */
import { lstat, readdir, stat, statfs } from "node:fs/promises";
import { join } from "node:path";
import { Level } from "level";
import { TcfsError, type TcfsErrorCode, isOutOfDescriptors } from "../errors.ts";
import { EVERYTHING, type KeyRange } from "../format/record-keys.ts";
import { KnownDamage } from "./known-damage.ts";
import { checkLogs } from "./log-check.ts";
import type { SeekableIterator } from "./sorted-reader.ts";

const MIB = 1024 * 1024;

/** Values are ciphertext: no compression. One large memtable: few small tables, recovery still takes well under 1 s. */
const LEVEL_OPTIONS = {
  keyEncoding: "view",
  valueEncoding: "view",
  compression: false,
  cacheSize: 16 * MIB,
  writeBufferSize: 16 * MIB,
  maxFileSize: 8 * MIB,
  blockSize: 4096,
  maxOpenFiles: 256,
} as const;

/** Entries per hop to LevelDB's thread; the calling thread decodes so many in a few milliseconds. */
const WALK_BATCH_ENTRIES = 1000;
const WALK_BATCH_BYTES = MIB;

/** What LevelDB's messages begin a path with: the vault directory as it is held open. */
const HELD_DIRECTORY = /\/proc\/self\/fd\/\d+\/\.\//gu;

/** Room that opening needs beside the log that it rewrites as a table. */
const RECOVERY_MARGIN_BYTES = MIB;

/** What is used of the package `level`; a test may stand in for it. */
export type LevelDatabase = Pick<Level<Uint8Array, Uint8Array>, "getSync" | "batch" | "iterator" | "close"> & {
  /** Of LevelDB itself; `level` does not declare it, since it has none in browsers. */
  compactRange(start: Uint8Array, end: Uint8Array): Promise<void>;
};
export type OpenLevel = (directory: string, createIfMissing: boolean) => Promise<LevelDatabase>;

/** One change; without a value the record is deleted. */
export interface SealedChange {
  readonly key: Uint8Array;
  readonly sealed: Uint8Array | undefined;
}

export interface DatabaseOptions {
  readonly directory: string;
  readonly createIfMissing: boolean;
  readonly openLevel: OpenLevel;
  /** Told of each damaged table. */
  readonly onDamage: (error: TcfsError) => void;
  /** Told, in a sentence, of a log whose last batch was cut short and is left out. */
  readonly onTornLog: (sentence: string) => void;
}

/** A record: sealed as the database holds it, unless it is still pending and `isPlain`. */
export type StoredEntry = readonly [key: Uint8Array, value: Uint8Array, isPlain?: true];

/** Follows a walk that may start over: {@link Database.scan}. */
export interface ScanVisitor {
  /** The view of the database is taken in the same synchronous step; forget what an earlier start gave. */
  begin(): void;
  visit(entries: readonly StoredEntry[]): void;
}

/** @throws TcfsError `TCFS_VAULT_IN_USE`, `TCFS_CORRUPT`, `TCFS_STORE_FULL`, `TCFS_IO` */
export async function openLevel(directory: string, createIfMissing: boolean): Promise<LevelDatabase> {
  const level = new Level<Uint8Array, Uint8Array>(directory, LEVEL_OPTIONS);
  await level.open({ createIfMissing });
  return level as typeof level & LevelDatabase;
}

export class Database {
  /** What is known to be damaged: reads here do not ask. */
  readonly damage: KnownDamage;
  readonly #options: DatabaseOptions;
  #level: LevelDatabase | undefined;
  #isClosed = false;
  #mustReopen = false;
  #reopening: Promise<void> | undefined;
  /** How often the database was opened: tells a walk that failed why. */
  #openings = 1;

  private constructor(options: DatabaseOptions, level: LevelDatabase, damage: KnownDamage) {
    this.#options = options;
    this.#level = level;
    this.damage = damage;
  }

  /** @throws TcfsError `TCFS_VAULT_IN_USE`, `TCFS_CORRUPT`, `TCFS_STORE_FULL`, `TCFS_IO` */
  static async open(options: DatabaseOptions): Promise<Database> {
    const { directory, createIfMissing } = options;
    let damage: KnownDamage | undefined;
    try {
      await requirePlainFiles(directory);
      const torn = await checkLogs(directory);
      damage = await KnownDamage.find(directory, options.onDamage);
      const level = await options.openLevel(directory, createIfMissing);
      torn.forEach(options.onTornLog);
      return new Database(options, level, damage);
    } catch (error) {
      await damage?.stop();
      throw toTcfsError(error, "opening the metadata database failed");
    }
  }

  /** Set while the database is closed and opened again; {@link get} throws meanwhile. Never rejects. */
  get reopening(): Promise<void> | undefined {
    return this.#reopening?.catch(() => undefined);
  }

  /**
   * @returns The sealed value, fresh; undefined if there is none.
   * @throws TcfsError `TCFS_IO` (also while reopening), `TCFS_CORRUPT`, `TCFS_CLOSED`
   */
  get(key: Uint8Array): Uint8Array | undefined {
    const level = this.#level;
    if (level === undefined) throw this.#unavailable();
    try {
      return level.getSync(key);
    } catch (error) {
      throw toTcfsError(error, "reading the metadata database failed");
    }
  }

  /**
   * All or nothing, on the device when the promise resolves. After a failure the same batch can be written again,
   * and must be before any other: some of it may be on the disk.
   * @throws TcfsError `TCFS_STORE_FULL`, `TCFS_IO`, `TCFS_CLOSED`
   */
  async write(changes: readonly SealedChange[]): Promise<void> {
    if (this.#mustReopen) await this.#reopen();
    if (this.#level === undefined) throw this.#unavailable();
    const batch = this.#level.batch();
    for (const { key, sealed } of changes) {
      if (sealed === undefined) batch.del(key);
      else batch.put(key, sealed);
    }
    try {
      await batch.write({ sync: true });
    } catch (error) {
      this.#mustReopen = true;
      throw toTcfsError(error, "writing the metadata database failed");
    }
  }

  /**
   * Walk a range as it is at one moment, from the start again if the database is reopened meanwhile.
   * @throws TcfsError `TCFS_IO`, `TCFS_CORRUPT`, `TCFS_CLOSED`, and whatever the visitor throws.
   */
  async scan(range: KeyRange, options: { readonly values: boolean }, visitor: ScanVisitor): Promise<void> {
    for (;;) {
      await this.#reopening;
      const openings = this.#openings;
      try {
        const walk = this.#walk(range, options.values);
        visitor.begin();
        for await (const entries of walk) visitor.visit(entries);
        return;
      } catch (error) {
        const wasReopened = openings !== this.#openings || this.#reopening !== undefined;
        if (!wasReopened || this.#isClosed) throw error;
      }
    }
  }

  /**
   * Walk a range as it is at the first step, in batches; fails if the database is reopened meanwhile.
   * @throws TcfsError `TCFS_IO`, `TCFS_CORRUPT`, `TCFS_CLOSED`
   */
  walk(range: KeyRange, batchEntries?: number): AsyncIterable<readonly StoredEntry[]> {
    return this.#walk(range, true, batchEntries);
  }

  /** The view is taken at once. Fails as {@link walk} does; the caller closes it. */
  seekable(range: KeyRange): SeekableIterator {
    const iterator = this.#iterator(range, true);
    return {
      nextv: (size) => iterator.nextv(size).catch(walkFailed),
      seek: (target) => {
        iterator.seek(target);
      },
      close: () => iterator.close(),
    };
  }

  /** Write all tables and the log anew, without what was overwritten or deleted. @throws TcfsError `TCFS_STORE_FULL`, `TCFS_IO`, `TCFS_CLOSED` */
  async compact(): Promise<void> {
    await this.#reopening;
    try {
      await this.#requireRoom(/\.(?:log|ldb)$/u, "compact");
      if (this.#level === undefined) throw this.#unavailable();
      await this.#level.compactRange(EVERYTHING.first, EVERYTHING.end);
    } catch (error) {
      throw toTcfsError(error, "compacting the metadata database failed");
    }
  }

  /** Idempotent; waits for a reopening in flight. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await this.reopening;
    await this.damage.stop();
    const level = this.#level;
    this.#level = undefined;
    await level?.close();
  }

  /** The view is taken at once, not at the first step. */
  #walk(range: KeyRange, values: boolean, batchEntries = WALK_BATCH_ENTRIES): AsyncGenerator<readonly StoredEntry[]> {
    return walkBatches(this.#iterator(range, values), batchEntries);
  }

  #iterator(range: KeyRange, values: boolean): SeekableIterator {
    if (this.#level === undefined) throw this.#unavailable();
    return this.#level.iterator({
      gte: range.first,
      lt: range.end,
      values,
      fillCache: false,
      highWaterMarkBytes: WALK_BATCH_BYTES,
    } as { gte: Uint8Array; lt: Uint8Array; values: boolean });
  }

  #reopen(): Promise<void> {
    this.#reopening ??= this.#closeAndOpen().finally(() => {
      this.#reopening = undefined;
    });
    return this.#reopening;
  }

  async #closeAndOpen(): Promise<void> {
    const { directory, openLevel } = this.#options;
    try {
      if (this.#level !== undefined) {
        await this.#requireRoom(/\.log$/u, "recover");
        const failed = this.#level;
        this.#level = undefined;
        await failed.close();
      }
      if (this.#isClosed) throw this.#unavailable();
      await checkLogs(directory); // what the failed write left is no news
      this.#level = await openLevel(directory, false);
    } catch (error) {
      throw toTcfsError(error, "opening the metadata database again failed");
    }
    this.#openings++;
    this.#mustReopen = false;
  }

  /**
   * Opening rewrites the log as a table, compacting all tables as others: on a full disk that fails, and then nothing
   * could be read either.
   */
  async #requireRoom(rewritten: RegExp, doing: string): Promise<void> {
    const { directory } = this.#options;
    let bytes = 0;
    for (const name of await readdir(directory)) {
      if (!rewritten.test(name)) continue;
      bytes += await stat(join(directory, name)).then(
        ({ size }) => size,
        () => 0, // a table that has gone meanwhile
      );
    }
    const space = await statfs(directory);
    if (space.bavail * space.bsize >= bytes + RECOVERY_MARGIN_BYTES) return;
    throw new TcfsError("TCFS_STORE_FULL", `too little room to ${doing} the metadata database`);
  }

  #unavailable(): TcfsError {
    if (this.#isClosed) return new TcfsError("TCFS_CLOSED", "the metadata database is closed");
    return new TcfsError("TCFS_IO", "the metadata database is being opened again after a failed write");
  }
}

/**
 * LevelDB writes through symlinks, cuts what they name to nothing, and waits for FIFOs: a vault from somebody else would
 * choose which files.
 */
async function requirePlainFiles(directory: string): Promise<void> {
  const self = await lstat(directory).catch(() => undefined);
  if (self?.isSymbolicLink() === true) throw new TcfsError("TCFS_CORRUPT", "the metadata directory is a symbolic link");
  for (const entry of self === undefined ? [] : await readdir(directory, { withFileTypes: true })) {
    if (entry.isFile() || entry.isDirectory()) continue;
    throw new TcfsError("TCFS_CORRUPT", `${entry.name} in the metadata directory is no regular file`);
  }
}

async function* walkBatches(iterator: SeekableIterator, batchEntries: number): AsyncGenerator<readonly StoredEntry[]> {
  try {
    for (;;) {
      const entries = await iterator.nextv(batchEntries);
      if (entries.length === 0) return;
      yield entries;
    }
  } catch (error) {
    walkFailed(error);
  } finally {
    await iterator.close();
  }
}

function walkFailed(error: unknown): never {
  throw toTcfsError(error, "walking the metadata database failed");
}

function toTcfsError(error: unknown, doing: string): TcfsError {
  if (error instanceof TcfsError) return error;
  const causes = causeChain(error);
  const text = causes.map((cause) => cause.message.replaceAll(HELD_DIRECTORY, "")).join("; ");
  return new TcfsError(codeOf(causes, text), `${doing}: ${text}`, { cause: error });
}

function codeOf(causes: readonly Error[], text: string): TcfsErrorCode {
  const codes = causes.map((cause) => ("code" in cause ? cause.code : undefined));
  if (codes.includes("LEVEL_LOCKED")) return "TCFS_VAULT_IN_USE";
  if (codes.includes("LEVEL_CORRUPTION")) return "TCFS_CORRUPT";
  /* LevelDB gives the rest as text alone: strerror of ENOSPC and others, and what it says of missing files. */
  if (/No space left on device|Disk quota exceeded/u.test(text)) return "TCFS_STORE_FULL";
  if (causes.some(isOutOfDescriptors)) return "TCFS_TOO_MANY_FILES";
  if (/Too many open files/u.test(text)) return "TCFS_TOO_MANY_FILES"; // EMFILE, and ENFILE ("… in system")
  if (/create_if_missing is false|(?:MANIFEST-\d+|\d+\.ldb): No such file/u.test(text)) return "TCFS_CORRUPT";
  return "TCFS_IO";
}

function causeChain(error: unknown): Error[] {
  const chain: Error[] = [];
  for (let next = error; next instanceof Error && chain.length < 8; next = next.cause) chain.push(next);
  return chain;
}
