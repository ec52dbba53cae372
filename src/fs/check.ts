/**
 * Reads everything that names lead to, of the present tree, of every snapshot and of all versions, and tells which paths
 * are damaged.
 * Each chunk is read once, from its pack and not from memory. Runs beside everything else and gives way to it.
 */
import { setImmediate as nextTurn } from "node:timers/promises";
import { IdSet } from "../chunkstore/id-set.ts";
import type { ChunkStore } from "../chunkstore/chunk-store.ts";
import { TcfsError, isTcfsError } from "../errors.ts";
import type { InodeRecord } from "../format/records.ts";
import type { VersionRecord } from "../format/version-codec.ts";
import { chunkIdKey } from "../format/record-keys.ts";
import { isZeroChunk } from "../format/zero-chunk.ts";
import { type ChunkId, type InodeNumber, type Name, ROOT_INODE } from "../ids.ts";
import type { MetadataStore } from "../metadata/metadata-store.ts";
import type { MetadataView } from "../metadata/snapshot-store.ts";
import { endPageOf } from "./contents.ts";
import { isDirectoryMode, isRegularMode } from "./mode.ts";
import { SNAPSHOTS_NAME, VERSIONS_NAME } from "./snapshots/numbers.ts";
import { type VersionPaths, isKept, pathsOfVersions } from "./versions/version-paths.ts";

/** Damage told one by one; what there is beyond is counted. */
const MAX_DAMAGES = 10_000;
/** Records between two turns of the event loop. */
const RECORDS_PER_TURN = 64;

export interface Damage {
  /** From the mount's root, without a leading slash; empty for the root itself. */
  readonly path: string;
  readonly what: "name" | "inode" | "directory" | "attributes" | "content" | "version";
  readonly message: string;
}

export interface CheckReport {
  /** Names visited, in all trees. */
  readonly names: number;
  /** Of files, those in the trash too. */
  readonly versions: number;
  readonly chunks: number;
  /** Plaintext bytes of those chunks. */
  readonly bytes: number;
  readonly damageCount: number;
  /** The first 10,000. */
  readonly damages: readonly Damage[];
}

export interface CheckOptions {
  readonly metadata: MetadataStore;
  readonly chunks: Pick<ChunkStore, "check">;
  readonly signal: AbortSignal;
  /** Told now and then how far it is. */
  readonly onProgress: (report: Pick<CheckReport, "names" | "bytes" | "damageCount">) => void;
}

type Teller = (what: Damage["what"], message: string) => void;
type Pages = Pick<MetadataView, "getExtentPage" | "extentPages">;

interface Place {
  readonly ino: InodeNumber;
  readonly path: string;
  /** Its name stands there; undefined for a root. */
  readonly entry: { readonly directory: InodeNumber; readonly name: Name } | undefined;
}

/**
 * What was committed before it began is checked, unless it is gone by the time its turn comes.
 * @throws TcfsError `TCFS_INTERRUPTED`; `TCFS_IO` where the disk fails in another way than by wrong bytes.
 */
export async function checkVolume(options: CheckOptions): Promise<CheckReport> {
  const check = new Check(options);
  const { snapshots } = options.metadata;
  await check.tree(snapshots.committedView(), "");
  for (const snapshot of snapshots.list()) {
    await check.tree(snapshots.view(snapshot), `${SNAPSHOTS_NAME}/${snapshot.name}`);
  }
  await check.versions();
  return check.report;
}

class Check {
  readonly #options: CheckOptions;
  readonly #sound = new IdSet();
  readonly #damaged = new Map<string, string>();
  readonly #damages: Damage[] = [];
  #damageCount = 0;
  #names = 0;
  #versions = 0;
  #paths: VersionPaths | undefined;
  #chunks = 0;
  #bytes = 0;
  #steps = 0;

  constructor(options: CheckOptions) {
    this.#options = options;
  }

  get report(): CheckReport {
    return {
      names: this.#names,
      versions: this.#versions,
      chunks: this.#chunks,
      bytes: this.#bytes,
      damageCount: this.#damageCount,
      damages: this.#damages,
    };
  }

  async tree(view: MetadataView, rootPath: string): Promise<void> {
    const waiting: Place[] = [{ ino: ROOT_INODE, path: rootPath, entry: undefined }];
    for (let place = waiting.pop(); place !== undefined; place = waiting.pop()) {
      this.#names++;
      await this.#turn();
      const tell = this.#teller(place.path);
      const inode = this.#inode(view, place);
      if (inode === undefined) continue;
      attempt(tell, "attributes", () => view.getXattrs(inode.ino));
      if (isDirectoryMode(inode.mode)) for (const child of await this.#children(view, place)) waiting.push(child);
      else if (isRegularMode(inode.mode)) await this.#content(view, inode, tell);
    }
  }

  /** Versions of files, also those that the policy no longer keeps and that are still there. */
  async versions(): Promise<void> {
    const { versions } = this.#options.metadata;
    const tell = this.#teller(VERSIONS_NAME);
    try {
      for await (const records of versions.all((error) => tell("version", error.message))) {
        for (const record of records) if (!record.isDropped) await this.#version(record);
      }
    } catch (error) {
      tellError(tell, "directory", error);
    }
  }

  async #version(record: VersionRecord): Promise<void> {
    const { metadata } = this.#options;
    this.#versions++;
    await this.#turn();
    if (!isRegularMode(record.inode.mode)) return;
    const found: [Damage["what"], string][] = [];
    const view = {
      getExtentPage: (_: InodeNumber, page: number) => metadata.versions.page(record, page),
      extentPages: (_: InodeNumber, from: number, to: number) => metadata.versions.pages(record, from, to),
    };
    await this.#content(view, record.inode, (what, message) => found.push([what, message]));
    if (found.length === 0 || !(await isKept(metadata.versions, record))) return; // it was given up meanwhile
    this.#paths ??= await pathsOfVersions(metadata);
    const tell = this.#teller(`${VERSIONS_NAME}/${await this.#paths.nameOf(record)}`);
    for (const [what, message] of found) tell(what, message);
  }

  #inode(view: MetadataView, place: Place): InodeRecord | undefined {
    try {
      const inode = view.getInode(place.ino);
      if (inode !== undefined) return inode;
    } catch (error) {
      tellError(this.#teller(place.path), "inode", error);
      return undefined;
    }
    if (this.#isNamed(view, place)) this.#teller(place.path)("inode", `inode ${place.ino} is missing`);
    return undefined;
  }

  /** Or was it removed since its directory was listed? */
  #isNamed(view: MetadataView, place: Place): boolean {
    const { entry, path, ino } = place;
    if (entry === undefined) return true;
    return attempt(this.#teller(path), "name", () => view.getDentry(entry.directory, entry.name))?.ino === ino;
  }

  async #children(view: MetadataView, { ino, path }: Place): Promise<Place[]> {
    try {
      const entries = await view.listDirectory(ino);
      return entries.map(({ name, ino: child }) => ({
        ino: child,
        path: path === "" ? textOf(name) : `${path}/${textOf(name)}`,
        entry: { directory: ino, name },
      }));
    } catch (error) {
      tellError(this.#teller(path), "directory", error);
      return [];
    }
  }

  async #content(view: Pages, inode: InodeRecord, tell: Teller): Promise<void> {
    let pages: number[];
    try {
      pages = await view.extentPages(inode.ino, 0, endPageOf(inode.lengthBytes));
    } catch (error) {
      tellError(tell, "content", error);
      return;
    }
    const told = new Set<string>();
    for (const page of pages) {
      await this.#turn();
      const extents = attempt(tell, "content", () => view.getExtentPage(inode.ino, page));
      for (const { chunk } of extents ?? []) {
        if (isZeroChunk(chunk) || this.#sound.has(chunk) || told.has(chunkIdKey(chunk))) continue;
        const why = await this.#chunk(chunk);
        if (why === undefined) continue;
        told.add(chunkIdKey(chunk));
        // Overwritten meanwhile: then the page says so by now.
        const present = attempt(tell, "content", () => view.getExtentPage(inode.ino, page));
        if (present?.some((extent) => Buffer.compare(extent.chunk, chunk) === 0) === true) tell("content", why);
      }
    }
  }

  /** @returns Why the chunk cannot be read; undefined if it can. */
  async #chunk(id: ChunkId): Promise<string | undefined> {
    const known = this.#damaged.get(chunkIdKey(id));
    if (known !== undefined) return known;
    try {
      this.#bytes += await this.#options.chunks.check(id);
      this.#chunks++;
      this.#sound.add(id);
      return undefined;
    } catch (error) {
      if (!isTcfsError(error, "TCFS_CORRUPT") && !isTcfsError(error, "TCFS_IO")) throw error;
      this.#damaged.set(chunkIdKey(id), error.message);
      return error.message;
    }
  }

  /** Notes what is told of one path. */
  #teller(path: string): Teller {
    return (what, message) => {
      this.#damageCount++;
      if (this.#damages.length < MAX_DAMAGES) this.#damages.push({ path, what, message });
    };
  }

  async #turn(): Promise<void> {
    if (++this.#steps % RECORDS_PER_TURN !== 0) return;
    if (this.#options.signal.aborted) throw new TcfsError("TCFS_INTERRUPTED", "the check was interrupted");
    this.#options.onProgress(this.report);
    await nextTurn();
  }
}

function attempt<T>(tell: Teller, what: Damage["what"], read: () => T): T | undefined {
  try {
    return read();
  } catch (error) {
    tellError(tell, what, error);
    return undefined;
  }
}

function tellError(tell: Teller, what: Damage["what"], error: unknown): void {
  if (!isTcfsError(error, "TCFS_CORRUPT")) throw error;
  tell(what, error.message);
}

function textOf(name: string): string {
  return Buffer.from(name, "latin1").toString("utf8");
}
