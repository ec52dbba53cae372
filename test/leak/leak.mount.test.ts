/** Nothing readable ever lies on the disk: canaries written through the mount are searched for in all that tcfs leaves behind. */
import { randomBytes } from "node:crypto";
import { link, mkdir, open, readFile, rm, symlink, unlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Cleanup } from "../support/cleanup.ts";
import { run, sleep } from "../support/run.ts";
import { mountTcfs, TEST_PASSPHRASE, type TcfsMount } from "../support/tcfs-mount.ts";
import { findInText, findNeedles } from "./search.ts";

const MIB = 2 ** 20;
/** Longer than the interval at which tcfs commits by itself. */
const COMMITTED_MS = 2500;

/** Lower case, so that it may stand in any place. */
const canary = (where: string): string => `canary-${where}-${randomBytes(8).toString("hex")}`;

const CANARIES = {
  tiny: canary("tiny"),
  text: canary("text"),
  noise: canary("noise"),
  appended: canary("appended"),
  removed: canary("removed"),
  overwritten: canary("overwritten"),
  unsynced: canary("unsynced"),
  fileName: canary("file-name"),
  directoryName: canary("directory-name"),
  removedName: canary("removed-name"),
  linkName: canary("link-name"),
  symlinkName: canary("symlink-name"),
  symlinkTarget: canary("symlink-target"),
  xattrName: canary("xattr-name"),
  xattrValue: canary("xattr-value"),
} as const;
const NEEDLES = Object.values(CANARIES);

describe("what tcfs leaves behind holds nothing readable", () => {
  const cleanup = new Cleanup();
  let mount: TcfsMount;
  let words: string[] = [];
  beforeAll(async () => {
    mount = cleanup.use(await mountTcfs());
    words = (await readFile(mount.recoveryFile, "utf8")).trim().split(/\s+/);
    await writeCanaries(mount.mountPoint);
  });
  afterAll(() => cleanup[Symbol.asyncDispose]());

  test("the canaries stand in the mount, where the search does find them", async () => {
    const { directoryName, fileName, text } = CANARIES;
    const content = await readFile(join(mount.mountPoint, directoryName, fileName), "utf8");
    expect(findInText(content, [text])).not.toEqual([]);
    const missing = NEEDLES.filter((needle) => !OUTSIDE_CONTENT.has(needle));
    const found = (await findNeedles(mount.mountPoint, missing)).join("\n");
    for (const needle of missing) expect(found).toContain(needle);
  });

  test("while mounted and synced", async () => {
    expect(await findNeedles(mount.vaultDirectory, NEEDLES)).toEqual([]);
  });

  test("the daemon's arguments, environment and open files tell neither passphrase nor words nor names", async () => {
    const secrets = [TEST_PASSPHRASE, words.join(" "), words.slice(0, 3).join(" "), ...NEEDLES];
    for (const file of ["cmdline", "environ", "comm"]) {
      expect(findInText(await readFile(`/proc/${mount.pid}/${file}`), secrets)).toEqual([]);
    }
    expect(findInText(await run("ls", ["-l", `/proc/${mount.pid}/fd`]), secrets)).toEqual([]);
  });

  test("the daemon leaves no core dump", async () => {
    const limits = await readFile(`/proc/${mount.pid}/limits`, "utf8");
    expect(/^Max core file size +(\d+|unlimited) /m.exec(limits)?.[1]).toBe("0");
  });

  test("after SIGKILL with data not yet synced", async () => {
    await writeFile(join(mount.mountPoint, "late"), `${CANARIES.unsynced}\n`.repeat(50_000));
    await sleep(COMMITTED_MS);
    await writeFile(join(mount.mountPoint, "later"), `${CANARIES.unsynced}\n`.repeat(50_000));
    await mount.kill9();
    expect(await findNeedles(mount.vaultDirectory, NEEDLES)).toEqual([]);
    await mount.mount();
  });

  test("after unmount, in the vault's log, the pid file and what the commands printed too", async () => {
    const status = await mount.tcfs(["status", "--vault", mount.vaultDirectory, "--json"]);
    expect(findInText(status.stdout + status.stderr, [...NEEDLES, TEST_PASSPHRASE])).toEqual([]);
    await mount.unmount();
    const secrets = [...NEEDLES, TEST_PASSPHRASE, words.join(" "), words.slice(0, 3).join(" ")];
    expect(await findNeedles(mount.vaultDirectory, secrets)).toEqual([]);
    await rm(mount.recoveryFile);
    await rm(join(mount.controlDirectory, "passphrase"));
    expect(await findNeedles(mount.controlDirectory, secrets)).toEqual([]);
  });
});

/** What readdir and read of the mount's files do not show. */
const OUTSIDE_CONTENT = new Set<string>([
  CANARIES.removed,
  CANARIES.overwritten,
  CANARIES.unsynced,
  CANARIES.removedName,
  CANARIES.symlinkTarget,
  CANARIES.xattrName,
  CANARIES.xattrValue,
]);

async function writeCanaries(root: string): Promise<void> {
  const directory = join(root, CANARIES.directoryName);
  await mkdir(directory);
  const path = (name: string): string => join(directory, name);
  await writeFile(path("tiny"), CANARIES.tiny);
  await writeFile(path(CANARIES.fileName), `${CANARIES.text} is written again and again\n`.repeat(60_000));
  const noise = randomBytes(3 * MIB);
  for (const at of [0, 65_530, MIB, 2 * MIB + 7, 3 * MIB - 100]) noise.write(CANARIES.noise, at, "latin1");
  await writeFile(path("noise"), noise);
  const file = await open(path("appended"), "a");
  for (let i = 0; i < 20; i++) {
    await file.write(`${CANARIES.appended} ${i}\n`);
    await file.datasync();
  }
  await file.close();
  await writeFile(path(CANARIES.removedName), `${CANARIES.removed}\n`.repeat(10_000), { flush: true });
  await unlink(path(CANARIES.removedName));
  await writeFile(path("overwritten"), `${CANARIES.overwritten}\n`.repeat(10_000), { flush: true });
  await writeFile(path("overwritten"), "nothing left", { flush: true });
  await link(path("tiny"), path(CANARIES.linkName));
  await symlink(`/somewhere/${CANARIES.symlinkTarget}`, path(CANARIES.symlinkName));
  await run("setfattr", ["-n", `user.${CANARIES.xattrName}`, "-v", CANARIES.xattrValue, path("tiny")]);
  await run("sync", [path("tiny")]);
}
