/**
 * Which keys of the database cannot be believed, because a table is damaged where they lie (FORMAT.md §7.13). A damaged
 * table is kept under a second name, which LevelDB leaves alone: compaction would write what is left of it as a table
 * that verifies, and the next session would know of nothing. LevelDB gets a copy without the damaged blocks, since
 * what it finds in one may end the process.
 */
import { link, open, readdir, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { TcfsError, isErrno, isOutOfDescriptors } from "../errors.ts";
import type { KeyRange } from "../format/record-keys.ts";
import { NodeDisk } from "../platform/node-disk.ts";
import { readSalvaged } from "../platform/salvage.ts";
import { liveTables } from "./live-tables.ts";
import { blankTable } from "./table-blanking.ts";
import { checkTable, type DamagedKeys } from "./table-check.ts";

const TABLE = /^\d+\.(?:ldb|sst)$/u;
const KEPT_SUFFIX = ".damaged";
/** Up to so much is checked before the database opens, more while it is in use. */
const CHECKED_FIRST_BYTES = 256 * 1024 * 1024;

export class KnownDamage {
  readonly #directory: string;
  readonly #onDamage: (error: TcfsError) => void;
  readonly #stopping = new AbortController();
  readonly #keys: DamagedKeys[] = [];
  readonly #files: string[] = [];
  #names: readonly string[] = [];
  #checking: Promise<void> | undefined;
  #isChecked = false;

  private constructor(directory: string, onDamage: (error: TcfsError) => void) {
    this.#directory = directory;
    this.#onDamage = onDamage;
  }

  /**
   * Before the database opens: afterwards compaction may do away with a damaged table at any time.
   * @param onDamage - Told of each damaged table once, while the database is open too where there is much to check.
   */
  static async find(directory: string, onDamage: (error: TcfsError) => void): Promise<KnownDamage> {
    const damage = new KnownDamage(directory, onDamage);
    const { names, sizeBytes } = await tablesIn(directory);
    damage.#names = names;
    const checking = damage.#start();
    if (sizeBytes <= CHECKED_FIRST_BYTES) await checking;
    checking.catch(() => undefined); // whoever needs the outcome tries again, and is told
    return damage;
  }

  /** Of a record that was read under this key, or not found: one that is missing may lie anywhere. */
  ofRecord(key: Uint8Array, isFound: boolean): TcfsError | undefined {
    if (this.#keys.length === 0) return undefined;
    const concerns = ({ after, upTo }: DamagedKeys): boolean =>
      (after === undefined || Buffer.compare(key, after) > 0) && isUpTo(key, upTo);
    return !isFound || this.#keys.some(concerns) ? this.#error() : undefined;
  }

  /** Of a walk. One that passes a damaged block may also leave out what follows it. */
  ofRange({ first, end }: KeyRange): TcfsError | undefined {
    const concerns = ({ after, upTo }: DamagedKeys): boolean =>
      (after === undefined || Buffer.compare(end, after) > 0) && isUpTo(first, upTo);
    return this.#keys.some(concerns) ? this.#error() : undefined;
  }

  /**
   * All there was at the start is checked: before anything is deleted, here or elsewhere, because a walk did not find it.
   * @throws TcfsError `TCFS_CANCELLED` if the check ended before it was done, `TCFS_TOO_MANY_FILES`, `TCFS_IO`
   */
  async checked(): Promise<void> {
    await this.#start();
    if (!this.#isChecked) throw new TcfsError("TCFS_CANCELLED", "the check of the metadata was given up");
  }

  /** End the check. Idempotent. Never rejects. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#checking?.catch(() => undefined);
  }

  /** @returns The one check that there is, unless it failed: then another one. */
  #start(): Promise<void> {
    this.#checking ??= this.#check().catch((error: unknown) => {
      this.#checking = undefined;
      const code = isOutOfDescriptors(error) ? "TCFS_TOO_MANY_FILES" : "TCFS_IO";
      const why = error instanceof Error ? error.message : String(error);
      throw new TcfsError(code, `the metadata cannot be checked: ${why}`, { cause: error });
    });
    return this.#checking;
  }

  async #check(): Promise<void> {
    for (const name of this.#names) {
      if (this.#stopping.signal.aborted) return;
      const path = join(this.#directory, name);
      const keys = await checkTable(path, this.#stopping.signal);
      if (keys.length === 0) continue;
      const isKept = name.endsWith(KEPT_SUFFIX);
      if (!isKept) await setAside(path, keys).catch(() => undefined); // best effort: there may be no room for it
      const file = isKept ? name.slice(0, -KEPT_SUFFIX.length) : name;
      if (this.#files.includes(file)) continue;
      this.#files.push(file);
      this.#keys.push(...keys);
      this.#onDamage(
        new TcfsError(
          "TCFS_CORRUPT",
          `the metadata table ${file} is damaged in ${keys.length} of its blocks: records in them, and any that is not ` +
            `found, cannot be read. Restore the vault from a copy; without one, ${file}${KEPT_SUFFIX} can be removed to ` +
            "go on with what is left",
        ),
      );
    }
    this.#isChecked = !this.#stopping.signal.aborted;
  }

  #error(): TcfsError {
    return new TcfsError("TCFS_CORRUPT", `metadata may be missing: ${this.#files.join(", ")} is damaged`);
  }
}

/**
 * Keep a damaged table under its second name, and put one in its place that LevelDB can read. Crash order: both names,
 * flushed; then the copy takes the first.
 */
async function setAside(path: string, keys: readonly DamagedKeys[]): Promise<void> {
  const disk = new NodeDisk();
  const table = await readWhole(path);
  try {
    await link(path, path + KEPT_SUFFIX);
  } catch (error) {
    // There it is already: a crash came between. Else this file system has no links.
    if (!isErrno(error, "EEXIST")) await disk.replaceFile(path + KEPT_SUFFIX, table);
  }
  await disk.syncDirectory(dirname(path));
  await disk.replaceFile(path, blankTable(table, keys));
}

/** With zeros where the device cannot read it. */
async function readWhole(path: string): Promise<Uint8Array> {
  await using file = await open(path, "r");
  return await readSalvaged(file, 0, (await file.stat()).size);
}

function isUpTo(key: Uint8Array, upTo: Uint8Array | undefined): boolean {
  return upTo === undefined || Buffer.compare(key, upTo) <= 0;
}

/** Tables in use, and damaged ones that were kept. */
async function tablesIn(directory: string): Promise<{ names: string[]; sizeBytes: number }> {
  const live = await liveTables(directory);
  const names: string[] = [];
  let sizeBytes = 0;
  for (const name of (await readdir(directory).catch(() => [])).sort()) {
    if (!TABLE.test(name.replace(KEPT_SUFFIX, ""))) continue;
    if (live?.has(Number.parseInt(name, 10)) === false && !name.endsWith(KEPT_SUFFIX)) continue;
    names.push(name);
    sizeBytes += await stat(join(directory, name)).then(
      ({ size }) => size,
      () => 0,
    );
  }
  return { names, sizeBytes };
}
