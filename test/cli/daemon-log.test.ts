import { closeSync, constants, openSync, readFileSync, readSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { MAX_LOG_BYTES, formatLine, openDaemonLog } from "../../src/cli/daemon/daemon-log.ts";
import { run } from "../support/run.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

const time = new Date(Date.UTC(2026, 10, 22, 1, 2, 3, 4));

describe("a line of the log", () => {
  test("says when, how grave, what and where", () => {
    const fields = { ino: 5, pack: "ab", bytes: 2n ** 60n, missing: undefined, list: [1] };
    expect(formatLine(time, "warn", "a chunk does not verify", fields)).toBe(
      "2026-11-22T01:02:03.004Z warn a chunk does not verify ino=5 pack=ab bytes=1152921504606846976 list=[1]\n",
    );
  });

  test("stays one line whatever the values hold, and bounded", () => {
    const line = formatLine(time, "error", "x", { error: new Error("a\nb"), text: "y".repeat(100_000) });
    expect(line.trimEnd()).not.toContain("\n");
    expect(line.length).toBeLessThanOrEqual(4097);
  });
});

describe("the log", () => {
  test("is private, goes on where it ended, and moves aside once it is long", async () => {
    await using directory = await temporaryDirectory("log");
    const path = join(directory.path, "daemon.log");
    const echoed: string[] = [];
    openDaemonLog(path).info("first");
    const log = openDaemonLog(path, (line) => echoed.push(line));
    log.warn("second", { ino: 1 });
    expect(readFileSync(path, "utf8")).toMatch(/info first\n.* warn second ino=1\n$/u);
    expect(echoed).toHaveLength(1);
    expect(statSync(path).mode & 0o777).toBe(0o600);
    for (let line = 0; line < 2 * (MAX_LOG_BYTES / 4000); line++) log.error("long", { text: "z".repeat(4000) });
    log.close();
    expect(statSync(path).size).toBeLessThanOrEqual(MAX_LOG_BYTES);
    expect(statSync(`${path}.1`).size).toBeLessThanOrEqual(MAX_LOG_BYTES);
  });
});

test.each(["symlink", "FIFO"])("a %s in the place of the log is not written to", async (what) => {
  await using directory = await temporaryDirectory("log");
  const path = join(directory.path, "daemon.log");
  const target = join(directory.path, "somebody's file");
  writeFileSync(target, "mine");
  if (what === "symlink") symlinkSync(target, path);
  else await run("mkfifo", [path]);
  const end = openSync(path, constants.O_RDWR | constants.O_NONBLOCK); // a FIFO with two ends holds up nobody
  const log = openDaemonLog(path);
  log.error("nobody hears this");
  log.close();
  expect(readFileSync(target, "utf8")).toBe("mine");
  if (what === "FIFO") expect(() => readSync(end, Buffer.alloc(10))).toThrow(/EAGAIN/u);
  closeSync(end);
});

test("a log that cannot be opened is no reason to fail", async () => {
  await using directory = await temporaryDirectory("log");
  const log = openDaemonLog(join(directory.path, "none", "daemon.log"));
  log.error("nobody hears this");
  log.close();
});
