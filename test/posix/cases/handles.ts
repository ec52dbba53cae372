/** File handles (name_to_handle_at, open_by_handle_at): how NFS servers and backup programs name files. */
import { expect, test } from "vitest";
import { refuses, type Bench } from "../bench.ts";
import { O_CREAT, O_DIRECTORY, O_PATH, O_RDONLY, O_RDWR, O_WRONLY } from "../constants.ts";
import { errnoOf } from "../driver.ts";

const HANDLE_TYPE_AT = 4;

export function handleCases(bench: Bench): void {
  const forgetNames = (): Promise<number> => bench.root.forgetNames(bench.target.directory);

  async function textBy(handle: Uint8Array): Promise<string> {
    const fd = await bench.root.openHandle(handle, O_RDONLY);
    try {
      return (await bench.root.pread(fd, 100, 0)).toString();
    } finally {
      await bench.root.close(fd);
    }
  }

  /** Once the filesystem has heard that nobody has the file any more, which the kernel tells it by the way. */
  async function becomesStale(handle: Uint8Array): Promise<void> {
    const open = async (): Promise<unknown> => bench.root.close(await bench.root.openHandle(handle, O_RDONLY));
    await expect.poll(() => errnoOf(open())).toBe("ESTALE");
  }

  test("a file is opened by its handle after the kernel forgot it", async () => {
    await bench.root.file("f", "content");
    const handle = await bench.root.handle("f");
    expect(await textBy(handle)).toBe("content");
    await forgetNames();
    expect(await textBy(handle)).toBe("content");
  });

  test("a file is written through its handle", async () => {
    await bench.root.file("f", "old");
    const handle = await bench.root.handle("f");
    await forgetNames();
    const fd = await bench.root.openHandle(handle, O_WRONLY);
    await bench.root.write(fd, "new");
    await bench.root.close(fd);
    expect(await bench.root.textOf("f")).toBe("new");
  });

  test("a deep directory is opened by its handle and knows its parents", async () => {
    await bench.root.mkdir("a");
    await bench.root.mkdir("a/b");
    await bench.root.mkdir("a/b/c");
    await bench.root.file("a/b/c/f", "x");
    const handle = await bench.root.handle("a/b/c");
    await forgetNames();
    const fd = await bench.root.openHandle(handle, O_RDONLY | O_DIRECTORY);
    expect(await bench.root.readlink(`/proc/self/fd/${fd}`)).toBe(bench.path("a/b/c"));
    expect(await bench.root.list(`/proc/self/fd/${fd}`)).toEqual(["f"]);
    await bench.root.call("fchdir", fd);
    expect(await bench.root.list("../../..")).toEqual(["a"]);
  });

  test("a symlink and a fifo have handles", async () => {
    await bench.root.symlink("target", "symlink");
    await bench.root.mknod("fifo", 0o010644);
    const handles = [await bench.root.handle("symlink"), await bench.root.handle("fifo")];
    await forgetNames();
    for (const [index, name] of ["symlink", "fifo"].entries()) {
      const fd = await bench.root.openHandle(handles[index]!, O_PATH);
      expect((await bench.root.fstat(fd)).ino).toBe((await bench.root.lstat(name)).ino);
    }
  });

  test("a handle follows its file through renames and new names", async () => {
    await bench.root.file("f", "content");
    const handle = await bench.root.handle("f");
    await bench.root.mkdir("d");
    await bench.root.link("f", "d/linked");
    await bench.root.rename("f", "d/renamed");
    await bench.root.unlink("d/renamed");
    await forgetNames();
    expect(await textBy(handle)).toBe("content");
    expect(await bench.root.handle("d/linked")).toEqual(handle);
  });

  test("a handle of a removed file is stale, and no later file answers to it", async () => {
    const handles: Buffer[] = [];
    for (let i = 0; i < 20; i++) {
      await bench.root.file("f", String(i));
      handles.push(await bench.root.handle("f"));
      await bench.root.unlink("f");
    }
    await bench.root.file("f", "last");
    for (const handle of handles) await becomesStale(handle);
    await forgetNames();
    for (const handle of handles) await becomesStale(handle);
  });

  test("a handle of a removed directory is stale", async () => {
    await bench.root.mkdir("d");
    const handle = await bench.root.handle("d");
    await bench.root.rmdir("d");
    await forgetNames();
    await becomesStale(handle);
  });

  test("an unlinked file that is open is opened again by its handle", async () => {
    const fd = await bench.root.open("f", O_CREAT | O_RDWR);
    const handle = await bench.root.handle("f");
    await bench.root.write(fd, "still");
    await bench.root.unlink("f");
    await forgetNames();
    expect(await textBy(handle)).toBe("still");
    await bench.root.close(fd);
    await becomesStale(handle);
  });

  test("a forged handle opens nothing", async () => {
    await bench.root.file("f");
    const forged = Buffer.from(await bench.root.handle("f"));
    forged.fill(0x7f, 2 * HANDLE_TYPE_AT);
    await refuses("ESTALE", bench.root.openHandle(forged, O_RDONLY));
  });

  test("handles are for those who may read everything", async () => {
    await bench.root.sharedFile("f", "x");
    const handle = await bench.alice.handle("f");
    await refuses("EPERM", bench.alice.openHandle(handle, O_RDONLY));
  });
}
