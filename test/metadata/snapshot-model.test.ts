/** Random histories with snapshots, forgetting, rollbacks, reopenings and crashes against a plain copy of each state. */
import { fc, test } from "@fast-check/vitest";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "vitest";
import type { SnapshotRecord } from "../../src/format/snapshot-codec.ts";
import type { InodeNumber } from "../../src/ids.ts";
import type { DentryRecord, ExtentPage, InodeRecord } from "../../src/format/records.ts";
import type { ChangedRecord, MetadataView } from "../../src/metadata/snapshot-store.ts";
import { LevelMetadataStore } from "../../src/metadata/level-metadata-store.ts";
import { systemClock } from "../../src/platform/clock.ts";
import { NodeDisk } from "../../src/platform/node-disk.ts";
import { FaultyLevel } from "./faulty-level.ts";
import { chunkId, inode, makeInode, name, openTestEngine } from "./store-fixture.ts";

type View = Omit<MetadataView, "listDirectory"> & Pick<LevelMetadataStore, "listDirectory">;

/** Everything that has a history, by a readable key. */
type State = Map<string, number>;

const PAGES = 3;
const TEXTS = ["a", "b", "\xff\xfe"];
const signal = new AbortController().signal;

class Run {
  readonly directory: string;
  readonly engine = openTestEngine();
  readonly level = new FaultyLevel();
  readonly stepRecords: number;
  /** 0: every commit goes to the database at once. */
  readonly journaledBytes: number;
  store!: LevelMetadataStore;
  now: State = new Map();
  committed: State = new Map();
  readonly snapshots = new Map<string, State>();
  readonly pages = new Map<string, { ino: InodeNumber; page: number; seed: number }>();
  made = 1;
  taken = 0;

  constructor(directory: string, stepRecords: number, journaledBytes: number) {
    this.directory = directory;
    this.journaledBytes = journaledBytes;
    this.stepRecords = stepRecords;
  }

  async open(): Promise<void> {
    this.store = await LevelMetadataStore.open({
      directory: join(this.directory, "meta"),
      journalDirectory: join(this.directory, "journal"),
      disk: new NodeDisk(),
      journaledBytes: this.journaledBytes,
      engine: this.engine,
      clock: systemClock,
      createIfMissing: true,
      cacheBytes: 100_000,
      openLevel: this.level.open,
      stepRecords: this.stepRecords,
    });
  }

  /** What is not committed is lost; what was interrupted is finished. */
  async crash(): Promise<void> {
    await this.store.close();
    this.now = new Map(this.committed);
    this.pages.clear();
    await this.open();
    const interrupted = this.store.snapshots.interruptedRollback;
    if (interrupted !== undefined) {
      const target = this.store.snapshots.list().find(({ epoch }) => epoch === interrupted.target);
      await this.store.snapshots.rollBack(
        target as SnapshotRecord,
        () => this.write(),
        () => undefined,
      );
      this.restored(target as SnapshotRecord);
    }
    this.made = this.store.volume.nextInode - 1;
  }

  /** A commit as the filesystem's: extents come with it. */
  async write(): Promise<void> {
    const batch = this.store.freeze();
    for (const { ino, page, seed } of this.pages.values()) {
      const extents = seed === 0 ? [] : [{ start: seed, lengthBytes: seed, chunk: chunkId(seed), chunkOffset: 0 }];
      batch.putExtentPage(ino, page, extents);
    }
    this.pages.clear();
    await batch.commit();
  }

  async commit(): Promise<void> {
    await this.write();
    this.committed = new Map(this.now);
  }

  set(key: string, value: number | undefined): void {
    if (value === undefined) this.now.delete(key);
    else this.now.set(key, value);
  }

  async snapshot(isSafety = false): Promise<string> {
    const text = `s${this.taken++}`;
    this.store.volume.inodeCount = this.now.size;
    this.store.snapshots.request({ name: text, comment: "", isSafety });
    await this.commit();
    this.snapshots.set(text, new Map(this.now));
    return text;
  }

  any(pick: number): SnapshotRecord | undefined {
    const list = this.store.snapshots.list();
    return list[pick % Math.max(1, list.length)];
  }

  restored(target: SnapshotRecord): void {
    this.now = new Map(this.snapshots.get(target.name));
    this.committed = new Map(this.now);
  }

  async rollBack(pick: number, crashAt: number): Promise<void> {
    const target = this.any(pick);
    if (target === undefined) return;
    await this.commit();
    const safety = await this.snapshot(true);
    let barriers = 0;
    const barrier = async (): Promise<void> => {
      if (++barriers === crashAt) throw new Error("crash");
      await this.write();
    };
    const changed = new Set<string>();
    try {
      await this.store.snapshots.rollBack(target, barrier, (change) => changed.add(placeOf(change)));
    } catch (error) {
      if ((error as Error).message !== "crash") throw error;
      await this.crash();
      if (barriers > 1) this.restored(target);
      return;
    }
    this.restored(target);
    expect(this.store.volume.inodeCount).toBe(target.inodeCount);
    for (const key of differing(this.snapshots.get(safety) as State, this.now)) {
      if (!key.startsWith("d")) expect(changed).toContain(key);
    }
  }

  async forget(pick: number, crashAt: number): Promise<void> {
    const snapshot = this.any(pick);
    if (snapshot === undefined) return;
    this.store.snapshots.forget(snapshot);
    await this.commit();
    this.snapshots.delete(snapshot.name);
    let barriers = 0;
    const barrier = async (): Promise<void> => {
      await this.checkSnapshots();
      if (++barriers === crashAt) throw new Error("crash");
      await this.commit();
    };
    try {
      await this.store.snapshots.clearForgotten(barrier, signal);
    } catch (error) {
      if ((error as Error).message !== "crash") throw error;
      await this.crash();
    }
  }

  async check(): Promise<void> {
    await checkView(this.now, this.made, this.store);
    await this.checkSnapshots();
  }

  /** What is told to differ between two snapshots, or the last commit, and how. */
  async checkChanges(pick: number, toPick: number): Promise<void> {
    const list = this.store.snapshots.list();
    const from = this.any(pick);
    const to = list[toPick % (list.length + 1)];
    if (from === undefined || (to !== undefined && to.epoch <= from.epoch)) return;
    await this.commit();
    const before = this.snapshots.get(from.name) as State;
    const after = to === undefined ? this.committed : (this.snapshots.get(to.name) as State);
    const told = new Set<string>();
    for await (const change of this.store.snapshots.changes(from, to)) {
      const place = placeOf(change);
      expect(told, "each record comes once").not.toContain(place);
      told.add(place);
      if (change.kind === "xattrs") continue;
      expect([valueOf(change, change.before), valueOf(change, change.after)], place).toEqual([
        before.get(place),
        after.get(place),
      ]);
    }
    for (const key of differing(before, after)) expect(told).toContain(key);
  }

  async checkSnapshots(): Promise<void> {
    expect(this.store.snapshots.list().map((snapshot) => snapshot.name)).toEqual([...this.snapshots.keys()]);
    for (const snapshot of this.store.snapshots.list()) {
      await checkView(
        this.snapshots.get(snapshot.name) as State,
        this.made,
        this.store.snapshots.view(snapshot),
        snapshot.name,
      );
    }
  }

  /** Keys of history, by kind. */
  async historyCount(): Promise<number> {
    let count = 0;
    for await (const entries of this.store.database.walk({ first: Uint8Array.of(0x48), end: Uint8Array.of(0x49) })) {
      count += entries.length;
    }
    for await (const entries of this.store.database.walk({ first: Uint8Array.of(0x4e), end: Uint8Array.of(0x4f) })) {
      count += entries.length;
    }
    for await (const entries of this.store.database.walk({ first: Uint8Array.of(0x53), end: Uint8Array.of(0x54) })) {
      count += entries.length;
    }
    return count;
  }
}

/** The key in a {@link State} of what a changed record holds. */
function placeOf(change: ChangedRecord): string {
  switch (change.kind) {
    case "inode":
      return `i ${change.ino}`;
    case "xattrs":
      return `x ${change.ino}`;
    case "extents":
      return `e ${change.ino} ${change.page}`;
    case "dentry":
      return `d ${change.directory} ${(change.before ?? change.after)?.name}`;
  }
}

function valueOf(change: ChangedRecord, side: unknown): number | undefined {
  switch (change.kind) {
    case "inode":
      return (side as InodeRecord | undefined)?.uid;
    case "extents":
      return (side as ExtentPage)[0]?.start;
    case "dentry":
      return (side as DentryRecord | undefined)?.ino;
    case "xattrs":
      return undefined;
  }
}

function differing(left: State, right: State): string[] {
  return [...new Set([...left.keys(), ...right.keys()])].filter((key) => left.get(key) !== right.get(key));
}

/** Read everything back, exact reads and listings. */
async function checkView(state: State, made: number, view: View, of = "the present"): Promise<void> {
  const found: State = new Map();
  for (let number = 1; number <= made; number++) {
    const ino = inode(number);
    const record = view.getInode(ino);
    if (record !== undefined) found.set(`i ${number}`, record.uid);
    if (record?.hasXattrs === true) found.set(`x ${number}`, view.getXattrs(ino).get(name("user.v"))?.[0] ?? -1);
    const listed = new Map((await view.listDirectory(ino)).map((entry) => [entry.name as string, entry.ino as number]));
    for (const text of TEXTS) {
      const dentry = view.getDentry(ino, name(text));
      expect(dentry?.ino, of).toBe(listed.get(text));
      if (dentry !== undefined) found.set(`d ${number} ${text}`, dentry.ino);
    }
    const pages = await view.extentPages(ino, 0, PAGES);
    for (let page = 0; page < PAGES; page++) {
      const [extent] = view.getExtentPage(ino, page);
      expect(pages.includes(page), of).toBe(extent !== undefined);
      if (extent !== undefined) found.set(`e ${number} ${page}`, extent.start);
    }
  }
  expect([...found].sort(), of).toEqual([...state].sort());
}

type Step = (run: Run) => void | Promise<void>;

const anyByte = fc.integer({ min: 1, max: 255 });
const anyPick = fc.nat(1000);
const anyText = fc.constantFrom(...TEXTS);
const chosen = (run: Run, pick: number): number => (pick % run.made) + 1;

const makeNew = anyByte.map((uid): Step => (run) => {
  const ino = ++run.made;
  run.store.volume.nextInode = inode(ino + 1);
  run.store.putInode(makeInode(ino, { uid }));
  run.set(`i ${ino}`, uid);
});

const change = fc.tuple(anyPick, anyByte).map(([pick, uid]): Step => (run) => {
  const ino = chosen(run, pick);
  const record = run.store.getInode(inode(ino));
  if (record === undefined) return;
  record.uid = uid;
  run.store.putInode(record);
  run.set(`i ${ino}`, uid);
});

const remove = anyPick.map((pick): Step => (run) => {
  const ino = chosen(run, pick);
  run.store.deleteInode(inode(ino));
  run.set(`i ${ino}`, undefined);
  run.set(`x ${ino}`, undefined);
  for (let page = 0; page < PAGES; page++) {
    run.pages.set(`${ino} ${page}`, { ino: inode(ino), page, seed: 0 });
    run.set(`e ${ino} ${page}`, undefined);
  }
});

const xattr = fc.tuple(anyPick, fc.option(anyByte)).map(([pick, value]): Step => (run) => {
  const record = run.store.getInode(inode(chosen(run, pick)));
  if (record === undefined) return;
  record.hasXattrs = value !== null;
  run.store.putXattrs(record.ino, new Map(value === null ? [] : [[name("user.v"), Uint8Array.of(value)]]));
  run.store.putInode(record);
  run.set(`x ${record.ino}`, value ?? undefined);
});

/** Entries count in the directory's inode. */
const dentry = fc.tuple(anyPick, anyText, fc.option(anyByte)).map(([pick, text, to]): Step => (run) => {
  const directory = inode(chosen(run, pick));
  const record = run.store.getInode(directory);
  if (record === undefined) return;
  const has = run.store.getDentry(directory, name(text)) !== undefined;
  if (to === null) run.store.deleteDentry(directory, name(text));
  else run.store.putDentry(directory, { name: name(text), ino: inode(to), type: 8 });
  record.entryCount += Number(to !== null) - Number(has);
  run.store.putInode(record);
  run.set(`d ${directory} ${text}`, to ?? undefined);
});

const page = fc.tuple(anyPick, fc.nat(PAGES - 1), fc.nat(255)).map(([pick, number, seed]): Step => (run) => {
  const ino = chosen(run, pick);
  if (run.store.getInode(inode(ino)) === undefined) return;
  run.pages.set(`${ino} ${number}`, { ino: inode(ino), page: number, seed });
  run.set(`e ${ino} ${number}`, seed === 0 ? undefined : seed);
});

const commit: fc.Arbitrary<Step> = fc.constant((run) => run.commit());
const snapshot: fc.Arbitrary<Step> = fc.constant(async (run) => {
  await run.snapshot();
});
const forget = fc.tuple(anyPick, fc.nat(4)).map(
  ([pick, crashAt]): Step =>
    (run) =>
      run.forget(pick, crashAt),
);
const rollBack = fc.tuple(anyPick, fc.nat(4)).map(
  ([pick, crashAt]): Step =>
    (run) =>
      run.rollBack(pick, crashAt),
);
const crash: fc.Arbitrary<Step> = fc.constant((run) => run.crash());
const compare = fc.tuple(anyPick, anyPick).map(
  ([from, to]): Step =>
    (run) =>
      run.checkChanges(from, to),
);
const check: fc.Arbitrary<Step> = fc.constant((run) => run.checkSnapshots());

/** A batch fails, reached the disk or not, and is written again. */
const failing = fc.boolean().map((areWritten): Step => async (run) => {
  if (run.journaledBytes > 0) return; // the journal takes the batch, and tries again by itself
  run.level.failingWrites = 1;
  run.level.areWritten = areWritten;
  const batch = run.store.freeze();
  for (const { ino, page: number, seed } of run.pages.values()) {
    const extents = seed === 0 ? [] : [{ start: seed, lengthBytes: seed, chunk: chunkId(seed), chunkOffset: 0 }];
    batch.putExtentPage(ino, number, extents);
  }
  run.pages.clear();
  if (batch.recordCount > 0) await expect(batch.commit()).rejects.toMatchObject({ code: "TCFS_STORE_FULL" });
  run.level.failingWrites = 0;
  await batch.commit();
  run.committed = new Map(run.now);
});

const anySteps = fc.array(
  fc.oneof(
    { weight: 4, arbitrary: makeNew },
    { weight: 4, arbitrary: change },
    { weight: 2, arbitrary: remove },
    { weight: 3, arbitrary: xattr },
    { weight: 5, arbitrary: dentry },
    { weight: 5, arbitrary: page },
    { weight: 3, arbitrary: commit },
    { weight: 5, arbitrary: snapshot },
    { weight: 2, arbitrary: forget },
    { weight: 2, arbitrary: rollBack },
    { weight: 1, arbitrary: crash },
    { weight: 1, arbitrary: failing },
    { weight: 1, arbitrary: check },
    { weight: 3, arbitrary: compare },
  ),
  { minLength: 20, maxLength: 70, size: "max" },
);

test.prop([anySteps, fc.constantFrom(1, 3, 1000), fc.constantFrom(0, 65_536)], { numRuns: 25 })(
  "every snapshot stays what it was through changes, forgetting, rollbacks, failures and crashes",
  async (steps, stepRecords, journaledBytes) => {
    const directory = await mkdtemp(join(tmpdir(), "tcfs-snapshots-"));
    const run = new Run(directory, stepRecords, journaledBytes);
    try {
      await run.open();
      run.store.putInode(makeInode(1, { mode: 0o040755, parent: inode(1) }));
      run.set("i 1", 1000);
      await run.commit();
      for (const step of steps) await step(run);
      await run.commit();
      await run.check();
      await run.crash();
      await run.check();
      for (const kept of run.store.snapshots.list()) run.store.snapshots.forget(kept);
      run.snapshots.clear();
      await run.store.snapshots.clearForgotten(() => run.commit(), signal);
      expect(await run.historyCount(), "nothing is left of what was forgotten").toBe(0);
      await run.check();
    } finally {
      await run.store.close();
      run.engine.close();
      await rm(directory, { recursive: true });
    }
  },
  120_000,
);
