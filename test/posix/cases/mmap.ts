/** Memory maps, shared and private, beside read and write. */
import { expect, test } from "vitest";
import { refuses, type Bench } from "../bench.ts";
import {
  MAP_PRIVATE,
  MAP_SHARED,
  O_CREAT,
  O_RDONLY,
  O_RDWR,
  PROT_EXEC,
  PROT_READ,
  PROT_WRITE,
  SIGBUS,
} from "../constants.ts";
import { isLater } from "../driver.ts";
import { sleep } from "../../support/run.ts";

const PAGE = 4096;
const BOTH = PROT_READ | PROT_WRITE;

export function mmapCases(bench: Bench): void {
  test("a map shows the file", async () => {
    await bench.root.file("f", "0123456789");
    const map = await bench.root.mmap(await bench.root.open("f", O_RDONLY), PAGE, PROT_READ, MAP_SHARED);
    expect(await bench.root.peek(map, 2, 5)).toBe("23456");
    expect(await bench.root.peek(map, 10, 3)).toBe("\0\0\0");
  });

  test("a shared map and read and write see the same bytes at once", async () => {
    await bench.root.file("f", Buffer.alloc(3 * PAGE, "a"));
    const fd = await bench.root.open("f", O_RDWR);
    const map = await bench.root.mmap(fd, 3 * PAGE, BOTH, MAP_SHARED);
    await bench.root.poke(map, PAGE - 2, "mapped");
    expect((await bench.root.pread(fd, 6, PAGE - 2)).toString()).toBe("mapped");
    await bench.root.pwrite(fd, "written", 2 * PAGE - 3);
    expect(await bench.root.peek(map, 2 * PAGE - 3, 7)).toBe("written");
  });

  test("two processes share a map", async () => {
    await bench.root.sharedFile("f", Buffer.alloc(PAGE, "."));
    const one = await bench.root.mmap(await bench.root.open("f", O_RDWR), PAGE, BOTH, MAP_SHARED);
    const two = await bench.alice.mmap(await bench.alice.open("f", O_RDWR), PAGE, BOTH, MAP_SHARED);
    await bench.root.poke(one, 0, "ping");
    expect(await bench.alice.peek(two, 0, 4)).toBe("ping");
    await bench.alice.poke(two, 4, "pong");
    expect(await bench.root.peek(one, 0, 8)).toBe("pingpong");
  });

  test("msync brings a shared map into the file, through close too", async () => {
    await bench.root.file("f", Buffer.alloc(5 * PAGE, "a"));
    const fd = await bench.root.open("f", O_RDWR);
    const map = await bench.root.mmap(fd, 5 * PAGE, BOTH, MAP_SHARED);
    await bench.root.close(fd);
    for (let page = 0; page < 5; page++) await bench.root.poke(map, page * PAGE + 7, `page ${page}`);
    await bench.root.msync(map);
    await bench.root.munmap(map);
    const content = await bench.root.content("f");
    for (let page = 0; page < 5; page++) {
      expect(content.subarray(page * PAGE + 6, page * PAGE + 14).toString()).toBe(`apage ${page}a`);
    }
  });

  test("a private map keeps its changes to itself", async () => {
    await bench.root.file("f", "original");
    const fd = await bench.root.open("f", O_RDWR);
    const map = await bench.root.mmap(fd, PAGE, BOTH, MAP_PRIVATE);
    await bench.root.poke(map, 0, "CHANGED!");
    expect(await bench.root.peek(map, 0, 8)).toBe("CHANGED!");
    expect(await bench.root.textOf("f")).toBe("original");
  });

  test("a private map of a read-only handle may be written", async () => {
    await bench.root.file("f", "original");
    const map = await bench.root.mmap(await bench.root.open("f", O_RDONLY), PAGE, BOTH, MAP_PRIVATE);
    await bench.root.poke(map, 0, "X");
    expect(await bench.root.peek(map, 0, 4)).toBe("Xrig");
  });

  test("a shared map for writing wants a handle that writes", async () => {
    await bench.root.file("f", "x");
    const fd = await bench.root.open("f", O_RDONLY);
    await refuses("EACCES", bench.root.mmap(fd, PAGE, BOTH, MAP_SHARED));
  });

  test("a map of a program may be executable", async () => {
    await bench.program("tool");
    await bench.root.mmap(await bench.root.open("tool", O_RDONLY), PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE);
  });

  test("a map past the end of the file is a SIGBUS, after a truncate too", async () => {
    await bench.root.file("f", Buffer.alloc(3 * PAGE, "a"));
    const fd = await bench.root.open("f", O_RDWR);
    const map = await bench.root.mmap(fd, 4 * PAGE, BOTH, MAP_SHARED);
    expect(await bench.root.call("touch_map", map, 2 * PAGE)).toEqual(["0"]);
    expect(await bench.root.call("touch_map", map, 3 * PAGE)).toEqual([String(SIGBUS)]);
    await bench.root.ftruncate(fd, PAGE);
    expect(await bench.root.call("touch_map", map, 2 * PAGE)).toEqual([String(SIGBUS)]);
    await bench.root.ftruncate(fd, 4 * PAGE);
    expect(await bench.root.peek(map, 3 * PAGE, 2)).toBe("\0\0");
  });

  test("bytes beyond the end in the last page never reach the file", async () => {
    await bench.root.file("f", "12345");
    const fd = await bench.root.open("f", O_RDWR);
    const map = await bench.root.mmap(fd, PAGE, BOTH, MAP_SHARED);
    await bench.root.poke(map, 5, "garbage");
    await bench.root.msync(map);
    expect((await bench.root.stat("f")).lengthBytes).toBe(5n);
    await bench.root.ftruncate(fd, 20);
    expect(await bench.root.content("f")).toEqual(Buffer.from("12345" + "\0".repeat(15)));
  });

  test("a punched hole shows in a map", async () => {
    await bench.root.file("f", Buffer.alloc(4 * PAGE, "a"));
    const fd = await bench.root.open("f", O_RDWR);
    const map = await bench.root.mmap(fd, 4 * PAGE, BOTH, MAP_SHARED);
    expect(await bench.root.peek(map, PAGE, 2)).toBe("aa");
    await bench.root.fallocate(fd, 3, PAGE, PAGE);
    expect(await bench.root.peek(map, PAGE - 1, 3)).toBe("a\0\0");
    await bench.root.poke(map, PAGE, "b");
    expect((await bench.root.pread(fd, 3, PAGE - 1)).toString("latin1")).toBe("ab\0");
  });

  test("a hole is mapped, written and read back", async () => {
    const fd = await bench.root.open("f", O_CREAT | O_RDWR);
    await bench.root.ftruncate(fd, 100 * PAGE);
    const map = await bench.root.mmap(fd, 100 * PAGE, BOTH, MAP_SHARED);
    for (let page = 3; page < 100; page += 13) await bench.root.poke(map, page * PAGE + 1, `p${page}`);
    await bench.root.msync(map);
    for (let page = 3; page < 100; page += 13) {
      const text = `\0p${page}\0`;
      expect((await bench.root.pread(fd, text.length, page * PAGE)).toString("latin1")).toBe(text);
    }
  });

  test("a map at an offset shows that part", async () => {
    await bench.root.file("f", Buffer.concat([Buffer.alloc(PAGE, "a"), Buffer.alloc(PAGE, "b")]));
    const fd = await bench.root.open("f", O_RDWR);
    const map = await bench.root.mmap(fd, PAGE, PROT_READ, MAP_SHARED, PAGE);
    expect(await bench.root.peek(map, 0, 2)).toBe("bb");
    await refuses("EINVAL", bench.root.mmap(fd, PAGE, PROT_READ, MAP_SHARED, 100));
  });

  test("writing through a map changes mtime by the time of msync", async () => {
    await bench.root.file("f", Buffer.alloc(PAGE, "a"));
    const fd = await bench.root.open("f", O_RDWR);
    const map = await bench.root.mmap(fd, PAGE, BOTH, MAP_SHARED);
    const before = (await bench.root.stat("f")).modifyTime;
    await sleep(15);
    await bench.root.poke(map, 0, "b");
    await bench.root.msync(map);
    await bench.root.munmap(map);
    await bench.root.fsync(fd);
    expect(isLater((await bench.root.stat("f")).modifyTime, before)).toBe(true);
  });

  test("appending by write grows what a map of the next page shows", async () => {
    const fd = await bench.root.open("f", O_CREAT | O_RDWR);
    await bench.root.pfill(fd, 0x61, PAGE, 0);
    const map = await bench.root.mmap(fd, 2 * PAGE, PROT_READ, MAP_SHARED);
    await bench.root.pfill(fd, 0x62, PAGE, PAGE);
    expect(await bench.root.peek(map, PAGE - 1, 2)).toBe("ab");
  });
}
