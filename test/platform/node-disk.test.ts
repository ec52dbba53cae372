import { constants } from "node:fs";
import { mkdir, readFile, stat, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";

import { describe, expect, test } from "vitest";

import { NodeDisk } from "../../src/platform/node-disk.ts";
import { expectSameBytes, noise } from "../crypto/fixtures.ts";
import { run } from "../support/run.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

const disk = new NodeDisk();

describe("a file on the machine's disk", () => {
  test("reads what was written, in more pieces than one call takes", async () => {
    await using directory = await temporaryDirectory("disk");
    const file = await disk.create(join(directory.path, "file"));
    const pieces = Array.from({ length: 2500 }, (_, i) => noise(String(i), i % 7));
    await file.write(pieces, 100);
    const expected = Buffer.concat([Buffer.alloc(100), ...pieces]);
    expect(await file.length()).toBe(expected.length);
    const into = new Uint8Array(expected.length + 50);
    expect(await file.readInto(into, 0)).toBe(expected.length);
    expectSameBytes(into.subarray(0, expected.length), expected);
    expect(await file.readInto(into, expected.length + 1)).toBe(0);
    await file.sync();
    await file.truncate(10);
    expect(await file.length()).toBe(10);
    await file.close();
  });

  test("is created for its owner alone, once, and never through a symlink", async () => {
    await using directory = await temporaryDirectory("disk");
    const path = join(directory.path, "file");
    await (await disk.create(path)).close();
    expect((await stat(path)).mode & 0o777).toBe(0o600);
    await expect(disk.create(path)).rejects.toMatchObject({ code: "TCFS_EXISTS" });
    await symlink(path, join(directory.path, "link"));
    await expect(disk.open(join(directory.path, "link"))).rejects.toMatchObject({ code: "TCFS_IO" });
    await expect(disk.open(join(directory.path, "none"))).rejects.toMatchObject({ code: "TCFS_NO_ENTRY" });
  });

  test("closes twice, and then refuses, so that a reused descriptor is never reached", async () => {
    await using directory = await temporaryDirectory("disk");
    const file = await disk.create(join(directory.path, "file"));
    await file.close();
    await file.close();
    await expect(file.write([noise("late", 10)], 0)).rejects.toMatchObject({ code: "TCFS_CLOSED" });
    await expect(file.sync()).rejects.toMatchObject({ code: "TCFS_CLOSED" });
    await expect(file.readInto(new Uint8Array(1), 0)).rejects.toMatchObject({ code: "TCFS_CLOSED" });
    expect(() => file.fd).toThrow(expect.objectContaining({ code: "TCFS_CLOSED" }));
  });
});

test("a FIFO in the place of a file holds up nobody", async () => {
  await using directory = await temporaryDirectory("disk");
  const path = join(directory.path, "fifo");
  await run("mkfifo", [path]);
  const file = await disk.open(path);
  const read = file.readInto(new Uint8Array(10), 0).catch((error: unknown) => error);
  expect([0, expect.objectContaining({ code: "TCFS_IO" })]).toContainEqual(await read);
  await file.close();
});

describe("a durable file", () => {
  test("is one that exists, opened with O_DSYNC, and takes writes in place from the thread and the pool", async () => {
    await using directory = await temporaryDirectory("disk");
    const path = join(directory.path, "file");
    await expect(disk.openDurable(path)).rejects.toMatchObject({ code: "TCFS_NO_ENTRY" });
    await writeFile(path, new Uint8Array(10_000));
    const file = await disk.openDurable(path);
    const { fd } = file as unknown as { fd: number };
    const flags = /^flags:\s+(\d+)$/mu.exec(await readFile(`/proc/self/fdinfo/${fd}`, "utf8"))?.[1] ?? "";
    expect(Number.parseInt(flags, 8) & constants.O_DSYNC).toBe(constants.O_DSYNC);
    file.writeSync(noise("thread", 3000), 100);
    await file.write([noise("pool", 500), noise("more", 500)], 5000);
    const expected = new Uint8Array(10_000);
    expected.set(noise("thread", 3000), 100);
    expected.set(noise("pool", 500), 5000);
    expected.set(noise("more", 500), 5500);
    expectSameBytes(await readFile(path), expected);
    const into = new Uint8Array(3000);
    expect(await file.readInto(into, 100)).toBe(3000);
    expectSameBytes(into, noise("thread", 3000));
    expect(await file.length()).toBe(10_000);
    await symlink(path, `${path}.link`);
    await expect(disk.openDurable(`${path}.link`)).rejects.toMatchObject({ code: "TCFS_IO" });
    await file.close();
  });

  test("tells why a write on the thread failed, and takes none once it is closed", async () => {
    await using directory = await temporaryDirectory("disk");
    const path = join(directory.path, "file");
    await writeFile(path, "");
    const full = await disk.openDurable("/dev/full");
    expect(() => {
      full.writeSync(noise("x", 10), 0);
    }).toThrow(expect.objectContaining({ code: "TCFS_STORE_FULL" }));
    await expect(full.write([noise("x", 10)], 0)).rejects.toMatchObject({ code: "TCFS_STORE_FULL" });
    await full.close();
    const file = await disk.openDurable(path);
    await file.close();
    expect(() => {
      file.writeSync(noise("late", 10), 0);
    }).toThrow(expect.objectContaining({ code: "TCFS_CLOSED" }));
  });
});

describe("a directory on the machine's disk", () => {
  test("is not listed through a symlink", async () => {
    await using directory = await temporaryDirectory("disk");
    await mkdir(join(directory.path, "real"));
    await symlink(join(directory.path, "real"), join(directory.path, "link"));
    await expect(disk.list(join(directory.path, "link"))).rejects.toMatchObject({ code: "TCFS_IO" });
    expect(await disk.list(join(directory.path, "real"))).toEqual([]);
    expect(await disk.list(join(directory.path, "none"))).toEqual([]);
  });

  test("replaces files whole, whatever an earlier crash left", async () => {
    await using directory = await temporaryDirectory("disk");
    const path = join(directory.path, "file");
    await writeFile(`${path}.new`, "left by a crash");
    await disk.replaceFile(path, noise("one", 1000));
    await disk.replaceFile(path, noise("two", 10));
    expectSameBytes((await disk.readFile(path)) ?? new Uint8Array(0), noise("two", 10));
    expect((await stat(path)).mode & 0o777).toBe(0o600);
    expect(await disk.list(directory.path)).toEqual(["file"]);
    expect(await disk.readFile(join(directory.path, "none"))).toBeUndefined();
    await expect(disk.replaceFile(join(path, "x"), noise("x", 1))).rejects.toMatchObject({
      code: "TCFS_NOT_DIRECTORY",
    });
  });

  test("is made for its owner alone, with its parents where that is asked for, and may be there already", async () => {
    await using directory = await temporaryDirectory("disk");
    const path = join(directory.path, "a", "b");
    await expect(disk.makeDirectory(path)).rejects.toMatchObject({ code: "TCFS_NO_ENTRY" });
    // Where nothing can be made, for a reason that Node takes for a parent that is missing.
    await expect(disk.makeDirectories("/proc/none/below")).rejects.toMatchObject({ code: "TCFS_NO_ENTRY" });
    await disk.makeDirectories(join(directory.path, "a"));
    await disk.makeDirectory(path);
    await disk.makeDirectory(path);
    await disk.makeDirectories(path);
    expect((await stat(path)).mode & 0o777).toBe(0o700);
    await disk.syncDirectory(path);
    await (await disk.create(join(path, "file"))).close();
    expect(await disk.list(path)).toEqual(["file"]);
    await disk.remove(join(path, "file"));
    expect(await disk.list(path)).toEqual([]);
    expect(await disk.list(join(path, "none"))).toEqual([]);
    await expect(disk.remove(join(path, "file"))).rejects.toMatchObject({ code: "TCFS_NO_ENTRY" });
  });

  test("knows its space", async () => {
    await using directory = await temporaryDirectory("disk");
    const { totalBytes, freeBytes, availableBytes } = await disk.space(directory.path);
    expect(totalBytes).toBeGreaterThan(freeBytes);
    expect(freeBytes).toBeGreaterThanOrEqual(availableBytes);
    expect(availableBytes).toBeGreaterThan(0);
  });
});
