/**
 * A vault that uploads to a store which fails as stores do, and dies at random instants: after each round an attach from
 * the store alone gives a state that the vault had, never older than what was acknowledged as stored, with every chunk.
 */
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { packPath } from "../../src/chunkstore/open-packs.ts";
import { formatPackId } from "../../src/chunkstore/pack-format.ts";
import { TcfsError } from "../../src/errors.ts";
import { HEADER_NAME, ROOT_NAME, packObject } from "../../src/replica/object-names.ts";
import { FaultyStore, seeded } from "../remote/faulty-store.ts";
import { collect } from "../support/collect.ts";
import { type Deletions, Session, change, disk, expectAttachable, guarding, makeVault } from "./session.ts";
import { eventually } from "../support/run.ts";
import { type TemporaryDirectory, temporaryDirectory } from "../support/temporary-directory.ts";

let temporary: TemporaryDirectory;
beforeAll(async () => {
  temporary = await temporaryDirectory("soak");
});
afterAll(() => temporary[Symbol.asyncDispose]());

const ROUNDS = 4;
const SEEDS = process.env["TCFS_SOAK_SEEDS"]?.split(",").map(Number) ?? [20_261_122, 7];

test.for(SEEDS)("comes back from the store alone, seed %i", async (seed) => {
  const random = seeded(seed);
  const { directory, clean, known } = await makeVault(temporary.path, `vault-${String(seed)}`);
  const deletions: Deletions = { names: [], losses: [] };
  for (let round = 0; round < ROUNDS; round++) {
    const chances = { failing: 0.03, throttled: 0.03, lost: 0.05, cut: 0.03, full: 0.02 };
    const store = new FaultyStore(guarding(clean, deletions), { seed: seed + round, chances, liesInListings: true });
    const dying = { after: random() < 0.5 ? 1 + Math.floor(random() * 25) : Infinity, isDead: false };
    store.beforeChange = () => {
      dying.after -= 1;
      dying.isDead ||= dying.after < 0;
      if (dying.isDead) throw new Error("the daemon was killed");
    };
    const session = await Session.open(directory, store, known);
    for (let step = 0; step < 5; step++) {
      await change(session, random, known);
      if (random() < 0.4) {
        await session.chunks.collect(() => session.commit(), new AbortController().signal);
      }
      if (random() < 0.5) continue;
      const { commit } = session.metadata.volume;
      const giveUp = new AbortController();
      const waiting = session.replicator.wait(commit, giveUp.signal);
      const watch = setInterval(() => {
        if (dying.isDead) giveUp.abort();
      }, 5);
      const isStored = await waiting.then(
        () => true,
        () => false,
      );
      clearInterval(watch);
      if (!isStored) expect(dying.isDead).toBe(true);
      if (isStored) known.acknowledged = commit;
    }
    await session.close();
    if (known.acknowledged > 0)
      await expectAttachable(clean, known, join(temporary.path, `copy-${String(seed)}-${String(round)}`));
  }
  expect(known.acknowledged).toBeGreaterThan(0);
  expect(deletions.losses).toEqual([]);
  expect(known.lost).toEqual([]);
});

test("a pack that the store lost is brought again, and no other", async () => {
  const { directory, clean, known } = await makeVault(temporary.path, "lost");
  const store = new FaultyStore(clean, { seed: 1, chances: {} });
  const session = await Session.open(directory, store, known);
  const signal = new AbortController().signal;
  for (const seed of [1, 2, 3]) await change(session, seeded(seed), known);
  await session.replicator.wait(session.metadata.volume.commit, signal);
  const written: string[] = [];
  store.beforeChange = (name) => written.push(name);
  const [record] = await collect(session.metadata.packs());
  await clean.delete(packObject(record!.pack));
  session.replicator.noteLost(record!);
  expect(session.replicator.status()).toMatchObject({ activity: "waiting", backlogPacks: 1 });
  await session.replicator.wait(session.metadata.volume.commit, signal);
  expect(written).toContain(packObject(record!.pack));
  expect(written.filter((name) => name.startsWith("packs/")).length).toBe(1);
  expect(session.replicator.status()).toMatchObject({ backlogPacks: 0 });
  for (let times = 0; times < 5; times++) session.replicator.noteLost(record!); // it says so for ever
  await session.replicator.wait(session.metadata.volume.commit, signal);
  session.replicator.noteLost(record!);
  expect(session.replicator.status().backlogPacks).toBe(0);
  await expectAttachable(clean, known, join(temporary.path, "lost-copy"));

  await clean.delete(packObject(record!.pack));
  await disk.remove(packPath(join(directory, "packs"), record!.pack));
  await session.close();
  const again = await Session.open(directory, clean, known);
  again.replicator.noteLost(record!);
  for (const seed of [4, 5]) {
    await change(again, seeded(seed), known);
    await again.replicator.waitForRoot(again.metadata.volume.commit, signal); // what is new goes up all the same
  }
  const pack = formatPackId(record!.pack);
  expect(known.lost).toEqual([`${pack} missing`]);
  expect(again.replicator.status()).toMatchObject({
    backlogPacks: 0,
    lastError: null,
    lostPacks: [{ pack, kind: "missing" }],
  });
  await again.close();
});

test("a store that is emptied before its first root gets everything again", async () => {
  const { directory, clean, known } = await makeVault(temporary.path, "emptied");
  const store = new FaultyStore(clean, { seed: 1, chances: {} });
  const session = await Session.open(directory, store, known);
  const putIfAbsent = store.putIfAbsent.bind(store);
  let times = 0;
  store.putIfAbsent = async (...all) => {
    if (all[0].startsWith("checkpoints/") && ++times === 1) {
      for (const prefix of ["packs/", "commits/", "checkpoints/"]) {
        for (const name of await collect(clean.list(prefix))) await clean.delete(name);
      }
      await clean.delete(HEADER_NAME);
    }
    return putIfAbsent(...all);
  };
  for (const seed of [1, 2, 3]) await change(session, seeded(seed), known);
  const { commit } = session.metadata.volume;
  await session.replicator.wait(commit, new AbortController().signal);
  expect(times).toBeGreaterThan(1);
  known.acknowledged = commit;
  await session.close();
  await expectAttachable(clean, known, join(temporary.path, "emptied-copy"));
});

test("a root that the store wrote after it was given up is known for ours", async () => {
  const { directory, clean, known } = await makeVault(temporary.path, "late");
  const store = new FaultyStore(clean, { seed: 1, chances: {} });
  const session = await Session.open(directory, store, known);
  const signal = new AbortController().signal;
  await change(session, seeded(1), known);
  await session.replicator.wait(session.metadata.volume.commit, signal);
  const putIfMatch = store.putIfMatch.bind(store);
  const late: (() => Promise<unknown>)[] = [];
  let rootCount = 0;
  store.putIfMatch = async (name, content, version, given) => {
    if (name === ROOT_NAME) rootCount += 1;
    if (name === ROOT_NAME && rootCount === 1) {
      const copy = Uint8Array.from(content);
      late.push(() => clean.putIfMatch(name, copy, version));
      throw new TcfsError("TCFS_REMOTE_UNAVAILABLE", "made to fail: given up");
    }
    for (const carryOut of late.splice(0)) await carryOut(); // just before the next one comes
    return putIfMatch(name, content, version, given);
  };
  await change(session, seeded(2), known);
  const { commit } = session.metadata.volume;
  await session.replicator.wait(commit, signal);
  expect(rootCount).toBe(3);
  expect(session.replicator.status()).toMatchObject({ lastError: null, lastRoot: { commit } });
  known.acknowledged = commit;
  await session.close();
  await expectAttachable(clean, known, join(temporary.path, "late-copy"));
});

/** Clock skew and expired credentials are DENIED, a deleted bucket MISSING, 409 and 412 CONFLICT, time-outs and 500 UNAVAILABLE. */
const PASSING = [
  "TCFS_REMOTE_UNAVAILABLE",
  "TCFS_REMOTE_THROTTLED",
  "TCFS_REMOTE_DENIED",
  "TCFS_REMOTE_MISSING",
  "TCFS_REMOTE_FULL",
  "TCFS_REMOTE_CONFLICT",
] as const;

test.for(PASSING)("%s is told of, and uploads go on by themselves after it", async (code) => {
  const random = seeded(11);
  const { directory, clean, known } = await makeVault(temporary.path, `passing-${code}`);
  const store = new FaultyStore(clean, { seed: 1, chances: {} });
  const session = await Session.open(directory, store, known);
  const fault = { isThere: true };
  store.beforeChange = () => {
    if (fault.isThere) throw new TcfsError(code, "made to fail");
  };
  await change(session, random, known);
  const { commit } = session.metadata.volume;
  const waiting = session.replicator.wait(commit, new AbortController().signal);
  await eventually("the failure is told of", 20_000, () => session.replicator.status().activity === "failing");
  expect(session.replicator.status().lastError).toBe("made to fail");
  fault.isThere = false;
  await waiting;
  known.acknowledged = commit;
  expect(session.replicator.status()).toMatchObject({ lastError: null, backlogPacks: 0, lastRoot: { commit } });
  await session.close();
  await expectAttachable(clean, known, join(temporary.path, `passing-copy-${code}`));
});
