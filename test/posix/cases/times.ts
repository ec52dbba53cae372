/** Which call changes which time; times set by hand, to the nanosecond and far from today. */
import { expect, test } from "vitest";
import { sleep } from "../../support/run.ts";
import { refuses, type Bench } from "../bench.ts";
import {
  AT_SYMLINK_NOFOLLOW,
  FALLOC_KEEP_SIZE,
  FALLOC_PUNCH_HOLE,
  O_NOATIME,
  O_RDONLY,
  O_RDWR,
  O_TRUNC,
  O_WRONLY,
  RENAME_EXCHANGE,
} from "../constants.ts";
import { isLater, time, type Driver, type FileTime } from "../driver.ts";

/** Longer than the kernel's coarse clock needs for a step. */
const TICK_MS = 12;

/** "m" for a later mtime, "c" for a later ctime, of each path. */
async function changes(bench: Bench, paths: readonly string[], act: () => Promise<unknown>): Promise<string[]> {
  const before: Awaited<ReturnType<Driver["changeAndModifyTime"]>>[] = [];
  for (const path of paths) before.push(await bench.root.changeAndModifyTime(path));
  await sleep(TICK_MS);
  await act();
  const changed: string[] = [];
  for (const [i, path] of paths.entries()) {
    const [old, now] = [before[i]!, await bench.root.changeAndModifyTime(path)];
    const m = isLater(now.modifyTime, old.modifyTime) ? "m" : "";
    const c = isLater(now.changeTime, old.changeTime) ? "c" : "";
    changed.push(`${path}:${m}${c}`);
  }
  return changed;
}

type Act = (bench: Bench) => Promise<unknown>;

/** In a directory with file f ("content"), directories d and e, d/g and symlink s: what each call changes. */
const TABLE: readonly (readonly [string, Act, readonly string[]])[] = [
  ["creating a file", (b) => b.root.file("d/new"), ["d:mc"]],
  ["mkdir", (b) => b.root.mkdir("d/new"), ["d:mc"]],
  ["symlink", (b) => b.root.symlink("t", "d/new"), ["d:mc"]],
  ["mknod", (b) => b.root.mknod("d/new", 0o010644), ["d:mc"]],
  ["link", (b) => b.root.link("f", "d/new"), ["d:mc", "f:c"]],
  ["unlink", (b) => b.root.unlink("d/g"), ["d:mc", "hard:c"]],
  ["rmdir", (b) => b.root.rmdir("d/sub"), ["d:mc"]],
  ["rename across directories", (b) => b.root.rename("d/g", "e/g"), ["d:mc", "e:mc", "hard:c"]],
  ["rename within a directory", (b) => b.root.rename("d/g", "d/h"), ["d:mc", "hard:c"]],
  ["rename over a file", (b) => b.root.rename("f", "d/g"), ["d:mc", "hard:c"]],
  ["exchange", (b) => b.root.rename("f", "d/g", RENAME_EXCHANGE), ["d:mc", "hard:c"]],
  ["chmod", (b) => b.root.chmod("f", 0o600), ["f:c", "d:"]],
  ["chown", (b) => b.root.chown("f", 1, 1), ["f:c"]],
  ["lchown", (b) => b.root.lchown("s", 1, 1), ["s:c", "f:"]],
  ["setxattr", (b) => b.root.setXattr("f", "user.a", "1"), ["f:c"]],
  ["removexattr", (b) => b.root.removeXattr("f", "user.x"), ["f:c"]],
  ["truncate", (b) => b.root.truncate("f", 3), ["f:mc"]],
  ["truncate to a greater length", (b) => b.root.truncate("f", 3000), ["f:mc"]],
  ["truncate to the same length", (b) => b.root.truncate("f", 7), ["f:mc"]],
  ["open with O_TRUNC", (b) => b.root.open("f", O_WRONLY | O_TRUNC), ["f:mc"]],
  ["open for writing", (b) => b.root.open("f", O_RDWR), ["f:"]],
  ["read", (b) => b.root.textOf("f"), ["f:"]],
  ["readdir", (b) => b.root.list("d"), ["d:"]],
  ["readlink", (b) => b.root.readlink("s"), ["s:"]],
  ["write", async (b) => b.root.write(await b.root.open("f", O_WRONLY), "x"), ["f:mc", "d:"]],
  ["write of nothing", async (b) => b.root.write(await b.root.open("f", O_WRONLY), ""), ["f:"]],
  ["fallocate", async (b) => b.root.fallocate(await b.root.open("f", O_RDWR), 0, 0, 100_000), ["f:mc"]],
  [
    "punching a hole",
    async (b) => b.root.fallocate(await b.root.open("f", O_RDWR), FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE, 0, 4096),
    ["f:mc"],
  ],
  [
    "copy_file_range",
    async (b) =>
      b.root.copyRange({ fd: await b.root.open("f", O_RDONLY) }, { fd: await b.root.open("d/g", O_WRONLY) }, 4),
    ["hard:mc", "f:"],
  ],
  ["utimens of both by UTIME_NOW", (b) => b.root.utimens("f", "now", "now"), ["f:mc"]],
  ["utimens of atime alone", (b) => b.root.utimens("f", time(1), "omit"), ["f:c"]],
  ["utimens of nothing", (b) => b.root.utimens("f", "omit", "omit"), ["f:"]],
  ["a refused rename", (b) => b.root.rename("d", "d/sub/x").catch(() => 0), ["d:", "d/sub:"]],
  ["a refused unlink", (b) => b.alice.unlink("d/g").catch(() => 0), ["d:", "hard:"]],
  ["a refused chmod", (b) => b.alice.chmod("f", 0o777).catch(() => 0), ["f:"]],
];

const SET_BY_HAND = [
  ["the epoch", 0n, 0],
  ["one nanosecond", 1n, 1],
  ["all nanoseconds", 1_234_567_890n, 999_999_999],
  ["1969", -1n, 500_000_000],
  ["1902", -2_145_000_000n, 123_456_789],
  ["2038, the last second of 31 bits", 2n ** 31n - 1n, 999_999_999],
  ["2038, one second later", 2n ** 31n, 1],
  ["2106, past 32 bits", 2n ** 32n + 5n, 7],
  ["2400", 13_569_465_600n, 1],
  ["the year 9999", 253_402_300_799n, 999_999_999],
] as const;

export function timeCases(bench: Bench): void {
  test.each(TABLE)("%s changes the right times", async (_, act, expected) => {
    await bench.root.file("f", "content", 0o644);
    await bench.root.setXattr("f", "user.x", "1");
    await bench.root.mkdir("d");
    await bench.root.mkdir("e");
    await bench.root.mkdir("d/sub");
    await bench.root.file("d/g", "other", 0o644);
    await bench.root.link("d/g", "hard");
    await bench.root.symlink("f", "s");
    expect(
      await changes(
        bench,
        expected.map((item) => item.split(":")[0]!),
        () => act(bench),
      ),
    ).toEqual(expected);
  });

  test.each(SET_BY_HAND)("times are kept to the nanosecond: %s", async (_, seconds, nanoseconds) => {
    const [first, last] = bench.traits.timeRange;
    const wanted = time(seconds, nanoseconds);
    await bench.root.file("f");
    await bench.root.utimens("f", wanted, wanted);
    const kept = seconds < first ? time(first) : seconds > last ? time(last) : wanted;
    const { modifyTime, accessTime } = await bench.root.stat("f");
    expect(modifyTime).toEqual(kept);
    expect(accessTime).toEqual(kept);
  });

  test("a time past all measure harms nothing: the volume goes on", async () => {
    await bench.root.file("f");
    for (const seconds of [2n ** 56n, -(2n ** 56n)]) await bench.root.utimens("f", time(seconds), time(seconds));
    await bench.root.fsync(await bench.root.open("f", O_RDONLY));
    await bench.root.file("g", "still written");
    await bench.root.fsync(await bench.root.open("g", O_RDONLY));
  });

  /** What was read just now may be in the kernel's caches, and a read from there is not seen by every filesystem. */
  async function accessTimeAfter(name: string, read: () => Promise<unknown>, modified: bigint): Promise<FileTime> {
    await bench.root.utimens(name, time(1_000_000_000), time(modified), AT_SYMLINK_NOFOLLOW);
    await bench.root.forgetNames(bench.target.directory);
    await sleep(TICK_MS);
    await read();
    return (await bench.root.lstat(name)).accessTime;
  }

  test.each([
    ["file", "f", (): Promise<unknown> => bench.root.textOf("f")],
    ["directory", "d", (): Promise<unknown> => bench.root.list("d")],
    ["symlink", "l", (): Promise<unknown> => bench.root.readlink("l")],
  ])("reading a %s that changed since it was last read moves its access time", async (_, name, read) => {
    await bench.root.file("f", "content");
    await bench.root.mkdir("d");
    await bench.root.symlink("target", "l");
    const before = (await bench.root.stat(".")).changeTime;
    expect(isLater(await accessTimeAfter(name, read, 1_000_000_001n), before)).toBe(true);
  });

  test("what was opened with O_NOATIME is read without its access time moving", async () => {
    await bench.root.file("f", "content");
    await bench.root.mkdir("d");
    const readFile = async (): Promise<void> => {
      const fd = await bench.root.open("f", O_RDONLY | O_NOATIME);
      expect((await bench.root.read(fd, 7)).toString()).toBe("content");
    };
    const readDirectory = async (): Promise<void> => {
      const directory = await bench.root.openDirectoryOf(await bench.root.open("d", O_RDONLY | O_NOATIME));
      expect(await bench.root.readDirectory(directory)).toHaveLength(2);
    };
    expect(await accessTimeAfter("f", readFile, 1_000_000_001n)).toEqual(time(1_000_000_000));
    expect(await accessTimeAfter("d", readDirectory, 1_000_000_001n)).toEqual(time(1_000_000_000));
  });

  test("reading again moves no access time within a day", async () => {
    await bench.root.file("f", "content");
    await bench.root.mkdir("d");
    for (const [name, read] of [
      ["f", () => bench.root.textOf("f")],
      ["d", () => bench.root.list("d")],
    ] as const) {
      await accessTimeAfter(name, read, 1n);
      const first = (await bench.root.stat(name)).accessTime;
      await bench.root.forgetNames(bench.target.directory);
      await read();
      expect((await bench.root.stat(name)).accessTime).toEqual(first);
    }
  });

  test("UTIME_OMIT leaves that time alone", async () => {
    await bench.root.file("f");
    await bench.root.utimens("f", time(100, 1), time(200, 2));
    await bench.root.utimens("f", "omit", time(300, 3));
    await bench.root.utimens("f", time(400, 4), "omit");
    const status = await bench.root.stat("f");
    expect([status.accessTime, status.modifyTime]).toEqual([time(400, 4), time(300, 3)]);
  });

  test("UTIME_NOW is the present", async () => {
    await bench.root.file("f");
    await bench.root.utimens("f", time(1), time(1));
    await bench.root.utimens("f", "now", "now");
    const seconds = Number((await bench.root.stat("f")).modifyTime.seconds);
    expect(Math.abs(seconds - Date.now() / 1000)).toBeLessThan(600);
  });

  test("nanoseconds out of range are refused", async () => {
    await bench.root.file("f");
    await refuses("EINVAL", bench.root.utimens("f", time(1, 1_000_000_000), "now"));
  });

  test("a symlink has times of its own", async () => {
    await bench.root.file("f");
    await bench.root.symlink("f", "s");
    await bench.root.utimens("f", time(5), time(5));
    await bench.root.utimens("s", time(7, 7), time(8, 8), AT_SYMLINK_NOFOLLOW);
    expect((await bench.root.lstat("s")).modifyTime).toEqual(time(8, 8));
    expect((await bench.root.stat("s")).modifyTime).toEqual(time(5));
  });

  test("a directory's times can be set", async () => {
    await bench.root.mkdir("d");
    await bench.root.utimens("d", time(-5, 5), time(6, 6));
    expect((await bench.root.stat("d")).modifyTime).toEqual(time(6, 6));
    expect((await bench.root.stat("d")).accessTime).toEqual(time(-5, 5));
  });

  test("anyone who may write may set the present, only the owner another time", async () => {
    await bench.root.sharedFile("f");
    await bench.alice.utimens("f", "now", "now");
    await refuses("EPERM", bench.alice.utimens("f", time(1), time(1)));
    await refuses("EPERM", bench.alice.utimens("f", "omit", "now"));
    await bench.root.chmod("f", 0o644);
    await refuses("EACCES", bench.alice.utimens("f", "now", "now"));
  });

  test("a write after utimens sets the present", async () => {
    await bench.root.file("f");
    const fd = await bench.root.open("f", O_RDWR);
    await bench.root.futimens(fd, time(1), time(1));
    await bench.root.write(fd, "x");
    expect(isLater((await bench.root.stat("f")).modifyTime, time(1_000_000))).toBe(true);
  });

  test("times set through a handle survive its close", async () => {
    const fd = await bench.root.open("f", O_RDWR | 0o100);
    await bench.root.write(fd, "data");
    await bench.root.futimens(fd, time(11, 12), time(13, 14));
    await bench.root.close(fd);
    expect((await bench.root.stat("f")).modifyTime).toEqual(time(13, 14));
  });

  test("a file is born when it is made, and its birth does not move", async () => {
    await bench.root.file("f");
    const born = (await bench.root.stat("f")).birthTime;
    await sleep(TICK_MS);
    await bench.root.chmod("f", 0o600);
    await bench.root.utimens("f", time(1), time(1));
    expect((await bench.root.stat("f")).birthTime).toEqual(born);
  });

  test("two changes in a row never step back in time", async () => {
    await bench.root.file("f");
    let last = time(0);
    for (let i = 0; i < 200; i++) {
      await bench.root.chmod("f", 0o600 + (i % 8));
      const now = (await bench.root.stat("f")).changeTime;
      expect(isLater(last, now)).toBe(false);
      last = now;
    }
  });
}
