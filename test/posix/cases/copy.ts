/** copy_file_range. */
import { expect, test } from "vitest";
import { refuses, type Bench } from "../bench.ts";
import { O_APPEND, O_CREAT, O_RDONLY, O_RDWR, O_WRONLY, SEEK_CUR } from "../constants.ts";

const LENGTH = 300_000;

export function copyCases(bench: Bench): void {
  const content = Buffer.from(Array.from({ length: LENGTH }, (_, i) => (i * 31 + (i >> 8)) & 255));
  let from = -1;
  let to = -1;

  async function prepare(): Promise<void> {
    await bench.root.file("from", content);
    from = await bench.root.open("from", O_RDONLY);
    to = await bench.root.open("to", O_CREAT | O_RDWR);
  }

  test("copies a whole file", async () => {
    await prepare();
    expect(await bench.root.copyRange({ fd: from }, { fd: to }, LENGTH)).toBe(LENGTH);
    expect((await bench.root.content("to")).equals(content)).toBe(true);
    expect(await bench.root.lseek(from, 0, SEEK_CUR)).toBe(BigInt(LENGTH));
  });

  test.each([
    [0, 0, 4096],
    [1, 0, 4095],
    [4096, 100, 65_536],
    [12_345, 54_321, 100_000],
    [250_000, 0, 50_000],
  ])("copies from %i to %i, %i bytes, and leaves the offsets", async (fromOffset, toOffset, lengthBytes) => {
    await prepare();
    const copied = await bench.root.copyRange(
      { fd: from, offset: fromOffset },
      { fd: to, offset: toOffset },
      lengthBytes,
    );
    expect(copied).toBe(lengthBytes);
    const expected = Buffer.concat([Buffer.alloc(toOffset), content.subarray(fromOffset, fromOffset + lengthBytes)]);
    expect((await bench.root.content("to")).equals(expected)).toBe(true);
    expect(await bench.root.lseek(from, 0, SEEK_CUR)).toBe(0n);
  });

  test("stops at the end of the source", async () => {
    await prepare();
    expect(await bench.root.copyRange({ fd: from, offset: LENGTH - 100 }, { fd: to, offset: 0 }, 1000)).toBe(100);
    expect(await bench.root.copyRange({ fd: from, offset: LENGTH }, { fd: to, offset: 0 }, 1000)).toBe(0);
    expect((await bench.root.stat("to")).lengthBytes).toBe(100n);
  });

  test("overwrites the middle of the target and no more", async () => {
    await prepare();
    await bench.root.pfill(to, 0x7a, LENGTH, 0);
    await bench.root.copyRange({ fd: from, offset: 1000 }, { fd: to, offset: 2000 }, 3000);
    const expected = Buffer.alloc(LENGTH, 0x7a);
    content.copy(expected, 2000, 1000, 4000);
    expect((await bench.root.content("to")).equals(expected)).toBe(true);
  });

  test("copies within one file, apart", async () => {
    await prepare();
    const both = await bench.root.open("from", O_RDWR);
    await bench.root.copyRange({ fd: both, offset: 0 }, { fd: both, offset: 150_000 }, 100_000);
    const expected = Buffer.from(content);
    content.copy(expected, 150_000, 0, 100_000);
    expect((await bench.root.content("from")).equals(expected)).toBe(true);
  });

  test("refuses overlapping ranges of one file with EINVAL", async () => {
    await prepare();
    const both = await bench.root.open("from", O_RDWR);
    await refuses("EINVAL", bench.root.copyRange({ fd: both, offset: 0 }, { fd: both, offset: 100 }, 1000));
  });

  test("a changed copy leaves the source alone, and the other way round", async () => {
    await prepare();
    await bench.root.copyRange({ fd: from, offset: 0 }, { fd: to, offset: 0 }, LENGTH);
    await bench.root.pwrite(to, "changed", 1000);
    expect((await bench.root.content("from")).equals(content)).toBe(true);
    await bench.root.truncate("from", 0);
    const expected = Buffer.from(content);
    expected.write("changed", 1000);
    expect((await bench.root.content("to")).equals(expected)).toBe(true);
  });

  test("copies what was just written", async () => {
    await prepare();
    const writer = await bench.root.open("from", O_RDWR);
    await bench.root.pwrite(writer, "fresh", 777);
    await bench.root.copyRange({ fd: from, offset: 770 }, { fd: to, offset: 0 }, 20);
    expect((await bench.root.textOf("to")).slice(7, 12)).toBe("fresh");
  });

  test("keeps the holes of the source readable as zeros", async () => {
    const sparse = await bench.root.open("sparse", O_CREAT | O_RDWR);
    await bench.root.pwrite(sparse, "end", 1_000_000);
    const target = await bench.root.open("to", O_CREAT | O_RDWR);
    await bench.root.pfill(target, 0x61, 1_000_003, 0);
    let at = 0;
    while (at < 1_000_003) {
      at += await bench.root.copyRange({ fd: sparse, offset: at }, { fd: target, offset: at }, 1_000_003 - at);
    }
    const copied = await bench.root.content("to");
    expect(copied.subarray(0, 1_000_000).every((byte) => byte === 0)).toBe(true);
    expect(copied.subarray(1_000_000).toString()).toBe("end");
  });

  test("refuses handles that cannot do it", async () => {
    await prepare();
    const writeOnly = await bench.root.open("from", O_WRONLY);
    await refuses("EBADF", bench.root.copyRange({ fd: writeOnly }, { fd: to }, 10));
    await refuses("EBADF", bench.root.copyRange({ fd: from }, { fd: from }, 10));
    const appending = await bench.root.open("to", O_WRONLY | O_APPEND);
    await refuses("EBADF", bench.root.copyRange({ fd: from }, { fd: appending }, 10));
    await refuses("EISDIR", bench.root.copyRange({ fd: await bench.root.open(".", O_RDONLY) }, { fd: to }, 10));
  });

  test("FICLONE clones the file or says that it cannot", async () => {
    await prepare();
    const answer = await bench.root.call("clone", to, from).catch((error: unknown) => String(error));
    if (typeof answer === "string") expect(answer).toMatch(/EOPNOTSUPP|ENOTTY|EINVAL/);
    else expect((await bench.root.content("to")).equals(content)).toBe(true);
  });
}
