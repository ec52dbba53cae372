import { mkdir, readFile, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import * as fc from "fast-check";
import { expect, onTestFinished, test } from "vitest";
import { ByteWriter, toHex } from "../../src/bytes.ts";
import { encodeVolume } from "../../src/format/inode-codec.ts";
import { ChangeCursor, type RecordChange, changesBytes, encodeChanges } from "../../src/format/journal-codec.ts";
import { EVERYTHING, singleKey } from "../../src/format/record-keys.ts";
import type { VolumeRecord } from "../../src/format/records.ts";
import type { Epoch, InodeNumber } from "../../src/ids.ts";
import { Database, openLevel } from "../../src/metadata/database.ts";
import { encodeManifest } from "../../src/metadata/manifest.ts";
import { RecordSink } from "../../src/metadata/record-sink.ts";
import { TableBuilder } from "../../src/metadata/table-builder.ts";
import { FOOTER_BYTES, TRAILER_BYTES, VarintReader, checkTable } from "../../src/metadata/table-check.ts";
import { TcfsError } from "../../src/errors.ts";
import type { DiskFile } from "../../src/platform/disk.ts";
import { NodeDisk } from "../../src/platform/node-disk.ts";
import { collect } from "../support/collect.ts";
import { noise } from "../crypto/fixtures.ts";
import { makeTemporaryDirectory, openTestEngine } from "./store-fixture.ts";

const { records } = openTestEngine();
const [VOLUME_KIND] = singleKey("volume");
const VOLUME: VolumeRecord = {
  nextInode: 2 as InodeNumber,
  inodeCount: 1,
  allocatedBytes: 0,
  epoch: 1 as Epoch,
  commit: 7,
  committedAt: { seconds: 1_700_000_000, nanoseconds: 5 },
};

test("what was put in order is what LevelDB finds, in more than one table", async () => {
  const plain = inOrder(noisyRecords(30_000, 350));
  const directory = await fill(inPieces(plain, 3001));
  const tables = await tablesOf(directory);
  expect(tables.length).toBeGreaterThan(1);
  for (const table of tables) expect(await checkTable(table, new AbortController().signal)).toEqual([]);
  const database = await openDatabase(directory);
  expect(plain.filter(({ key, value }) => !isSame(read(database, key), value))).toEqual([]);
  expect(noisyRecords(1000, 1, "absent").filter(({ key }) => database.get(key) !== undefined)).toEqual([]);
  const walked = await walk(database);
  expect(walked.map(([key]) => key).join()).toBe(plain.map(({ key }) => toHex(key)).join());
});

const change = fc.record({
  key: fc.uint8Array({ minLength: 1, maxLength: 3 }).map((key) => new Uint8Array([0x49, ...key])),
  value: fc.option(fc.uint8Array({ maxLength: 50 }), { nil: undefined, freq: 4 }),
});
const ascending = fc
  .uniqueArray(
    fc.record({ key: fc.uint8Array({ minLength: 1, maxLength: 255 }), value: fc.uint8Array({ maxLength: 9000 }) }),
    {
      selector: ({ key }) => toHex(key),
      maxLength: 60,
    },
  )
  .map((all) => inOrder(all.filter(({ key: [kind] }) => kind !== VOLUME_KIND && kind !== 0xff)));

test("the last change of a record counts, in order or not, deletions too", async () => {
  const property = fc.asyncProperty(
    ascending,
    fc.array(change, { maxLength: 40 }),
    fc.nat(20),
    async (first, later, cut) => {
      const changes = [...first, ...later];
      const model = new Map<string, Uint8Array>();
      for (const { key, value } of changes) {
        const name = toHex(key);
        if (value === undefined) model.delete(name);
        else model.set(name, value);
      }
      const database = await openDatabase(await fill(inPieces(changes, cut + 1)));
      expect(await walk(database)).toEqual([...model].sort(([a], [b]) => (a < b ? -1 : 1)));
      const isRead = ([name, value]: [string, Uint8Array]): boolean =>
        isSame(read(database, Buffer.from(name, "hex")), value);
      expect([...model].every(isRead)).toBe(true);
      await database.close();
    },
  );
  await fc.assert(property, { numRuns: 20 });
});

test("tables are as LevelDB makes them: blocks as long, and the same filters", async () => {
  const plain = inOrder(noisyRecords(3000, 100));
  const ours = await fill(inPieces(plain, 700));
  const database = await openDatabase(ours);
  const stored = (await collect(database.walk(EVERYTHING))).flat();
  await database.close();
  const theirs = join(await makeTemporaryDirectory(), "meta");
  const level = await openLevel(theirs, true);
  const batch = level.batch();
  for (const [key, sealed] of stored) if (key[0] !== VOLUME_KIND) batch.put(key, sealed);
  await batch.write();
  await level.compactRange(EVERYTHING.first, EVERYTHING.end);
  await level.close();
  const [mine] = await tablesOf(ours);
  const [other] = await tablesOf(theirs);
  const [made, expected] = [await readFile(mine!), await readFile(other!)];
  expect(filterOf(made)).toEqual(filterOf(expected));
});

test("a list of tables that takes more than a block is one that LevelDB reads", async () => {
  const directory = join(await makeTemporaryDirectory(), "meta");
  await mkdir(directory);
  const builder = new TableBuilder();
  const listed = [];
  for (let number = 3; number < 1000; number++) {
    const key = Buffer.from(`key ${String(number).padStart(6, "0")}`);
    const { plain } = encodeChanges([{ key, value: key }], changesBytes([{ key, value: key }]));
    const cursor = new ChangeCursor(plain);
    cursor.next();
    builder.reset();
    builder.add(plain, cursor, 0);
    const { bytes, smallest, largest } = builder.finish(key);
    await writeFile(join(directory, `${String(number).padStart(6, "0")}.ldb`), bytes);
    listed.push({ number, lengthBytes: bytes.length, smallest, largest });
  }
  const manifest = encodeManifest(listed, 2);
  expect(manifest.length).toBeGreaterThan(32 * 1024);
  await writeFile(join(directory, "MANIFEST-000001"), manifest);
  await writeFile(join(directory, "000002.log"), "");
  await writeFile(join(directory, "CURRENT"), "MANIFEST-000001\n");
  const level = await openLevel(directory, false);
  const keys = Array.from({ length: 997 }, (_, index) => Buffer.from(`key ${String(index + 3).padStart(6, "0")}`));
  expect(keys.filter((key) => isSame(level.getSync(key), key))).toHaveLength(997);
  await level.close();
});

/** A disk that notes what is done to it, and has no room for some files. */
class NotedDisk extends NodeDisk {
  readonly done: string[] = [];
  readonly #isFull: (path: string) => boolean;

  constructor(isFull: (path: string) => boolean = () => false) {
    super();
    this.#isFull = isFull;
  }

  override async create(path: string): Promise<DiskFile> {
    if (this.#isFull(path)) throw new TcfsError("TCFS_STORE_FULL", "the test's disk is full");
    const file = await super.create(path);
    const name = path.slice(path.lastIndexOf("/") + 1);
    this.done.push(`create ${name}`);
    return {
      fd: file.fd,
      readInto: (...all) => file.readInto(...all),
      write: (...all) => file.write(...all),
      sync: async () => {
        await file.sync();
        this.done.push(`sync ${name}`);
      },
      length: () => file.length(),
      truncate: (...all) => file.truncate(...all),
      close: () => file.close(),
    };
  }

  override async syncDirectory(path: string): Promise<void> {
    await super.syncDirectory(path);
    this.done.push("sync the directory");
  }

  override async replaceFile(path: string, content: Uint8Array): Promise<void> {
    this.done.push(`replace ${path.slice(path.lastIndexOf("/") + 1)}`);
    await super.replaceFile(path, content);
  }
}

test("the tables count only once all of them are on the device", async () => {
  const disk = new NotedDisk();
  await fill(inPieces(inOrder(noisyRecords(30_000, 350)), 5000), disk);
  const current = disk.done.indexOf("replace CURRENT");
  const before = disk.done.slice(0, current);
  const made = before.filter((one) => one.startsWith("create")).map((one) => one.slice("create ".length));
  expect(made).toEqual(expect.arrayContaining(["000003.ldb", "000004.ldb", "MANIFEST-000001", "000002.log"]));
  for (const name of made) expect(before).toContain(`sync ${name}`);
  expect(before.at(-1)).toBe("sync the directory");
  expect(disk.done.slice(current).some((one) => /ldb|MANIFEST|\.log/u.test(one))).toBe(false);
});

test.for(["000003.ldb", "000004.ldb", "MANIFEST-000001"])(
  "a disk too full for %s is told of, and nothing counts",
  async (name) => {
    const directory = await makeTemporaryDirectory();
    const disk = new NotedDisk((path) => path.endsWith(name));
    const work = fill(inPieces(inOrder(noisyRecords(30_000, 350)), 2000), disk, directory);
    await expect(work).rejects.toThrow(expect.objectContaining({ code: "TCFS_STORE_FULL" }) as Error);
    expect(await readdir(join(directory, "meta"))).not.toContain("CURRENT");
  },
);

test("records without a volume record are no database", async () => {
  const directory = await makeTemporaryDirectory();
  await using sink = await newSink(directory, new NodeDisk());
  await sink.put(encoded(inOrder(noisyRecords(10, 10))));
  await expect(sink.finish()).rejects.toThrow(expect.objectContaining({ code: "TCFS_CORRUPT" }) as Error);
});

function noisyRecords(count: number, valueBytes: number, seed = "record"): RecordChange[] {
  const random = noise(seed, count * 24);
  return Array.from({ length: count }, (_, index) => {
    const own = random.subarray(index * 24, index * 24 + 24);
    const key = Buffer.concat([Buffer.of(0x44), own.subarray(0, 8 + (index % 17))]);
    return { key, value: new Uint8Array(valueBytes).fill(own[20]!) };
  });
}

function inOrder(changes: readonly RecordChange[]): RecordChange[] {
  return [...changes].sort((left, right) => Buffer.compare(left.key, right.key));
}

function encoded(changes: readonly RecordChange[]): Uint8Array {
  return encodeChanges(changes, changesBytes(changes)).plain;
}

/** With the volume record in the second piece, if there are two. */
function inPieces(changes: readonly RecordChange[], count: number): Uint8Array[] {
  const writer = new ByteWriter();
  encodeVolume(writer, VOLUME);
  const volume = { key: singleKey("volume"), value: writer.take() };
  const middle = Math.min(count + 1, changes.length);
  const all = [...changes.slice(0, middle), volume, ...changes.slice(middle)];
  const pieces: Uint8Array[] = [];
  for (let at = 0; at < all.length; at += count) pieces.push(encoded(all.slice(at, at + count)));
  return pieces;
}

function newSink(directory: string, disk: NodeDisk): Promise<RecordSink> {
  return RecordSink.create({
    directory: join(directory, "meta"),
    journalDirectory: join(directory, "journal"),
    disk,
    records,
  });
}

/** @returns The directory of the database. */
async function fill(pieces: readonly Uint8Array[], disk = new NodeDisk(), directory?: string): Promise<string> {
  const parent = directory ?? (await makeTemporaryDirectory());
  await using sink = await newSink(parent, disk);
  for (const piece of pieces) await sink.put(piece);
  expect(await sink.finish()).toEqual(VOLUME);
  return join(parent, "meta");
}

async function openDatabase(directory: string): Promise<Database> {
  const damage: TcfsError[] = [];
  const database = await Database.open({
    directory,
    createIfMissing: false,
    openLevel,
    onDamage: (error) => damage.push(error),
    onTornLog: (sentence) => damage.push(new TcfsError("TCFS_CORRUPT", sentence)),
  });
  onTestFinished(() => database.close());
  await database.damage.checked();
  expect(damage).toEqual([]);
  return database;
}

function isSame(one: Uint8Array | undefined, other: Uint8Array | undefined): boolean {
  return one !== undefined && other !== undefined && Buffer.compare(one, other) === 0;
}

function read(database: Database, key: Uint8Array): Uint8Array | undefined {
  const sealed = database.get(key);
  return sealed && records.unseal(key, sealed);
}

/** All but the volume record. */
async function walk(database: Database): Promise<[key: string, value: Uint8Array][]> {
  const walked = (await collect(database.walk(EVERYTHING))).flat();
  return walked
    .filter(([key]) => key[0] !== VOLUME_KIND)
    .map(([key, sealed]) => [toHex(key), records.unseal(key, sealed)]);
}

async function tablesOf(directory: string): Promise<string[]> {
  const names = (await readdir(directory)).filter((name) => name.endsWith(".ldb")).sort();
  return names.map((name) => join(directory, name));
}

/** Where the block of filters is, and the block. */
function filterOf(table: Buffer): [offset: number, block: Buffer] {
  const footer = new VarintReader(table.subarray(table.length - FOOTER_BYTES), 0);
  const entry = new VarintReader(table, footer.next());
  entry.next();
  const nameBytes = entry.next();
  entry.next();
  entry.at += nameBytes;
  const offset = entry.next();
  return [offset, table.subarray(offset, offset + entry.next() + TRAILER_BYTES)];
}
