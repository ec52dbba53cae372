/** A vault whose packs are a bounded cache of its store: the limit, cold reads, pins, and life without the network. */
import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdir, readdir, readFile, rm, stat, statfs, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { isDeepStrictEqual, promisify } from "node:util";
import { describe, expect, test } from "vitest";
import type { CacheFigures, PinFigures } from "../../src/fs/local-copies.ts";
import { CommandLine } from "../cli/fixtures.ts";
import { NO_SEAWEED, type Seaweed, startWithBucket } from "../remote/seaweed.ts";
import { coldHash, hashOf, writeUntilFull } from "./contents.ts";

const LIMIT_BYTES = 64 * 1024 * 1024;
const FILE_BYTES = 12 * 1024 * 1024;

const run = promisify(execFile);

interface Vault {
  readonly line: CommandLine;
  readonly env: Record<string, string>;
}

async function initAndMount({ line, env }: Vault, url: string): Promise<void> {
  const words = ["--recovery-file", join(line.directory, "words"), "--store", url, "--cache-size", "64m"];
  await line.expect("OK", ["init", ...line.unlock, ...words], { env });
  await line.expect("OK", line.mountWords, { env });
}

/** Bytes of each pack and block, by its path, as the disk counts them. */
async function filesOnDisk(vault: string): Promise<Map<string, number>> {
  const found = new Map<string, number>();
  for (const name of ["packs", "blocks"]) {
    for (const path of (await readdir(join(vault, name), { recursive: true })).sort()) {
      const stats = await stat(join(vault, name, path)).catch(() => undefined); // just given up
      if (stats?.isFile() === true) found.set(`${name}/${path}`, stats.blocks * 512);
    }
  }
  return found;
}

/** One look at all files is no moment: what goes and comes meanwhile may be counted both times. Two equal ones are. */
async function expectWithinLimit(vault: string): Promise<void> {
  for (let before = await filesOnDisk(vault), now = before; bytesOf(now) > LIMIT_BYTES; before = now) {
    now = await filesOnDisk(vault);
    if (isDeepStrictEqual(now, before)) expect(bytesOf(now)).toBeLessThanOrEqual(LIMIT_BYTES);
  }
}

function bytesOf(files: ReadonlyMap<string, number>): number {
  return [...files.values()].reduce((sum, bytes) => sum + bytes, 0);
}

async function stateOf(path: string): Promise<string> {
  const { stdout } = await run("getfattr", ["--absolute-names", "--only-values", "-n", "user.tcfs.state", path]);
  return stdout;
}

async function figuresOf(line: CommandLine): Promise<CacheFigures> {
  return JSON.parse((await line.expect("OK", ["cache", "--json", "-m", line.mountPoint])).stdout) as CacheFigures;
}

async function expectLimitHeld({ line }: Vault): Promise<void> {
  const files = new Map<string, string>();
  for (let i = 0; i < 8; i++) {
    const content = randomBytes(FILE_BYTES);
    const path = join(line.mountPoint, `file-${String(i)}`);
    await writeFile(path, content);
    files.set(path, hashOf(content));
    await expectWithinLimit(line.vault);
  }
  await line.expect("OK", ["wait", line.mountPoint, "--timeout", "600"]);
  for (const [path, hash] of files) {
    expect(await coldHash(path)).toBe(hash);
    await expectWithinLimit(line.vault);
  }
}

async function expectStatesAndPins({ line }: Vault): Promise<void> {
  const music = join(line.mountPoint, "music");
  await mkdir(music);
  const content = randomBytes(3_000_000);
  await line.uploads("pause");
  await writeFile(join(music, "song"), content);
  await writeFile(join(line.mountPoint, "other"), randomBytes(3_000_000));
  expect(await stateOf(join(music, "song"))).toBe("unsent");
  const { blocks, bavail, bsize } = await statfs(line.mountPoint); // what df tells
  expect(blocks * bsize).toBeLessThanOrEqual(LIMIT_BYTES);
  expect(bavail * bsize).toBeLessThanOrEqual(LIMIT_BYTES - 6_000_000);
  expect(bavail).toBeGreaterThan(0);
  await line.uploads("resume");
  await line.expect("OK", ["wait", line.mountPoint, "--timeout", "600"]);
  await expect.poll(() => stateOf(join(music, "song"))).toBe("stored"); // once the store was asked for its packs
  await line.expect("OK", ["pin", music]);
  await expect
    .poll(async () => {
      await line.expect("OK", ["cache", "--clear", "-m", line.mountPoint]);
      return stateOf(join(line.mountPoint, "file-0"));
    })
    .toBe("remote");
  expect(await stateOf(join(music, "song"))).toBe("stored");
  await line.expect("OK", ["unpin", music]);
  await line.expect("USAGE", ["unpin", music]);
  await expect
    .poll(async () => {
      await line.expect("OK", ["cache", "--clear", "-m", line.mountPoint]);
      return stateOf(join(music, "song"));
    })
    .toBe("remote");
  await line.expect("OK", ["warm", join(music, "song")]);
  expect(await stateOf(join(music, "song"))).toBe("stored");
  expect(await coldHash(join(music, "song"))).toBe(hashOf(content));
  await line.expect("STORE_FULL", ["pin", line.mountPoint]);
  await expect(run("setfattr", ["-n", "user.tcfs.state", "-v", "x", music])).rejects.toThrow(
    /Operation not permitted/u,
  );
}

test("a directory as the store: the limit is held under load; states, pins and warmth", async () => {
  await using line = await CommandLine.make({ isBare: true });
  const vault = { line, env: {} };
  await initAndMount(vault, `file://${join(line.directory, "store")}`);
  await expectLimitHeld(vault);
  await expectStatesAndPins(vault);
  await expect.poll(() => figuresOf(line)).toMatchObject({ unsentBytes: 0 }); // the store has been asked for each pack
  await line.expect("OK", ["umount", line.mountPoint]);
  await line.expect("USAGE", ["cache", "--max-size", "1m", ...line.unlock]);
  const shown = await line.expect("OK", ["cache", "--max-size", "80m", "--json", ...line.unlock]);
  expect(JSON.parse(shown.stdout)).toMatchObject({ maxBytes: 80 * 1024 * 1024, isLimitSet: true, unsentBytes: 0 });
  await line.expect("OK", ["pin", "music", ...line.unlock]);
  const pins = JSON.parse((await line.expect("OK", ["pins", "--json", ...line.unlock])).stdout) as PinFigures[];
  expect(pins).toMatchObject([{ path: "music" }]);
  expect(pins[0]?.packsHere).toBe(pins[0]?.packs);
});

test("a new store has nothing yet: nothing is given up that only the one before it has", async () => {
  await using line = await CommandLine.make({ isBare: true });
  const first = join(line.directory, "first");
  await initAndMount({ line, env: {} }, `file://${first}`);
  const content = randomBytes(FILE_BYTES);
  const path = join(line.mountPoint, "file");
  await writeFile(path, content);
  await line.expect("OK", ["wait", line.mountPoint, "--timeout", "600"]);
  await line.expect("OK", ["umount", line.mountPoint]);
  await line.expect("OK", ["store", "set", `file://${join(line.directory, "second")}`, ...line.unlock]);
  await rm(first, { recursive: true });
  await line.expect("OK", ["upload", "pause", "--vault", line.vault]);
  await line.expect("OK", line.mountWords);
  await line.expect("OK", ["cache", "--clear", "-m", line.mountPoint]);
  expect(await coldHash(path)).toBe(hashOf(content));
  await line.expect("OK", ["upload", "resume", "--vault", line.vault]);
  await line.expect("OK", ["wait", line.mountPoint, "--timeout", "600"]);
  await line.expect("OK", ["cache", "--clear", "-m", line.mountPoint]);
  expect(await coldHash(path)).toBe(hashOf(content));
});

async function expectLifeOffline({ line, env }: Vault, server: Seaweed): Promise<void> {
  const at = (name: string): string => join(line.mountPoint, name);
  const [kept, gone] = [randomBytes(4_000_000), randomBytes(40_000_000)];
  await writeFile(at("gone"), gone);
  await line.expect("OK", ["wait", line.mountPoint, "--timeout", "600"]);
  await writeFile(at("kept"), kept);
  await line.expect("OK", ["wait", line.mountPoint, "--timeout", "600"]);
  await line.expect("OK", ["pin", at("kept")]);
  await expect
    .poll(async () => {
      await line.expect("OK", ["cache", "--clear", "-m", line.mountPoint]);
      return stateOf(at("gone"));
    })
    .toMatch(/remote|partial/u);
  await line.expect("OK", ["umount", line.mountPoint, "--wait"]);
  await server.kill();
  await line.expect("OK", [...line.mountWords, "-o", "store_wait=2"], { env });
  expect(await coldHash(at("kept"))).toBe(hashOf(kept));
  // Absent: that read alone fails, and others go on meanwhile.
  const absent = coldHash(at("gone")).then(
    () => "read",
    (error: unknown) => String(error),
  );
  expect(await readFile(at("kept"))).toEqual(kept);
  expect(await absent).toMatch(/Input\/output error/u);
  await writeFile(at("new"), "written offline");
  await line.expect("OK", ["snapshot", "offline", "--vault", line.vault]);
  const { bytes, code } = await writeUntilFull(at("much"), 2 * LIMIT_BYTES);
  expect(code).toBe("ENOSPC");
  expect(bytes).toBeGreaterThan(16 * 1024 * 1024);
  await expectWithinLimit(line.vault);
  expect(await coldHash(at("kept"))).toBe(hashOf(kept));
  expect(await readFile(at("new"), "utf8")).toBe("written offline");
  const much = await readFile(at("much"));
  expect(much.length).toBe(bytes);
  // Back: it heals by itself.
  await server.restart();
  await line.expect("OK", ["wait", line.mountPoint, "--timeout", "600"]);
  await writeFile(at("after"), randomBytes(FILE_BYTES));
  // A read that waits longer than those two seconds fails, and succeeds later.
  for (const [name, content] of Object.entries({ gone, much }))
    await expect.poll(() => coldHash(at(name)), { message: name }).toBe(hashOf(content));
  expect(await figuresOf(line)).toMatchObject({ maxBytes: LIMIT_BYTES, pinCount: 1 });
  await expectWithinLimit(line.vault);
  await line.expect("OK", ["umount", line.mountPoint, "--wait"]);
}

describe.skipIf(NO_SEAWEED !== undefined)("SeaweedFS as the store", () => {
  test("gone, what is here is read and written until the cache is full; back, it heals by itself", async () => {
    const server = await startWithBucket();
    try {
      const { accessKeyId, secretAccessKey } = server.credentials;
      const env = { AWS_ACCESS_KEY_ID: accessKeyId, AWS_SECRET_ACCESS_KEY: secretAccessKey };
      await using line = await CommandLine.make({ isBare: true });
      const vault = { line, env };
      await initAndMount(vault, `s3://vault/a?endpoint=${server.endpoint}`);
      await expectLifeOffline(vault, server);
    } finally {
      await server.stop();
    }
  });
});
