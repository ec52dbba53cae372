/** A vault whose packs are a bounded cache of its store: the limit, cold reads, pins, and life without the network. */
import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdir, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { describe, expect, test } from "vitest";
import type { CacheFigures, PinFigures } from "../../src/fs/local-copies.ts";
import { CommandLine } from "../cli/fixtures.ts";
import { NO_SEAWEED, type Seaweed, startWithBucket } from "../remote/seaweed.ts";
import { coldHash, hashOf, writeUntilFull } from "./contents.ts";

const TIMEOUT_MS = 900_000;
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
  await line.expect("OK", [...line.mountWords, "-o", "store_wait=2"], { env });
}

/** Packs and blocks, as the disk counts them. */
async function diskBytes(vault: string): Promise<number> {
  let bytes = 0;
  for (const name of ["packs", "blocks"]) {
    for (const path of await readdir(join(vault, name), { recursive: true })) {
      const stats = await stat(join(vault, name, path)).catch(() => undefined); // just given up
      if (stats?.isFile() === true) bytes += stats.blocks * 512;
    }
  }
  return bytes;
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
    expect(await diskBytes(line.vault)).toBeLessThanOrEqual(LIMIT_BYTES);
  }
  await line.expect("OK", ["wait", line.mountPoint, "--timeout", "600"]);
  for (const [path, hash] of files) {
    expect(await coldHash(path)).toBe(hash);
    expect(await diskBytes(line.vault)).toBeLessThanOrEqual(LIMIT_BYTES);
  }
}

async function expectStatesAndPins({ line }: Vault): Promise<void> {
  const music = join(line.mountPoint, "music");
  await mkdir(music);
  const content = randomBytes(3_000_000);
  await writeFile(join(music, "song"), content);
  await writeFile(join(line.mountPoint, "other"), randomBytes(3_000_000));
  expect(await stateOf(join(music, "song"))).toBe("unsent");
  await line.expect("OK", ["wait", line.mountPoint, "--timeout", "600"]);
  expect(await stateOf(join(music, "song"))).toBe("stored");
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

test(
  "a directory as the store: the limit is held under load; states, pins and warmth",
  { timeout: TIMEOUT_MS },
  async () => {
    await using line = await CommandLine.make({ isBare: true });
    const vault = { line, env: {} };
    await initAndMount(vault, `file://${join(line.directory, "store")}`);
    await expectLimitHeld(vault);
    await expectStatesAndPins(vault);
    await line.expect("OK", ["umount", line.mountPoint]);
    await line.expect("USAGE", ["cache", "--max-size", "1m", ...line.unlock]);
    const shown = await line.expect("OK", ["cache", "--max-size", "80m", "--json", ...line.unlock]);
    expect(JSON.parse(shown.stdout)).toMatchObject({ maxBytes: 80 * 1024 * 1024, isLimitSet: true, unsentBytes: 0 });
    await line.expect("OK", ["pin", "music", ...line.unlock]);
    const pins = JSON.parse((await line.expect("OK", ["pins", "--json", ...line.unlock])).stdout) as PinFigures[];
    expect(pins).toMatchObject([{ path: "music" }]);
    expect(pins[0]?.packsHere).toBe(pins[0]?.packs);
  },
);

test(
  "a new store has nothing yet: nothing is given up that only the one before it has",
  { timeout: TIMEOUT_MS },
  async () => {
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
  },
);

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
  expect(await diskBytes(line.vault)).toBeLessThanOrEqual(LIMIT_BYTES);
  expect(await coldHash(at("kept"))).toBe(hashOf(kept));
  expect(await readFile(at("new"), "utf8")).toBe("written offline");
  const much = await readFile(at("much"));
  expect(much.length).toBe(bytes);
  // Back: it heals by itself.
  await server.restart();
  await line.expect("OK", ["wait", line.mountPoint, "--timeout", "600"]);
  await writeFile(at("after"), randomBytes(FILE_BYTES));
  expect(await coldHash(at("gone"))).toBe(hashOf(gone));
  expect(await coldHash(at("much"))).toBe(hashOf(much));
  expect(await figuresOf(line)).toMatchObject({ maxBytes: LIMIT_BYTES, pinCount: 1 });
  expect(await diskBytes(line.vault)).toBeLessThanOrEqual(LIMIT_BYTES);
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
