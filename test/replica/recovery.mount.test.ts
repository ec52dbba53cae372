/** Roots that are not ours, accepted on purpose with nothing lost on either side; and recovery rehearsed from the store alone. */
import { appendFile, cp, mkdir, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { padme } from "../../src/format/replica-codec.ts";
import { CommandLine } from "../cli/fixtures.ts";
import { NO_SEAWEED, startWithBucket } from "../remote/seaweed.ts";
import { eventually } from "../support/run.ts";
import { tcfs } from "../support/tcfs-mount.ts";

/** A vault whose store has one file of it, mounted. @param content - If it is little, housekeeping moves it some seconds later. */
async function makeStored(
  content: string | Uint8Array = "of both",
): Promise<{ readonly line: CommandLine; readonly store: string; readonly url: string }> {
  const line = await CommandLine.make();
  const store = join(line.directory, "store");
  const url = `file://${store}`;
  await line.expect("OK", ["store", "set", url, ...line.unlock]);
  await line.mount();
  await writeFile(join(line.mountPoint, "a"), content);
  await wait(line);
  return { line, store, url };
}

async function wait(line: CommandLine): Promise<void> {
  await line.expect("OK", ["wait", line.mountPoint, "--timeout", "600"]);
}

/** @returns The names at the root of what `tcfs attach` brings. */
async function attachedNames(from: CommandLine, words: readonly string[]): Promise<string[]> {
  await using other = await CommandLine.make({ isBare: true });
  const unlock = ["--vault", other.vault, "--passphrase-file", from.passphraseFile];
  await other.expect("OK", ["attach", ...words, ...unlock]);
  await other.expect("OK", ["mount", other.mountPoint, ...unlock, "--pid-file", other.pidFile, "--read-only"]);
  const names = await readdir(other.mountPoint);
  await other.umount();
  return names.sort();
}

test("another device's root is told of, accepted over, and kept", async () => {
  const { line, store, url } = await makeStored();
  await using _line = line;
  const accept = ["store", "accept", ...line.unlock];
  await line.expect("VAULT_IN_USE", accept);
  await line.uploads("pause");
  await using second = await CommandLine.make({ isBare: true });
  const unlock = ["--vault", second.vault, "--passphrase-file", line.passphraseFile];
  await second.expect("OK", ["attach", url, ...unlock]);
  await second.expect("OK", ["mount", second.mountPoint, ...unlock, "--pid-file", second.pidFile]);
  await writeFile(join(second.mountPoint, "b"), "of the second");
  await wait(second);
  await second.umount();
  await line.uploads("resume");
  await writeFile(join(line.mountPoint, "c"), "of the first");
  const refused = await line.expect("REMOTE_DIVERGED", ["wait", line.mountPoint, "--timeout", "600"]);
  expect(refused.stderr).toMatch(/another device wrote.*tcfs store accept/su);
  await line.umount();
  const root = await readFile(join(store, "root"));
  const told = await line.expect("OK", [...accept, "--dry-run"]);
  expect(told.stdout).toMatch(
    /Another device has written.*its \d+ steps? since.*this directory's \d+ commits? since/isu,
  );
  await line.expect("USAGE", accept); // nobody to ask
  expect(Buffer.compare(await readFile(join(store, "root")), root)).toBe(0);
  const accepted = await line.expect("OK", [...accept, "--yes"]);
  const [kept = ""] = /roots\/\S+/u.exec(accepted.stdout) ?? [];
  await line.mount();
  await writeFile(join(line.mountPoint, "d"), "after it");
  await wait(line);
  expect((await line.expect("OK", ["status", line.mountPoint])).stdout).toMatch(/last root +(?:[3-9]|\d\d),/u);
  await line.umount();
  expect((await line.expect("OK", [...accept, "--yes"])).stdout).toMatch(/nothing to accept/u);
  expect(await attachedNames(line, [url])).toEqual(["a", "c", "d"]);
  expect(await attachedNames(line, [url, "--root", kept])).toEqual(["a", "b"]);
  const noVault = ["--vault", join(line.directory, "no"), "--passphrase-file", line.passphraseFile];
  await line.expect("USAGE", ["attach", url, "--root", "root", ...noVault]);
  await line.expect("USAGE", ["store", "forget", "root", ...line.unlock]);
  await line.expect("USAGE", ["store", "forget", kept, ...line.unlock]); // nobody to ask
  expect(await readdir(join(store, "roots"))).toEqual([kept.slice("roots/".length)]);
  await line.expect("OK", ["store", "forget", kept, "--yes", ...line.unlock]);
  expect(await readdir(join(store, "roots"))).toEqual([]);
  expect((await line.expect("USAGE", ["store", "forget", kept, "--yes", ...line.unlock])).stderr).toContain(kept);
  expect((await tcfs(["attach", url, "--root", kept, ...noVault])).code).not.toBe(0);
  expect(await attachedNames(line, [url])).toEqual(["a", "c", "d"]);
});

test("how long a store keeps what it does not need any more is told to the vault, mounted or not", async () => {
  const { line } = await makeStored();
  await using _line = line;
  const keep = ["upload", "keep-deleted"];
  const kept = async (): Promise<unknown> => {
    const shown = await line.expect("OK", ["status", line.mountPoint, "--json"]);
    const { store } = JSON.parse(shown.stdout) as { store: { keepDeletedSeconds: number } };
    return store.keepDeletedSeconds;
  };
  await line.expect("OK", [...keep, "30d", "--vault", line.vault]);
  expect(await kept()).toBe(30 * 24 * 3600);
  await line.umount();
  await line.expect("USAGE", [...keep, "soon", "--vault", line.vault]);
  await line.expect("OK", [...keep, "3d", "--vault", line.vault]);
  await line.mount();
  expect(await kept()).toBe(3 * 24 * 3600);
});

test("an older, a damaged and a lost root are accepted over", async () => {
  const { line, store, url } = await makeStored();
  await using _line = line;
  const root = join(store, "root");
  const accept = ["store", "accept", ...line.unlock, "--yes"];
  const older = await readFile(root);
  await writeFile(join(line.mountPoint, "b"), "newer");
  await wait(line);
  await line.umount();
  const spoiled = [
    [/gone back to an older/u, () => writeFile(root, older)],
    [/cannot be read/u, () => writeFile(root, Buffer.from(older.map((byte, at) => (at === 100 ? byte ^ 1 : byte))))],
    [/lost its root/u, () => rm(root)],
  ] as const;
  for (const [told, spoil] of spoiled) {
    await spoil();
    expect((await line.expect("OK", accept)).stdout).toMatch(told);
    await line.mount();
    await wait(line);
    await line.umount();
  }
  expect(await attachedNames(line, [url])).toEqual(["a", "b"]);
});

test("a store brought back from before a rotation is accepted over, and one rotated elsewhere is not", async () => {
  const { line, store, url } = await makeStored();
  await using _line = line;
  await writeFile(join(line.mountPoint, "b"), Buffer.alloc(300_000, "in a pack "));
  await wait(line);
  await line.umount();
  const [before, copy] = [join(line.directory, "store before"), join(line.directory, "copy")];
  await cp(store, before, { recursive: true });
  await cp(line.vault, copy, { recursive: true });
  await line.mount();
  await line.expect("OK", ["key", "rotate", ...line.unlock, "--yes"]);
  await line.umount();
  const ofCopy = ["--vault", copy, "--passphrase-file", line.passphraseFile];
  const refused = await line.expect("REMOTE_DIVERGED", ["store", "accept", ...ofCopy, "--yes"]);
  expect(refused.stderr).toMatch(/rotated from another copy of this directory.*tcfs attach/u);
  await rm(store, { recursive: true });
  await cp(before, store, { recursive: true });
  await line.mount();
  await writeFile(join(line.mountPoint, "c"), "after the rotation");
  const diverged = await line.expect("REMOTE_DIVERGED", ["wait", line.mountPoint, "--timeout", "600"]);
  expect(diverged.stderr).toMatch(/before the vault's key was rotated.*tcfs store accept/u);
  await line.umount();
  const accepted = await line.expect("OK", ["store", "accept", ...line.unlock, "--yes"]);
  expect(accepted.stdout).toMatch(/answer no, and attach it in a new directory/u);
  await line.mount();
  await wait(line);
  await line.umount();
  expect(await attachedNames(line, [url])).toEqual(["a", "b", "c"]);
  const rehearsal = ["rehearse-recovery", "--vault", line.vault, "--passphrase-file", line.passphraseFile, "--all"];
  await line.expect("OK", rehearsal); // every pack opens with the new key alone
});

test("a revoked device's root and a damaged list of devices are accepted over", async () => {
  const { line, store, url } = await makeStored();
  await using _line = line;
  await line.umount();
  const [root, list] = [join(store, "root"), join(store, "devices")];
  const accept = ["store", "accept", "--yes"];
  await using second = await CommandLine.make({ isBare: true });
  const unlock = ["--vault", second.vault, "--passphrase-file", line.passphraseFile];
  await second.expect("OK", ["attach", url, ...unlock]);
  const before = await readFile(root);
  await second.expect("OK", ["mount", second.mountPoint, ...unlock, "--pid-file", second.pidFile]);
  await writeFile(join(second.mountPoint, "b"), "of the second");
  await wait(second);
  await second.umount();
  const theirs = await readFile(root);
  await writeFile(root, before); // the revocation is of this step, and what the second wrote comes after it
  const devices = JSON.parse((await second.expect("OK", ["device", "list", ...unlock, "--json"])).stdout) as {
    readonly id: string;
    readonly isThis: boolean;
  }[];
  await line.expect("OK", ["device", "revoke", devices.find(({ isThis }) => isThis)?.id ?? "", ...line.unlock]);
  await writeFile(root, theirs);
  await line.mount();
  await writeFile(join(line.mountPoint, "c"), "of the first");
  await line.expect("DEVICE_REVOKED", ["wait", line.mountPoint, "--timeout", "600"]);
  await line.umount();
  await second.expect("DEVICE_REVOKED", [...accept, ...unlock]);
  expect(Buffer.compare(await readFile(root), theirs)).toBe(0);
  expect((await line.expect("OK", [...accept, ...line.unlock])).stdout).toMatch(/is refused: .* was revoked/u);
  await line.mount();
  await wait(line);
  expect((await line.expect("OK", ["status", line.mountPoint])).stdout).toMatch(/last root +(?:[3-9]|\d\d),/u);
  await line.umount();
  await writeFile(
    list,
    (await readFile(list)).map((byte, at) => (at === 100 ? byte ^ 1 : byte)),
  );
  expect((await line.expect("OK", [...accept, ...line.unlock])).stdout).toMatch(/is refused: .*devices/u);
  await line.mount();
  await wait(line);
  await line.umount();
  expect(await attachedNames(line, [url])).toEqual(["a", "c"]);
});

test("a rehearsal brings the vault back from the store, tells what lacks, and leaves nothing", async () => {
  // One pack, one checkpoint, and one commit after it; nothing that housekeeping moves to another pack by and by.
  const { line, store } = await makeStored(Buffer.alloc(700_000, "not very random "));
  await using _line = line;
  await mkdir(join(line.mountPoint, "empty"));
  await wait(line);
  const scratch = await line.placeToMount("scratch");
  const rehearse = ["rehearse-recovery", "--vault", line.vault, "--scratch", scratch, "--json"];
  const words = ["--recovery-file", join(line.directory, "words")];
  const report = JSON.parse((await line.expect("OK", [...rehearse, ...words])).stdout) as Record<string, unknown>;
  expect(report).toMatchObject({
    missingPackCount: 0,
    damageCount: 0,
    checkedBytes: 700_000,
    wouldBeLost: { commits: 0 },
  });
  await line.umount();
  await line.mount("-o", "noatime");
  await line.uploads("pause");
  await appendFile(join(line.mountPoint, "a"), "not in the store");
  await line.umount(); // waits for no upload
  const behind = JSON.parse((await line.expect("OK", [...rehearse, ...words])).stdout) as Record<string, unknown>;
  expect(behind).toMatchObject({
    wouldBeLost: { commits: expect.toSatisfy((count) => count > 0) as number, backlogBytes: null },
  });
  await line.expect("WRONG_KEY", [...rehearse, "--passphrase-file", line.secretFile("wrong", "guess\n")]);
  // A byte of the one pack flipped, and then the pack gone.
  const packs = (await readdir(join(store, "packs"), { recursive: true, withFileTypes: true })).filter((e) =>
    e.isFile(),
  );
  const [pack] = packs.map(({ parentPath, name }) => join(parentPath, name));
  const content = await readFile(pack ?? "");
  expect(padme(content.length)).toBe(content.length);
  expect(packs.length).toBe(1);
  content[400] = (content[400] ?? 0) ^ 1;
  await writeFile(pack ?? "", content);
  const flipped = await line.expect("CORRUPT", [...rehearse, ...words]);
  expect(JSON.parse(flipped.stdout)).toMatchObject({ missingPackCount: 0, damageCount: 1 });
  await rm(pack ?? "");
  const gone = await line.expect("CORRUPT", [...rehearse, ...words]);
  expect(JSON.parse(gone.stdout)).toMatchObject({ missingPackCount: 1, damageCount: 0, checkedBytes: 0 });
  expect(await readdir(scratch)).toEqual([]);
  const audit = JSON.parse((await line.expect("OK", ["audit-leak", "--vault", line.vault, "--json"])).stdout) as {
    kinds: { kind: string; count: number }[];
    requests: unknown;
  };
  expect(audit.requests).toBeNull(); // nothing is mounted
  const counts = Object.fromEntries(audit.kinds.map(({ kind, count }) => [kind, count]));
  expect(counts).toEqual({ header: 1, root: 1, devices: 1, checkpoints: 1, commits: 1 });
});

interface StoreFigures {
  readonly activity: string;
  readonly backlogBytes: number;
  readonly backlogFiles: number | null;
  readonly limitBytesPerSecond: number | null;
}

async function storeFigures(line: CommandLine): Promise<StoreFigures> {
  const { stdout } = await line.expect("OK", ["status", "--json", line.mountPoint]);
  return (JSON.parse(stdout) as { store: StoreFigures }).store;
}

test("a pause and a limit last over mounts, and are told of", async () => {
  const { line, url } = await makeStored();
  await using _line = line;
  const upload = (...words: string[]) => line.expect("OK", ["upload", ...words, "--vault", line.vault]);
  await upload("pause");
  await writeFile(join(line.mountPoint, "b"), Buffer.alloc(200_000, "not very random "));
  const refused = await line.expect("REMOTE_UNAVAILABLE", ["wait", line.mountPoint]);
  expect(refused.stderr).toMatch(/paused/u);
  expect(await storeFigures(line)).toMatchObject({ activity: "paused", backlogFiles: 2 }); // b and the root directory
  await line.umount();
  await upload("limit", "1m");
  await line.expect("USAGE", ["upload", "limit", "1", "--vault", line.vault]);
  await line.mount();
  expect(await storeFigures(line)).toMatchObject({ activity: "paused", limitBytesPerSecond: 2 ** 20 });
  await upload("limit", "none");
  await upload("resume");
  await wait(line);
  // Once it has looked for what may be deleted, and whatever housekeeping changed meanwhile has followed.
  const done = { activity: "idle", backlogBytes: 0, limitBytesPerSecond: null };
  await expect.poll(() => storeFigures(line)).toMatchObject(done);
  await line.umount();
  expect(await attachedNames(line, [url])).toEqual(["a", "b"]);
});

describe.skipIf(NO_SEAWEED !== undefined)("a server that hangs", () => {
  test("does not hold up SIGTERM", async () => {
    const server = await startWithBucket();
    try {
      const { accessKeyId, secretAccessKey } = server.credentials;
      const env = { AWS_ACCESS_KEY_ID: accessKeyId, AWS_SECRET_ACCESS_KEY: secretAccessKey };
      await using line = await CommandLine.make({ isBare: true });
      const store = ["--store", `s3://vault/a?endpoint=${server.endpoint}`];
      await line.expect("OK", ["init", ...line.unlock, "--recovery-file", join(line.directory, "words"), ...store], {
        env,
      });
      await line.expect("OK", line.mountWords, { env });
      process.kill(server.pid, "SIGSTOP");
      await writeFile(join(line.mountPoint, "a"), "x");
      const waiting = tcfs(["wait", line.mountPoint]);
      await eventually(
        "an upload is under way",
        60_000,
        async () => (await storeFigures(line)).activity === "uploading",
      );
      const pid = line.pid();
      const startedMs = performance.now();
      process.kill(pid, "SIGTERM");
      await line.daemonEnds(pid);
      expect(performance.now() - startedMs).toBeLessThan(60_000); // a request would hang for 30 s, four times over
      expect((await waiting).code).not.toBe(0);
    } finally {
      process.kill(server.pid, "SIGCONT");
      await server.stop();
    }
  });
});
