/**
 * A damaged vault: whatever bit of whatever file is flipped, cut or lost, no wrong byte is ever read. Mounting is
 * refused, or what is concerned answers EIO, the rest is readable, and a log line says what was found.
 */
import { cp, readFile, rm, stat, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Cleanup } from "../support/cleanup.ts";
import { mountTcfs, type TcfsMount } from "../support/tcfs-mount.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";
import { filesBelow, flipBit, readKnownFiles, writeKnownFiles, type Findings, type KnownFiles } from "./known-files.ts";

const FLIPS_PER_FILE = 5;

interface Outcome {
  /** What `tcfs mount` said when it refused. */
  readonly refusal: string | undefined;
  readonly findings: Findings | undefined;
  readonly log: string;
}

describe("a damaged vault", () => {
  const cleanup = new Cleanup();
  let pristine = "";
  let work = "";
  let known: KnownFiles = new Map();

  beforeAll(async () => {
    const directory = cleanup.use(await temporaryDirectory("damage"));
    pristine = join(directory.path, "pristine");
    work = join(directory.path, "vault");
    await using mount = await mountTcfs({ vaultDirectory: work });
    known = await writeKnownFiles(mount.mountPoint);
    await mount.remount(); // so that there are tables beside the log
    await writeFile(join(mount.mountPoint, "d0/small0"), await readFile(join(mount.mountPoint, "d0/small0")), {
      flush: true,
    });
    await mount.unmount();
    await cp(work, pristine, { recursive: true });
  });
  afterAll(() => cleanup[Symbol.asyncDispose]());

  /** Mount a fresh copy of the vault after `damage` and read everything. */
  async function readAfter(damage: (vault: string) => Promise<void>): Promise<Outcome> {
    await rm(work, { recursive: true, force: true });
    await cp(pristine, work, { recursive: true });
    await damage(work);
    const logPath = join(work, "daemon.log");
    const logBytesBefore = (await stat(logPath)).size;
    const newLog = async (): Promise<string> => (await readFile(logPath)).subarray(logBytesBefore).toString();
    let mount: TcfsMount;
    try {
      mount = await mountTcfs({ vaultDirectory: work });
    } catch (error) {
      return { refusal: String(error), findings: undefined, log: await newLog() };
    }
    await using mounted = mount;
    const findings = await readKnownFiles(mounted.mountPoint, known);
    return { refusal: undefined, findings, log: await newLog() };
  }

  function expectHonest(outcome: Outcome, what: string): void {
    if (outcome.refusal !== undefined) {
      expect(outcome.refusal, what).toMatch(/tcfs mount ended with \d+/);
      expect(outcome.refusal, what).not.toMatch(/\n\s+at .*:\d+:\d+/); // a sentence, not a stack
      return;
    }
    expect(outcome.findings?.wrong, what).toEqual([]);
    const errnos = new Set(outcome.findings?.refused.values());
    expect(
      [...errnos].filter((errno) => errno !== "EIO"),
      what,
    ).toEqual([]);
    if (errnos.size > 0) expect(outcome.log, what).toMatch(/ (warn|error) /);
  }

  test("an undamaged copy reads right", async () => {
    const { findings } = await readAfter(async () => undefined);
    expect(findings?.right).toHaveLength(known.size);
  });

  test("a flipped bit in a pack costs the file concerned and no other", async () => {
    const packs = (await filesBelow(pristine)).filter((path) => path.startsWith("packs/"));
    expect(packs.length).toBeGreaterThan(0);
    let refusedCount = 0;
    for (const [path, offset] of await places(pristine, packs, FLIPS_PER_FILE)) {
      const outcome = await readAfter((vault) => flipBit(join(vault, path), offset));
      expectHonest(outcome, `${path} at ${offset}`);
      expect(outcome.refusal, `${path} at ${offset}`).toBeUndefined();
      expect(outcome.findings?.refused.size ?? 0, `${path} at ${offset}`).toBeLessThanOrEqual(2);
      refusedCount += outcome.findings?.refused.size ?? 0;
    }
    expect(refusedCount).toBeGreaterThan(0);
  });

  test("a flipped bit in the metadata is never taken for the truth", async () => {
    const tables = (await filesBelow(pristine)).filter((path) =>
      /^meta\/(\d+\.(ldb|log)|MANIFEST-.*|CURRENT)$/.test(path),
    );
    expect(tables.length).toBeGreaterThan(2);
    for (const [path, offset] of await places(pristine, tables, FLIPS_PER_FILE)) {
      expectHonest(await readAfter((vault) => flipBit(join(vault, path), offset)), `${path} at ${offset}`);
    }
  });

  test("a flipped bit in the header is healed from its copy or refused", async () => {
    for (const [path, offset] of await places(pristine, ["vault.json"], FLIPS_PER_FILE)) {
      expectHonest(await readAfter((vault) => flipBit(join(vault, path), offset)), `${path} at ${offset}`);
    }
  });

  test("a lost pack costs its files alone", async () => {
    const [pack = ""] = (await filesBelow(pristine)).filter((path) => path.startsWith("packs/"));
    const outcome = await readAfter((vault) => rm(join(vault, pack)));
    expectHonest(outcome, pack);
    expect(outcome.refusal).toBeUndefined();
  });

  test("a pack cut short, filled with zeros or put in another's place is noticed", async () => {
    const packs = (await filesBelow(pristine)).filter((path) => path.startsWith("packs/"));
    const largest = await largestOf(pristine, packs);
    const { size } = await stat(join(pristine, largest));
    expectHonest(await readAfter((vault) => truncate(join(vault, largest), Math.floor(size / 2))), "cut");
    expectHonest(await readAfter((vault) => writeFile(join(vault, largest), Buffer.alloc(size))), "zeros");
    for (const other of packs.filter((path) => path !== largest).slice(0, 2)) {
      expectHonest(await readAfter((vault) => cp(join(pristine, other), join(vault, largest))), "another's place");
    }
  });

  test("metadata of an older day is not mixed with newer", async () => {
    const logs = (await filesBelow(pristine)).filter((path) => /^meta\/.*\.log$/.test(path));
    for (const path of logs) {
      const { size } = await stat(join(pristine, path));
      const outcome = await readAfter((vault) => truncate(join(vault, path), Math.floor(size / 2)));
      if (outcome.refusal === undefined) expect(outcome.findings?.wrong, path).toEqual([]);
    }
  });

  test("each metadata file lost is noticed", async () => {
    const tables = (await filesBelow(pristine)).filter((path) => /^meta\/(\d+\.ldb|MANIFEST-.*|CURRENT)$/.test(path));
    for (const path of tables) expectHonest(await readAfter((vault) => rm(join(vault, path))), `${path} lost`);
  });
});

/** Up to `count` places in each file: near the start, near the end and between. */
async function places(root: string, paths: readonly string[], count: number): Promise<[string, number][]> {
  const found: [string, number][] = [];
  for (const path of paths) {
    const { size } = await stat(join(root, path));
    const offsets = new Set<number>();
    for (let i = 0; i < count && size > 0; i++) offsets.add(Math.min(size - 1, Math.floor(((i + 0.3) * size) / count)));
    for (const offset of offsets) found.push([path, offset]);
  }
  return found;
}

async function largestOf(root: string, paths: readonly string[]): Promise<string> {
  const sizes = await Promise.all(paths.map(async (path) => ({ path, size: (await stat(join(root, path))).size })));
  return sizes.sort((a, b) => b.size - a.size)[0]?.path ?? "";
}
