/** Reading directories: complete, without doubles, while they change. */
import { expect, test } from "vitest";
import { refuses, type Bench } from "../bench.ts";
import type { ListedEntry } from "../driver.ts";
import {
  DT_BLK,
  DT_CHR,
  DT_DIR,
  DT_FIFO,
  DT_LNK,
  DT_REG,
  DT_SOCK,
  O_DIRECTORY,
  O_RDONLY,
  S_IFBLK,
  S_IFCHR,
  S_IFIFO,
} from "../constants.ts";

const MANY = 100_000;
/** Fewer than the 65,000 names that ext4 gives to one file. */
const LINKS_OF_ONE_FILE = 50_000;
const STEP = 100;
const BIG_STEP = 4000;

export function directoryCases(bench: Bench): void {
  test("an empty directory lists . and .. alone", async () => {
    await bench.root.mkdir("d");
    const entries = await bench.root.readDirectory(await bench.root.openDirectory("d"));
    expect(entries.map((entry) => entry.name).sort()).toEqual([".", ".."]);
  });

  test("every entry carries its inode number, . and .. included", async () => {
    await bench.root.mkdir("d");
    await bench.root.mkdir("d/sub");
    await bench.root.file("d/file");
    const entries = await bench.root.readDirectory(await bench.root.openDirectory("d"));
    for (const { name, ino } of entries) expect(ino).toBe((await bench.root.lstat(`d/${name}`)).ino);
  });

  test("every entry carries its type", async () => {
    await bench.root.mkdir("d");
    await bench.root.file("d/file");
    await bench.root.mkdir("d/directory");
    await bench.root.symlink("t", "d/symlink");
    await bench.root.mknod("d/fifo", S_IFIFO | 0o600);
    await bench.root.mknod("d/character", S_IFCHR | 0o600, 1, 3);
    await bench.root.mknod("d/block", S_IFBLK | 0o600, 7, 200);
    await bench.root.chdir("d");
    await bench.root.bind("socket");
    const entries = await bench.root.readDirectory(await bench.root.openDirectory("."));
    expect(Object.fromEntries(entries.map(({ name, type }) => [name, type]))).toEqual({
      ".": DT_DIR,
      "..": DT_DIR,
      file: DT_REG,
      directory: DT_DIR,
      symlink: DT_LNK,
      fifo: DT_FIFO,
      character: DT_CHR,
      block: DT_BLK,
      socket: DT_SOCK,
    });
  });

  test("100,000 entries are listed once each", async () => {
    await makeMany(bench);
    const names = await bench.root.list("many");
    expect(names).toHaveLength(MANY);
    expect(new Set(names).size).toBe(MANY);
    expect(names[0]).toBe("stay000000");
    expect(names.at(-1)).toBe("stay099999");
    await bench.root.call("unlink_many", "many/stay", 0, MANY);
    expect(await bench.root.list("many")).toEqual([]);
  });

  test("of 100,000 entries each is listed once, and each position stays right, while others come and go", async () => {
    await makeMany(bench);
    await bench.root.call("link_many", "many/go", 0, 10 * STEP, "target0");
    const handle = await bench.root.openDirectory("many");
    const seen: ListedEntry[] = [];
    for (let turn = 0; ; turn++) {
      const entries = await bench.root.readDirectory(handle, BIG_STEP);
      if (entries.length === 0) break;
      seen.push(...entries);
      // Whoever looks at what it has read is given attributes with the next names (readdirplus), others names alone.
      if (turn % 2 === 1) for (const { name, ino } of entries.slice(-3)) await looksUp(bench, name, ino);
      if (turn >= 10) continue;
      await bench.root2.call("unlink_many", "many/go", turn * STEP, (turn + 1) * STEP);
      await bench.root2.call("link_many", "many/come", turn * STEP, (turn + 1) * STEP, "target1");
    }
    expect(new Set(seen.map(({ name }) => name)).size).toBe(seen.length);
    const stayed = seen.filter(isStaying);
    expect(stayed).toHaveLength(MANY);

    for (let i = 0; i < MANY; i += 7919) {
      const [entry, next] = [stayed[i]!, stayed[i + 1]!];
      await bench.root.call("seekdir", handle, entry.position);
      expect(BigInt((await bench.root.call("telldir", handle))[0]!)).toBe(entry.position);
      const following = await bench.root.readDirectory(handle, BIG_STEP);
      expect(following.find(isStaying)?.name, `after ${entry.name}`).toBe(next.name);
    }
  });

  test("entries that stay are listed once while others come and go", async () => {
    await bench.root.call("create_many", "stay", 0, 1000);
    await bench.root.call("create_many", "go", 0, 1000);
    const handle = await bench.root.openDirectory(".");
    const seen: string[] = [];
    for (let turn = 0; ; turn++) {
      const entries = await bench.root.readDirectory(handle, STEP);
      if (entries.length === 0) break;
      seen.push(...entries.map((entry) => entry.name));
      if (turn >= 10) continue;
      await bench.root2.call("unlink_many", "go", turn * 100, turn * 100 + 100);
      await bench.root2.call("create_many", "come", turn * 200, turn * 200 + 200);
    }
    const stayed = seen.filter((name) => name.startsWith("stay"));
    expect(stayed).toHaveLength(1000);
    expect(new Set(seen).size).toBe(seen.length);
  });

  test("a directory is emptied by removing what is read, as rm -r does", async () => {
    await bench.root.mkdir("d");
    await bench.root.call("create_many", "d/f", 0, 3000);
    const handle = await bench.root.openDirectory("d");
    for (;;) {
      const entries = await bench.root.readDirectory(handle, 50);
      if (entries.length === 0) break;
      for (const { name } of entries) if (name.startsWith("f")) await bench.root.unlink(`d/${name}`);
    }
    await bench.root.rmdir("d");
  });

  test("a directory is emptied by renaming away what is read", async () => {
    await bench.root.mkdir("from");
    await bench.root.mkdir("to");
    await bench.root.call("create_many", "from/f", 0, 500);
    const handle = await bench.root.openDirectory("from");
    for (;;) {
      const entries = await bench.root.readDirectory(handle, 50);
      if (entries.length === 0) break;
      for (const { name } of entries) if (name.startsWith("f")) await bench.root.rename(`from/${name}`, `to/${name}`);
    }
    expect(await bench.root.list("from")).toEqual([]);
    expect(await bench.root.list("to")).toHaveLength(500);
  });

  test("seekdir goes back to every position that telldir gave", async () => {
    await bench.root.call("create_many", "f", 0, 400);
    const handle = await bench.root.openDirectory(".");
    const entries = await bench.root.readDirectory(handle);
    for (let i = 0; i + 1 < entries.length; i += 37) {
      await bench.root.call("seekdir", handle, entries[i]!.position);
      const [next] = await bench.root.readDirectory(handle, 1);
      expect(next?.name).toBe(entries[i + 1]!.name);
    }
  });

  test("a position stays right when entries before it are removed", async () => {
    await bench.root.call("create_many", "f", 0, 400);
    const handle = await bench.root.openDirectory(".");
    const entries = await bench.root.readDirectory(handle);
    const middle = 200;
    for (const { name } of entries.slice(0, middle)) if (name.startsWith("f")) await bench.root.unlink(name);
    await bench.root.call("seekdir", handle, entries[middle]!.position);
    const rest = await bench.root.readDirectory(handle);
    expect(rest.map((entry) => entry.name)).toEqual(entries.slice(middle + 1).map((entry) => entry.name));
  });

  test("rewinddir shows what was made since", async () => {
    const handle = await bench.root.openDirectory(".");
    await bench.root.readDirectory(handle);
    await bench.root.file("new");
    await bench.root.call("rewinddir", handle);
    const entries = await bench.root.readDirectory(handle);
    expect(entries.map((entry) => entry.name)).toContain("new");
  });

  test("what another process makes and removes shows in the next listing", async () => {
    await bench.root.file("a");
    expect(await bench.alice.list(".")).toEqual(["a"]);
    await bench.root.file("b");
    expect(await bench.alice.list(".")).toEqual(["a", "b"]);
    await bench.root.unlink("a");
    expect(await bench.alice.list(".")).toEqual(["b"]);
    await bench.root.rename("b", "c");
    expect(await bench.alice.list(".")).toEqual(["c"]);
  });

  test("an open directory that was removed lists nothing of its own", async () => {
    await bench.root.mkdir("d");
    const handle = await bench.root.openDirectory("d");
    await bench.root.rmdir("d");
    const names = (await bench.root.readDirectory(handle)).map((entry) => entry.name);
    expect(names.filter((name) => name !== "." && name !== "..")).toEqual([]);
  });

  test("a directory refuses read, write and truncate", async () => {
    await bench.root.mkdir("d");
    const fd = await bench.root.open("d", O_RDONLY | O_DIRECTORY);
    await refuses("EISDIR", bench.root.read(fd, 10));
    await refuses("EBADF", bench.root.write(fd, "x"));
    await refuses("EISDIR", bench.root.truncate("d", 0));
    await refuses("EINVAL", bench.root.ftruncate(fd, 0));
  });

  test("fsync and fdatasync work on directories", async () => {
    await bench.root.mkdir("d");
    const fd = await bench.root.open("d", O_RDONLY);
    await bench.root.file("d/f");
    await bench.root.fsync(fd);
    await bench.root.fdatasync(fd);
  });

  test("two handles on one directory read independently", async () => {
    await bench.root.call("create_many", "f", 0, 10);
    const [a, b] = [await bench.root.openDirectory("."), await bench.root.openDirectory(".")];
    await bench.root.readDirectory(a, 6);
    expect(await bench.root.readDirectory(b)).toHaveLength(12);
    expect(await bench.root.readDirectory(a)).toHaveLength(6);
  });

  test("an entry that was unlinked and made again is listed once in a new listing", async () => {
    await bench.root.call("create_many", "f", 0, 50);
    await bench.root.unlink("f000025");
    await bench.root.file("f000025");
    expect(await bench.root.list(".")).toHaveLength(50);
  });

  test("names of 255 bytes fill many buffers without a loss", async () => {
    for (let i = 0; i < 200; i++) await bench.root.file(`${String(i).padStart(3, "0")}${"n".repeat(252)}`);
    expect(await bench.root.list(".")).toHaveLength(200);
  });
}

/** A directory `many` of names of two files beside it, which costs less than as many files. */
async function makeMany({ root }: Bench): Promise<void> {
  await root.mkdir("many");
  for (let from = 0; from < MANY; from += LINKS_OF_ONE_FILE) {
    const target = `target${String(from / LINKS_OF_ONE_FILE)}`;
    await root.file(target);
    await root.call("link_many", "many/stay", from, from + LINKS_OF_ONE_FILE, target);
  }
}

function isStaying({ name }: ListedEntry): boolean {
  return name.startsWith("stay");
}

/** The entry is what it was listed as, unless it is one of those that go. */
async function looksUp({ root }: Bench, name: string, ino: bigint): Promise<void> {
  const found = await root.lstat(`many/${name}`).catch((error: unknown) => {
    if (name.startsWith("go")) return undefined;
    throw error;
  });
  if (found !== undefined && name !== "..") expect(found.ino, name).toBe(ino);
}
