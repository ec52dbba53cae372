/** `tcfs restore --path` on real mounts: files and trees go back in place, and all else stays. */
import {
  chmod,
  link,
  lstat,
  mkdir,
  open,
  readFile,
  readdir,
  rename,
  rm,
  stat,
  symlink,
  truncate,
  utimes,
  writeFile,
} from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { tcfs } from "../support/tcfs-mount.ts";
import { shell, sleep } from "../support/run.ts";
import { CommandLine } from "./fixtures.ts";

/** Mode, owner, links, size, times of files, xattrs, ACLs and content of everything at and below a path. */
async function describeTree(root: string): Promise<string> {
  return shell(
    `cd "$1" && find . -mindepth 1 -printf '%p %y %m %U:%G %n %T@ %l\n' | sort
     find . -type f -print0 | sort -z | xargs -0r sha256sum
     find . ! -type l -print0 | sort -z | xargs -0r getfattr -d -m - --absolute-names`.replaceAll("$1", root),
  );
}

async function fill(root: string): Promise<void> {
  await mkdir(join(root, "dir/inner"), { recursive: true });
  await writeFile(join(root, "dir/file"), "one\n");
  await link(join(root, "dir/file"), join(root, "dir/hard"));
  await symlink("file", join(root, "dir/soft"));
  await writeFile(join(root, "dir/sparse"), "start");
  await truncate(join(root, "dir/sparse"), 64 * 2 ** 20);
  await writeFile(join(root, "dir/inner/script"), "#!/bin/sh\necho then\n", { mode: 0o750 });
  await utimes(join(root, "dir/inner/script"), 1_000_000_000.25, 1_111_111_111.5);
  await writeFile(join(root, "dir", "n".repeat(255)), "long name");
  await shell(`mkfifo ${root}/dir/pipe; setfattr -n user.note -v kept ${root}/dir/file; chown 12:34 ${root}/dir/soft -h
    setfacl -m u:65534:r ${root}/dir/inner; setfacl -d -m g:7:rx ${root}/dir/inner; chmod 2775 ${root}/dir`);
  await writeFile(join(root, "beside"), "beside");
}

test("a tree goes back in place with all that files have, and what it did not have is gone", async () => {
  await using line = await CommandLine.make();
  await line.mount();
  const { mountPoint } = line;
  const dir = join(mountPoint, "dir");
  await fill(mountPoint);
  const then = await describeTree(dir);
  await line.expect("OK", ["snapshot", "then", "-m", mountPoint]);
  await writeFile(join(mountPoint, "beside"), "changed since");
  await shell(`cd ${dir} && echo longer > file && rm hard soft pipe n* && mv inner ../inner && mkdir inner && echo new > inner/new
    echo end >> sparse && chmod 700 . && setfattr -x user.note file && chown 5 sparse`);
  const later = await describeTree(mountPoint);
  const dry = await line.expect("OK", ["restore", "then", "--path", "dir", "--dry-run", "-m", mountPoint]);
  expect(dry.stdout).toContain("~ dir/file (7 B → 4 B, content, xattrs)\n");
  expect(dry.stdout).toContain("- dir/inner/new (4 B)\n");
  expect(dry.stdout).toContain("+ dir/inner/script (20 B)\n");
  expect(await describeTree(mountPoint)).toBe(later);
  const before = await uniqueBytes(line);
  const restored = await line.expect("OK", ["restore", "then", "--path", `${dir}/`, "-m", mountPoint]);
  expect(restored.stdout).toMatch(/^“dir” is as in “then”: \d+ changed, \d+ added, \d+ removed\n.*tcfs undo/u);
  expect(await describeTree(dir)).toBe(then);
  expect((await stat(join(dir, "sparse"))).blocks).toBeLessThan(100);
  expect((await lstat(join(dir, "file"))).ino).toBe((await lstat(join(dir, "hard"))).ino);
  expect(await shell(join(dir, "inner/script"))).toBe("then\n");
  // What was moved out of the tree stays there, and what is beside it stays as it is.
  expect(await readdir(join(mountPoint, "inner"))).toEqual(["script"]);
  expect(await readFile(join(mountPoint, "beside"), "utf8")).toBe("changed since");
  expect(await uniqueBytes(line)).toBe(before);
  const same = await line.expect("OK", ["restore", "then", "--path", "dir", "-m", mountPoint]);
  expect(same.stdout).toContain("already: nothing was done");
  await writeFile(join(mountPoint, "after"), "not to be undone");
  await line.expect("OK", ["undo", "-m", mountPoint]);
  expect(await readFile(join(mountPoint, "after"), "utf8")).toBe("not to be undone");
  await rm(join(mountPoint, "after"));
  const timeless = (text: string): string => text.replaceAll(/^\. .*$/gmu, "");
  expect(timeless(await describeTree(mountPoint))).toBe(timeless(later));
  await line.umount();
  await line.expect("OK", ["restore", "then", "--path", "dir", ...line.unlock]);
  await line.mount();
  expect(await describeTree(dir)).toBe(then);
  await line.umount();
});

test("one file goes back: replaced as editors do, changed in place while open, deleted with its directory", async () => {
  await using line = await CommandLine.make();
  await line.mount();
  const { mountPoint } = line;
  await mkdir(join(mountPoint, "a/b"), { recursive: true });
  await chmod(join(mountPoint, "a/b"), 0o710);
  for (const name of ["replaced", "open", "a/b/deleted", "linked"])
    await writeFile(join(mountPoint, name), `${name} 1`);
  await line.expect("OK", ["snapshot", "then", "-m", mountPoint]);
  await writeFile(join(mountPoint, "new"), "replaced 2");
  await rename(join(mountPoint, "new"), join(mountPoint, "replaced"));
  await link(join(mountPoint, "linked"), join(mountPoint, "elsewhere"));
  for (const name of ["open", "linked"]) await writeFile(join(mountPoint, name), `${name} 2, longer`);
  await rm(join(mountPoint, "a"), { recursive: true });
  const handle = await open(join(mountPoint, "open"), "r+");
  const paths = ["replaced", "open", "a/b/deleted", "linked"];
  await line.expect("OK", ["restore", "then", ...paths.flatMap((path) => ["--path", path]), "-m", mountPoint]);
  for (const name of paths) expect(await readFile(join(mountPoint, name), "utf8")).toBe(`${name} 1`);
  // A hard link made since, outside of the path, is cut and not changed.
  expect(await readFile(join(mountPoint, "elsewhere"), "utf8")).toBe("linked 2, longer");
  expect((await stat(join(mountPoint, "a/b"))).mode & 0o777).toBe(0o710);
  expect(await handle.readFile("utf8")).toBe("open 1");
  await handle.write("O", 0);
  await handle.close();
  expect(await readFile(join(mountPoint, "open"), "utf8")).toBe("Open 1");
  await line.expect("OK", ["undo", "-m", mountPoint]);
  expect(await readdir(mountPoint)).not.toContain("a");
  expect(await readFile(join(mountPoint, "linked"), "utf8")).toBe("linked 2, longer");
  await line.umount();
});

test("a path that is not there, or is in the way, is told with what may have been meant", async () => {
  await using line = await CommandLine.make();
  await line.mount();
  const { mountPoint } = line;
  await mkdir(join(mountPoint, "docs"));
  await writeFile(join(mountPoint, "docs/letter.odt"), "dear");
  await line.expect("OK", ["snapshot", "monday", "-m", mountPoint]);
  const restore = (...words: string[]): string[] => ["restore", "monday", ...words, "-m", mountPoint];
  const near = await line.expect("USAGE", restore("--path", "docs/leter.odt"));
  expect(near.stderr).toBe("tcfs: “docs/leter.odt” is not in the snapshot “monday”: did you mean “docs/letter.odt”?\n");
  expect((await line.expect("USAGE", restore("--path", "docs/letter.odt/x"))).stderr).toContain("is no directory");
  expect((await line.expect("USAGE", restore("--path", "/"))).stderr).toContain("leave --path away");
  await line.expect("USAGE", restore("--path", "docs/../docs"));
  await line.expect("USAGE", restore("--dry-run"));
  await line.expect("NO_SNAPSHOT", ["restore", "mondya", "--path", "docs", "-m", mountPoint]);
  await rm(join(mountPoint, "docs"), { recursive: true });
  await symlink(".", join(mountPoint, "docs"));
  const inWay = await line.expect("USAGE", restore("--path", "docs/letter.odt"));
  expect(inWay.stderr).toContain("“docs” is no directory now");
  await line.umount();
});

test("a path is where it is in the mount, from the current directory in there, and else from the vault's root", async () => {
  await using line = await CommandLine.make();
  await line.mount();
  const { mountPoint } = line;
  const docs = join(mountPoint, "docs");
  await mkdir(docs);
  await writeFile(join(docs, "letter"), "dear");
  await symlink("docs", join(mountPoint, "link"));
  await line.expect("OK", ["snapshot", "monday"], { cwd: docs });
  const forms: readonly (readonly [string, string[], string])[] = [
    [join(docs, "letter"), [], "/"],
    [join(mountPoint, "link/letter"), [], "/"],
    ["letter", [], docs],
    ["/docs/letter", ["-m", mountPoint], docs],
  ];
  for (const [index, [path, words, cwd]] of forms.entries()) {
    await writeFile(join(docs, "letter"), `changed ${index}`);
    await line.expect("OK", ["restore", "monday", "--path", path, ...words], { cwd });
    expect(await readFile(join(docs, "letter"), "utf8"), path).toBe("dear");
  }
  const { stdout } = await line.expect("OK", ["versions", "letter", "--json"], { cwd: docs });
  expect(JSON.parse(stdout)).not.toEqual([]);
  const already = await line.expect("OK", ["restore", "monday", "--path", "letter"], { cwd: docs });
  expect(already.stdout).toMatch(/nothing was done; tcfs undo would take back an earlier one, to “before-restore-/u);
  await line.expect("USAGE", ["restore", "monday", "--path", "../../docs"], { cwd: docs });
  const forget = await line.expect("USAGE", ["forget"], { cwd: docs });
  expect(forget.stderr).toBe("tcfs: say which snapshots: tcfs snapshots lists their names\n");
  const elsewhere = await line.placeToMount("elsewhere");
  const busy = await line.expect("VAULT_IN_USE", ["mount", elsewhere, ...line.unlock, "--snapshot", "monday"]);
  expect(busy.stderr).toContain(`: the snapshot is ${join(mountPoint, ".snapshots/monday")} there`);
  await line.umount();
});

test("a daemon killed in the middle of a restore leaves the tree as it was or as it was to be", async () => {
  await using line = await CommandLine.make();
  const { mountPoint } = line;
  await line.mount();
  const dir = join(mountPoint, "dir");
  await shell(`mkdir -p ${dir} && cd ${dir} && for i in $(seq 400); do echo then $i > f$i; done`);
  await line.expect("OK", ["snapshot", "then", "-m", mountPoint]);
  await shell(
    `cd ${dir} && for i in $(seq 400); do echo later $i > g$i; done && rm f?? && for i in $(seq 100 400); do echo x > f$i; done`,
  );
  await line.expect("OK", ["sync", mountPoint]);
  const [then, later] = [await contents(join(mountPoint, ".snapshots/then/dir")), await contents(dir)];
  for (const delayMs of [0, 120]) {
    const pid = line.pid();
    const restoring = tcfs(["restore", "then", "--path", "dir", "-m", mountPoint]);
    await sleep(180 + delayMs);
    process.kill(pid, "SIGKILL");
    await restoring;
    await line.daemonEnds(pid);
    await line.mount();
    const now = await contents(dir);
    expect([then, later]).toContain(now);
    if (now === then) await line.expect("OK", ["undo", "-m", mountPoint]);
    expect(await contents(dir)).toBe(later);
  }
  await line.umount();
});

/** Plaintext bytes of all chunks that the vault has. */
async function uniqueBytes(line: CommandLine): Promise<number> {
  await line.expect("OK", ["sync", line.mountPoint]);
  const { stdout } = await line.expect("OK", ["status", "--json", line.mountPoint]);
  return Number(/"uniqueBytes": ?(\d+)/u.exec(stdout)?.[1]);
}

async function contents(directory: string): Promise<string> {
  return shell(`cd ${directory} && ls && cat *`);
}
