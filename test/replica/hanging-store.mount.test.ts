/** A store that takes connections and never answers: whoever waits for it can be stopped, and all goes on once it answers. */
import { execFile, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { readdirSync, readlinkSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { describe, expect, test } from "vitest";
import { COMMAND, CommandLine } from "../cli/fixtures.ts";
import { HangingProxy } from "../remote/hanging-proxy.ts";
import { NO_SEAWEED, startWithBucket } from "../remote/seaweed.ts";
import { eventually } from "../support/run.ts";
import { coldHash, hashOf } from "./contents.ts";

const run = promisify(execFile);
const LIMIT_MS = 120_000;

/** Interrupt a program as ^C does, once it waits. @returns How it ended, and what it said. */
async function interrupted([program, ...words]: readonly [string, ...string[]], waits: (pid: number) => boolean) {
  const child = spawn(program, words, { stdio: ["ignore", "pipe", "pipe"] });
  let said = "";
  const listen = (text: string): void => {
    said += text;
  };
  child.stdout.setEncoding("utf8").on("data", listen);
  child.stderr.setEncoding("utf8").on("data", listen);
  const ended = new Promise<string>((resolve) => {
    child.once("close", (code, signal) => {
      resolve(`${String(signal ?? code)} ${said}`.trim());
    });
  });
  await eventually(
    `${program} ${words.join(" ")} waits`,
    LIMIT_MS,
    () => child.exitCode !== null || waits(child.pid ?? 0),
  );
  child.kill("SIGINT");
  return ended;
}

/** Whether a command talks with the daemon. */
function hasSocket(pid: number): boolean {
  const directory = `/proc/${pid}/fd`;
  return readdirSync(directory).some((fd) => {
    try {
      return readlinkSync(join(directory, fd)).startsWith("socket:");
    } catch {
      return false; // closed meanwhile
    }
  });
}

describe.skipIf(NO_SEAWEED !== undefined)("SeaweedFS that does not answer", () => {
  test("a read of what is not here and a wait are ended by ^C, and succeed once it answers", async () => {
    const server = await startWithBucket();
    try {
      await using proxy = await HangingProxy.start(server.endpoint);
      const { accessKeyId, secretAccessKey } = server.credentials;
      const env = { AWS_ACCESS_KEY_ID: accessKeyId, AWS_SECRET_ACCESS_KEY: secretAccessKey };
      await using line = await CommandLine.make({ isBare: true });
      const words = ["--recovery-file", join(line.directory, "words")];
      const url = `s3://vault/hanging?endpoint=${proxy.endpoint}`;
      await line.expect("OK", ["init", ...line.unlock, ...words, "--store", url], { env });
      await line.expect("OK", [...line.mountWords, "-o", "store_wait=3600"], { env });
      const content = randomBytes(3_000_000);
      const path = join(line.mountPoint, "file");
      await writeFile(path, content);
      await line.expect("OK", ["wait", line.mountPoint, "--timeout", "600"]);
      await line.uploads("pause"); // what is read is asked for, nothing else
      await expect
        .poll(async () => {
          await line.expect("OK", ["cache", "--clear", "-m", line.mountPoint]);
          const shown = await line.expect("OK", ["cache", "--json", "-m", line.mountPoint]);
          return (JSON.parse(shown.stdout) as { usedBytes: number }).usedBytes;
        })
        .toBe(0);
      proxy.hang();
      // Out of the kernel's page cache. (With O_DIRECT the kernel itself waits without heeding signals: FUSE_ASYNC_DIO.)
      await run("dd", [`if=${path}`, "iflag=nocache", "count=0", "status=none"]);
      expect(await interrupted(["cat", path], () => proxy.swallowedBytes > 0)).toBe("SIGINT");

      const other = join(line.mountPoint, "other");
      await writeFile(other, randomBytes(1_000_000));
      await line.uploads("resume");
      const umount = ["umount", line.mountPoint, "--wait"];
      for (const command of [["wait", line.mountPoint], umount])
        expect(await interrupted([process.execPath, COMMAND, ...command], hasSocket)).toBe("SIGINT");

      proxy.resume();
      expect(await coldHash(path)).toBe(hashOf(content));
      await line.expect("OK", umount);
    } finally {
      await server.stop();
    }
  });
});
