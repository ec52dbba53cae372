/**
 * A life in the mount: what people do with their files, each compared with its source at once, and all of it
 * compared again after unmount and mount, and after a SIGKILL.
 */
import { cp, mkdir, readFile, rename, symlink, writeFile } from "node:fs/promises";
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Cleanup } from "../support/cleanup.ts";
import { run, shell } from "../support/run.ts";
import { mountTcfs, type TcfsMount } from "../support/tcfs-mount.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";
import { manifestOf } from "./manifest.ts";

const PROJECT = fileURLToPath(new URL("../..", import.meta.url));
const LONG_MS = 600_000;

/** A source tree with everything in it: sparse, executable, linked, with xattrs, ACLs, odd names. */
const MAKE_SOURCE = String.raw`
mkdir -p docs src/deep/er empty
for i in $(seq 1 200); do head -c $((i * 137)) /dev/urandom | base64 > src/file$i.txt; done
head -c 3000000 /dev/urandom > docs/photo.raw
seq 1 400000 > docs/log.txt
cp docs/photo.raw docs/photo-copy.raw
truncate -s 50M docs/sparse; printf 'in the middle' | dd of=docs/sparse bs=1 seek=20000000 conv=notrunc status=none
ln -s ../docs/log.txt src/link; ln docs/log.txt src/deep/hard; ln -s /nowhere dangling
printf '#!/bin/sh\necho run\n' > run.sh; chmod 755 run.sh; chmod 600 docs/photo.raw; chmod 1777 empty
printf 'odd' > 'name with spaces'; printf 'odd' > $'tab\tand\nnewline'; printf 'odd' > $'bad\xff\xfeutf8'
mkfifo fifo
setfattr -n user.comment -v 'an xattr' docs/log.txt; setfattr -n user.on.directory -v 'too' docs
setfacl -m u:4001:rw,g:4100:r docs/photo.raw; setfacl -d -m u:4001:rwx docs; setfacl -m u:4002:rx src/deep
touch -d '1965-03-04 05:06:07.123456789' src/file1.txt; touch -d '2099-01-02 03:04:05.987654321' src/file2.txt
chown 1234:2345 src/file3.txt; chown -h 77:88 dangling
`;

describe("a life in the mount", () => {
  const cleanup = new Cleanup();
  let mount: TcfsMount;
  let outside = "";
  let source = "";
  const inside = (name: string): string => join(mount.mountPoint, name);

  beforeAll(async () => {
    outside = cleanup.use(await temporaryDirectory("life")).path;
    source = join(outside, "source");
    await mkdir(source);
    await shell(MAKE_SOURCE, { cwd: source });
    mount = cleanup.use(await mountTcfs({ mountParameters: ["--allow-other"] }));
  });
  afterAll(() => cleanup[Symbol.asyncDispose]());

  test("cp -a, diff -r and rsync -c find the copy the same in every respect", async () => {
    await run("cp", ["-a", source, inside("copied")]);
    await shell(`diff -r --no-dereference '${source}' '${inside("copied")}' 2>&1 | grep -v 'is a fifo' || true`);
    const changes = await run("rsync", ["-aHAXcn", "--itemize-changes", "--delete", `${source}/`, inside("copied/")]);
    expect(changes).toBe("");
    expect(await manifestOf(inside("copied"))).toBe(await manifestOf(source));
  });

  test("rsync writes the tree, and finds nothing to do the second time", async () => {
    await run("rsync", ["-aHAXS", `${source}/`, inside("synced/")]);
    expect(await run("rsync", ["-aHAXSci", `${source}/`, inside("synced/")])).toBe("");
    expect(await manifestOf(inside("synced"))).toBe(await manifestOf(source));
  });

  test("tar takes the tree in and out with xattrs, ACLs and holes", async () => {
    const archive = inside("tree.tar");
    const options = ["--xattrs", "--xattrs-include=*", "--acls", "--numeric-owner"];
    await run("tar", [...options, "--sparse", "-cf", archive, "-C", source, "."]);
    await mkdir(inside("untarred"));
    await run("tar", [...options, "-xpf", archive, "-C", inside("untarred")]);
    const again = join(outside, "again.tar");
    await run("tar", [...options, "--sparse", "--sort=name", "-cf", again, "-C", inside("untarred"), "."]);
    await mkdir(join(outside, "again"));
    await run("tar", [...options, "-xpf", again, "-C", join(outside, "again")]);
    expect(await manifestOf(join(outside, "again"))).toBe(await manifestOf(inside("untarred")));
    const blocks = Number(await run("stat", ["-c", "%b", inside("untarred/docs/sparse")]));
    expect(blocks * 512).toBeLessThan(1_000_000);
  });

  test("git clones, edits, commits, checks out and repacks, and fsck finds no fault", async () => {
    const git = (...words: string[]): Promise<string> => run("git", ["-C", inside("repository"), ...words], GIT);
    await makeRepository(join(outside, "origin"));
    await run("git", ["clone", "-q", join(outside, "origin"), inside("repository")], GIT);
    await git("fsck", "--full", "--strict");
    await writeFile(inside("repository/new-file.txt"), "a new file\n");
    await git("checkout", "-q", "-b", "work");
    await git("add", "-A");
    await git("commit", "-q", "-m", "work in the mount");
    for (let i = 0; i < 5; i++) {
      await writeFile(inside("repository/new-file.txt"), `change ${i}\n`.repeat(i + 1));
      await git("commit", "-q", "-am", `change ${i}`);
    }
    await git("checkout", "-q", "main");
    await git("merge", "-q", "--no-edit", "work");
    await git("gc", "-q", "--prune=now");
    expect(await git("fsck", "--full", "--strict")).not.toMatch(/error|missing|corrupt/);
    expect(await git("status", "--porcelain")).toBe("");
    await run("git", ["clone", "-q", inside("repository"), join(outside, "back")], GIT);
    const head = (directory: string): Promise<string> => run("git", ["-C", directory, "rev-parse", "main^{tree}"], GIT);
    expect(await head(join(outside, "back"))).toBe(await head(inside("repository")));
  });

  test("npm ci installs this project in the mount, and tsc builds it to the same bytes as outside", async () => {
    const original = join(outside, "package"); // the project itself may be being worked on
    await mkdir(original);
    for (const name of ["package.json", "package-lock.json", "tsconfig.json", "src"]) {
      await cp(join(PROJECT, name), join(original, name), { recursive: true });
    }
    await run("cp", ["-a", original, inside("package")]);
    await symlink(join(PROJECT, "node_modules"), join(original, "node_modules"));
    const install = ["ci", "--ignore-scripts", "--prefer-offline", "--fetch-retries=5", "--no-audit", "--no-fund"];
    await run("npm", install, { cwd: inside("package"), timeoutMs: LONG_MS });
    const compiler = "node_modules/typescript/bin/tsc";
    for (const cwd of [original, inside("package")]) {
      await run(process.execPath, [compiler, "-p", ".", "--outDir", "built", "--rootDir", "src"], {
        cwd,
        timeoutMs: LONG_MS,
      });
    }
    await run("diff", ["-r", inside("package/built"), join(original, "built")]);
    await run("npm", ["ls", "--all"], { cwd: inside("package") });
  });

  test("a compiler builds a program of several files, and it runs", async () => {
    await mkdir(inside("c"));
    await shell(
      String.raw`
for i in $(seq 1 20); do echo "int f$i(int x) { return x + $i; }" > f$i.c; echo "int f$i(int);" >> all.h; done
{ echo '#include <stdio.h>'; echo '#include "all.h"'; echo 'int main(void) { int s = 0;'
  for i in $(seq 1 20); do echo "s = f$i(s);"; done; echo 'printf("%d\n", s); return 0; }'; } > main.c
for f in *.c; do gcc -O2 -g -c $f & done; wait
ar rcs libf.a f*.o && gcc -o program main.o libf.a && ./program > result
strip -o stripped program && ./stripped | cmp - result`,
      { cwd: inside("c"), timeoutMs: LONG_MS },
    );
    expect(await readFile(inside("c/result"), "utf8")).toBe("210\n");
  });

  test.each(["WAL", "DELETE", "TRUNCATE"])("SQLite keeps its database with a %s journal", async (journal) => {
    const database = inside(`${journal}.sqlite`);
    const sql = [
      `PRAGMA journal_mode=${journal};`,
      "PRAGMA synchronous=FULL;",
      "CREATE TABLE t (id INTEGER PRIMARY KEY, v);",
    ];
    for (let i = 0; i < 200; i++) sql.push(`INSERT INTO t (v) VALUES (hex(randomblob(${i * 10})));`);
    sql.push("BEGIN; UPDATE t SET v = v || 'x' WHERE id % 3 = 0; COMMIT;", "BEGIN; DELETE FROM t; ROLLBACK;");
    sql.push("CREATE INDEX i ON t (v); VACUUM;");
    await run("sqlite3", ["-bail", database], { input: sql.join("\n"), timeoutMs: LONG_MS });
    const writers = [1, 2].map((writer) => {
      const inserts = Array.from({ length: 100 }, () => `INSERT INTO t (v) VALUES ('writer ${writer}');`).join("\n");
      return run("sqlite3", ["-bail", "-cmd", ".timeout 60000", database], { input: inserts, timeoutMs: LONG_MS });
    });
    await Promise.all(writers);
    const answer = await run("sqlite3", [database, "PRAGMA integrity_check; SELECT count(*) FROM t;"]);
    expect(answer.split("\n").slice(0, 2)).toEqual(["ok", "400"]);
  });

  test("an editor saves by writing beside and renaming over, a hundred times", async () => {
    await mkdir(inside("editor"));
    let text = "";
    for (let i = 0; i < 100; i++) {
      text += `line ${i}\n`;
      await writeFile(inside("editor/.doc.swp"), text, { flush: true });
      await rename(inside("editor/.doc.swp"), inside("editor/doc"));
      if (i % 10 === 0) expect(await readFile(inside("editor/doc"), "utf8")).toBe(text);
    }
    expect(await readFile(inside("editor/doc"), "utf8")).toBe(text);
  });

  test("two programs append under a lock, and no line is lost", async () => {
    const log = inside("shared.log");
    const writer = (name: string): Promise<string> =>
      shell(`for i in $(seq 1 150); do flock '${log}.lock' sh -c "echo ${name} $i >> '${log}'"; done`, {
        timeoutMs: LONG_MS,
      });
    await Promise.all([writer("one"), writer("two")]);
    const lines = (await readFile(log, "utf8")).trimEnd().split("\n");
    for (const name of ["one", "two"]) {
      const own = lines.filter((line) => line.startsWith(name));
      expect(own).toEqual(Array.from({ length: 150 }, (_, i) => `${name} ${i + 1}`));
    }
  });

  test("a large file is written, changed in its middle and read back", async () => {
    const content = randomBytes(48 * 2 ** 20);
    await writeFile(inside("large"), content);
    const patch = randomBytes(12_345);
    patch.copy(content, 20_000_000);
    await writeFile(join(outside, "patch"), patch);
    const [from, to] = [join(outside, "patch"), inside("large")];
    await run("dd", [
      `if=${from}`,
      `of=${to}`,
      "bs=12345",
      "seek=20000000",
      "oflag=seek_bytes",
      "conv=notrunc",
      "status=none",
    ]);
    expect((await readFile(inside("large"))).equals(content)).toBe(true);
  });

  test("everything is the same after unmount and mount", async () => {
    const before = await manifestOf(mount.mountPoint);
    await mount.remount();
    expect(await manifestOf(mount.mountPoint)).toBe(before);
    await checkAfterMount();
  });

  test("everything is the same after sync, SIGKILL and mount", async () => {
    const before = await manifestOf(mount.mountPoint);
    await run("sync", [mount.mountPoint]);
    await mount.kill9();
    await mount.mount();
    expect(await manifestOf(mount.mountPoint)).toBe(before);
    await checkAfterMount();
  });

  test("everything can be removed, and the room is given back", async () => {
    await shell("rm -rf -- * .[!.]* 2>/dev/null || true", { cwd: mount.mountPoint, timeoutMs: LONG_MS });
    expect(await run("ls", ["-A", mount.mountPoint])).toBe("");
    await mount.remount();
    expect(await run("ls", ["-A", mount.mountPoint])).toBe("");
  });

  async function checkAfterMount(): Promise<void> {
    await run("git", ["-C", inside("repository"), "fsck", "--full", "--strict"], GIT);
    for (const journal of ["WAL", "DELETE", "TRUNCATE"]) {
      const answer = await run("sqlite3", [inside(`${journal}.sqlite`), "PRAGMA integrity_check;"]);
      expect(answer.trim()).toBe("ok");
    }
    expect(await run(inside("c/program"), [])).toBe("210\n");
    expect(await run("rsync", ["-aHAXcin", "--delete", `${source}/`, inside("copied/")])).toBe("");
  }
});

/** git without this user's settings. */
const GIT = {
  env: {
    GIT_CONFIG_GLOBAL: "/dev/null",
    GIT_CONFIG_SYSTEM: "/dev/null",
    GIT_AUTHOR_NAME: "A",
    GIT_AUTHOR_EMAIL: "a@example.org",
    GIT_COMMITTER_NAME: "A",
    GIT_COMMITTER_EMAIL: "a@example.org",
  },
  timeoutMs: LONG_MS,
};

/** A repository with a history, made from this project's own sources. */
async function makeRepository(directory: string): Promise<void> {
  await mkdir(directory);
  await run("git", ["init", "-q", "-b", "main", directory], GIT);
  for (const name of ["src", "test", "docs", "package.json", "package-lock.json"]) {
    await cp(join(PROJECT, name), join(directory, name), { recursive: true });
    await run("git", ["-C", directory, "add", "-A"], GIT);
    await run("git", ["-C", directory, "commit", "-q", "-m", `add ${name}`], GIT);
  }
}
