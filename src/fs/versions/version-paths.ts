/** Paths in the vault, through directories that are there and those that were removed. */
import { TcfsError } from "../../errors.ts";
import type { VersionRecord } from "../../format/version-codec.ts";
import { ROOT_INODE, type InodeNumber, type Name } from "../../ids.ts";
import type { MetadataStore } from "../../metadata/metadata-store.ts";
import type { VersionStore } from "../../metadata/version-store.ts";
import { preciseIsoTime } from "../../platform/iso-time.ts";
import { MAX_NAME_BYTES } from "../limits.ts";
import { isDirectoryMode } from "../mode.ts";
import { nearOr } from "../snapshots/near-names.ts";

/** Directories that one path may have meant, one after another, that are looked through. */
const MAX_DIRECTORIES = 64;

/** @returns Names from the root down. @throws TcfsError `TCFS_USAGE` */
export function splitPath(path: string): Name[] {
  if (path.includes("\0")) throw new TcfsError("TCFS_USAGE", "a path has a NUL in it");
  const names = path.split("/").filter((part) => part !== "" && part !== ".");
  if (names.includes("..")) throw new TcfsError("TCFS_USAGE", "a path in the vault has no “..”");
  return names.map((part) => {
    const name = Buffer.from(part).toString("latin1");
    if (name.length > MAX_NAME_BYTES) throw new TcfsError("TCFS_NAME_TOO_LONG", "a name longer than 255 bytes");
    return name as Name;
  });
}

/** Names that are not UTF-8 get U+FFFD in them. */
export function joinPath(names: readonly Name[]): string {
  return names.map((name) => Buffer.from(name, "latin1").toString()).join("/");
}

/** For a path that is not there. @param beside - The names that there are where it should be. @param list - What shows them all. */
export function hintOf(names: readonly Name[], beside: Iterable<Name>, list: string): string {
  const above = joinPath(names.slice(0, -1));
  const candidates = Array.from(beside, (name) => joinPath([name]));
  return nearOr(`${list} lists what there is`, joinPath(names.slice(-1)), candidates, above === "" ? "" : `${above}/`);
}

/** All directories that a path names or named: the present one first. */
export async function directoriesAt(metadata: MetadataStore, names: readonly Name[]): Promise<InodeNumber[]> {
  let directories: InodeNumber[] = [ROOT_INODE];
  for (const name of names) {
    const below: InodeNumber[] = [];
    for (const directory of directories) below.push(...(await childrenAt(metadata, directory, name)));
    directories = [...new Set(below)].slice(0, MAX_DIRECTORIES);
  }
  return directories;
}

/** Directories that a name in a directory is or was. */
async function childrenAt(metadata: MetadataStore, directory: InodeNumber, name: Name): Promise<InodeNumber[]> {
  const removed = (await metadata.versions.ofName(directory, name)).filter(({ kind }) => kind === "directory");
  const gone = removed.map(({ inode }) => inode.ino).reverse();
  const present = isLiving(metadata, directory) ? metadata.getDentry(directory, name) : undefined;
  const isDirectory = present !== undefined && isDirectoryMode(metadata.getInode(present.ino)?.mode ?? 0);
  return isDirectory ? [present.ino, ...gone] : gone;
}

export function isLiving(metadata: MetadataStore, ino: InodeNumber): boolean {
  return (metadata.getInode(ino)?.linkCount ?? 0) > 0;
}

/** Paths by all that was removed and is kept. */
export async function pathsOfVersions(metadata: MetadataStore): Promise<VersionPaths> {
  const removed = new Map<InodeNumber, VersionRecord>();
  for await (const records of metadata.versions.all()) {
    for (const record of records)
      if (record.directory !== undefined && !record.isDropped) removed.set(record.inode.ino, record);
  }
  return new VersionPaths(metadata, removed);
}

/** Whether a version is still there, and not about to be cleared away. */
export async function isKept(versions: VersionStore, record: VersionRecord): Promise<boolean> {
  const { directory, name, inode } = record;
  const found = await (directory === undefined ? versions.ofFile(inode.ino) : versions.ofName(directory, name));
  return found.some(({ version }) => version === record.version);
}

/** Finds where directories, and files, are or were; remembers what it found. */
export class VersionPaths {
  readonly #metadata: MetadataStore;
  readonly #removed: ReadonlyMap<InodeNumber, VersionRecord>;
  readonly #known = new Map<InodeNumber, readonly Name[] | undefined>([[ROOT_INODE, []]]);
  readonly #names = new Map<InodeNumber, ReadonlyMap<InodeNumber, Name>>();

  /** @param removed - What was removed, by its inode. */
  constructor(metadata: MetadataStore, removed: ReadonlyMap<InodeNumber, VersionRecord>) {
    this.#metadata = metadata;
    this.#removed = removed;
  }

  /** @returns Undefined where it cannot be told any more. */
  async pathOf(directory: InodeNumber): Promise<readonly Name[] | undefined> {
    if (this.#known.has(directory)) return this.#known.get(directory);
    this.#known.set(directory, undefined); // should damaged records go in a circle
    const place = isLiving(this.#metadata, directory) ? await this.#living(directory) : this.#gone(directory);
    const above = place && (await this.pathOf(place.parent));
    const path = place && above && [...above, place.name];
    this.#known.set(directory, path);
    return path;
  }

  /** What `.versions` calls a version, with the directories before it; `?` for what cannot be told any more. */
  async nameOf({ directory, name, inode }: VersionRecord): Promise<string> {
    const above = await this.pathOf(directory ?? inode.ino);
    const names = directory === undefined ? above : above && [...above, name];
    return `${names === undefined ? "?" : joinPath(names)}@${preciseIsoTime(inode.changeTime)}`;
  }

  async #living(directory: InodeNumber): Promise<{ parent: InodeNumber; name: Name } | undefined> {
    const parent = this.#metadata.getInode(directory)?.parent ?? 0;
    if (parent === 0) return undefined;
    let names = this.#names.get(parent);
    if (names === undefined) {
      const listing = await this.#metadata.listDirectory(parent);
      names = new Map(listing.map(({ ino, name }) => [ino, name]));
      this.#names.set(parent, names);
    }
    const name = names.get(directory);
    return name === undefined ? undefined : { parent, name };
  }

  #gone(directory: InodeNumber): { parent: InodeNumber; name: Name } | undefined {
    const record = this.#removed.get(directory);
    return record?.directory === undefined ? undefined : { parent: record.directory, name: record.name };
  }
}
