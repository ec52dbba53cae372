/** Random histories against plain maps, crashes included. */
import { fc, test } from "@fast-check/vitest";
import { cpSync } from "node:fs";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "vitest";
import type { ExtentPage } from "../../src/format/records.ts";
import type { FrozenBatch } from "../../src/metadata/metadata-store.ts";
import { LevelMetadataStore } from "../../src/metadata/level-metadata-store.ts";
import { systemClock } from "../../src/platform/clock.ts";
import { PowerCutDisk } from "./power-cut-disk.ts";
import { chunkId, inode, makeInode, name, openTestEngine } from "./store-fixture.ts";

/** What a store holds, plainly. */
interface Model {
  linkCounts: Map<number, number>;
  dentries: Map<number, Map<string, number>>;
  xattrs: Map<number, number>;
  orphans: Set<number>;
  pages: Map<number, ExtentPage>;
}

const emptyModel = (): Model => ({
  linkCounts: new Map(),
  dentries: new Map(),
  xattrs: new Map(),
  orphans: new Set(),
  pages: new Map(),
});

class Run {
  readonly root: string;
  directory: string;
  /** Carries the journal. */
  power = new PowerCutDisk();
  readonly cacheBytes: number;
  readonly journaledBytes: number;
  readonly engine = openTestEngine();
  store!: LevelMetadataStore;
  now = emptyModel();
  /** As of the batch that is frozen, if one is, and as of the last commit. */
  frozen: { model: Model; batch: FrozenBatch } | undefined;
  committed = emptyModel();

  constructor(root: string, cacheBytes: number, journaledBytes: number) {
    this.journaledBytes = journaledBytes;
    this.root = root;
    this.directory = join(root, "first");
    this.cacheBytes = cacheBytes;
  }

  async open(): Promise<void> {
    this.store = await LevelMetadataStore.open({
      directory: join(this.directory, "meta"),
      journalDirectory: "/journal",
      disk: this.power.disk,
      journaledBytes: this.journaledBytes,
      engine: this.engine,
      clock: systemClock,
      createIfMissing: true,
      cacheBytes: this.cacheBytes,
    });
  }

  /**
   * Go on with what a power cut at this moment leaves. The old store, which knows nothing of it, closes in its own place.
   * With so little in it LevelDB follows at closing alone: nothing is written while the copy is made.
   */
  async crash(): Promise<void> {
    const image = await mkdtemp(join(this.root, "crash-"));
    const power = this.power.powerCut();
    cpSync(join(this.directory, "meta"), join(image, "meta"), { recursive: true });
    await this.store.close();
    await rm(this.directory, { recursive: true });
    this.directory = image;
    this.power = power;
    this.now = structuredClone(this.committed);
    this.frozen = undefined;
    await this.open();
  }

  /** Unmount and mount: what is not committed is gone, and LevelDB has all the rest. */
  async reopen(): Promise<void> {
    await this.store.close();
    this.now = structuredClone(this.committed);
    this.frozen = undefined;
    await this.open();
  }

  async checkAll(): Promise<void> {
    for (let ino = 1; ino <= INODES; ino++) {
      this.checkInode(ino);
      await this.checkListing(ino);
    }
    expect(await this.store.listOrphans()).toEqual([...this.now.orphans].sort((left, right) => left - right));
    const pages = [...this.now.pages.keys()].sort((left, right) => left - right);
    expect(await this.store.extentPages(inode(1), 0, PAGES)).toEqual(pages);
    for (let page = 0; page < PAGES; page++) {
      expect(this.store.getExtentPage(inode(1), page)).toEqual(this.now.pages.get(page) ?? []);
    }
  }

  checkInode(ino: number): void {
    expect(this.store.getInode(inode(ino))?.linkCount).toBe(this.now.linkCounts.get(ino));
    const expected = this.now.xattrs.get(ino);
    expect(this.store.getXattrs(inode(ino)).get(name("user.v"))?.[0]).toBe(expected);
  }

  async checkListing(ino: number): Promise<void> {
    const listed = await this.store.listDirectory(inode(ino));
    expect(new Map(listed.map((dentry) => [dentry.name as string, dentry.ino as number]))).toEqual(
      this.now.dentries.get(ino) ?? new Map(),
    );
    expect(listed.every((dentry, at) => at === 0 || (listed[at - 1]?.cookie ?? 0n) < dentry.cookie)).toBe(true);
  }
}

const INODES = 5;
const PAGES = 4;
const anyIno = fc.integer({ min: 1, max: INODES });
const anyText = fc.constantFrom("a", "b", "c", "\xff\xfe", "long".repeat(60));
const anyByte = fc.integer({ min: 1, max: 255 });

type Step = (run: Run) => void | Promise<void>;

const putInode = fc.tuple(anyIno, anyByte).map(([ino, linkCount]): Step => (run) => {
  const record = run.store.getInode(inode(ino)) ?? makeInode(ino);
  record.linkCount = linkCount;
  run.store.putInode(record);
  run.now.linkCounts.set(ino, linkCount);
});

const deleteInode = anyIno.map((ino): Step => (run) => {
  run.store.deleteInode(inode(ino));
  run.now.linkCounts.delete(ino);
  run.now.xattrs.delete(ino);
});

const putXattr = fc.tuple(anyIno, fc.option(anyByte)).map(([ino, value]): Step => (run) => {
  const record = run.store.getInode(inode(ino));
  if (record === undefined) return;
  record.hasXattrs = value !== null;
  run.store.putXattrs(record.ino, new Map(value === null ? [] : [[name("user.v"), Uint8Array.of(value)]]));
  run.store.putInode(record);
  if (value === null) run.now.xattrs.delete(ino);
  else run.now.xattrs.set(ino, value);
});

const putDentry = fc.tuple(anyIno, anyText, anyIno).map(([directory, text, ino]): Step => (run) => {
  run.store.putDentry(inode(directory), { name: name(text), ino: inode(ino), type: 8 });
  const names = run.now.dentries.get(directory) ?? new Map<string, number>();
  run.now.dentries.set(directory, names.set(text, ino));
});

const deleteDentry = fc.tuple(anyIno, anyText).map(([directory, text]): Step => (run) => {
  run.store.deleteDentry(inode(directory), name(text));
  run.now.dentries.get(directory)?.delete(text);
});

const getDentry = fc.tuple(anyIno, anyText).map(([directory, text]): Step => (run) => {
  const ino = run.store.getDentry(inode(directory), name(text))?.ino;
  expect(ino).toBe(run.now.dentries.get(directory)?.get(text));
});

const toggleOrphan = fc.tuple(anyIno, fc.boolean()).map(([ino, isOrphan]): Step => (run) => {
  if (isOrphan) run.store.addOrphan(inode(ino));
  else run.store.removeOrphan(inode(ino));
  if (isOrphan) run.now.orphans.add(ino);
  else run.now.orphans.delete(ino);
});

const list = anyIno.map(
  (ino): Step =>
    (run) =>
      run.checkListing(ino),
);
const read = anyIno.map((ino): Step => (run) => {
  run.checkInode(ino);
});

const freeze: fc.Arbitrary<Step> = fc.constant((run) => {
  run.frozen ??= { batch: run.store.freeze(), model: structuredClone(run.now) };
});

/** Extents come with the commit: they are in the batch's model and in the present one. */
const putExtents = fc.tuple(fc.nat({ max: PAGES - 1 }), fc.option(anyByte)).map(([page, seed]): Step => (run) => {
  if (run.frozen === undefined) return;
  const extents = seed === null ? [] : [{ start: seed, lengthBytes: seed, chunk: chunkId(seed), chunkOffset: 0 }];
  run.frozen.batch.putExtentPage(inode(1), page, extents);
  for (const { pages } of [run.now, run.frozen.model]) {
    if (seed === null) pages.delete(page);
    else pages.set(page, extents);
  }
});

const commit: fc.Arbitrary<Step> = fc.constant(async (run) => {
  if (run.frozen === undefined) return;
  const { batch, model } = run.frozen;
  await batch.commit();
  run.committed = model;
  run.frozen = undefined;
});

const crash: fc.Arbitrary<Step> = fc.constant((run) => run.crash());
const reopen: fc.Arbitrary<Step> = fc.constant((run) => run.reopen());

const anySteps = fc.array(
  fc.oneof(
    { weight: 4, arbitrary: putInode },
    { weight: 1, arbitrary: deleteInode },
    { weight: 2, arbitrary: putXattr },
    { weight: 4, arbitrary: putDentry },
    { weight: 2, arbitrary: deleteDentry },
    { weight: 2, arbitrary: getDentry },
    { weight: 1, arbitrary: toggleOrphan },
    { weight: 1, arbitrary: list },
    { weight: 2, arbitrary: read },
    { weight: 3, arbitrary: freeze },
    { weight: 2, arbitrary: putExtents },
    { weight: 2, arbitrary: commit },
    { weight: 1, arbitrary: crash },
    { weight: 1, arbitrary: reopen },
  ),
  { minLength: 20, maxLength: 80, size: "max" },
);

/** With 700 about every other commit goes past the journal. */
const anyJournaledBytes = fc.constantFrom(0, 700, 2 ** 18);

test.prop([anySteps, fc.constantFrom(0, 3000, 2 ** 20), anyJournaledBytes], { numRuns: 12 })(
  "a store agrees with plain maps through freezes, commits and crashes",
  async (steps, cacheBytes, journaledBytes) => {
    const root = await mkdtemp(join(tmpdir(), "tcfs-model-"));
    const run = new Run(root, cacheBytes, journaledBytes);
    try {
      await mkdir(run.directory);
      await run.open();
      for (const step of steps) await step(run);
      await run.checkAll();
      await run.crash();
      await run.checkAll();
    } finally {
      await run.store.close();
      run.engine.close();
      await rm(root, { recursive: true });
    }
  },
  60_000,
);
