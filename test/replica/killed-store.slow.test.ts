/**
 * The real daemon and a real SeaweedFS killed at random instants of uploads. After each kill an attach from the bucket
 * alone has every file that was acknowledged as stored, and of the later ones a prefix in the order of their writing.
 */
import { createHash } from "node:crypto";
import { mkdir, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { CommandLine } from "../cli/fixtures.ts";
import { seeded } from "../remote/faulty-store.ts";
import { NO_SEAWEED, type Seaweed, startWithBucket } from "../remote/seaweed.ts";
import { tcfs } from "../support/tcfs-mount.ts";

const SEEDS = process.env["TCFS_STORE_KILL_SEEDS"]?.split(",").map(Number) ?? [20_261_122];
const ROUNDS = Number(process.env["TCFS_STORE_KILL_ROUNDS"] ?? 3);
const FILES_PER_ROUND = 6;
const MAX_FILE_BYTES = 1_500_000;
/** Uploads of a round take about so long. */
const MAX_DELAY_MS = 1500;

/** Incompressible, and the same for the same number. */
function contentOf(number: number, seed: number): Buffer {
  const random = seeded(seed * 1000 + number);
  const content = Buffer.alloc(1 + Math.floor(random() * MAX_FILE_BYTES));
  let block = createHash("sha256")
    .update(`${String(seed)} ${String(number)}`)
    .digest();
  for (let at = 0; at < content.length; at += block.length) {
    block.copy(content, at);
    block = createHash("sha256").update(block).digest();
  }
  return content;
}

class History {
  readonly seed: number;
  written = 0;
  acknowledged = 0;

  constructor(seed: number) {
    this.seed = seed;
  }

  async write(mountPoint: string): Promise<void> {
    const number = this.written;
    await writeFile(join(mountPoint, String(number)), contentOf(number, this.seed));
    this.written += 1;
  }

  /** Every acknowledged file is there; beyond it a prefix, in order. @returns How many are whole. */
  async check(mountPoint: string): Promise<number> {
    const names = (await readdir(mountPoint)).map(Number).sort((left, right) => left - right);
    expect(names).toEqual(names.map((_, index) => index));
    for (const number of names) {
      const found = await readFile(join(mountPoint, String(number)));
      const expected = contentOf(number, this.seed);
      const isLast = number === names.length - 1 && number >= this.acknowledged;
      const length = isLast ? found.length : expected.length;
      const isSame = found.equals(expected.subarray(0, length));
      expect(isSame, `file ${String(number)}, ${String(found.length)} of ${String(expected.length)} bytes`).toBe(true);
    }
    expect(names.length).toBeGreaterThanOrEqual(this.acknowledged);
    return names.length;
  }
}

async function expectBack(
  line: CommandLine,
  url: string,
  env: Record<string, string>,
  history: History,
): Promise<void> {
  await using other = await CommandLine.make({ isBare: true });
  const unlock = ["--vault", other.vault, "--passphrase-file", line.passphraseFile];
  const attached = await tcfs(["attach", url, ...unlock], { env });
  // Nothing was acknowledged yet: there may be no root.
  if (attached.code !== 0 && history.acknowledged === 0) return;
  expect(attached.code, attached.stderr).toBe(0);
  const words = ["mount", other.mountPoint, ...unlock, "--pid-file", other.pidFile, "--read-only"];
  await other.expect("OK", words, { env });
  await history.check(other.mountPoint);
  await other.umount();
}

/** Write, upload, and kill the one or the other, or both, in the middle. */
async function round(
  { line, server, env }: { readonly line: CommandLine; readonly server: Seaweed; readonly env: Record<string, string> },
  history: History,
  random: () => number,
): Promise<void> {
  const victims = random() < 0.2 ? "both" : random() < 0.6 ? "daemon" : "server";
  const delayMs = Math.floor(random() * MAX_DELAY_MS);
  console.log(`round: ${victims} killed after ${String(delayMs)} ms`);
  for (let file = 0; file < FILES_PER_ROUND; file++) await history.write(line.mountPoint);
  const { written } = history;
  const waiting = tcfs(["wait", line.mountPoint, "--timeout", "4"]);
  await sleep(delayMs);
  const pid = line.pid();
  if (victims !== "server") process.kill(pid, "SIGKILL");
  if (victims !== "daemon") await server.kill();
  if ((await waiting).code === 0) history.acknowledged = written;
  if (victims !== "daemon") await server.restart();
  if (victims === "server") return;
  await line.daemonEnds(pid);
  await line.expect("OK", line.mountWords, { env });
  history.written = Math.max(await history.check(line.mountPoint), history.acknowledged);
  // The last one may have been cut: written anew it is whole.
  history.written = Math.max(0, history.written - 1, history.acknowledged);
}

describe.skipIf(NO_SEAWEED !== undefined)("SeaweedFS and the daemon, killed", () => {
  test.for(SEEDS)("what was acknowledged as stored comes back, seed %i", async (seed) => {
    const random = seeded(seed);
    const server = await startWithBucket();
    try {
      const { accessKeyId, secretAccessKey } = server.credentials;
      const env = { AWS_ACCESS_KEY_ID: accessKeyId, AWS_SECRET_ACCESS_KEY: secretAccessKey };
      const url = `s3://vault/a?endpoint=${server.endpoint}`;
      await using line = await CommandLine.make({ isBare: true });
      const words = ["--recovery-file", join(line.directory, "words"), "--store", url];
      await line.expect("OK", ["init", ...line.unlock, ...words], { env });
      await line.expect("OK", line.mountWords, { env });
      const history = new History(seed);
      for (let number = 0; number < ROUNDS; number++) {
        await round({ line, server, env }, history, random);
        await expectBack(line, url, env, history);
      }
      await line.expect("OK", ["wait", line.mountPoint, "--timeout", "600"]);
      history.acknowledged = await history.check(line.mountPoint);
      await line.umount();
      await rm(line.vault, { recursive: true });
      await mkdir(line.vault);
      await line.expect("OK", ["attach", url, ...line.unlock], { env });
      await line.expect("OK", line.mountWords, { env });
      expect(await history.check(line.mountPoint)).toBe(history.acknowledged);
      await line.umount();
    } finally {
      await server.stop();
    }
  });
});
