/** Versions and trash as a person meets them: an editor's save, git, rm -r and back, kill -9, and the commands. */
import { appendFile, mkdir, readFile, readdir, rename, rm, stat, unlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { setTimeout as sleep } from "node:timers/promises";
import { Cleanup } from "../support/cleanup.ts";
import { run } from "../support/run.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";
import { mountTcfs, tcfs, type TcfsMount } from "../support/tcfs-mount.ts";

interface Version {
  readonly time: string;
  readonly kind: string;
  readonly bytes: number;
}

describe("versions and trash in a mount", () => {
  const cleanup = new Cleanup();
  let mount: TcfsMount;
  beforeAll(async () => {
    mount = cleanup.use(await mountTcfs());
    await succeed(["versions", "--policy", "min-age=0s", "-m", mount.mountPoint]);
  });
  afterAll(() => cleanup[Symbol.asyncDispose]());

  const at = (...names: string[]): string => join(mount.mountPoint, ...names);
  const versionsOf = async (path: string): Promise<Version[]> =>
    JSON.parse(await succeed(["versions", path, "--json"])) as Version[];
  const trash = async (): Promise<string[]> =>
    (JSON.parse(await succeed(["trash", "--json", "-m", mount.mountPoint])) as { path: string }[]).map(
      ({ path }) => path,
    );

  test("a shell's and an editor's saves, by path in the mount, relative to it, and in the vault", async () => {
    await mkdir(at("texts"));
    for (const text of ["one", "two", "three"]) await writeFile(at("texts", "notes"), text);
    await writeFile(at("texts", "notes~new"), "four");
    await rename(at("texts", "notes~new"), at("texts", "notes"));
    const versions = await versionsOf(at("texts", "notes"));
    expect(versions.map(({ kind, bytes }) => `${kind} ${bytes}`)).toEqual(["changed 3", "changed 3", "replaced 5"]);
    const relative = await tcfs(["versions", "notes", "--json"], { cwd: at("texts") });
    expect(JSON.parse(relative.stdout)).toEqual(versions);
    const inVault = await succeed(["versions", "texts/notes", "--json", "-m", mount.mountPoint]);
    expect(JSON.parse(inVault)).toEqual(versions);
    await succeed(["versions", at("texts", "notes"), "--restore", versions[1]?.time ?? "", "--to", at("texts", "two")]);
    expect(await readFile(at("texts", "two"), "utf8")).toBe("two");
    expect(await readFile(at("texts", "notes"), "utf8")).toBe("four");
    await succeed(["versions", at("texts", "notes"), "--restore", versions[0]?.time ?? ""]);
    expect(await readFile(at("texts", "notes"), "utf8")).toBe("one");
    expect((await versionsOf(at("texts", "notes"))).length).toBe(4);
  });

  test("restore --at takes each file as it was then, in place and out of the vault, and says where from", async () => {
    await mkdir(at("then"));
    const below = (...names: string[]): string => at("then", ...names);
    const now = async (): Promise<string> => {
      await sleep(20);
      return new Date().toISOString();
    };
    for (const name of ["changed", "gone", "rests"]) await writeFile(below(name), `${name} 1`);
    const then = await now();
    await sleep(20);
    await writeFile(below("changed"), "changed 2");
    await rm(below("gone"));
    await writeFile(below("new"), "new");
    const words = ["--at", then, "--path", below(), "-m", mount.mountPoint];
    const listed = await succeed(["restore", ...words, "--list"]);
    const files = listed.split("\n").flatMap((line) => /then\/(.*)$/u.exec(line)?.[1] ?? []);
    expect(files.map((line) => line.replace(/\d{4}-\S+Z/u, "TIME")).sort()).toEqual([
      "changed  (version of TIME)",
      "gone  (trash of TIME)",
      "rests  (present)",
    ]);
    await using out = await temporaryDirectory("restore-at");
    expect((await tcfs(["restore", ...words, "--to", join(out.path, "to")])).code).toBe(0);
    const restored = async (name: string): Promise<string> => readFile(join(out.path, "to/then", name), "utf8");
    expect(await readdir(join(out.path, "to/then"))).toEqual(["changed", "gone", "rests"]);
    expect([await restored("changed"), await restored("gone")]).toEqual(["changed 1", "gone 1"]);
    expect(await succeed(["restore", ...words, "--dry-run"])).toContain("- then/new");
    expect(await succeed(["restore", ...words])).toContain(`“then” is as at ${then}: 1 changed, 1 added, 1 removed`);
    expect((await readdir(below())).sort()).toEqual(["changed", "gone", "rests"]);
    expect(await readFile(below("changed"), "utf8")).toBe("changed 1");
    await succeed(["undo", "-m", mount.mountPoint]);
    expect(await readFile(below("new"), "utf8")).toBe("new");
    const later = await tcfs(["restore", "--at", then, "--path", below("new"), "-m", mount.mountPoint]);
    expect(later.stderr).toBe(
      `tcfs: “then/new” was not there at ${then}: tcfs restore --at ${then} --list --path then shows what is there\n`,
    );
  });

  test(".versions shows what is kept, at once, and the bytes as they were", async () => {
    await mkdir(at("shown"));
    await writeFile(at("shown", "text"), "first");
    const below = at(".versions", "shown");
    expect(await readdir(below)).toEqual([]);
    for (const text of ["second", "third"]) {
      await writeFile(at("shown", "text"), text);
      const names = (await versionsOf(at("shown", "text"))).map(({ time }) => `text@${time}`);
      expect((await readdir(below)).sort()).toEqual(names.sort());
    }
    const contents = await Promise.all(
      (await readdir(below)).sort().map((name) => readFile(join(below, name), "utf8")),
    );
    expect(contents).toEqual(["first", "second"]);
    expect(await readdir(mount.mountPoint)).not.toContain(".versions");
    const [name = ""] = await readdir(below);
    await expect(writeFile(join(below, name), "x")).rejects.toMatchObject({ code: "EROFS" });
    await expect(readFile(join(below, "text@1999"))).rejects.toMatchObject({ code: "ENOENT" });
    await rm(at("shown"), { recursive: true });
    expect((await readdir(below)).length).toBe(3);
  });

  test("a file that was never there, a time that none has, and bad settings end with a sentence", async () => {
    const missing = await tcfs(["versions", at("nowhere", "none")]);
    expect(missing).toMatchObject({ code: 2, stdout: "" });
    expect(missing.stderr).toContain("there is no such file");
    const never = await tcfs(["versions", at("texts", "notes"), "--restore", "1999-01-01"]);
    expect(never).toMatchObject({ code: 2 });
    expect(never.stderr).toContain("there is no version “1999-01-01”");
    expect((await tcfs(["versions", "--policy", "all=soon", "-m", mount.mountPoint])).stderr).toContain(
      "no time such as",
    );
    expect((await tcfs(["trash", "--restore", "x", "--empty", "-m", mount.mountPoint])).code).toBe(2);
    expect((await tcfs(["trash", "--restore", "never", "-m", mount.mountPoint])).stderr).toContain("not in the trash");
  });

  test("rm -r and back: the tree is as it was", async () => {
    await mkdir(at("tree", "deep", "er"), { recursive: true, mode: 0o750 });
    await run("cp", ["-a", join(process.cwd(), "src", "format"), at("tree", "deep")]);
    await writeFile(at("tree", "deep", "er", "empty"), "");
    await run("ln", ["-s", "../format", at("tree", "deep", "er", "link")]);
    const before = await listing(at("tree", "deep"));
    await rm(at("tree", "deep"), { recursive: true });
    expect(await trash()).toContain("tree/deep/format/records.ts");
    expect(await succeed(["trash", "--restore", at("tree", "deep")])).toMatch(
      /^\d+ files and 3 directories are back\n$/,
    );
    expect(await listing(at("tree", "deep"))).toEqual(before);
    await run("diff", ["-r", join(process.cwd(), "src", "format"), at("tree", "deep", "format")]);
    expect((await trash()).filter((path) => path.startsWith("tree"))).toEqual([]);
  });

  test("git works as ever, and what it replaces can be seen", async () => {
    const git = (...words: string[]) =>
      run("git", ["-C", at("repository"), "-c", "user.name=A", "-c", "user.email=a@example.org", ...words]);
    await mkdir(at("repository"));
    await git("init", "-q");
    for (const text of ["first\n", "second\n"]) {
      await writeFile(at("repository", "file"), text);
      await git("add", "file");
      await git("commit", "-q", "-m", text.trim());
    }
    await git("fsck", "--strict");
    expect((await versionsOf(at("repository", "file"))).length).toBe(1);
    expect((await versionsOf(at("repository", ".git", "index"))).map(({ kind }) => kind)).toContain("replaced");
    await git("checkout", "-q", "HEAD~1");
    expect(await readFile(at("repository", "file"), "utf8")).toBe("first\n");
  });

  test("after SIGKILL the versions that were synced are there, and a deleted file is there or in the trash", async () => {
    await writeFile(at("killed"), "before", { flush: true });
    await writeFile(at("killed"), "after", { flush: true });
    await writeFile(at("gone"), "content", { flush: true });
    await unlink(at("gone"));
    await mount.kill9();
    await mount.mount();
    expect((await versionsOf(at("killed"))).map(({ bytes }) => bytes)).toEqual([6]);
    const isThere = (await readdir(mount.mountPoint)).includes("gone");
    expect((await trash()).includes("gone")).toBe(!isThere);
    if (!isThere) await succeed(["trash", "--restore", at("gone")]);
    expect(await readFile(at("gone"), "utf8")).toBe("content");
  });

  test("the policy stays in the vault and says what is kept; off keeps nothing", async () => {
    await succeed(["versions", "--policy", "max=2,off", "-m", mount.mountPoint]);
    await writeFile(at("quiet"), "1");
    await appendFile(at("quiet"), "2");
    await mount.remount();
    expect(await versionsOf(at("quiet"))).toEqual([]);
    expect(await succeed(["versions", "--policy", "", "-m", mount.mountPoint])).toMatch(/^off,all=1h,.*max=2,/);
    await succeed(["versions", "--policy", "on", "-m", mount.mountPoint]);
    for (const text of ["3", "4", "5", "6"]) await writeFile(at("quiet"), text);
    expect((await versionsOf(at("quiet"))).length).toBe(2);
    await succeed(["trash", "--empty", "-m", mount.mountPoint]);
    expect(await trash()).toEqual([]);
  });
});

async function succeed(parameters: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await tcfs(parameters);
  expect(stderr).toBe("");
  expect(code).toBe(0);
  return stdout;
}

/** Paths with type, mode, length and target. */
async function listing(directory: string): Promise<string[]> {
  const text = await run("find", [directory, "-printf", "%P %y %m %l\\n"]);
  expect((await stat(directory)).isDirectory()).toBe(true);
  return text.split("\n").sort();
}
