/** A vault with a store: uploaded by the daemon, brought back on another machine from the store alone. */
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, readFile, readdir, rm, writeFile, appendFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { promisify } from "node:util";
import { describe, expect, test } from "vitest";
import { COMMAND, CommandLine } from "../cli/fixtures.ts";
import { NO_SEAWEED, startWithBucket } from "../remote/seaweed.ts";
import { eventually } from "../support/run.ts";
import { tcfs } from "../support/tcfs-mount.ts";

/** Of one request, by the SDK. */
const FIRST_TRIES = 4;

const run = promisify(execFile);

interface Place {
  readonly url: string;
  readonly env: Record<string, string>;
}

/** @returns What `diff` and metadata comparison say of two trees: nothing where they are equal. */
async function difference(left: string, right: string): Promise<string> {
  const { stdout } = await run("rsync", ["-n", "-aHAXi", "--checksum", "--delete", `${left}/`, `${right}/`]);
  return stdout;
}

/** Small files that ride in the metadata, large ones in packs, links, xattrs, holes. */
async function fill(at: string, seed: string): Promise<void> {
  await mkdir(join(at, seed, "deep/er"), { recursive: true });
  for (let i = 0; i < 40; i++)
    await writeFile(join(at, seed, `small-${String(i)}`), `${seed} ${String(i)}\n`.repeat(i + 1));
  const noise = Buffer.alloc(3_000_000);
  for (let i = 0; i < noise.length; i++)
    noise[i] = (i * 2654435761 + seed.length * 97 + (seed.charCodeAt(0) << 7)) >>> (i % 13);
  await writeFile(join(at, seed, "deep/er/large"), noise);
  await run("ln", [join(at, seed, "small-1"), join(at, seed, "hard")]);
  await run("ln", ["-s", "deep/er/large", join(at, seed, "soft")]);
  await run("setfattr", ["-n", "user.colour", "-v", "blue", join(at, seed, "small-2")]);
  await run("truncate", ["-s", "5M", join(at, seed, "hole")]);
}

/** Attach in a new directory, mount, compare, unmount. */
async function expectAttached(line: CommandLine, place: Place, expected: string): Promise<void> {
  await using other = await CommandLine.make({ isBare: true });
  await other.expect(
    "OK",
    ["attach", place.url, "--vault", other.vault, "--recovery-file", join(line.directory, "words")],
    {
      env: place.env,
    },
  );
  const words = ["mount", other.mountPoint, "--vault", other.vault, "--passphrase-file", line.passphraseFile];
  // Read-only: what is read gets new access times, and who writes first is the store's writer.
  await other.expect("OK", [...words, "--pid-file", other.pidFile, "--read-only"], { env: place.env });
  expect(await difference(expected, other.mountPoint)).toBe("");
  await other.expect("OK", ["umount", other.mountPoint]);
}

async function makeWithStore(place: Place): Promise<CommandLine> {
  const line = await CommandLine.make({ isBare: true });
  const words = ["--recovery-file", join(line.directory, "words"), "--store", place.url];
  await line.expect("OK", ["init", ...line.unlock, ...words], { env: place.env });
  await line.expect("OK", line.mountWords, { env: place.env });
  return line;
}

async function roundTrip(place: Place): Promise<void> {
  await using line = await makeWithStore(place);
  await fill(line.mountPoint, "first");
  await line.expect("OK", ["snapshot", "one", "--vault", line.vault]);
  await line.expect("OK", ["wait", line.mountPoint, "--timeout", "600"]);
  await expectAttached(line, place, line.mountPoint);
  await fill(line.mountPoint, "second");
  await rm(join(line.mountPoint, "first/deep"), { recursive: true });
  await appendFile(join(line.mountPoint, "first/small-3"), "more");
  await line.expect("OK", ["wait", "--vault", line.vault, "--timeout", "600"]);
  const storeStatus = async () =>
    (
      JSON.parse((await line.expect("OK", ["status", "--json", line.mountPoint])).stdout) as {
        store: { backlogBytes: number; lastRoot: { number: number } };
      }
    ).store;
  // Housekeeping may have moved the small files to a pack since.
  await expect.poll(storeStatus).toMatchObject({ backlogBytes: 0, lastError: null });
  expect((await storeStatus()).lastRoot.number).toBeGreaterThanOrEqual(2);
  // Once more after a restart, which knows only by a checkpoint what has changed.
  await line.expect("OK", ["umount", line.mountPoint]);
  await line.expect("OK", line.mountWords, { env: place.env });
  await writeFile(join(line.mountPoint, "third"), "after a restart");
  await line.expect("OK", ["wait", line.mountPoint, "--timeout", "600"]);
  await expectAttached(line, place, line.mountPoint);
  await line.expect("OK", ["umount", line.mountPoint, "--wait"]);
}

describe("a directory as the store", () => {
  test("brings the vault back, snapshots and all, and goes on after a restart", async () => {
    await using temporary = await CommandLine.make({ isBare: true });
    await roundTrip({ url: `file://${temporary.directory}/store`, env: {} });
  });

  test("tells a second writer, and loses nothing of either", async () => {
    await using line = await CommandLine.make();
    const url = `file://${line.directory}/store`;
    await line.expect("OK", ["store", "set", url, ...line.unlock]);
    await line.expect("OK", line.mountWords);
    await writeFile(join(line.mountPoint, "a"), "of the first");
    await line.expect("OK", ["wait", line.mountPoint, "--timeout", "600"]);
    await line.uploads("pause");
    await using second = await CommandLine.make({ isBare: true });
    const words = ["--vault", second.vault, "--passphrase-file", line.passphraseFile];
    await second.expect("OK", ["attach", url, ...words]);
    await second.expect("OK", ["mount", second.mountPoint, ...words, "--pid-file", second.pidFile]);
    await writeFile(join(second.mountPoint, "b"), "of the second");
    await second.expect("OK", ["wait", second.mountPoint, "--timeout", "600"]);
    await line.uploads("resume");
    await writeFile(join(line.mountPoint, "c"), "of the first again");
    const refused = await line.expect("REMOTE_DIVERGED", ["wait", line.mountPoint, "--timeout", "600"]);
    expect(refused.stderr).toMatch(/another device wrote to the store/u);
    expect(await readFile(join(line.mountPoint, "c"), "utf8")).toBe("of the first again");
    expect(await readFile(join(second.mountPoint, "a"), "utf8")).toBe("of the first");
    await second.expect("OK", ["umount", second.mountPoint]);
    await line.expect("OK", ["umount", line.mountPoint]);
  });

  test("is refused where it holds another vault, or shows an older state", async () => {
    await using line = await CommandLine.make();
    const store = join(line.directory, "store");
    await line.expect("OK", ["store", "set", `file://${store}`, ...line.unlock]);
    await using other = await CommandLine.make({ isBare: true });
    await other.expect("OK", ["init", ...other.unlock]);
    await other.expect("VAULT_EXISTS", ["store", "set", `file://${store}`, ...other.unlock]);
    await line.expect("OK", line.mountWords);
    await line.expect("OK", ["wait", line.mountPoint, "--timeout", "600"]);
    const older = await readFile(join(store, "root"));
    await writeFile(join(line.mountPoint, "a"), "newer");
    await line.expect("OK", ["wait", line.mountPoint, "--timeout", "600"]);
    await line.expect("OK", ["umount", line.mountPoint]);
    const again = ["store", "set", `file://${store}`, ...line.unlock];
    expect((await line.expect("OK", again)).stdout).toMatch(/store already.*root is the one/su);
    await writeFile(join(store, "root"), older);
    expect((await line.expect("OK", again)).stdout).toMatch(/not the one.*tcfs store accept/su);
    await line.expect("OK", line.mountWords);
    const refused = await line.expect("REMOTE_DIVERGED", ["wait", line.mountPoint, "--timeout", "600"]);
    expect(refused.stderr).toMatch(/older state/u);
    await line.expect("OK", ["umount", line.mountPoint]);
  });

  test("a wrong secret, an empty store and an interrupted attach leave no vault behind", async () => {
    await using line = await CommandLine.make();
    const store = join(line.directory, "store");
    const url = `file://${store}`;
    await line.expect("OK", ["store", "set", url, ...line.unlock]);
    const attach = ["attach", url, "--vault", join(line.directory, "copy"), "--passphrase-file"];
    await line.expect("NO_VAULT", [...attach, line.passphraseFile]); // nothing was uploaded yet
    await line.expect("OK", line.mountWords);
    await line.expect("OK", ["wait", line.mountPoint, "--timeout", "600"]);
    await line.expect("WRONG_KEY", [...attach, line.secretFile("wrong", "guess\n")]);
    for (const name of await readdir(join(store, "checkpoints"))) await rm(join(store, "checkpoints", name));
    const damaged = await line.expect("CORRUPT", [...attach, line.passphraseFile]);
    expect(damaged.stderr).toMatch(/not in the store/u);
    expect(await readdir(join(line.directory, "copy")).catch(() => [])).toEqual([]);
    await line.expect("OK", ["umount", line.mountPoint]);
  });
});

test("an attach that is killed is begun anew by the next one", async () => {
  await using line = await CommandLine.make();
  const url = `file://${join(line.directory, "store")}`;
  await line.expect("OK", ["store", "set", url, ...line.unlock]);
  await line.mount();
  await fill(line.mountPoint, "first");
  await line.expect("OK", ["wait", line.mountPoint, "--timeout", "600"]);
  await using other = await CommandLine.make({ isBare: true });
  const unlock = ["--vault", other.vault, "--passphrase-file", line.passphraseFile];
  const words = ["attach", url, ...unlock];
  const killed = spawn(process.execPath, [COMMAND, ...words], { stdio: "ignore" });
  const ended = once(killed, "close");
  const names = (): Promise<string[]> => readdir(other.vault).catch(() => []);
  await eventually("the attach begins", 180_000, async () => (await names()).length > 0);
  killed.kill("SIGKILL");
  await ended;
  const isWhole = (await names()).includes("vault.json");
  await other.expect(isWhole ? "VAULT_EXISTS" : "OK", words);
  await other.expect("OK", ["mount", other.mountPoint, ...unlock, "--pid-file", other.pidFile, "--read-only"]);
  expect(await difference(line.mountPoint, other.mountPoint)).toBe("");
  await other.umount();
  await line.umount();
});

describe.skipIf(NO_SEAWEED !== undefined)("SeaweedFS as the store", () => {
  test("brings the vault back; killed, it is waited for and caught up with", async () => {
    const server = await startWithBucket();
    try {
      const { accessKeyId, secretAccessKey } = server.credentials;
      const env = { AWS_ACCESS_KEY_ID: accessKeyId, AWS_SECRET_ACCESS_KEY: secretAccessKey };
      const place = { url: `s3://vault/a?endpoint=${server.endpoint}`, env };
      await using line = await makeWithStore(place);
      await fill(line.mountPoint, "first");
      await line.expect("OK", ["wait", line.mountPoint, "--timeout", "600"]);
      await server.kill();
      await fill(line.mountPoint, "offline");
      const late = await line.expect("REMOTE_UNAVAILABLE", ["wait", line.mountPoint, "--timeout", "3"]);
      expect(late.stderr).toMatch(/not everything is in the store yet/u);
      await server.restart();
      await line.expect("OK", ["wait", line.mountPoint, "--timeout", "600"]);
      await expectAttached(line, place, line.mountPoint);
      const log = await readFile(join(line.vault, "daemon.log"), "utf8");
      for (const text of [
        log,
        await readFile(join(line.vault, "store.json"), "utf8"),
        await readFile(`/proc/${await readFile(line.pidFile, "utf8").then((pid) => pid.trim())}/environ`, "latin1"),
      ]) {
        expect(text).not.toContain(accessKeyId);
        expect(text).not.toContain(secretAccessKey);
      }
      await line.expect("OK", ["umount", line.mountPoint]);
    } finally {
      await server.stop();
    }
  });
});

test("a store that is being started is waited for, and that is told", async () => {
  let requestCount = 0;
  const server = createServer((_request, response) => {
    requestCount += 1;
    const isReady = requestCount > FIRST_TRIES;
    response.writeHead(isReady ? 404 : 500).end();
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  try {
    await using line = await CommandLine.make({ isBare: true });
    const url = `s3://vault/a?endpoint=http://127.0.0.1:${String((server.address() as AddressInfo).port)}`;
    const env = { AWS_ACCESS_KEY_ID: "AKIA", AWS_SECRET_ACCESS_KEY: "secret" };
    const { stderr } = await line.expect("NO_VAULT", ["attach", url, "--vault", line.vault], { env });
    expect(stderr).toMatch(/the store does not answer yet, trying on\n[^]*there is no vault in s3:/u);
    expect(requestCount).toBe(FIRST_TRIES + 1);
  } finally {
    await new Promise((resolve) => server.close(resolve));
  }
});

test("a vault without a store says so", async () => {
  await using line = await CommandLine.make();
  expect((await line.expect("OK", ["store", "show", "--vault", line.vault])).stdout).toMatch(/no store/u);
  await line.expect("USAGE", ["store", "test", "--vault", line.vault]);
  expect((await tcfs(["wait", "--vault", line.vault])).code).not.toBe(0);
});
