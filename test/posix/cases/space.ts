/** Sparse files: fallocate, holes, SEEK_DATA and SEEK_HOLE, blocks in use. */
import { expect, test } from "vitest";
import { refuses, type Bench } from "../bench.ts";
import {
  FALLOC_COLLAPSE_RANGE,
  FALLOC_KEEP_SIZE,
  FALLOC_PUNCH_HOLE,
  FALLOC_ZERO_RANGE,
  O_CREAT,
  O_RDONLY,
  O_RDWR,
  O_WRONLY,
  SEEK_CUR,
  SEEK_DATA,
  SEEK_HOLE,
  SEEK_SET,
} from "../constants.ts";

const KIB = 1024;
const MIB = KIB * KIB;
const PUNCH = FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE;

export function spaceCases(bench: Bench): void {
  const create = (name = "f"): Promise<number> => bench.root.open(name, O_CREAT | O_RDWR);
  const usedBytes = async (): Promise<number> => Number((await bench.root.stat("f")).blockCount) * 512;

  async function filled(lengthBytes: number): Promise<number> {
    const fd = await create();
    for (let at = 0; at < lengthBytes; at += MIB) {
      await bench.root.pfill(fd, 0x61, Math.min(MIB, lengthBytes - at), at);
    }
    return fd;
  }

  /** The bytes as runs: "a4096 .4096" is 4096 letters, then as many zeros. */
  async function runs(): Promise<string> {
    const content = await bench.root.content("f");
    const found: [string, number][] = [];
    for (const byte of content) {
      const sign = byte === 0 ? "." : String.fromCharCode(byte);
      const last = found.at(-1);
      if (last?.[0] === sign) last[1]++;
      else found.push([sign, 1]);
    }
    return found.map(([sign, count]) => `${sign}${count}`).join(" ");
  }

  test("fallocate makes a file longer, with zeros", async () => {
    const fd = await create();
    await bench.root.write(fd, "aaa");
    await bench.root.fallocate(fd, 0, 0, 10_000);
    expect(await runs()).toBe("a3 .9997");
  });

  test("fallocate never makes a file shorter nor changes its bytes", async () => {
    const fd = await filled(10_000);
    await bench.root.fallocate(fd, 0, 0, 100);
    await bench.root.fallocate(fd, 0, 5000, 4000);
    expect(await runs()).toBe("a10000");
  });

  test("fallocate with KEEP_SIZE keeps the length", async () => {
    const fd = await filled(100);
    await bench.root.fallocate(fd, FALLOC_KEEP_SIZE, 0, MIB);
    expect((await bench.root.stat("f")).lengthBytes).toBe(100n);
    expect(await runs()).toBe("a100");
  });

  test.each([
    ["blocks", 4096, 8192, "a4096 .8192 a8192"],
    ["within a block", 100, 50, "a100 .50 a20330"],
    ["across blocks, unaligned", 4000, 5000, "a4000 .5000 a11480"],
    ["from the start", 0, 4096, ".4096 a16384"],
    ["to the end", 16_384, 4096, "a16384 .4096"],
    ["past the end", 20_000, 100_000, "a20000 .480"],
    ["everything", 0, 20_480, ".20480"],
    ["one byte", 9999, 1, "a9999 .1 a10480"],
  ])("punching a hole: %s", async (_, offset, length, expected) => {
    const fd = await filled(20_480);
    await bench.root.fallocate(fd, PUNCH, offset, length);
    expect(await runs()).toBe(expected);
    expect((await bench.root.stat("f")).lengthBytes).toBe(20_480n);
    await bench.root.fsync(fd);
    expect(await runs()).toBe(expected);
  });

  test.each([
    ["inside", 4096, 8192, 0, "a4096 .8192 a8192"],
    ["unaligned", 5, 10_000, 0, "a5 .10000 a10475"],
    ["past the end, longer", 20_000, 10_000, 0, "a20000 .10000"],
    ["past the end, KEEP_SIZE", 20_000, 10_000, FALLOC_KEEP_SIZE, "a20000 .480"],
  ])("zeroing a range: %s", async (_, offset, length, flags, expected) => {
    const fd = await filled(20_480);
    await bench.root.fallocate(fd, FALLOC_ZERO_RANGE | flags, offset, length);
    expect(await runs()).toBe(expected);
  });

  test("a hole is written into again", async () => {
    const fd = await filled(20_480);
    await bench.root.fallocate(fd, PUNCH, 4096, 12_288);
    await bench.root.pfill(fd, 0x62, 100, 8000);
    expect(await runs()).toBe("a4096 .3904 b100 .8284 a4096");
  });

  test("a punched hole shows to a reader that had read before", async () => {
    const fd = await filled(8192);
    const reader = await bench.alice.open("f", O_RDONLY);
    await bench.alice.pread(reader, 8192, 0);
    await bench.root.fallocate(fd, PUNCH, 0, 4096);
    expect((await bench.alice.pread(reader, 2, 4095)).toString("latin1")).toBe("\0a");
  });

  test("what fallocate refuses", async () => {
    const fd = await filled(100);
    await refuses("EINVAL", bench.root.fallocate(fd, 0, 0, 0));
    await refuses("EINVAL", bench.root.fallocate(fd, 0, -1, 10));
    await refuses("EINVAL", bench.root.fallocate(fd, 0, 0, -1));
    await refuses("EOPNOTSUPP", bench.root.fallocate(fd, FALLOC_PUNCH_HOLE, 0, 10));
    await refuses("EFBIG", bench.root.fallocate(fd, 0, 2n ** 63n - 1n, 10));
    const reader = await bench.root.open("f", O_RDONLY);
    await refuses("EBADF", bench.root.fallocate(reader, 0, 0, 10));
  });

  test("an unaligned collapse is refused and the bytes stay", async () => {
    const fd = await filled(20_480);
    await expect(bench.root.fallocate(fd, FALLOC_COLLAPSE_RANGE, 100, 100)).rejects.toThrow(/EINVAL|EOPNOTSUPP/);
    expect(await runs()).toBe("a20480");
  });

  test("a sparse file takes little room", async () => {
    const fd = await create();
    await bench.root.ftruncate(fd, 10 * 2 ** 30);
    await bench.root.pwrite(fd, "x", 5 * 2 ** 30);
    expect((await bench.root.stat("f")).lengthBytes).toBe(10n * 2n ** 30n);
    expect(await usedBytes()).toBeLessThan(MIB);
  });

  test("blocks in use follow what is written, punched and cut", async () => {
    const fd = await filled(2 * MIB);
    await bench.root.fsync(fd);
    expect(await usedBytes()).toBeGreaterThanOrEqual(2 * MIB);
    expect(await usedBytes()).toBeLessThan(3 * MIB);
    await bench.root.fallocate(fd, PUNCH, 0, MIB);
    expect(await usedBytes()).toBeLessThan(1.5 * MIB);
    await bench.root.ftruncate(fd, 0);
    expect(await usedBytes()).toBeLessThan(64 * KIB);
  });

  test("SEEK_DATA and SEEK_HOLE find data and holes", async () => {
    const fd = await create();
    await bench.root.pfill(fd, 0x61, MIB, 2 * MIB);
    await bench.root.pfill(fd, 0x61, MIB, 8 * MIB);
    await bench.root.ftruncate(fd, 12 * MIB);
    await bench.root.fsync(fd);
    const seek = async (offset: number, whence: number): Promise<number> =>
      Number(await bench.root.lseek(fd, offset, whence)) / MIB;
    expect(await seek(0, SEEK_DATA)).toBe(2);
    expect(await seek(0, SEEK_HOLE)).toBe(0);
    expect(await seek(2 * MIB, SEEK_HOLE)).toBe(3);
    expect(await seek(2.5 * MIB, SEEK_DATA)).toBe(2.5);
    expect(await seek(3 * MIB, SEEK_DATA)).toBe(8);
    expect(await seek(8 * MIB, SEEK_HOLE)).toBe(9);
    await refuses("ENXIO", bench.root.lseek(fd, 9 * MIB, SEEK_DATA));
    await refuses("ENXIO", bench.root.lseek(fd, 12 * MIB, SEEK_HOLE));
    await refuses("ENXIO", bench.root.lseek(fd, 13 * MIB, SEEK_DATA));
  });

  test("SEEK_DATA and SEEK_HOLE know nothing before the start", async () => {
    const fd = await filled(4096);
    await bench.root.lseek(fd, 100, SEEK_SET);
    for (const offset of [-1, -4096, -(2n ** 63n)]) {
      await refuses("ENXIO", bench.root.lseek(fd, offset, SEEK_DATA));
      await refuses("ENXIO", bench.root.lseek(fd, offset, SEEK_HOLE));
    }
    expect(await bench.root.lseek(fd, 0, SEEK_CUR)).toBe(100n);
  });

  test("SEEK_DATA finds what was just written, before any sync", async () => {
    const fd = await create();
    await bench.root.ftruncate(fd, 4 * MIB);
    await bench.root.pfill(fd, 0x61, 4096, MIB);
    expect(await bench.root.lseek(fd, 0, SEEK_DATA)).toBe(BigInt(MIB));
    expect(await bench.root.lseek(fd, MIB, SEEK_HOLE)).toBe(BigInt(MIB + 4096));
  });

  test("SEEK_DATA and SEEK_HOLE go by whole blocks", async () => {
    const fd = await create();
    await bench.root.ftruncate(fd, MIB);
    await bench.root.pwrite(fd, "a", 5000);
    await bench.root.pwrite(fd, "a", 12_287);
    const seek = async (offset: number, whence: number): Promise<number> =>
      Number(await bench.root.lseek(fd, offset, whence));
    expect(await seek(0, SEEK_DATA)).toBe(4096);
    expect(await seek(8191, SEEK_DATA)).toBe(8191);
    expect(await seek(100, SEEK_HOLE)).toBe(100);
    expect(await seek(4096, SEEK_HOLE)).toBe(12_288);
    await bench.root.fallocate(fd, PUNCH, 8190, 100);
    expect(await seek(4096, SEEK_HOLE)).toBe(12_288);
    await bench.root.fallocate(fd, PUNCH, 8192, 4096);
    expect(await seek(4096, SEEK_HOLE)).toBe(8192);
    await refuses("ENXIO", bench.root.lseek(fd, 8192, SEEK_DATA));
  });

  test("a full file has its one hole at its end, an empty one has nothing", async () => {
    const fd = await filled(10_000);
    expect(await bench.root.lseek(fd, 0, SEEK_HOLE)).toBe(10_000n);
    expect(await bench.root.lseek(fd, 9999, SEEK_DATA)).toBe(9999n);
    const empty = await create("empty");
    await refuses("ENXIO", bench.root.lseek(empty, 0, SEEK_DATA));
    await refuses("ENXIO", bench.root.lseek(empty, 0, SEEK_HOLE));
  });

  test("a punched hole is found by SEEK_HOLE", async () => {
    const fd = await filled(3 * MIB);
    await bench.root.fsync(fd);
    await bench.root.fallocate(fd, PUNCH, MIB, MIB);
    expect(await bench.root.lseek(fd, 0, SEEK_HOLE)).toBe(BigInt(MIB));
    expect(await bench.root.lseek(fd, MIB, SEEK_DATA)).toBe(BigInt(2 * MIB));
  });

  test("many small writes into a sparse file are all there", async () => {
    const fd = await create();
    for (let i = 0; i < 100; i++) await bench.root.pwrite(fd, `#${i}`, i * 123_457);
    await bench.root.fsync(fd);
    for (let i = 0; i < 100; i++) {
      const text = `#${i}`;
      expect((await bench.root.pread(fd, text.length + 2, i * 123_457)).toString("latin1").slice(0, text.length)).toBe(
        text,
      );
    }
  });

  test("a write-only handle may allocate", async () => {
    await filled(10);
    const fd = await bench.root.open("f", O_WRONLY);
    await bench.root.fallocate(fd, 0, 0, 5000);
    expect((await bench.root.stat("f")).lengthBytes).toBe(5000n);
  });
}
