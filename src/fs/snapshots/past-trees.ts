/** The vault at a time, to be read like a snapshot: which snapshot is beneath it, its view, and readers for commands. */
import { LRUCache } from "lru-cache";
import { TcfsError } from "../../errors.ts";
import type { SnapshotRecord } from "../../format/snapshot-codec.ts";
import type { MetadataStore } from "../../metadata/metadata-store.ts";
import { isLater, type Timestamp } from "../../platform/clock.ts";
import { isoTime } from "../../platform/iso-time.ts";
import { quote } from "./near-names.ts";
import { PastView } from "./past-view.ts";
import type { SnapshotForest } from "./snapshot-forest.ts";
import { SnapshotReader } from "./snapshot-reader.ts";
import { type TreePath, followTreePath, noSuchPath, showTreePath } from "./tree-path.ts";

/** A snapshot by its name, which with an epoch is no other of that name; or the vault at a time, in ISO 8601. */
export type PastSource = { readonly name: string; readonly epoch?: number | undefined } | { readonly at: string };

/** Commands that read at the same time. */
const MAX_READERS = 8;

export interface PastTreesOptions {
  readonly metadata: MetadataStore;
  readonly forest: SnapshotForest;
  /** Versions are read as of the last commit. */
  readonly commit: () => Promise<void>;
  /** As {@link RoutedOperations.whileStill}. */
  readonly whileStill: <T>(read: () => Promise<T>) => Promise<T>;
}

export class PastTrees {
  readonly #options: PastTreesOptions;
  readonly #readers = new LRUCache<string, SnapshotReader>({ max: MAX_READERS });
  #count = 0;

  constructor(options: PastTreesOptions) {
    this.#options = options;
  }

  /** @throws TcfsError `TCFS_NO_SNAPSHOT` if all are later, or there are none. */
  snapshotAt(at: string): SnapshotRecord {
    const snapshots = this.#options.metadata.snapshots.list();
    const found = this.#newest(at);
    if (found !== undefined) return found;
    const [oldest] = snapshots.toSorted(byTime);
    const what =
      oldest === undefined
        ? "there are no snapshots"
        : `the oldest is ${quote(oldest.name)} of ${isoTime(oldest.takenAt.seconds)}`;
    throw new TcfsError("TCFS_NO_SNAPSHOT", `there is no snapshot from ${at} or before: ${what}`);
  }

  /** The newest that is not later. A whole second has all that were taken in it: so they are listed. */
  #newest(at: string): SnapshotRecord | undefined {
    const time = timeOf(at);
    const isWholeSecond = time.nanoseconds < 1e6;
    const last = isWholeSecond ? { ...time, nanoseconds: 999_999_999 } : time;
    const byAge = this.#options.metadata.snapshots.list().toSorted(byTime);
    return byAge.findLast(({ takenAt }) => !isLater(takenAt, last));
  }

  /** Everything is committed. */
  view(at: string): PastView {
    return new PastView({ live: this.#options.metadata, snapshot: this.#newest(at), time: timeOf(at) });
  }

  /** @throws TcfsError `TCFS_NO_ENTRY` for a path that was not there, and of which nothing older is kept. */
  async requirePath(view: PastView, path: TreePath, at: string): Promise<void> {
    await view.load(path);
    const steps = followTreePath(view, path);
    if (steps.length < path.length) throw await noSuchPath(view, path, wordsFor(at));
    const last = steps.at(-1);
    if (last === undefined || !view.isLater(last.ino)) return;
    const shown = quote(showTreePath(path));
    const why = `of what ${shown} held at ${at} or before nothing is kept: tcfs versions shows what is`;
    throw new TcfsError("TCFS_NO_ENTRY", why);
  }

  reader(at: string): SnapshotReader {
    const known = this.#readers.get(at);
    if (known !== undefined) return known;
    const { forest, metadata, commit, whileStill } = this.#options;
    const view = this.view(at);
    const tree = forest.treeOf(view, { key: `at ${this.#count++}`, inodeCount: metadata.volume.inodeCount });
    const find = async (path: TreePath): Promise<void> => {
      await commit();
      await this.requirePath(view, path, at);
    };
    const epoch = this.#newest(at)?.epoch ?? 0;
    const reader = new SnapshotReader({ view, tree, epoch, find, past: { commit, view, whileStill } });
    this.#readers.set(at, reader);
    return reader;
  }
}

/** As {@link noSuchPath} takes it. */
function wordsFor(at: string): { readonly missing: string; readonly list: string } {
  return { missing: `was not there at ${at}`, list: `tcfs restore --at ${at} --list` };
}

/** The last moment of a millisecond: what is shown to the millisecond was before it ended. */
function timeOf(at: string): Timestamp {
  const ms = Date.parse(at);
  const seconds = Math.floor(ms / 1000);
  return { seconds, nanoseconds: (ms - seconds * 1000) * 1e6 + 999_999 };
}

function byTime(left: SnapshotRecord, right: SnapshotRecord): number {
  return left.takenAt.seconds - right.takenAt.seconds || left.epoch - right.epoch;
}
