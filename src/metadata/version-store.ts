/** Versions of files and what was deleted, as the filesystem sees them (FORMAT.md §7.16). */
import type { TcfsError } from "../errors.ts";
import type { ChainLink, VersionPolicy, VersionRecord } from "../format/version-codec.ts";
import type { VersionNumber } from "../format/version-keys.ts";
import type { ExtentPage } from "../format/records.ts";
import type { InodeNumber, Name } from "../ids.ts";

/** What a version is made of; the rest is the store's. */
export type KeptState = Omit<VersionRecord, "version" | "isDropped" | "isRestored">;

/**
 * What `put` and the like change goes into the next batch, with whatever else is acknowledged before it. Listings, pages
 * and `find` show what the last commit holds.
 */
export interface VersionStore {
  readonly policy: VersionPolicy;
  setPolicy(policy: VersionPolicy): void;

  /**
   * Keep a state. Where its pages are apart (`pages` undefined), they are what the last commit holds of the inode.
   * @param endPage - First page that its contents do not reach.
   * @returns Undefined where the vault has no number left for it.
   */
  keep(state: KeptState, endPage: number): VersionNumber | undefined;
  /** Whether pages of an inode are those of versions that stay: they must not be deleted with it. */
  sharesPages(ino: InodeNumber): boolean;

  /** Versions of a file, those being dropped left out, oldest first. @throws TcfsError `TCFS_CORRUPT`, `TCFS_IO` */
  ofFile(ino: InodeNumber): Promise<VersionRecord[]>;
  /** Versions that lost this name, oldest first. */
  ofName(directory: InodeNumber, name: Name): Promise<VersionRecord[]>;
  /** Everything that lost its name in a directory, in no order. */
  ofDirectory(directory: InodeNumber): Promise<VersionRecord[]>;
  /** Versions of any of the files, in no order: one walk where they are many. */
  ofFiles(files: ReadonlySet<InodeNumber>): Promise<VersionRecord[]>;
  /**
   * All, in the order of their owners; those being dropped too. Damaged ones are left out.
   * @param onDamage - Told of each; without it they are reported as any damage is.
   */
  all(onDamage?: (error: TcfsError) => void): AsyncIterable<readonly VersionRecord[]>;

  page(record: VersionRecord, page: number): ExtentPage;
  /** Numbers of the pages in [fromPage, toPage) that hold anything, ascending. */
  pages(record: VersionRecord, fromPage: number, toPage: number): Promise<number[]>;

  /** It is no longer in the trash. */
  markRestored(record: VersionRecord): void;
  /** It is gone; if its pages are apart, they are cleared away by {@link clearing}. */
  drop(record: VersionRecord): void;
  /** Inodes with a chain, and their chains. */
  chains(): Iterable<readonly [InodeNumber, readonly ChainLink[]]>;
  /**
   * Put the clearing away of dropped versions, and of pages whose inode is gone, into batches: a bounded part each time
   * that the generator goes on. It may go on only when what it put before is durable.
   */
  clearing(isGone: (ino: InodeNumber) => boolean): AsyncGenerator<void>;
}
