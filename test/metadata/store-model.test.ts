/** Random histories against plain maps, crashes included. */
import { fc, test } from "@fast-check/vitest";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "vitest";
import type { ExtentPage } from "../../src/format/records.ts";
import type { FrozenBatch } from "../../src/metadata/metadata-store.ts";
import { LevelMetadataStore } from "../../src/metadata/level-metadata-store.ts";
import { systemClock } from "../../src/platform/clock.ts";
import { NodeDisk } from "../../src/platform/node-disk.ts";
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
  readonly directory: string;
  readonly cacheBytes: number;
  readonly engine = openTestEngine();
  store!: LevelMetadataStore;
  now = emptyModel();
  /** As of the batch that is frozen, if one is, and as of the last commit. */
  frozen: { model: Model; batch: FrozenBatch } | undefined;
  committed = emptyModel();

  constructor(directory: string, cacheBytes: number) {
    this.directory = directory;
    this.cacheBytes = cacheBytes;
  }

  async open(): Promise<void> {
    this.store = await LevelMetadataStore.open({
      directory: join(this.directory, "meta"),
      journalDirectory: join(this.directory, "journal"),
      disk: new NodeDisk(),
      engine: this.engine,
      clock: systemClock,
      createIfMissing: true,
      cacheBytes: this.cacheBytes,
    });
  }

  async crash(): Promise<void> {
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
  ),
  { minLength: 20, maxLength: 80, size: "max" },
);

test.prop([anySteps, fc.constantFrom(0, 3000, 2 ** 20)], { numRuns: 60 })(
  "a store agrees with plain maps through freezes, commits and crashes",
  async (steps, cacheBytes) => {
    const directory = await mkdtemp(join(tmpdir(), "tcfs-model-"));
    const run = new Run(directory, cacheBytes);
    try {
      await run.open();
      for (const step of steps) await step(run);
      await run.checkAll();
      await run.crash();
      await run.checkAll();
    } finally {
      await run.store.close();
      run.engine.close();
      await rm(directory, { recursive: true });
    }
  },
  60_000,
);
