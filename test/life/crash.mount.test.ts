/** The daemon is killed under load, and clients are killed within their calls. */
import { open, readFile, readdir, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { askDaemon } from "../../src/cli/control/control-client.ts";
import type { DaemonStatus } from "../../src/cli/daemon/serve-mount.ts";
import { compileDriver, Driver } from "../posix/driver.ts";
import { Cleanup } from "../support/cleanup.ts";
import { eventually, sleep } from "../support/run.ts";
import { mountTcfs, type TcfsMount } from "../support/tcfs-mount.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

const ROUNDS = 8;
const RECORD_BYTES = 64;

describe("kills", () => {
  const cleanup = new Cleanup();
  let mount: TcfsMount;
  let program = "";
  const inside = (name: string): string => join(mount.mountPoint, name);
  const commitCount = async (): Promise<number> => {
    const reply = await askDaemon(mount.vaultDirectory, { operation: "status" });
    return (reply?.result as DaemonStatus).figures.lastCommit.number;
  };

  beforeAll(async () => {
    program = await compileDriver(cleanup.use(await temporaryDirectory("crash")).path);
    mount = cleanup.use(await mountTcfs());
  });
  afterAll(() => cleanup[Symbol.asyncDispose]());

  test("every record that fsync acknowledged is there after SIGKILL, and nothing but a prefix of the rest", async () => {
    const acknowledged = [0, 0, 0];
    for (let round = 0; round < ROUNDS; round++) {
      const writers = acknowledged.map(async (_, i) => {
        const file = await open(inside(`log${i}`), "a");
        try {
          for (let n = (await file.stat()).size / RECORD_BYTES; ; n++) {
            await file.write(record(i, n));
            if (n % 3 === i) {
              await file.datasync();
              acknowledged[i] = n + 1;
            }
          }
        } catch {
          // the daemon is gone
        } finally {
          await file.close().catch(() => undefined);
        }
      });
      const before = [...acknowledged];
      await eventually("each has synced", 60_000, () => acknowledged.every((count, i) => count > (before[i] ?? 0)));
      await sleep((round * 97) % 400);
      await mount.kill9();
      await Promise.all(writers);
      await mount.mount();
      for (const [i, count] of acknowledged.entries()) {
        const text = await readFile(inside(`log${i}`), "latin1");
        expect(text.length / RECORD_BYTES).toBeGreaterThanOrEqual(count);
        expect(text.length % RECORD_BYTES).toBe(0);
        expect(text).toBe(Array.from({ length: text.length / RECORD_BYTES }, (_, n) => record(i, n)).join(""));
      }
    }
    expect(Math.min(...acknowledged)).toBeGreaterThan(0);
  });

  test("a file saved by rename-over is the old or the new one after SIGKILL, never neither", async () => {
    await writeFile(inside("document"), version(0), { flush: true });
    let saved = 0;
    for (let round = 0; round < ROUNDS; round++) {
      const before = saved;
      const saving = (async () => {
        for (let n = before + 1; ; n++) {
          await writeFile(inside("document.new"), version(n), { flush: true });
          await rename(inside("document.new"), inside("document"));
          saved = n;
        }
      })().catch(() => undefined);
      await eventually("one is saved", 60_000, () => saved > before);
      await sleep((round * 71) % 300);
      await mount.kill9();
      await saving;
      await mount.mount();
      const text = await readFile(inside("document"), "utf8");
      const found = Number(text.split(" ")[1]);
      expect(text).toBe(version(found));
      // A rename is only as durable as the next commit: the version before the last fsync may stand here, no older one.
      expect(found).toBeGreaterThanOrEqual(saved - 1);
      expect(found).toBeLessThanOrEqual(saved + 1);
      saved = found;
    }
  });

  test("operations on one directory come back as a prefix of their order", async () => {
    let foundCount = 0;
    for (let round = 0; round < ROUNDS; round++) {
      const prefix = `r${round}-`;
      let count = 0;
      const commits = await commitCount();
      const making = (async () => {
        for (;;) {
          await writeFile(inside(`${prefix}${count}`), String(count));
          count++;
        }
      })().catch(() => undefined);
      await sleep(1000 + ((round * 131) % 700));
      await eventually("some of it is committed", 60_000, async () => (await commitCount()) > commits);
      await mount.kill9();
      await making;
      await mount.mount();
      const numbers = (await readdir(mount.mountPoint))
        .filter((name) => name.startsWith(prefix))
        .map((name) => Number(name.slice(prefix.length)))
        .sort((a, b) => a - b);
      expect(numbers).toEqual(Array.from({ length: numbers.length }, (_, n) => n));
      // Contents as well: only the last one may not have been written yet.
      for (const n of numbers.slice(0, -1)) expect(await readFile(inside(`${prefix}${n}`), "utf8")).toBe(String(n));
      expect(numbers.length).toBeLessThanOrEqual(count + 1);
      foundCount += numbers.length;
    }
    expect(foundCount, "what was committed").toBeGreaterThan(0);
  });

  test("clients killed within their calls leave a mount that works", async () => {
    for (let round = 0; round < 25; round++) {
      const drivers = [1, 2, 3].map(() => new Driver(program));
      const calls = Promise.allSettled(
        drivers.map(async (driver, i) => {
          const name = inside(`client${round}-${i}-`);
          if (i === 0) await driver.call("create_many", name, 0, 100_000);
          if (i === 1) await driver.call("append_many", name, "61".repeat(5000), 100_000);
          if (i === 2) await driver.call("list", mount.mountPoint);
        }),
      );
      await sleep(5 + ((round * 13) % 60));
      await Promise.all(drivers.map((driver) => driver.kill()));
      await calls;
    }
    await writeFile(inside("alive"), "alive", { flush: true });
    expect(await readFile(inside("alive"), "utf8")).toBe("alive");
    expect(await mount.log()).not.toMatch(/ error /);
    await mount.remount();
    expect(await readFile(inside("alive"), "utf8")).toBe("alive");
  });
});

function record(writer: number, n: number): string {
  return `${`writer ${writer} record ${n}`.padEnd(RECORD_BYTES - 1, ".")}\n`;
}

function version(n: number): string {
  return `version ${n} ${"of the document ".repeat((n * 37) % 2000)}`;
}
