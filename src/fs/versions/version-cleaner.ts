/**
 * Gives up versions and deleted files as they grow old, become too many, or the disk runs full; in bounded batches, in
 * the background. What a crash interrupts is gone on with in the next session.
 */
import { isTcfsError } from "../../errors.ts";
import type { VersionRecord } from "../../format/version-codec.ts";
import type { InodeNumber } from "../../ids.ts";
import type { Clock, Timer } from "../../platform/clock.ts";
import { undoPointOf } from "../snapshots/path-restore.ts";
import type { VolumeParts } from "../volume-parts.ts";
import { thinOut } from "./thinning.ts";

/** After this long in a session, and so long after something was kept, all versions are looked through. */
const FIRST_DELAY_MS = 60_000;
const KEPT_DELAY_MS = 600_000;
/** And then so often: they grow older by themselves. */
const AGING_MS = 3_600_000;
/** A clock that is so much further than it should be is believed when it still says so after {@link AGING_MS} awake. */
const LEAP_SECONDS = 24 * 3600;
/** Versions that one commit drops. */
const DROPPED_PER_BATCH = 512;
/** On a full disk the oldest go, as many as it takes, but no more at once than this share of all, or so many. */
const RELIEF_SHARE = 0.25;
const RELIEF_COUNT = 64;

export interface VersionCleanerOptions {
  readonly parts: Pick<VolumeParts, "metadata" | "committer" | "files" | "isReadOnly">;
  readonly clock: Clock;
  /** As of VersionManager. */
  readonly inTurn: <T>(action: () => Promise<T>) => Promise<T>;
  readonly onFailure: (error: unknown) => void;
}

interface Aged {
  readonly version: number;
  readonly seconds: number;
  readonly bytes: number;
}

export class VersionCleaner {
  readonly #options: VersionCleanerOptions;
  readonly #stop = new AbortController();
  #timer: Timer | undefined;
  #isSoon = false;
  #running: Promise<unknown> = Promise.resolve();
  /** When the clock was last believed: by itself, and by the one that only goes on. */
  #believed: { readonly seconds: number; readonly atMs: number };
  #leaptAtMs: number | undefined;

  constructor(options: VersionCleanerOptions) {
    this.#options = options;
    const { parts, clock } = options;
    this.#believed = { seconds: parts.metadata.volume.committedAt.seconds, atMs: clock.monotonicMs() };
    if (!options.parts.isReadOnly) this.#schedule(FIRST_DELAY_MS);
  }

  /** Something was kept. */
  noteKept(): void {
    if (this.#isSoon) return;
    this.#isSoon = true;
    this.#schedule(KEPT_DELAY_MS);
  }

  #schedule(delayMs: number): void {
    this.#timer?.cancel();
    if (this.#stop.signal.aborted) return;
    this.#timer = this.#options.clock.after(delayMs, () => {
      this.clean().catch((error: unknown) => {
        if (!this.#stop.signal.aborted) this.#options.onFailure(error);
      });
    });
  }

  /** Drop what the policy no longer keeps. @returns How many; none while the clock cannot be believed. */
  clean(): Promise<number> {
    return this.#inTurn(async () => {
      this.#isSoon = false;
      try {
        if (!this.#isClockBelieved()) return 0;
        const { trash, doomed } = await this.#survey();
        const dropped = (await this.#drop(doomed)) + (await this.#dropNumbered(this.#overfull(trash)));
        await this.#clear();
        return dropped;
      } finally {
        if (!this.#hasKept()) this.#schedule(AGING_MS);
      }
    });
  }

  /** A wrong time is mostly put right soon, and what it makes too old would be gone: the trash, and all versions. */
  #isClockBelieved(): boolean {
    const { clock } = this.#options;
    const [{ seconds }, atMs] = [clock.now(), clock.monotonicMs()];
    const expected = this.#believed.seconds + (atMs - this.#believed.atMs) / 1000;
    const hasLeapt = seconds - expected > LEAP_SECONDS;
    if (hasLeapt) this.#leaptAtMs ??= atMs;
    if (hasLeapt && atMs - (this.#leaptAtMs ?? atMs) < AGING_MS) return false;
    this.#leaptAtMs = undefined;
    this.#believed = { seconds, atMs };
    return true;
  }

  /** Since the last look through all. */
  #hasKept(): boolean {
    return this.#isSoon;
  }

  /**
   * The disk is full, or nearly: the oldest go, whatever the policy says.
   * @param lackingBytes - What they should free; chunks that others share do not go with them.
   * @returns How many went.
   */
  relieve(lackingBytes: number): Promise<number> {
    return this.#inTurn(async () => {
      const all: Aged[] = [];
      for await (const records of this.#versions.all()) {
        for (const record of records) if (!record.isDropped) all.push(agedOf(record));
      }
      const atMost = Math.max(RELIEF_COUNT, Math.ceil(all.length * RELIEF_SHARE));
      const doomed = new Set<number>();
      let bytes = 0;
      for (const aged of all.sort(byAge)) {
        if (bytes >= lackingBytes || doomed.size === atMost) break;
        doomed.add(aged.version);
        bytes += Math.max(0, aged.bytes);
      }
      const dropped = await this.#dropNumbered(doomed);
      await this.#clear();
      return dropped;
    });
  }

  /** Empty the trash of what was deleted at a time or before. @returns How many files, and their bytes. */
  emptyTrash(untilSeconds: number): Promise<{ readonly files: number; readonly bytes: number }> {
    return this.#inTurn(async () => {
      const { trash } = await this.#survey();
      const old = trash.filter(({ seconds }) => seconds <= untilSeconds);
      await this.#dropNumbered(new Set(old.map(({ version }) => version)));
      await this.#clear();
      const files = old.filter(({ bytes }) => bytes >= 0);
      return { files: files.length, bytes: files.reduce((sum, { bytes }) => sum + bytes, 0) };
    });
  }

  get #versions() {
    return this.#options.parts.metadata.versions;
  }

  /** What thinning drops, and what the trash holds. */
  async #survey(): Promise<{ readonly trash: Aged[]; readonly doomed: VersionRecord[] }> {
    const { metadata } = this.#options.parts;
    const nowSeconds = this.#options.clock.now().seconds;
    const trash: Aged[] = [];
    const doomed: VersionRecord[] = [];
    const named = new Set<InodeNumber>();
    const gone = new Set<InodeNumber>();
    let group: VersionRecord[] = [];
    const finishGroup = (): void => {
      for (const record of thinOut(group, this.#versions.policy, nowSeconds)) doomed.push(record);
      group = [];
    };
    for await (const records of this.#versions.all()) {
      for (const record of records) {
        if (record.isDropped) {
          if (!this.#isLinked(record)) doomed.push(record);
          continue;
        }
        if (record.directory !== undefined) named.add(record.inode.ino);
        else if (metadata.getInode(record.inode.ino) === undefined) gone.add(record.inode.ino);
        if (isInTrash(record)) trash.push(agedOf(record));
        else {
          if (group[0] !== undefined && !isSamePlace(group[0], record)) finishGroup();
          group.push(record);
        }
      }
      this.#stop.signal.throwIfAborted();
    }
    finishGroup();
    for (const ino of gone) {
      if (!named.has(ino) && !this.#mayComeBack(ino)) doomed.push(...(await this.#versions.ofFile(ino)));
    }
    return { trash, doomed };
  }

  /** Whether an undo of the last restore would bring an inode back, as far as can be read. */
  #mayComeBack(ino: InodeNumber): boolean {
    const { snapshots } = this.#options.parts.metadata;
    const undoPoint = undoPointOf(snapshots);
    try {
      return undoPoint !== undefined && snapshots.view(undoPoint).getInode(ino) !== undefined;
    } catch (error) {
      if (isTcfsError(error)) return true;
      throw error;
    }
  }

  /** One whose pages are still to be cleared away keeps its record until then. */
  #isLinked({ inode, version }: VersionRecord): boolean {
    for (const [ino, chain] of this.#versions.chains()) {
      if (ino === inode.ino) return chain.some((link) => link.version === version);
    }
    return false;
  }

  /** What of the trash is too old, or too much: oldest first. */
  #overfull(trash: readonly Aged[]): ReadonlySet<number> {
    const { trashSeconds, trashCount, trashBytes } = this.#versions.policy;
    const oldest = this.#options.clock.now().seconds - trashSeconds;
    const doomed = new Set<number>();
    let [count, bytes] = [0, 0];
    for (const aged of [...trash].sort(byAge).reverse()) {
      count++;
      bytes += Math.max(0, aged.bytes);
      if (count > trashCount || bytes > trashBytes || aged.seconds < oldest) doomed.add(aged.version);
    }
    return doomed;
  }

  async #dropNumbered(versions: ReadonlySet<number>): Promise<number> {
    if (versions.size === 0) return 0;
    let dropped = 0;
    for await (const records of this.#versions.all()) {
      dropped += await this.#drop(records.filter((record) => !record.isDropped && versions.has(record.version)));
    }
    return dropped;
  }

  async #drop(records: readonly VersionRecord[]): Promise<number> {
    const { files, committer } = this.#options.parts;
    const unique = [...new Map(records.map((record) => [record.version, record])).values()];
    for (let start = 0; start < unique.length; start += DROPPED_PER_BATCH) {
      this.#stop.signal.throwIfAborted();
      for (const record of unique.slice(start, start + DROPPED_PER_BATCH)) {
        this.#versions.drop(record);
        files.noteReleased(record.inode.allocatedBytes);
      }
      await committer.commit();
    }
    return unique.length;
  }

  /** Clear away what was dropped, and pages of inodes that are gone. */
  async #clear(): Promise<void> {
    const { metadata, committer } = this.#options.parts;
    const isGone = (ino: InodeNumber): boolean => metadata.getInode(ino) === undefined;
    await committer.commit();
    const steps = this.#versions.clearing(isGone);
    while ((await steps.next()).done !== true) {
      this.#stop.signal.throwIfAborted();
      await committer.commit();
    }
  }

  #inTurn<T>(action: () => Promise<T>): Promise<T> {
    const result = this.#options.inTurn(async () => {
      this.#stop.signal.throwIfAborted();
      return action();
    });
    this.#running = result.catch(() => undefined);
    return result;
  }

  /** Stop what is under way; it goes on at the next opening. */
  async close(): Promise<void> {
    this.#stop.abort();
    this.#timer?.cancel();
    await this.#running;
  }
}

/** Whether it is what `tcfs trash` shows. */
export function isInTrash({ kind, isRestored, isDropped }: VersionRecord): boolean {
  return (kind === "deleted" || kind === "directory") && !isRestored && !isDropped;
}

/** Directories have −1 bytes. */
function agedOf(record: VersionRecord): Aged {
  const bytes = record.kind === "directory" ? -1 : record.inode.allocatedBytes;
  return { version: record.version, seconds: record.keptAt.seconds, bytes };
}

function byAge(left: Aged, right: Aged): number {
  return left.seconds - right.seconds || left.version - right.version;
}

function isSamePlace(left: VersionRecord, right: VersionRecord): boolean {
  if (left.directory !== right.directory) return false;
  return left.directory === undefined ? left.inode.ino === right.inode.ino : left.name === right.name;
}
