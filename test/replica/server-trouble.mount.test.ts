/**
 * What happens to a real SeaweedFS while a vault is mounted: it is full, its bucket is deleted, it wants other credentials, it
 * stands still. Local work goes on, `tcfs status` says why, and once the server is well again nothing has to be done by hand.
 */
import { randomBytes } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { CacheFigures } from "../../src/fs/local-copies.ts";
import type { ReplicaStatus } from "../../src/replica/replica-status.ts";
import { CommandLine } from "../cli/fixtures.ts";
import {
  NO_SEAWEED,
  type Seaweed,
  changeSecret,
  createBucket,
  deleteBucket,
  fill,
  startWithBucket,
} from "../remote/seaweed.ts";
import { eventually } from "../support/run.ts";
import { coldHash, hashOf, writeUntilFull } from "./contents.ts";

const MIB = 1024 * 1024;
const CACHE_MIB = 64;
/** Longer than the server takes in these tests, on a busy machine too. */
const PATIENCE_MS = 600_000;
const PATIENCE = ["--timeout", String(PATIENCE_MS / 1000)];

/** A mounted vault whose store is a bucket; credentials come from a file, so that they can be changed. */
class Vault implements AsyncDisposable {
  readonly line: CommandLine;
  readonly url: string;
  readonly #server: Seaweed;

  private constructor(line: CommandLine, server: Seaweed, bucket: string) {
    this.line = line;
    this.#server = server;
    this.url = `s3://${bucket}/a?endpoint=${server.endpoint}`;
  }

  static async make(server: Seaweed, bucket: string): Promise<Vault> {
    const vault = new Vault(await CommandLine.make({ isBare: true }), server, bucket);
    const { line, env } = vault;
    vault.writeCredentials();
    const words = ["--recovery-file", join(line.directory, "words"), "--cache-size", `${String(CACHE_MIB)}m`];
    await line.expect("OK", ["init", ...line.unlock, ...words, "--store", vault.url], { env });
    await vault.mount();
    return vault;
  }

  get env(): Record<string, string> {
    return { AWS_SHARED_CREDENTIALS_FILE: join(this.line.directory, "credentials") };
  }

  /** Those that the server wants now. */
  writeCredentials(): void {
    const { accessKeyId, secretAccessKey } = this.#server.credentials;
    const lines = ["[default]", `aws_access_key_id = ${accessKeyId}`, `aws_secret_access_key = ${secretAccessKey}`];
    this.line.secretFile("credentials", `${lines.join("\n")}\n`);
  }

  async mount(): Promise<void> {
    await this.line.expect("OK", this.line.mountWords, { env: this.env });
  }

  at(name: string): string {
    return join(this.line.mountPoint, name);
  }

  /** @returns What was written: so many random bytes. */
  async write(name: string, lengthBytes: number): Promise<Buffer> {
    const content = randomBytes(lengthBytes);
    await writeFile(this.at(name), content);
    return content;
  }

  async isStored(): Promise<void> {
    await this.line.expect("OK", ["wait", this.line.mountPoint, ...PATIENCE]);
  }

  async store(): Promise<ReplicaStatus> {
    const { stdout } = await this.line.expect("OK", ["status", "--json", this.line.mountPoint]);
    return (JSON.parse(stdout) as { store: ReplicaStatus }).store;
  }

  /** @returns What the status says of the store, once it says so. */
  async failsWith(expected: RegExp): Promise<void> {
    await eventually(`the status says ${String(expected)}`, PATIENCE_MS, async () => {
      const { activity, lastError } = await this.store();
      return activity === "failing" && expected.test(lastError ?? "");
    });
  }

  /** Until a HEAD has shown each pack: what the store loses later is missed when it is asked for something else. */
  async isConfirmed(): Promise<void> {
    await eventually("the store is known to have every pack", PATIENCE_MS, async () => {
      const { stdout } = await this.line.expect("OK", ["cache", "--json", "-m", this.line.mountPoint]);
      return (JSON.parse(stdout) as CacheFigures).unsentBytes === 0;
    });
  }

  async clear(): Promise<void> {
    await this.line.expect("OK", ["cache", "--clear", "-m", this.line.mountPoint]);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.line[Symbol.asyncDispose]();
  }
}

describe.skipIf(NO_SEAWEED !== undefined)("SeaweedFS in trouble", () => {
  let server: Seaweed;
  beforeAll(async () => {
    server = await startWithBucket();
  });
  afterAll(() => server.stop());

  test("without its bucket, or with an empty one in its place, is not taken for a new store; accepted, it gets everything", async () => {
    await createBucket(server, "deleted");
    await using vault = await Vault.make(server, "deleted");
    const { line, env, url } = vault;
    const first = await vault.write("first", 3 * MIB);
    await vault.isStored();
    await vault.isConfirmed(); // or the pack found missing is brought again, and makes the bucket anew
    await deleteBucket(server, "deleted");
    const second = await vault.write("second", 3 * MIB);
    await vault.failsWith(/NoSuchBucket, HTTP 404/u);
    await createBucket(server, "deleted");
    const refused = await line.expect("REMOTE_DIVERGED", ["wait", line.mountPoint, ...PATIENCE]);
    expect(refused.stderr).toMatch(/the store has lost its root/u);
    expect((await vault.store()).activity).toBe("stopped");
    // What only this disk has stays on it.
    await vault.clear();
    expect(await coldHash(vault.at("first"))).toBe(hashOf(first));
    expect(await coldHash(vault.at("second"))).toBe(hashOf(second));
    await line.umount();
    await line.expect("OK", ["store", "accept", "--yes", ...line.unlock], { env });
    await vault.mount();
    await vault.isStored();
    await using other = await CommandLine.make({ isBare: true });
    await other.expect("OK", ["attach", url, "--vault", other.vault, "--passphrase-file", line.passphraseFile], {
      env,
    });
    await other.expect("OK", [...other.mountWords, "--read-only"], { env });
    expect(await coldHash(join(other.mountPoint, "first"))).toBe(hashOf(first));
    expect(await coldHash(join(other.mountPoint, "second"))).toBe(hashOf(second));
    await other.umount();
    await line.umount();
  });

  test("that wants another secret is told of, and uploaded to once the credentials file has it", async () => {
    await createBucket(server, "denied");
    await using vault = await Vault.make(server, "denied");
    await vault.isStored();
    const before = server.credentials.secretAccessKey;
    await changeSecret(server, "another-secret-of-this-server");
    await vault.write("file", MIB);
    await vault.failsWith(/SignatureDoesNotMatch, HTTP 403/u);
    expect((await vault.store()).lastError).not.toContain(before);
    vault.writeCredentials();
    await vault.isStored();
    expect((await vault.store()).lastError).toBeNull();
    await vault.line.umount();
  });

  test("that stands still within an upload keeps nobody from working, and gets the rest when it goes on", async () => {
    await createBucket(server, "stopped");
    await using vault = await Vault.make(server, "stopped");
    const { line } = vault;
    await vault.isStored();
    await line.expect("OK", ["upload", "limit", "4m", "--vault", line.vault]);
    const large = await vault.write("large", 24 * MIB);
    const waiting = line.expect("OK", ["wait", line.mountPoint, ...PATIENCE]);
    await eventually("an upload is under way", PATIENCE_MS, async () => (await vault.store()).uploadedBytes > MIB);
    process.kill(server.pid, "SIGSTOP");
    try {
      await line.expect("OK", ["upload", "limit", "none", "--vault", line.vault]);
      const small = await vault.write("small", MIB);
      await line.expect("REMOTE_UNAVAILABLE", ["wait", line.mountPoint, "--timeout", "2"]);
      const { backlogBytes, activity } = await vault.store();
      expect(backlogBytes).toBeGreaterThan(0);
      expect(activity).toMatch(/^(?:uploading|failing)$/u); // requests are given up after half a minute, and made again
      expect(await coldHash(vault.at("small"))).toBe(hashOf(small));
    } finally {
      process.kill(server.pid, "SIGCONT");
    }
    await waiting;
    await vault.isStored();
    expect(await coldHash(vault.at("large"))).toBe(hashOf(large));
    await line.umount();
  });
});

describe.skipIf(NO_SEAWEED !== undefined)("a full SeaweedFS", () => {
  test("is told of; writes go on until the cache is full, and once it has room everything goes there", async () => {
    const server = await startWithBucket(1);
    try {
      await using vault = await Vault.make(server, "vault");
      const early = await vault.write("early", 2 * MIB);
      await vault.isStored();
      await fill(server, "vault", 16 * MIB);
      const late = await vault.write("late", 12 * MIB);
      await vault.failsWith(/HTTP 500.*full/u);
      const { bytes, code } = await writeUntilFull(vault.at("much"), 2 * CACHE_MIB * MIB);
      expect(code).toBe("ENOSPC");
      const much = await readFile(vault.at("much"));
      expect(much.length).toBe(bytes);
      expect(await coldHash(vault.at("late"))).toBe(hashOf(late));
      await server.kill();
      await server.restart({ volumes: 4 });
      await vault.isStored();
      const after = await vault.write("after", 8 * MIB);
      await vault.isStored();
      await vault.clear();
      for (const [name, content] of Object.entries({ early, late, much, after })) {
        expect(await coldHash(vault.at(name)), name).toBe(hashOf(content));
      }
      await vault.line.umount();
    } finally {
      await server.stop();
    }
  });
});
