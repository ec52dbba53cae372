/** `tcfs restore --to` and `--list` with real vaults, mounted or not. */
import { existsSync, readdirSync } from "node:fs";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { spawn } from "node:child_process";
import { join } from "node:path";
import { expect, test } from "vitest";
import { eventually, run, shell } from "../../support/run.ts";
import { unmountAnyway } from "../../support/loop-ext4.ts";
import { COMMAND, CommandLine } from "../fixtures.ts";

/** Of what is interrupted in the middle. */
const FILE_COUNT = 60;

/** Mode, owner, links, size, times, xattrs, ACLs and content of everything below a path. */
async function describeTree(root: string): Promise<string> {
  return shell(
    `cd ${root} && find . -mindepth 1 -printf '%p %y %m %U:%G %n %T@ %l\n' | sort
     find . -type f -printf '%p %s\n' | sort
     find . -type f -print0 | sort -z | xargs -0r sha256sum
     find . -mindepth 1 ! -type l -print0 | sort -z | xargs -0r getfattr -d -m - --absolute-names`,
  );
}

async function fill(root: string): Promise<void> {
  await shell(`cd ${root} && mkdir -p docs/deep photos && echo dear > docs/letter && ln docs/letter docs/deep/hard
    truncate -s 50M photos/sparse && echo end >> photos/sparse && head -c 3000000 /dev/urandom > photos/a.jpg
    ln -s ../../.. docs/up && mkfifo docs/pipe && touch docs/$(printf 'n%.0s' $(seq 255)) docs/$'\\xff\\xfe'
    setfattr -n user.note -v kept docs/letter && setfacl -m u:65534:rw photos/a.jpg && chown -R 12:34 photos
    chmod 2770 docs && chmod 4755 photos/a.jpg && touch -h -d '2001-02-03 04:05:06.123456789' docs/up docs/deep/hard photos`);
}

test("a snapshot comes out whole, through the daemon and without one, or in parts", async () => {
  await using line = await CommandLine.make();
  await line.mount();
  const { mountPoint, directory } = line;
  await fill(mountPoint);
  const then = await describeTree(mountPoint);
  await line.expect("OK", ["snapshot", "then", "-m", mountPoint]);
  await shell(`rm -r ${mountPoint}/docs`);
  const restore = (...words: string[]): string[] => ["restore", "then", ...words, "-m", mountPoint];
  const [out, again, some] = ["out", "again", "some"].map((name) => join(directory, name)) as [string, string, string];
  const restored = await line.expect("OK", restore("--to", out));
  expect(restored.stdout).toMatch(
    /^restored to .*: 5 files \(2\.9 MiB\), 3 directories, 1 hard link, 2 symlinks and other\n$/u,
  );
  expect(await describeTree(out)).toBe(then);
  expect(await shell(`du -sm ${out} | cut -f1`)).toMatch(/^[34]\n$/u);
  expect((await shell(`stat -c %a ${out}`)).trim()).toBe("700");
  await line.expect("OK", restore("--to", some, "--path", "docs", "--glob", "letter", "--json"));
  expect((await shell(`cd ${some} && find . | sort`)).split("\n")).toEqual([".", "./docs", "./docs/letter", ""]);

  const listed = await line.expect("OK", restore("--list", "--glob", "*.jpg"));
  expect(listed.stdout).toMatch(/^-rwxr-xr-x 12:34 +3000000 \S+Z photos\/a\.jpg\n$/u);
  const json = JSON.parse(
    (await line.expect("OK", restore("--list", "--path", `${mountPoint}/docs/deep`, "--json"))).stdout,
  ) as object;
  expect(json).toMatchObject([{ path: "docs/deep" }, { path: "docs/deep/hard", lengthBytes: 5, linkCount: 2 }]);

  expect((await line.expect("USAGE", restore("--to", out))).stderr).toContain("is not empty");
  expect((await line.expect("USAGE", restore("--to", join(line.vault, "x")))).stderr).toContain(
    "vault's own directory",
  );
  expect((await line.expect("USAGE", restore("--to", join(mountPoint, "new/x")))).stderr).toContain("vault's mount");
  expect((await line.expect("USAGE", restore("--to", join(directory, "x"), "--path", "doc"))).stderr).toContain(
    "“docs”",
  );
  await line.expect("USAGE", restore("--to", join(directory, "x"), "--glob", "*.png"));
  await line.expect("USAGE", restore("--glob", "*.jpg"));
  await line.expect("USAGE", restore("--to", join(directory, "no/such")));
  expect(existsSync(join(directory, "x"))).toBe(false);
  await line.umount();

  await line.expect("OK", ["restore", "then", "--to", again, ...line.unlock]);
  expect(await describeTree(again)).toBe(then);
  await line.expect("NO_SNAPSHOT", ["restore", "--at", "2 days ago", ...line.unlock]);
  await line.expect("USAGE", ["restore", "--at", "2 days ago", "--path", "docs", ...line.unlock]);
  await line.expect("USAGE", ["restore", "then", "--at", "now", ...line.unlock]);
});

test("killed or interrupted in the middle, it goes on where it was", async () => {
  await using line = await CommandLine.make();
  await line.mount();
  const { mountPoint, directory } = line;
  await shell(
    `cd ${mountPoint} && mkdir d && for i in $(seq ${FILE_COUNT}); do head -c 400000 /dev/urandom > d/f$i; done; chmod 555 d`,
  );
  const then = await describeTree(mountPoint);
  await line.expect("OK", ["snapshot", "then", "-m", mountPoint]);
  const out = join(directory, "out");
  const isUnfinished = (): boolean => existsSync(join(out, ".tcfs-restore-unfinished"));
  for (const signal of ["SIGKILL", "SIGINT"] as const) {
    const child = spawn(process.execPath, [COMMAND, "restore", "then", "--to", out, "-m", mountPoint], {
      stdio: ["ignore", "ignore", "pipe"],
    });
    let told = "";
    child.stderr.setEncoding("utf8").on("data", (text: string) => (told += text));
    const ended = new Promise<number | null>((resolve) => child.once("close", (code) => resolve(code)));
    const wanted = signal === "SIGKILL" ? 5 : 25;
    const count = (): number => (existsSync(join(out, "d")) ? readdirSync(join(out, "d")).length : 0);
    await eventually(`${wanted} files are there`, 60_000, () => count() >= wanted || child.exitCode !== null);
    child.kill(signal);
    const code = await ended;
    // It may have been quicker than the signal: then it is whole, and a restore into it is refused.
    if (code === 0 || (count() === FILE_COUNT && !isUnfinished())) break;
    expect(isUnfinished()).toBe(true);
    if (signal === "SIGINT") {
      expect(code).toBe(130);
      expect(told).toContain("the same command again goes on from there");
    }
    const other = await line.expect("USAGE", ["restore", "then", "--path", "d/f1", "--to", out, "-m", mountPoint]);
    expect(other.stderr).toContain("unfinished restore of “then”");
  }
  if (isUnfinished()) {
    const done = await line.expect("OK", ["restore", "then", "--to", out, "-m", mountPoint]);
    expect(done.stderr).toContain("going on with");
    expect(done.stdout).toContain("were there already");
  }
  expect(await describeTree(out)).toBe(then);
  await line.umount();
});

test("no room is told before anything is written, and what is damaged after all else is there", async () => {
  await using line = await CommandLine.make();
  const small = await line.placeToMount("small");
  await line.mount();
  await run("mount", ["-t", "tmpfs", "-o", "size=1m", "none", small]);
  const { mountPoint, directory } = line;
  await shell(`head -c 4000000 /dev/urandom > ${mountPoint}/large`);
  await writeFile(join(mountPoint, "small"), "small");
  await line.expect("OK", ["snapshot", "then", "-m", mountPoint]);
  const full = await line.expect("STORE_FULL", ["restore", "then", "--to", small, "-m", mountPoint]);
  expect(full.stderr).toContain("too little room where it is restored to");
  await line.expect("STORE_FULL", ["restore", "then", "--to", join(small, "made"), "-m", mountPoint]);
  const told = await line.expect("OK", [
    "restore",
    "then",
    "--to",
    join(directory, "dry"),
    "--dry-run",
    ...line.unlock,
  ]);
  expect(told.stdout).toContain("would be restored to");
  expect(existsSync(join(directory, "dry"))).toBe(false);
  expect(readdirSync(small)).toEqual([]);
  await line.expect("OK", ["restore", "then", "--to", join(small, "x"), "--path", "small", "-m", mountPoint]);
  expect(await readFile(join(small, "x/small"), "utf8")).toBe("small");
  await unmountAnyway(small);
  await line.umount();
  await shell(
    `cd ${line.vault}/packs && for p in $(find . -type f -size +100k); do printf 'xxxxxxxx' | dd of=$p bs=1 seek=300000 conv=notrunc status=none; done`,
  );
  await mkdir(join(directory, "out"));
  const damaged = await line.expect("INCOMPLETE", ["restore", "then", "--to", join(directory, "out"), ...line.unlock]);
  expect(damaged.stdout).toContain("failed: large: ");
  expect(readdirSync(join(directory, "out")).sort()).toEqual([".tcfs-restore-unfinished", "small"]);
});
