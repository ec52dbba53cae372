/** read, write, truncate: bytes at offsets. */
import { open as openFile, readFile } from "node:fs/promises";
import { expect, test } from "vitest";
import { refuses, type Bench } from "../bench.ts";
import { O_CREAT, O_RDONLY, O_RDWR, O_WRONLY, SEEK_CUR, SEEK_END, SEEK_SET } from "../constants.ts";

const KIB = 1024;
const MIB = KIB * KIB;

/** Bytes that differ everywhere and do not compress to nothing. */
function pattern(lengthBytes: number, seed: number): Buffer {
  const bytes = Buffer.alloc(lengthBytes);
  let state = seed * 2_654_435_761 + 1;
  for (let i = 0; i < lengthBytes; i++) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    bytes[i] = state >>> 24;
  }
  return bytes;
}

export function dataCases(bench: Bench): void {
  test.each([
    0,
    1,
    511,
    512,
    4095,
    4096,
    4097,
    65_535,
    65_536,
    65_537,
    262_143,
    262_145,
    MIB - 1,
    MIB,
    MIB + 1,
    4 * MIB + 1,
    9 * MIB,
  ])("%i bytes come back as they were written", async (lengthBytes) => {
    const content = pattern(lengthBytes, lengthBytes);
    const file = await openFile(bench.path("f"), "w");
    await file.writeFile(content);
    await file.close();
    expect((await readFile(bench.path("f"))).equals(content)).toBe(true);
    expect((await bench.root.stat("f")).lengthBytes).toBe(BigInt(lengthBytes));
  });

  test.each([1, 7, 4096, 10_000, 65_536, 300_000])("a file written in pieces of %i bytes is whole", async (piece) => {
    const content = pattern(Math.min(piece * 60, 3 * MIB), piece);
    const file = await openFile(bench.path("f"), "w");
    for (let at = 0; at < content.length; at += piece) await file.write(content.subarray(at, at + piece));
    await file.close();
    expect((await readFile(bench.path("f"))).equals(content)).toBe(true);
  });

  test("pieces written backwards make the same file", async () => {
    const content = pattern(MIB + 5000, 3);
    const file = await openFile(bench.path("f"), "w");
    for (let at = Math.floor(content.length / 5000) * 5000; at >= 0; at -= 5000) {
      const piece = content.subarray(at, at + 5000);
      await file.write(piece, 0, piece.length, at);
    }
    await file.close();
    expect((await readFile(bench.path("f"))).equals(content)).toBe(true);
  });

  test("overwrites at random places change those bytes and no others", async () => {
    const content = pattern(3 * MIB, 9);
    const file = await openFile(bench.path("f"), "w+");
    await file.write(content, 0, content.length, 0);
    await file.sync();
    for (let i = 1; i <= 200; i++) {
      const at = (i * 7_919 * 131) % (content.length - 9000);
      const piece = pattern((i * 97) % 9000, i);
      piece.copy(content, at);
      await file.write(piece, 0, piece.length, at);
      if (i % 50 === 0) await file.sync();
    }
    expect((await readFile(bench.path("f"))).equals(content)).toBe(true);
    await file.close();
  });

  test("reads at every alignment around a boundary agree", async () => {
    const content = pattern(300_000, 4);
    await bench.root.file("f", content);
    const fd = await bench.root.open("f", O_RDONLY);
    for (const boundary of [4096, 65_536, 131_072, 262_144]) {
      for (const [before, length] of [
        [1, 2],
        [0, 1],
        [1, 1],
        [100, 4096],
        [4096, 8192],
        [5, 10],
      ] as const) {
        const read = await bench.root.pread(fd, length, boundary - before);
        expect(read.equals(content.subarray(boundary - before, boundary - before + length))).toBe(true);
      }
    }
  });

  test("reading at and past the end gives what is there, then nothing", async () => {
    await bench.root.file("f", "0123456789");
    const fd = await bench.root.open("f", O_RDONLY);
    expect((await bench.root.pread(fd, 100, 7)).toString()).toBe("789");
    expect(await bench.root.pread(fd, 100, 10)).toHaveLength(0);
    expect(await bench.root.pread(fd, 100, 10_000_000)).toHaveLength(0);
  });

  test("writing past the end fills the gap with zeros", async () => {
    await bench.root.file("f", "start");
    const fd = await bench.root.open("f", O_RDWR);
    await bench.root.pwrite(fd, "end", 100_000);
    const content = await bench.root.content("f");
    expect(content.subarray(0, 5).toString()).toBe("start");
    expect(content.subarray(5, 100_000).every((byte) => byte === 0)).toBe(true);
    expect(content.subarray(100_000).toString()).toBe("end");
  });

  test("truncate shortens, and what is written later finds zeros between", async () => {
    await bench.root.file("f", Buffer.alloc(10_000, "a"));
    await bench.root.truncate("f", 100);
    await bench.root.truncate("f", 10_000);
    const content = await bench.root.content("f");
    expect(content.subarray(0, 100).every((byte) => byte === 0x61)).toBe(true);
    expect(content.subarray(100).every((byte) => byte === 0)).toBe(true);
  });

  test.each([4095, 4096, 4097, 65_536, 65_537, 700_001])(
    "a file cut at %i and made longer again reads zeros",
    async (cut) => {
      const content = pattern(MIB, 5);
      await bench.root.file("f", content);
      await bench.root.truncate("f", cut);
      await bench.root.truncate("f", MIB);
      content.fill(0, cut);
      expect((await bench.root.content("f")).equals(content)).toBe(true);
    },
  );

  test("truncate of an open file shows to its reader at once", async () => {
    await bench.root.file("f", "0123456789");
    const fd = await bench.alice.open("f", O_RDONLY);
    expect((await bench.alice.pread(fd, 10, 0)).toString()).toBe("0123456789");
    await bench.root.truncate("f", 4);
    expect((await bench.alice.pread(fd, 10, 0)).toString()).toBe("0123");
    await bench.root.truncate("f", 6);
    expect(await bench.alice.pread(fd, 10, 0)).toEqual(Buffer.from("0123\0\0"));
  });

  test("a write shows at once to every reader", async () => {
    await bench.root.file("f", "old");
    const reader = await bench.alice.open("f", O_RDONLY);
    const writer = await bench.root.open("f", O_WRONLY);
    for (let i = 0; i < 50; i++) {
      await bench.root.pwrite(writer, String(i).padStart(5), i * 3);
      expect((await bench.alice.pread(reader, 5, i * 3)).toString()).toBe(String(i).padStart(5));
    }
  });

  test("the offset moves with reads and writes, and by lseek", async () => {
    const fd = await bench.root.open("f", O_CREAT | O_RDWR);
    await bench.root.write(fd, "0123456789");
    expect(await bench.root.lseek(fd, 0, SEEK_CUR)).toBe(10n);
    expect(await bench.root.lseek(fd, -4, SEEK_END)).toBe(6n);
    expect((await bench.root.read(fd, 2)).toString()).toBe("67");
    expect(await bench.root.lseek(fd, 1, SEEK_CUR)).toBe(9n);
    expect(await bench.root.lseek(fd, 3, SEEK_SET)).toBe(3n);
    await refuses("EINVAL", bench.root.lseek(fd, -1, SEEK_SET));
    await refuses("EINVAL", bench.root.lseek(fd, 0, 99));
  });

  test("negative offsets and lengths are refused", async () => {
    await bench.root.file("f", "x");
    const fd = await bench.root.open("f", O_RDWR);
    await refuses("EINVAL", bench.root.pread(fd, 1, -1));
    await refuses("EINVAL", bench.root.pwrite(fd, "x", -1));
    await refuses("EINVAL", bench.root.truncate("f", -1));
    await refuses("EINVAL", bench.root.ftruncate(fd, -1));
  });

  test("a write of nothing changes nothing", async () => {
    await bench.root.file("f", "x");
    const fd = await bench.root.open("f", O_RDWR);
    expect(await bench.root.pwrite(fd, "", 1000)).toBe(0);
    expect((await bench.root.stat("f")).lengthBytes).toBe(1n);
  });

  test("the file ends at the largest length", async () => {
    const { maximumFileBytes, beyondMaximum } = bench.traits;
    const fd = await bench.root.open("f", O_CREAT | O_RDWR);
    await bench.root.ftruncate(fd, maximumFileBytes);
    expect((await bench.root.stat("f")).lengthBytes).toBe(maximumFileBytes);
    expect(await bench.root.pread(fd, 5, maximumFileBytes - 5n)).toEqual(Buffer.alloc(5));
    await bench.root.pwrite(fd, "x", maximumFileBytes - 1n);
    expect((await bench.root.pread(fd, 2, maximumFileBytes - 2n)).toString("latin1")).toBe("\0x");
    await refuses(beyondMaximum, bench.root.pwrite(fd, "x", maximumFileBytes));
    expect((await bench.root.fstat(fd)).lengthBytes).toBe(maximumFileBytes);
  });

  test("a byte near the largest offset is written and read", async () => {
    const at = bench.traits.maximumFileBytes - 8192n;
    const fd = await bench.root.open("f", O_CREAT | O_RDWR);
    await bench.root.pwrite(fd, "far out", at);
    expect((await bench.root.pread(fd, 7, at)).toString()).toBe("far out");
    expect(await bench.root.pread(fd, 4, at - 4n)).toEqual(Buffer.alloc(4));
    expect((await bench.root.stat("f")).lengthBytes).toBe(at + 7n);
  });

  test("fsync, fdatasync and syncfs answer, on read-only handles too", async () => {
    await bench.root.file("f", "synced");
    for (const flags of [O_RDONLY, O_RDWR]) {
      const fd = await bench.root.open("f", flags);
      await bench.root.fsync(fd);
      await bench.root.fdatasync(fd);
      await bench.root.syncfs(fd);
    }
    expect(await bench.root.textOf("f")).toBe("synced");
  });

  test("content stays right through many small appends with fsync", async () => {
    const fd = await bench.root.open("f", O_CREAT | O_RDWR);
    let expected = "";
    for (let i = 0; i < 40; i++) {
      const line = `line ${i}\n`.repeat(i);
      await bench.root.write(fd, line);
      await bench.root.fdatasync(fd);
      expected += line;
    }
    expect(await bench.root.textOf("f")).toBe(expected);
  });

  test("the same content in two files stays two files", async () => {
    const content = pattern(MIB, 6);
    await bench.root.file("a", content);
    await bench.root.file("b", content);
    const fd = await bench.root.open("a", O_WRONLY);
    await bench.root.pwrite(fd, "changed", 500_000);
    expect((await bench.root.content("b")).equals(content)).toBe(true);
    Buffer.from("changed").copy(content, 500_000);
    expect((await bench.root.content("a")).equals(content)).toBe(true);
  });

  test("a file of zeros reads as zeros and keeps its length", async () => {
    await bench.root.file("f", Buffer.alloc(2 * MIB));
    expect((await bench.root.content("f")).equals(Buffer.alloc(2 * MIB))).toBe(true);
  });

  test("sendfile and splice carry the bytes", async () => {
    const content = pattern(200_000, 8);
    await bench.root.file("from", content);
    const from = await bench.root.open("from", O_RDONLY);
    const to = await bench.root.open("to", O_CREAT | O_RDWR);
    expect(await bench.root.sendfile(to, from, 1000, 150_000)).toBe(150_000);
    expect((await bench.root.content("to")).equals(content.subarray(1000, 151_000))).toBe(true);
    const spliced = await bench.root.open("spliced", O_CREAT | O_RDWR);
    const count = await bench.root.splice(from, spliced, 30_000);
    expect(count).toBeGreaterThan(0);
    expect((await bench.root.content("spliced")).equals(content.subarray(0, count))).toBe(true);
  });
}
