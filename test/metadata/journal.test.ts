import { fc, test as propertyTest } from "@fast-check/vitest";
import { describe, expect, test } from "vitest";
import type { TcfsErrorCode } from "../../src/errors.ts";
import { type RecordChange, changesBytes, encodeChanges } from "../../src/format/journal-codec.ts";
import { JOURNAL_FILE_BYTES, Journal, type JournaledCommit } from "../../src/metadata/journal.ts";
import { systemClock } from "../../src/platform/clock.ts";
import type { Disk } from "../../src/platform/disk.ts";
import { NodeDisk } from "../../src/platform/node-disk.ts";
import { FaultyDisk } from "../chunkstore/faulty-disk.ts";
import { noise } from "../crypto/fixtures.ts";
import { PowerCutDisk } from "./power-cut-disk.ts";
import { makeTemporaryDirectory, openTestEngine } from "./store-fixture.ts";

const BLOCK_BYTES = 4096;
const SECTOR_BYTES = 512;
/** What a record has beside its changes: header, session id, counter, tag. */
const RECORD_EXTRA_BYTES = 16 + 30;
const DIRECTORY = "/vault/journal";
const FILES = [`${DIRECTORY}/0`, `${DIRECTORY}/1`] as const;

const { records } = openTestEngine();
const withCode = (code: TcfsErrorCode): unknown => expect.objectContaining({ code });

interface Opened {
  readonly journal: Journal;
  readonly commits: readonly JournaledCommit[];
  readonly torn: readonly string[];
}

interface Opening {
  readonly disk: Disk;
  readonly directory?: string;
  readonly storedCommit?: number;
  readonly clock?: Pick<typeof systemClock, "monotonicMs">;
}

async function openJournal({ disk, directory = DIRECTORY, storedCommit = 0, clock }: Opening): Promise<Opened> {
  const torn: string[] = [];
  const { journal, commits } = await Journal.open({
    disk,
    directory,
    records,
    clock: (clock ?? systemClock) as typeof systemClock,
    storedCommit,
    onTornTail: (sentence) => torn.push(sentence),
  });
  return { journal, commits, torn };
}

async function newDisk(): Promise<PowerCutDisk> {
  const power = new PowerCutDisk();
  await Journal.create({ disk: power.disk, directory: DIRECTORY });
  return power;
}

/** What a commit changes: told by its number, of so many bytes as its record has in all. */
function changesOf(commit: number, recordBytes: number): RecordChange[] {
  const overhead = 2 * (5 + 4) + RECORD_EXTRA_BYTES;
  return [
    { key: noise(`key ${commit}`, 4), value: noise(`value ${commit}`, Math.max(0, recordBytes - overhead)) },
    { key: noise(`gone ${commit}`, 4), value: undefined },
  ];
}

async function append(journal: Journal, commit: number, recordBytes: number): Promise<void> {
  const changes = changesOf(commit, recordBytes);
  const plainBytes = changesBytes(changes);
  expect(journal.hasRoom(plainBytes)).toBe(true);
  await journal.append(commit, encodeChanges(changes, plainBytes).plain);
}

/** A journal with commits 1…n of these lengths, each in a row in file 0. */
async function makeJournal(lengths: readonly number[]): Promise<PowerCutDisk> {
  const power = await newDisk();
  const { journal } = await openJournal(power);
  for (const [index, recordBytes] of lengths.entries()) await append(journal, index + 1, recordBytes);
  return power;
}

/** Compares bytes as fast as memory does. */
function expectChanges(commit: JournaledCommit | undefined, number: number, recordBytes: number): void {
  expect(commit?.commit).toBe(number);
  const expected = changesOf(number, recordBytes);
  const textOf = ({ key, value }: RecordChange): string =>
    `${Buffer.from(key).toString("hex")} ${value === undefined ? "deleted" : Buffer.from(value).toString("base64")}`;
  expect(commit?.changes.map(textOf).join() === expected.map(textOf).join(), `commit ${number}`).toBe(true);
}

const numbers = (commits: readonly JournaledCommit[]): number[] => commits.map(({ commit }) => commit);
const range = (first: number, last: number): number[] =>
  Array.from({ length: last - first + 1 }, (_, index) => first + index);

/** A clock on which every write on the calling thread takes a millisecond. */
const slowClock = (): Opening["clock"] => {
  let nowMs = 0;
  return { monotonicMs: () => (nowMs += 1) };
};

describe("what was appended", () => {
  test("is there again, in order, with every change, on the machine's disk", async () => {
    const directory = await makeTemporaryDirectory();
    const disk = new NodeDisk();
    await Journal.create({ disk, directory });
    const { journal, commits } = await openJournal({ disk, directory });
    expect(commits).toEqual([]);
    const lengths = [RECORD_EXTRA_BYTES + 18, 4096, 4097, 12_000, 200_000, 70];
    for (const [index, recordBytes] of lengths.entries()) await append(journal, index + 1, recordBytes);
    const again = await openJournal({ disk, directory });
    expect(again.commits).toHaveLength(lengths.length);
    for (const [index, recordBytes] of lengths.entries()) {
      expectChanges(again.commits[index], index + 1, recordBytes);
    }
    expect(again.torn).toEqual([]);
    expect(numbers((await openJournal({ disk, directory, storedCommit: 4 })).commits)).toEqual([5, 6]);
    await Promise.all([journal, again.journal].map((one) => one.close()));
  });

  test("is one write of whole blocks, none of which another record has", async () => {
    const power = await makeJournal([100, 5000, 100]);
    expect(power.writes).toEqual([
      { path: FILES[0], offset: 0, lengthBytes: BLOCK_BYTES },
      { path: FILES[0], offset: BLOCK_BYTES, lengthBytes: 2 * BLOCK_BYTES },
      { path: FILES[0], offset: 3 * BLOCK_BYTES, lengthBytes: BLOCK_BYTES },
    ]);
  });

  test("shows nothing of itself", async () => {
    const power = await makeJournal([3000]);
    const stored = Buffer.from(power.bytesOf(FILES[0]));
    expect(stored.includes(Buffer.from(noise("value 1", 2000)))).toBe(false);
    expect(stored.includes(Buffer.from(noise("key 1", 4)))).toBe(false);
  });

  test("goes round both files for ever, as long as the database follows; a power cut loses nothing", async () => {
    const power = await newDisk();
    const { journal } = await openJournal(power);
    let storedCommit = 0;
    let turns = 0;
    let lastPath: string = FILES[0];
    for (let commit = 1; commit <= 130; commit++) {
      await append(journal, commit, 190_000 + (commit % 7) * 9000);
      const path = power.writes.at(-1)?.path ?? "";
      if (path !== lastPath) turns++;
      lastPath = path;
      if (journal.isOtherWaiting) {
        storedCommit = commit;
        journal.noteStored(commit);
      }
      if (commit % 11 !== 0) continue;
      const after = await openJournal({ disk: power.powerCut().disk, storedCommit });
      expect(numbers(after.commits)).toEqual(range(storedCommit + 1, commit));
      if (commit > storedCommit) expectChanges(after.commits.at(-1), commit, 190_000 + (commit % 7) * 9000);
      expect(after.torn).toEqual([]);
    }
    expect(turns).toBeGreaterThanOrEqual(6);
  });

  test("stays until the database has it: then there is no room, and then there is", async () => {
    const power = await newDisk();
    const { journal } = await openJournal(power);
    const plainBytes = changesBytes(changesOf(1, 250_000));
    let commit = 0;
    while (journal.hasRoom(plainBytes)) await append(journal, ++commit, 250_000);
    expect(commit).toBe(2 * Math.floor(JOURNAL_FILE_BYTES / (62 * BLOCK_BYTES)));
    journal.noteStored(commit / 2 - 1);
    expect(journal.hasRoom(plainBytes)).toBe(false);
    expect(numbers((await openJournal({ disk: power.disk, storedCommit: commit / 2 - 1 })).commits)).toHaveLength(
      commit / 2 + 1,
    );
    journal.noteStored(commit / 2);
    expect(journal.hasRoom(plainBytes)).toBe(true);
  });

  test("is gone on with where it ended, in the file where it ended", async () => {
    const power = await newDisk();
    let opened = await openJournal(power);
    for (let commit = 1; commit <= 40; commit++) {
      await append(opened.journal, commit, 150_000);
      await opened.journal.close();
      opened = await openJournal(power);
      expect(numbers(opened.commits)).toEqual(range(1, commit));
    }
    expect(opened.journal.isOtherWaiting).toBe(true);
  });
});

describe("the last record", () => {
  const LAST_BYTES = 9000;

  /** @param damage - Told where the last record starts. */
  async function openDamaged(whole: PowerCutDisk, damage: (bytes: Uint8Array, start: number) => void): Promise<Opened> {
    const power = whole.powerCut();
    power.damage(FILES[0], (bytes) => {
      damage(bytes, 3 * BLOCK_BYTES);
    });
    return openJournal(power);
  }

  test.for([
    ["zeros", new Uint8Array(3 * BLOCK_BYTES)],
    ["garbage", noise("garbage", 3 * BLOCK_BYTES)],
  ] as const)("cut short at any sector, %s behind, is left out and told of", async ([, rest]) => {
    const whole = await makeJournal([100, 6000, LAST_BYTES]);
    const sectors = Math.ceil(LAST_BYTES / SECTOR_BYTES);
    for (let cut = 0; cut < sectors; cut++) {
      const { commits, torn, journal } = await openDamaged(whole, (bytes, start) => {
        bytes.set(rest.subarray(cut * SECTOR_BYTES), start + cut * SECTOR_BYTES);
      });
      expect(numbers(commits)).toEqual([1, 2]);
      expect(torn).toEqual(cut === 0 ? [] : ["commit 3 was not complete in the journal and is left out"]);
      await append(journal, 3, 50);
    }
  });

  test("without one of its sectors is left out and told of, unless it is the one with the header", async () => {
    const whole = await makeJournal([100, 6000, LAST_BYTES]);
    const sectors = Math.ceil(LAST_BYTES / SECTOR_BYTES);
    for (let lost = 0; lost < sectors; lost++) {
      const { commits, torn } = await openDamaged(whole, (bytes, start) => {
        bytes.fill(0, start + lost * SECTOR_BYTES, start + (lost + 1) * SECTOR_BYTES);
      });
      expect(numbers(commits)).toEqual([1, 2]);
      expect(torn).toHaveLength(lost === 0 ? 0 : 1);
    }
  });

  test("is written over by the next of its number, of any length, and what sticks out matters not", async () => {
    for (const recordBytes of [60, 5000, 100_000]) {
      const { power, journal } = await tornAtEnd();
      await append(journal, 3, recordBytes);
      await append(journal, 4, 60);
      const again = await openJournal(power);
      expect(numbers(again.commits)).toEqual([1, 2, 3, 4]);
      expect(again.torn).toEqual([]);
    }
  });

  async function tornAtEnd(): Promise<{ power: PowerCutDisk; journal: Journal }> {
    const power = await makeJournal([100, 100, 30_000]);
    power.damage(FILES[0], (bytes) => bytes.fill(0, 3 * BLOCK_BYTES, 4 * BLOCK_BYTES));
    return { power, journal: (await openJournal(power)).journal };
  }

  test("that a killed writer or a failed flush left in the page cache alone is on the device before another", async () => {
    const power = await makeJournal([100, 5000]);
    const { journal } = await openJournal(power);
    power.areFlushesFailing = true;
    await expect(append(journal, 3, 9000)).rejects.toThrow(withCode("TCFS_IO"));
    expect(numbers((await openJournal({ disk: power.powerCut().disk })).commits)).toEqual([1, 2]);

    await expect(openJournal(power)).rejects.toThrow(withCode("TCFS_IO"));
    power.areFlushesFailing = false;
    const next = await openJournal(power);
    expect(numbers(next.commits)).toEqual([1, 2, 3]);
    await append(next.journal, 4, 100);
    expect(numbers((await openJournal({ disk: power.powerCut().disk })).commits)).toEqual([1, 2, 3, 4]);
  });
});

describe("damage", () => {
  test("of any record but the last is told, wherever it strikes", async () => {
    for (const at of [0, 4, 8, 12, 16, 30, 4000, 4096, 5900]) {
      const power = await makeJournal([100, 6000, 100]);
      power.damage(FILES[0], (bytes) => {
        bytes[BLOCK_BYTES + at]! ^= 1;
      });
      await expect(openJournal(power)).rejects.toThrow("commit 2 does not verify, and later ones follow");
      await expect(openJournal(power)).rejects.toThrow(withCode("TCFS_CORRUPT"));
      expect(numbers((await openJournal({ disk: power.disk, storedCommit: 2 })).commits)).toEqual([3]);
    }
  });

  test("of a record, and a torn one behind it, is more than a torn tail", async () => {
    const power = await makeJournal([100, 100, 6000]);
    power.damage(FILES[0], (bytes) => {
      bytes.fill(0, BLOCK_BYTES, BLOCK_BYTES + SECTOR_BYTES);
      bytes.fill(0, 2 * BLOCK_BYTES + 1024);
    });
    await expect(openJournal(power)).rejects.toThrow("commit 2 does not verify, and later ones follow");
  });

  test("a database older than the journal begins is a gap, not a loss", async () => {
    const power = await newDisk();
    const { journal } = await openJournal({ disk: power.disk, storedCommit: 7 });
    await append(journal, 8, 100);
    await expect(openJournal({ disk: power.disk, storedCommit: 6 })).rejects.toThrow("commit 7 does not verify");
    expect(numbers((await openJournal({ disk: power.disk, storedCommit: 7 })).commits)).toEqual([8]);
  });

  test("an older record put over a newer never takes its place", async () => {
    const power = await makeJournal([100, 100, 100]);
    const old = power.bytesOf(FILES[0]).slice(0, BLOCK_BYTES);
    const withOldAt = (block: number): PowerCutDisk => {
      const copy = power.powerCut();
      copy.damage(FILES[0], (bytes) => {
        bytes.set(old, block * BLOCK_BYTES);
      });
      return copy;
    };
    await expect(openJournal(withOldAt(1))).rejects.toThrow("commit 1 stands in it twice");
    await expect(openJournal(withOldAt(2))).rejects.toThrow("commit 1 stands in it twice");
    const inTheMiddle = { disk: withOldAt(1).disk, storedCommit: 1 };
    await expect(openJournal(inTheMiddle)).rejects.toThrow("commit 2 does not verify, and later ones follow");
    /* Over the last one it is a rollback: that one is gone, and the old one does not count. */
    expect(numbers((await openJournal({ disk: withOldAt(2).disk, storedCommit: 1 })).commits)).toEqual([2]);
  });

  test("a record counts by its number, not its place, and under another number not at all", async () => {
    const power = await makeJournal([100, 100, 100]);
    power.damage(FILES[0], (bytes) => {
      const [second, third] = [
        bytes.slice(BLOCK_BYTES, 2 * BLOCK_BYTES),
        bytes.slice(2 * BLOCK_BYTES, 3 * BLOCK_BYTES),
      ];
      bytes.set(third, BLOCK_BYTES);
      bytes.set(second, 2 * BLOCK_BYTES);
    });
    const { commits } = await openJournal(power);
    expect(commits).toHaveLength(3);
    for (const [index, commit] of commits.entries()) expectChanges(commit, index + 1, 100);
    power.damage(FILES[0], (bytes) => {
      bytes[8] = 9; // commit 1 says that it is 9
    });
    await expect(openJournal(power)).rejects.toThrow(withCode("TCFS_CORRUPT"));
  });

  test.for(["0", "1"])("a file %s that is missing, short or long is named", async (name) => {
    const path = `${DIRECTORY}/${name}`;
    const power = await makeJournal([100]);
    for (const lengthBytes of [0, JOURNAL_FILE_BYTES - 1, JOURNAL_FILE_BYTES + 1]) {
      const copy = power.powerCut();
      copy.put(path, new Uint8Array(lengthBytes));
      await expect(openJournal(copy)).rejects.toThrow(`journal: file ${name} has ${lengthBytes} bytes`);
      await expect(openJournal(copy)).rejects.toThrow(withCode("TCFS_CORRUPT"));
    }
    await power.remove(path);
    await expect(openJournal(power)).rejects.toThrow(`journal: file ${name} is missing`);
    await expect(openJournal(power)).rejects.toThrow(withCode("TCFS_CORRUPT"));
  });

  propertyTest.prop(
    [fc.array(fc.nat({ max: 40_000 }), { minLength: 1, maxLength: 8 }), fc.nat(), fc.nat({ max: 255 })],
    {
      numRuns: 20,
    },
  )("one byte anywhere gives the commits before it, or a refusal; never others", async (lengths, where, value) => {
    const power = await makeJournal(lengths);
    const writtenBytes = power.writes.reduce((sum, write) => sum + write.lengthBytes, 0);
    power.damage(FILES[0], (bytes) => {
      bytes[where % writtenBytes] = value;
    });
    const opened = await openJournal(power).catch((error: unknown) => {
      expect(error).toEqual(withCode("TCFS_CORRUPT"));
      return undefined;
    });
    if (opened === undefined) return;
    expect(opened.commits.length).toBeGreaterThanOrEqual(lengths.length - 1);
    for (const [index, commit] of opened.commits.entries()) expectChanges(commit, index + 1, lengths[index] ?? 0);
  });
});

describe("a failing disk", () => {
  const PACES = [
    ["on the calling thread", systemClock],
    ["on the pool", slowClock()],
  ] as const;

  for (const code of ["TCFS_STORE_FULL", "TCFS_IO"] as const) {
    test.for(PACES)(`is told (${code}) %s, and the same commit can be written again`, async ([, clock]) => {
      for (const leftShare of [0, 0.5, 1]) {
        const power = await newDisk();
        const disk = new FaultyDisk(power.disk);
        disk.leftShare = leftShare;
        const { journal } = await openJournal({ disk, ...(clock === undefined ? {} : { clock }) });
        for (let commit = 1; commit <= 12; commit++) {
          disk.fail("writeDurable", code);
          await expect(append(journal, commit, 9000)).rejects.toThrow(withCode(code));
          await append(journal, commit, 9000 + commit * 1000);
        }
        const { commits } = await openJournal({ disk: power.powerCut().disk });
        expect(commits).toHaveLength(12);
        for (const [index, commit] of commits.entries()) expectChanges(commit, index + 1, 10_000 + index * 1000);
      }
    });
  }

  test("a commit that was written whole though it failed, and grew, counts as it was written last", async () => {
    const power = await newDisk();
    const disk = new FaultyDisk(power.disk);
    disk.leftShare = 1;
    const { journal } = await openJournal({ disk });
    const count = Math.floor(JOURNAL_FILE_BYTES / (50 * BLOCK_BYTES));
    for (let commit = 1; commit <= count; commit++) await append(journal, commit, 50 * BLOCK_BYTES);
    disk.fail("writeDurable", "TCFS_STORE_FULL");
    await expect(append(journal, count + 1, 4000)).rejects.toThrow(withCode("TCFS_STORE_FULL"));
    await append(journal, count + 1, 40 * BLOCK_BYTES);
    await append(journal, count + 2, 100);
    expect(power.writes.at(-2)).toMatchObject({ path: FILES[1], offset: 0 });
    const { commits, torn } = await openJournal({ disk: power.powerCut().disk });
    expect(numbers(commits)).toEqual(range(1, count + 2));
    expectChanges(commits[count], count + 1, 40 * BLOCK_BYTES);
    expect(torn).toEqual([]);
  });

  test("a new journal that was interrupted anywhere is made whole by the next start", async () => {
    for (const action of ["create", "write", "sync", "syncDirectory"] as const) {
      for (const after of [0, 1]) {
        const power = new PowerCutDisk();
        const disk = new FaultyDisk(power.disk);
        let left = after;
        disk.before = (seen) => {
          if (seen === action && left-- === 0) disk.fail(action, "TCFS_STORE_FULL");
        };
        await expect(Journal.create({ disk, directory: DIRECTORY })).rejects.toThrow(withCode("TCFS_STORE_FULL"));
        const next = power.powerCut();
        await Journal.create({ disk: next.disk, directory: DIRECTORY });
        expect((await openJournal(next)).commits).toEqual([]);
      }
    }
  });

  test("a journal that is there is not made anew", async () => {
    const power = await makeJournal([100, 100]);
    await Journal.create({ disk: power.disk, directory: DIRECTORY });
    expect(numbers((await openJournal(power)).commits)).toEqual([1, 2]);
  });
});
