/** `tcfs key rotate`, as its user sees it: on a mounted vault and one that is not, interrupted, with a store, and what old keys open then. */
import { readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { filesBelow, readKnownFiles, writeKnownFiles } from "../life/known-files.ts";
import { eventually, sleep } from "../support/run.ts";
import { tcfs } from "../support/tcfs-mount.ts";
import { CommandLine } from "./fixtures.ts";

const KILLS = 3;
const LEFT = /^0 objects left under epoch (\d+)$/mu;

const rotateWords = (line: CommandLine, ...words: readonly string[]): string[] => [
  "key",
  "rotate",
  ...line.unlock,
  "--yes",
  ...words,
];

describe("a rotation of the vault's key", () => {
  test("says what is dropped before it begins, and nothing begins without a yes", async () => {
    await using line = await CommandLine.make();
    const keyFile = join(line.directory, "stick.key");
    await line.expect("OK", ["key", "add", ...line.unlock, "--new-key-file", keyFile]);
    const refused = await line.expect("USAGE", ["key", "rotate", ...line.unlock]);
    expect(refused.stdout).toMatch(
      /and no longer with:\n.*\(recovery words\): new words.*\n.*\(key file\): --key-file/u,
    );
    expect(refused.stderr).toContain("--yes");
    expect(refused.stdout).toContain("What no rotation changes: by which keys names and contents are looked up.");
    expect((await line.header())["keyEpoch"]).toBe(1);

    // New words are told before it begins, and taken back where it does not begin.
    const [journal, away] = [join(line.vault, "journal/0"), join(line.directory, "journal-0")];
    await rename(journal, away);
    const words = join(line.directory, "never");
    const failed = await line.expect("CORRUPT", rotateWords(line));
    expect(failed.stdout).toMatch(/These 24 words [\s\S]*\nNothing was changed: the new words open nothing\.\n$/u);
    await line.expect("CORRUPT", rotateWords(line, "--new-recovery-file", words));
    await expect(readFile(words)).rejects.toThrow(/ENOENT/u);
    await rename(away, journal);
    expect((await line.header())["keyEpoch"]).toBe(1);

    const { stdout } = await line.expect("OK", rotateWords(line, "--key-file", keyFile));
    expect(stdout).toMatch(
      /Afterwards it opens with:\n.*\(passphrase\), as before\n.*\(key file\), as before\n.*24 new/u,
    );
    expect(stdout).toMatch(/These 24 words open the vault from now on/u);
    expect(LEFT.exec(stdout)?.[1]).toBe("1");
    for (const secret of [line.unlock, ["--vault", line.vault, "--key-file", keyFile]])
      await line.expect("OK", ["key", "test", ...secret]);
    const oldWords = join(line.directory, "words");
    await line.expect("WRONG_KEY", ["key", "test", "--vault", line.vault, "--recovery-file", oldWords]);
    expect(await line.header()).toMatchObject({ keyEpoch: 2, keyring: { older: [] } });
    const [header, copy] = await Promise.all(
      ["vault.json", "vault.json.bak"].map((name) => readFile(join(line.vault, name), "utf8")),
    );
    expect(copy).toBe(header);
  });

  test.each(["--reencrypt", "--no-reencrypt"])(
    "%s goes on under load through SIGKILLs, and every byte is what it was",
    async (kind) => {
      await using line = await CommandLine.make();
      await line.mount();
      const known = await writeKnownFiles(line.mountPoint);
      await line.expect("OK", ["snapshot", "before", "--vault", line.vault]);
      await writeFile(join(line.mountPoint, "d0/noise"), "overwritten, kept by the snapshot", { flush: true });
      const logged = new Map<string, string>();
      const words = ["--new-recovery-file", join(line.directory, "new-words"), kind];
      let rotating: Promise<unknown> | undefined;
      for (let round = 0; round < KILLS; round++) {
        await using _load = writeOn(line.mountPoint, round, logged);
        rotating ??= tcfs(rotateWords(line, ...words)); // later rounds: the mount goes on with it by itself
        await eventually("the epoch begins", 60_000, async () => (await line.header())["keyEpoch"] === 2);
        await sleep((round * 131) % 400);
        const pid = line.pid();
        process.kill(pid, "SIGKILL");
        await line.daemonEnds(pid);
        await rotating;
        await line.mount();
        await expectContents(line, known, logged);
      }
      await eventually("the rotation ends by itself", 600_000, async () => !(await isUnderWay(line)));
      await expectContents(line, known, logged);
      await line.umount();
      const check = await line.expect("OK", ["check", ...line.unlock]);
      expect(check.stdout).toContain("no damage");
      const again = await line.expect("OK", rotateWords(line));
      expect(LEFT.exec(again.stdout)?.[1]).toBe("2");
      await line.mount();
      await expectContents(line, known, logged);
    },
  );
});

/** Writes small synced files for as long as it lives, and notes what was acknowledged. */
function writeOn(root: string, round: number, logged: Map<string, string>): AsyncDisposable {
  let isWanted = true;
  const writing = (async () => {
    for (let n = 0; isWanted; n++) {
      const content = `round ${round}, ${n} `.repeat(1 + (n % 7) * 900);
      await writeFile(join(root, `load${n % 5}`), content, { flush: true });
      logged.set(`load${n % 5}`, content);
    }
  })().catch(() => undefined); // the daemon is gone
  return {
    [Symbol.asyncDispose]: async () => {
      isWanted = false;
      await writing;
    },
  };
}

async function isUnderWay(line: CommandLine): Promise<boolean> {
  const { keyring } = (await line.header()) as { keyring: { older: unknown[] } };
  return keyring.older.length > 0;
}

async function expectContents(
  line: CommandLine,
  known: Awaited<ReturnType<typeof writeKnownFiles>>,
  logged: ReadonlyMap<string, string>,
): Promise<void> {
  const rest = new Map([...known].filter(([path]) => path !== "d0/noise"));
  const { wrong, refused } = await readKnownFiles(line.mountPoint, rest);
  expect([wrong, [...refused]]).toEqual([[], []]);
  const before = await readKnownFiles(join(line.mountPoint, ".snapshots/before"), known);
  expect([before.wrong, [...before.refused]]).toEqual([[], []]);
  for (const [path, acknowledged] of logged) {
    const text = await readFile(join(line.mountPoint, path), "utf8");
    const found = /^round (\d+), (\d+) /u.exec(text);
    if (text !== "") expect(found, `${path}: ${text.slice(0, 40)}`).not.toBeNull();
    if (found === null) continue; // the next write had begun, which empties the file
    expect(text).toBe((found[0] ?? "").repeat(text.length / (found[0]?.length ?? 1)));
    const [round, n] = /^round (\d+), (\d+) /u.exec(acknowledged)?.slice(1).map(Number) ?? [];
    const order = Number(found[1]) * 1e6 + Number(found[2]);
    expect(order, path).toBeGreaterThanOrEqual((round ?? 0) * 1e6 + (n ?? 0));
  }
}

describe("after a rotation", () => {
  test("a saved header opens nothing, here or in the store; the store attaches, and has nothing under the old key", async () => {
    await using line = await CommandLine.make();
    const store = join(line.directory, "store");
    await line.expect("OK", ["store", "set", `file://${store}`, ...line.unlock]);
    await line.mount();
    const known = await writeKnownFiles(line.mountPoint);
    await line.expect("OK", ["wait", "--vault", line.vault]);
    const saved = await readFile(join(line.vault, "vault.json"));
    const { stdout } = await line.expect("OK", rotateWords(line, "--reencrypt"));
    expect(stdout).toMatch(
      /Counted: \d+ records?, \d+ packs? and \d+ objects? of the store, all under key epoch 2\.\n0 obj/u,
    );
    await line.umount();

    expect(await epochsOf(join(line.vault, "packs"))).toEqual(new Set([2]));
    expect(await epochsOf(store)).toEqual(new Set([2]));
    const attached = join(line.directory, "attached");
    const unlock = ["--vault", attached, "--passphrase-file", line.passphraseFile];
    await line.expect("OK", ["attach", `file://${store}`, ...unlock]);
    await line.expect("OK", ["mount", line.mountPoint, ...unlock, "--pid-file", line.pidFile]);
    const { wrong, refused } = await readKnownFiles(line.mountPoint, known);
    expect([wrong, [...refused]]).toEqual([[], []]);
    await line.umount();

    await writeFile(join(line.vault, "vault.json"), saved);
    await rm(join(line.vault, "store.json"));
    const mount = ["mount", line.mountPoint, ...line.unlock];
    expect((await line.expect("BAD_HEADER", mount)).stderr).toContain("put vault.json.bak in its place");
    await writeFile(join(line.vault, "vault.json.bak"), saved);
    expect((await line.expect("CORRUPT", mount)).stderr).toContain("from before a rotation of the key");
    await writeFile(join(store, "header"), saved);
    const elsewhere = ["--vault", join(line.directory, "elsewhere"), "--passphrase-file", line.passphraseFile];
    await line.expect("REMOTE_DIVERGED", ["attach", `file://${store}`, ...elsewhere]);
  });
});

/** Every key epoch that packs, manifests and roots below a directory name. */
async function epochsOf(directory: string): Promise<Set<number>> {
  const epochs = new Set<number>();
  for (const path of await filesBelow(directory)) {
    const content = await readFile(join(directory, path));
    const magic = content.subarray(0, 8).toString("latin1");
    if (magic === "TCFSPACK") for (const at of [12, 48, 124]) epochs.add(content.readUInt32LE(at));
    else if (/^TCFS(?:COMM|CHEK|ROOT)$/u.test(magic)) epochs.add(content.readUInt32LE(12));
  }
  epochs.delete(0);
  return epochs;
}
