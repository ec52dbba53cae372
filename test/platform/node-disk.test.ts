import { mkdir, stat, symlink, writeFile } from "node:fs/promises";
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

  test("is made with its parents, for its owner alone, and may be there already", async () => {
    await using directory = await temporaryDirectory("disk");
    const path = join(directory.path, "a", "b");
    await disk.makeDirectory(path);
    await disk.makeDirectory(path);
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
