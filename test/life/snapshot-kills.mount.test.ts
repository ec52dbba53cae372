/**
 * The daemon is killed at any instant while snapshots are taken, forgotten, gone back to and undone, with other writers at
 * work. What the next one finds is a state that followed what was acknowledged: old or new, never half.
 * TCFS_KILL_SECONDS makes it go on for so long, TCFS_KILL_SEED does what a run did that told this seed.
 */
import { mkdir, open, readFile, readdir, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { askDaemon } from "../../src/cli/control/control-client.ts";
import type { SnapshotAnswers, SnapshotRequest } from "../../src/cli/control/snapshot-protocol.ts";
import { Cleanup } from "../support/cleanup.ts";
import { sleep } from "../support/run.ts";
import { mountTcfs, type TcfsMount } from "../support/tcfs-mount.ts";
import { KillHistory, describe, type State, type Tree } from "./kill-history.ts";

const SECONDS = Number(process.env["TCFS_KILL_SECONDS"] ?? 0);
const SEED = Number(process.env["TCFS_KILL_SEED"] ?? 20_261_122);
/** If no time is given. */
const ROUNDS = 6;
const NAMES = ["a", "b", "c", "d", "e", "f"];
const MOST_SNAPSHOTS = 6;
const RECORD_BYTES = 4096;
const RECORDS_PER_WRITE = 16;
const TARGETS = ["snapshot", "forget", "restore", "restore", "undo"];
const LONGEST_MS = 2000;
const LOAD_FILES = 4;
const LOAD_RECORDS = 256;

/** @returns An integer below `limit`. From a seed alone (mulberry32). */
type Roll = (limit: number) => number;

function rollFrom(seed: number): Roll {
  let state = seed >>> 0;
  return (limit) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) % limit;
  };
}

/** The one client whose every step is known. */
class Client {
  readonly mount: TcfsMount;
  readonly history = new KillHistory();
  readonly #roll: Roll;
  #count = 0;
  /** What was asked for, for the message of a failure. */
  readonly steps: string[] = [];
  /** Told what is about to be asked for. */
  onStep: (kind: string) => void = () => undefined;

  constructor(mount: TcfsMount, roll: Roll) {
    this.mount = mount;
    this.#roll = roll;
  }

  get #directory(): string {
    return join(this.mount.mountPoint, "tree");
  }

  async prepare(): Promise<void> {
    await mkdir(this.#directory);
    await mkdir(join(this.mount.mountPoint, "load"));
    await this.#ask({ operation: "setSnapshotPolicy", policy: "hourly=2,daily=2" });
  }

  /** One step after the other until the daemon is gone. @throws what is no sign of that. */
  async work(isKilled: () => boolean): Promise<void> {
    try {
      for (;;) await this.#step();
    } catch (error) {
      if (!isKilled()) throw error;
    }
  }

  async #step(): Promise<void> {
    const { now } = this.history;
    const snapshots = [...now.snapshots.keys()];
    const chosen = snapshots[this.#roll(Math.max(snapshots.length, 1))];
    const kind = this.#roll(12);
    if (kind < 5 || chosen === undefined)
      return kind === 4 || chosen === undefined ? this.#take(now) : this.#change(now, kind);
    if (kind < 7 && snapshots.length < MOST_SNAPSHOTS) return this.#take(now);
    if (kind < 9 || snapshots.length >= 2 * MOST_SNAPSHOTS) return this.#forget(now, chosen);
    if (kind < 11) return this.#goBack(now, { operation: "restore", name: chosen }, chosen);
    const safety = snapshots.findLast((name) => name.startsWith("before-"));
    if (safety !== undefined) return this.#goBack(now, { operation: "undo" }, safety);
  }

  async #change(now: State, kind: number): Promise<void> {
    const name = NAMES[this.#roll(NAMES.length)] as string;
    const path = join(this.#directory, name);
    const tree = new Map(now.tree);
    if (kind === 0 && tree.has(name)) {
      tree.delete(name);
      await this.#do(`remove ${name}`, { ...now, tree }, () => rm(path));
    } else if (kind === 1 && tree.has(name)) {
      const other = NAMES[this.#roll(NAMES.length)] as string;
      const content = tree.get(name) as string;
      if (name !== other) tree.delete(name);
      tree.set(other, content);
      await this.#do(`rename ${name} ${other}`, { ...now, tree }, () => rename(path, join(this.#directory, other)));
    } else {
      await this.#save(now, name);
    }
  }

  /** A new file, whole and flushed, takes the name. What is in it before that counts for nothing. */
  async #save(now: State, name: string): Promise<void> {
    const content = `${++this.#count} ${"some text ".repeat(this.#roll(4) === 0 ? 30_000 : this.#roll(300))}`;
    const outside = join(this.mount.mountPoint, "unsaved");
    await writeFile(outside, content, { flush: true });
    const tree = new Map(now.tree).set(name, content);
    await this.#do(`save ${name}=${this.#count}`, { ...now, tree }, () => rename(outside, join(this.#directory, name)));
  }

  async #do(step: string, outcome: State, action: () => Promise<unknown>, isDurable = false): Promise<void> {
    this.#note(step);
    this.history.begin(outcome);
    await action();
    this.history.acknowledge(outcome, isDurable);
  }

  #note(step: string): void {
    this.steps.push(step);
    this.onStep(step.split(" ")[0] as string);
  }

  async #take(now: State): Promise<void> {
    const name = `s${++this.#count}`;
    const outcome = { ...now, snapshots: new Map(now.snapshots).set(name, now.tree) };
    await this.#do(
      `snapshot ${name}`,
      outcome,
      () => this.#ask({ operation: "takeSnapshot", name, comment: "" }),
      true,
    );
  }

  async #forget(now: State, name: string): Promise<void> {
    const snapshots = new Map(now.snapshots);
    snapshots.delete(name);
    const request: SnapshotRequest = { operation: "forgetSnapshots", names: [name], isDryRun: false };
    await this.#do(`forget ${name}`, { ...now, snapshots }, () => this.#ask(request), true);
  }

  /** The state before becomes a snapshot, whose name the answer tells; then the other one is the present. */
  async #goBack(now: State, request: SnapshotRequest & { operation: "restore" | "undo" }, name: string): Promise<void> {
    this.#note(`${request.operation} ${name}`);
    const tree = now.snapshots.get(name) as Tree;
    const unnamed = [now.tree];
    this.history.begin({ ...now, unnamed }, { ...now, tree, unnamed });
    const { safety } = await this.#ask(request);
    if (safety === undefined) throw new Error("no snapshot of the state before");
    const outcome = { tree, snapshots: new Map(now.snapshots).set(safety, now.tree), unnamed: [] };
    this.history.acknowledge(outcome, true);
  }

  async #ask<R extends SnapshotRequest>(request: R): Promise<SnapshotAnswers[R["operation"]]> {
    const reply = await askDaemon(this.mount.vaultDirectory, request);
    if (reply === undefined) throw new Error("the daemon is gone");
    return reply.result as SnapshotAnswers[R["operation"]];
  }

  /** Everything that there is, read through the mount. */
  async look(): Promise<Omit<State, "unnamed">> {
    const { snapshots } = await this.#ask({ operation: "listSnapshots" });
    const trees = new Map<string, Tree>();
    for (const { name, isAutomatic } of snapshots) {
      const root = join(this.mount.mountPoint, ".snapshots", name);
      if (!isAutomatic) trees.set(name, await readTree(join(root, "tree")));
      await checkLoad(join(root, "load"));
    }
    await checkLoad(join(this.mount.mountPoint, "load"));
    expect(snapshots.filter(({ isAutomatic }) => isAutomatic).length, "automatic snapshots").toBeGreaterThan(0);
    return { tree: await readTree(this.#directory), snapshots: trees };
  }

  /** A commit of all that is found, so that it is what the next kill begins with. */
  async settle(): Promise<void> {
    await askDaemon(this.mount.vaultDirectory, { operation: "sync" });
  }
}

async function readTree(directory: string): Promise<Tree> {
  const names = await readdir(directory);
  return new Map(
    await Promise.all(names.map(async (name) => [name, await readFile(join(directory, name), "utf8")] as const)),
  );
}

/** Writes numbered records to one file after another, whatever becomes of them. */
async function load(directory: string, isKilled: () => boolean): Promise<void> {
  for (let file = 0; !isKilled(); file++) {
    try {
      await using handle = await open(join(directory, `${process.pid}-${file % LOAD_FILES}`), "w");
      for (let record = 0; record < LOAD_RECORDS && !isKilled(); record += RECORDS_PER_WRITE) {
        await handle.write(recordsFrom(record), 0, RECORDS_PER_WRITE * RECORD_BYTES, record * RECORD_BYTES);
        if (record % 64 === 0) await handle.datasync();
      }
    } catch {
      // The daemon is gone, or went back to a time without this file.
      await sleep(1);
    }
  }
}

function recordsFrom(first: number): Buffer {
  const bytes = Buffer.alloc(RECORDS_PER_WRITE * RECORD_BYTES);
  for (let index = 0; index < RECORDS_PER_WRITE; index++) {
    const start = index * RECORD_BYTES;
    bytes.fill(`record ${first + index} `, start, start + RECORD_BYTES, "latin1");
  }
  return bytes;
}

/** Every record is whole and in its place, or not there: a file that went back and was written on has holes. */
async function checkLoad(directory: string): Promise<void> {
  for (const name of await readdir(directory)) {
    const bytes = await readFile(join(directory, name));
    const expected = Buffer.alloc(RECORD_BYTES);
    for (let start = 0; start < bytes.length; start += RECORD_BYTES) {
      const record = bytes.subarray(start, start + RECORD_BYTES);
      if (record.equals(HOLE)) continue;
      expected.fill(`record ${start / RECORD_BYTES} `, "latin1");
      if (!record.equals(expected)) throw new Error(`record ${start / RECORD_BYTES} of ${directory}/${name} is torn`);
    }
  }
}

/** Resolves somewhere within one of the steps that this is about, or a little later; or, should none come, at last. */
async function momentOf(client: Client, roll: Roll): Promise<void> {
  const wanted = TARGETS[roll(TARGETS.length)];
  const [skipped, delayMs] = [roll(4), roll(3) === 0 ? roll(300) : roll(12)];
  let seen = 0;
  const begun = new Promise<void>((resolve) => {
    client.onStep = (kind) => {
      if (kind === wanted && seen++ === skipped) resolve();
    };
  });
  await Promise.race([begun, sleep(LONGEST_MS)]);
  await sleep(delayMs);
}

const HOLE = Buffer.alloc(RECORD_BYTES);

test(
  `a kill at any instant of a snapshot, a forgetting, a restore or an undo leaves the state before or after (seed ${SEED})`,
  { timeout: (2 * SECONDS + 900) * 1000 },
  async () => {
    await using cleanup = new Cleanup();
    const mount = cleanup.use(await mountTcfs());
    const roll = rollFrom(SEED);
    const client = new Client(mount, roll);
    await client.prepare();
    const endMs = performance.now() + SECONDS * 1000;
    for (let round = 0; SECONDS > 0 ? performance.now() < endMs : round < ROUNDS; round++) {
      const killed = { is: false };
      const isKilled = (): boolean => killed.is;
      await client.settle();
      const working = [client.work(isKilled), load(join(mount.mountPoint, "load"), isKilled)];
      await momentOf(client, roll);
      killed.is = true;
      await mount.kill9();
      await Promise.all(working);
      await mount.mount();
      const before = client.history.describe();
      const found = await client.look();
      const why = `seed ${SEED}, round ${round}, after ${client.steps.slice(-12).join("; ")}\nfound\n${describe(found)}\npossible\n${before}`;
      expect(client.history.recover(found), why).toBe(true);
    }
    expect(client.steps.length, "steps in all").toBeGreaterThan(ROUNDS);
    expect(await mount.log()).not.toMatch(/ error /u);
    await mount.unmount();
  },
);
