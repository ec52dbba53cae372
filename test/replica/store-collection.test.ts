/** What no root leads to any more is deleted from the store, and nothing else: not too early, by nobody else, whatever fails. */
import { cp, rm } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { toHex } from "../../src/bytes.ts";
import { TcfsError } from "../../src/errors.ts";
import { RECORD_KIND } from "../../src/format/record-keys.ts";
import { readDevices } from "../../src/keys/devices/device-book.ts";
import type { ObjectStore } from "../../src/remote/object-store.ts";
import { ROOT_NAME, keptRootObject, packObject, sha256 } from "../../src/replica/object-names.ts";
import { readState, verifyState } from "../../src/replica/replica-state.ts";
import { acceptStanding, readStanding } from "../../src/replica/standing.ts";
import { FaultyStore, seeded } from "../remote/faulty-store.ts";
import { eventually } from "../support/run.ts";
import { type TemporaryDirectory, temporaryDirectory } from "../support/temporary-directory.ts";
import {
  movableClock,
  rewrite,
  upload,
  objectsOf,
  settled,
  expectNothingBeyond,
  newDeletions,
} from "./collection-fixtures.ts";
import {
  type Known,
  Session,
  attachCopy,
  change,
  disk,
  expectAttachable,
  guarding,
  makeVault,
  newDevice,
  reachOf,
  sealer,
} from "./session.ts";

const DAY_SECONDS = 24 * 3600;
const { signal } = new AbortController();

let temporary: TemporaryDirectory;
beforeAll(async () => {
  temporary = await temporaryDirectory("collection");
});
afterAll(() => temporary[Symbol.asyncDispose]());

test("after many rewrites the store holds what its root leads to, and what the last one gave up", async () => {
  const { directory, clean, known } = await makeVault(temporary.path, "rewrites");
  const deletions = newDeletions();
  const session = await Session.open(directory, guarding(clean, deletions), known);
  const random = seeded(1);
  for (let cycle = 0; cycle < 6; cycle++) {
    await rewrite(session, random);
    if (cycle % 2 === 0) await upload(session);
    else await session.replicator.renewCheckpoint(signal);
  }
  await expectNothingBeyond(session, clean);
  expect(deletions.names.length).toBeGreaterThan(6);
  expect(deletions.losses).toEqual([]);
  await session.close();
  await expectAttachable(clean, known, join(temporary.path, "rewrites-copy"));
});

test("what is dead waits for its time, over restarts, while an older root can still be read", async () => {
  const { directory, clean, known } = await makeVault(temporary.path, "grace");
  const deletions = newDeletions();
  const store = guarding(clean, deletions);
  const clock = movableClock();
  const options = { clock, keepDeletedSeconds: 7 * DAY_SECONDS };
  let session = await Session.open(directory, store, known, options);
  const random = seeded(2);
  await rewrite(session, random);
  await upload(session);
  const older = await clean.get(ROOT_NAME, { maxBytes: 4096 });
  const olderReach = await reachOf(clean);
  await rewrite(session, random);
  await session.replicator.renewCheckpoint(signal);
  await session.close();
  clock.aheadSeconds = 6 * DAY_SECONDS;
  session = await Session.open(directory, store, known, options);
  await rewrite(session, random);
  await upload(session);
  await settled(session);
  expect(deletions.names).toEqual([]);
  expect(session.replicator.status().deadObjects).toBeGreaterThan(0);
  expect(session.replicator.status().deadBytes).toBeGreaterThan(0);
  const asOlder = Object.assign(guarding(clean, deletions), {
    get: async (name: string, how: Parameters<ObjectStore["get"]>[1]) =>
      name === ROOT_NAME ? older : clean.get(name, how),
  });
  const before: Known = { ...known, acknowledged: 0 };
  await expectAttachable(asOlder, before, join(temporary.path, "grace-older"));
  clock.aheadSeconds = 8 * DAY_SECONDS;
  await rewrite(session, random);
  await upload(session);
  await settled(session);
  expect(deletions.names.some((name) => olderReach.has(name))).toBe(true);
  expect(deletions.losses).toEqual([]);
  await session.close();
  await expectAttachable(clean, known, join(temporary.path, "grace-copy"));
  const olderOnce = { isDone: false };
  const readLate = Object.assign(guarding(clean, deletions), {
    get: async (name: string, how: Parameters<ObjectStore["get"]>[1]) => {
      if (name !== ROOT_NAME || olderOnce.isDone) return clean.get(name, how);
      olderOnce.isDone = true;
      return older;
    },
  });
  await expect(attachCopy(readLate, join(temporary.path, "grace-late"))).rejects.toMatchObject({
    code: "TCFS_REMOTE_CONFLICT",
  });
});

test("a vault that nobody changes gets a root for what is due", async () => {
  const { directory, clean, known } = await makeVault(temporary.path, "idle");
  const deletions = newDeletions();
  const clock = movableClock();
  const options = { clock, keepDeletedSeconds: DAY_SECONDS };
  const session = await Session.open(directory, guarding(clean, deletions), known, options);
  await rewrite(session, seeded(3));
  await upload(session);
  await rewrite(session, seeded(4));
  await upload(session);
  await settled(session);
  const number = session.replicator.status().lastRoot?.number ?? 0;
  expect(deletions.names).toEqual([]);
  clock.aheadSeconds = 2 * DAY_SECONDS;
  await session.close();
  const again = await Session.open(directory, guarding(clean, deletions), known, options);
  await eventually("it is deleted", 20_000, () => again.replicator.status().deadObjects === 0);
  await settled(again);
  expect(again.replicator.status().lastRoot?.number).toBe(number + 1);
  expect(deletions.names.length).toBeGreaterThan(0);
  expect(deletions.losses).toEqual([]);
  await again.close();
  await expectAttachable(clean, known, join(temporary.path, "idle-copy"));
});

test("a store that refuses to delete takes uploads all the same, and is asked again", async () => {
  const { directory, clean, known } = await makeVault(temporary.path, "locked");
  const deletions = newDeletions();
  const store = guarding(clean, deletions);
  const refusal = { isThere: true };
  const locked = Object.assign(guarding(store, newDeletions()), {
    delete: (name: string) => {
      if (refusal.isThere) throw new TcfsError("TCFS_REMOTE_DENIED", "made to fail: object lock");
      return store.delete(name);
    },
  });
  const session = await Session.open(directory, locked, known);
  const random = seeded(5);
  for (let cycle = 0; cycle < 4; cycle++) {
    await rewrite(session, random);
    await upload(session);
  }
  await settled(session);
  const { lastError, collectionProblem, activity } = session.replicator.status();
  expect({ lastError, collectionProblem, activity }).toEqual({
    lastError: null,
    collectionProblem: "made to fail: object lock",
    activity: "idle",
  });
  refusal.isThere = false;
  await eventually("it is asked again", 20_000, async () => {
    await rewrite(session, random);
    await upload(session);
    await settled(session);
    return deletions.names.length > 0;
  });
  expect(session.replicator.status().collectionProblem).toBeNull();
  expect(deletions.losses).toEqual([]);
  await session.close();
  await expectAttachable(clean, known, join(temporary.path, "locked-copy"));
});

test("no pack is deleted while records are known to be damaged", async () => {
  const { directory, clean, known } = await makeVault(temporary.path, "damaged");
  const deletions = newDeletions();
  const damage = { isKnown: true };
  const options = { isDamaged: () => damage.isKnown };
  let session = await Session.open(directory, guarding(clean, deletions), known, options);
  const random = seeded(12);
  for (let cycle = 0; cycle < 3; cycle++) {
    await rewrite(session, random);
    await upload(session);
  }
  await eventually("it is told of", 20_000, () => {
    return session.replicator.status().collectionProblem === "made to fail: a damaged table";
  });
  await session.close();
  expect(deletions.names.filter((name) => name.startsWith("packs/"))).toEqual([]);
  damage.isKnown = false;
  session = await Session.open(directory, guarding(clean, deletions), known, options);
  await session.replicator.renewCheckpoint(signal);
  await settled(session);
  expect(deletions.names.filter((name) => name.startsWith("packs/"))).not.toEqual([]);
  expect(deletions.losses).toEqual([]);
  await session.close();
});

test("a pack whose own record is lost stays while records of chunks lead to it", async () => {
  const { directory, clean, known } = await makeVault(temporary.path, "lost-records");
  const deletions = newDeletions();
  const session = await Session.open(directory, guarding(clean, deletions), known);
  await rewrite(session, seeded(13));
  await upload(session);
  const { metadata } = session;
  const packs: string[] = [];
  for await (const { pack } of metadata.packs()) packs.push(packObject(pack));
  const whole = metadata.allRecords.bind(metadata);
  vi.spyOn(metadata, "getPack").mockReturnValue(undefined);
  vi.spyOn(metadata, "allRecords").mockImplementation(async function* () {
    for await (const records of whole()) yield records.filter(({ key }) => key[0] !== RECORD_KIND.pack);
  });
  for (let times = 0; times < 2; times++) {
    await session.replicator.renewCheckpoint(signal);
    await settled(session);
  }
  expect(packs.length).toBeGreaterThan(0);
  const kept = await objectsOf(clean);
  expect(packs.filter((name) => !kept.has(name))).toEqual([]);
  await session.close();
});

test("nothing is deleted before the root that gives it up is known to be the store's", async () => {
  const { directory, clean, known } = await makeVault(temporary.path, "late");
  const deletions = newDeletions();
  const store = guarding(clean, deletions);
  const putIfMatch = store.putIfMatch.bind(store);
  const late: (() => Promise<unknown>)[] = [];
  const fault = { isThere: false };
  const givenUp = Object.assign(store, {
    putIfMatch: async (...all: Parameters<ObjectStore["putIfMatch"]>) => {
      const [name, content, version] = all;
      if (!fault.isThere || name !== ROOT_NAME) return putIfMatch(...all);
      late.push(() => clean.putIfMatch(name, Uint8Array.from(content), version));
      throw new TcfsError("TCFS_REMOTE_UNAVAILABLE", "made to fail: given up");
    },
  });
  let session = await Session.open(directory, givenUp, known);
  const random = seeded(6);
  await rewrite(session, random);
  await upload(session);
  fault.isThere = true;
  for (let attempt = 1; attempt <= 3; attempt++) {
    await rewrite(session, random);
    void session.replicator.wait(session.metadata.volume.commit, signal).catch(() => undefined);
    await eventually("a root is tried", 20_000, () => late.length >= attempt);
  }
  await session.close();
  expect(deletions.names).toEqual([]);
  await late[0]?.(); // the oldest of them, after the daemon is gone
  fault.isThere = false;
  session = await Session.open(directory, givenUp, known);
  for (let cycle = 0; cycle < 3; cycle++) {
    await rewrite(session, random);
    await upload(session);
  }
  for (const one of late.slice(1)) await one().catch(() => undefined);
  await upload(session);
  await settled(session);
  expect(deletions.names.length).toBeGreaterThan(0);
  expect(deletions.losses).toEqual([]);
  await session.close();
  await expectAttachable(clean, known, join(temporary.path, "late-copy"));
});

test("an older copy of the directory deletes nothing", async () => {
  const { directory, clean, known } = await makeVault(temporary.path, "behind");
  const deletions = newDeletions();
  const store = guarding(clean, deletions);
  let session = await Session.open(directory, store, known, { keepDeletedSeconds: DAY_SECONDS });
  const random = seeded(7);
  for (let cycle = 0; cycle < 3; cycle++) {
    await rewrite(session, random);
    await upload(session);
  }
  await session.close();
  await cp(directory, `${directory}-copy`, { recursive: true });
  session = await Session.open(directory, store, known, { keepDeletedSeconds: DAY_SECONDS });
  await rewrite(session, random);
  await upload(session);
  await session.close();
  const copy = await Session.open(`${directory}-copy`, store, { ...known, states: new Map() });
  await rewrite(copy, seeded(8));
  await expect(copy.replicator.wait(copy.metadata.volume.commit, signal)).rejects.toMatchObject({
    code: "TCFS_REMOTE_DIVERGED",
  });
  await copy.close();
  expect(deletions.names).toEqual([]);
  await expectAttachable(clean, known, join(temporary.path, "behind-attached"));
});

test("records set back without store.json are told of, however many commits come before uploads, and over a restart", async () => {
  const { directory, clean, known } = await makeVault(temporary.path, "set-back");
  const deletions = newDeletions();
  const store = guarding(clean, deletions);
  const random = seeded(12);
  let session = await Session.open(directory, store, known);
  await rewrite(session, random);
  await upload(session);
  await session.close();
  for (const part of ["meta", "journal"]) {
    await cp(join(directory, part), join(temporary.path, `set-back-${part}`), { recursive: true });
  }
  session = await Session.open(directory, store, known);
  await change(session, random, known);
  await upload(session);
  const root = await clean.get(ROOT_NAME, { maxBytes: 4096 });
  await session.close();
  for (const part of ["meta", "journal"]) {
    await rm(join(directory, part), { recursive: true });
    await cp(join(temporary.path, `set-back-${part}`), join(directory, part), { recursive: true });
  }
  const elsewhere: Known = { ...known, states: new Map() };
  for (let times = 0; times < 2; times++) {
    session = await Session.open(directory, store, elsewhere);
    for (let commits = 0; commits < 8; commits++) await change(session, seeded(commits), elsewhere);
    await expect(session.replicator.wait(session.metadata.volume.commit, signal)).rejects.toMatchObject({
      code: "TCFS_REMOTE_DIVERGED",
    });
    await session.close();
  }
  expect((await clean.get(ROOT_NAME, { maxBytes: 4096 }))?.content).toEqual(root?.content);
  await expectAttachable(clean, known, join(temporary.path, "set-back-copy"));
});

test("a root that somebody kept and named nowhere, as an accept that breaks off does, is found and holds all", async () => {
  const { directory, clean, known } = await makeVault(temporary.path, "broken-off");
  const deletions = newDeletions();
  const session = await Session.open(directory, guarding(clean, deletions), known);
  const random = seeded(13);
  await rewrite(session, random);
  await upload(session);
  const root = await clean.get(ROOT_NAME, { maxBytes: 4096 });
  const kept = keptRootObject(session.replicator.status().lastRoot?.number ?? 0, toHex(sha256(root!.content)));
  await clean.put(kept, root!.content);
  for (let cycle = 0; cycle < 3; cycle++) {
    await rewrite(session, random);
    await session.replicator.renewCheckpoint(signal);
  }
  await settled(session);
  expect(session.replicator.status().collectionProblem).toContain(kept);
  expect(deletions.names).toEqual([]);
  await session.close();
  await expectAttachable(clean, { ...known, acknowledged: 0 }, join(temporary.path, "broken-off-copy"), kept);
});

test("a machine that slept within a batch does not go on with it", async () => {
  const { directory, clean, known } = await makeVault(temporary.path, "slept");
  const deletions = newDeletions();
  const clock = movableClock();
  const store = guarding(clean, deletions);
  const deleted = { sinceRoot: 0, most: 0 };
  const sleeping = Object.assign(guarding(store, newDeletions()), {
    putIfMatch: (...all: Parameters<ObjectStore["putIfMatch"]>) => {
      if (all[0] === ROOT_NAME) deleted.sinceRoot = 0;
      return store.putIfMatch(...all);
    },
    delete: async (name: string) => {
      deleted.sinceRoot += 1;
      deleted.most = Math.max(deleted.most, deleted.sinceRoot);
      clock.aheadSeconds += DAY_SECONDS;
      await store.delete(name);
    },
  });
  const session = await Session.open(directory, sleeping, known, { clock, keepDeletedSeconds: DAY_SECONDS });
  const random = seeded(14);
  for (let cycle = 0; cycle < 5; cycle++) {
    await rewrite(session, random);
    await session.replicator.renewCheckpoint(signal);
  }
  await settled(session);
  expect(session.replicator.status().deadObjects).toBeGreaterThan(8);
  clock.aheadSeconds += 2 * DAY_SECONDS;
  await session.replicator.renewCheckpoint(signal);
  await settled(session);
  expect(deleted.most).toBeGreaterThan(0);
  expect(deleted.most).toBeLessThanOrEqual(4); // what was sent at once
  expect(deletions.losses).toEqual([]);
  await session.close();
});

test("what a kept root leads to stays until the kept root is gone; then what nobody knew of goes too", async () => {
  const { directory, clean, known } = await makeVault(temporary.path, "kept");
  const deletions = newDeletions();
  const store = guarding(clean, deletions);
  const random = seeded(9);
  let session = await Session.open(directory, store, known);
  await rewrite(session, random);
  await upload(session);
  await session.close();
  const other = join(temporary.path, "kept-other");
  await attachCopy(clean, other);
  const theirs: Known = { ...known, states: new Map(known.states), acknowledged: 0 };
  const elsewhere = await Session.open(other, store, theirs, { keepDeletedSeconds: DAY_SECONDS });
  await change(elsewhere, seeded(10), theirs);
  await upload(elsewhere);
  await elsewhere.close();

  const state = verifyState((await readState(disk, directory))!, sealer);
  const devices = await readDevices({ disk, directory, sealer });
  const standing = await readStanding(clean, sealer, state, { commit: 10 ** 6, devices });
  expect(standing.relation).toBe("foreign");
  const identity = newDevice("unused");
  const kept = await acceptStanding(clean, state, standing, { disk, directory, sealer, identity });
  expect(kept).toBe(keptRootObject(standing.root!.number, standing.rootHash!));
  const clock = movableClock();
  session = await Session.open(directory, store, known, { clock });
  for (let cycle = 0; cycle < 4; cycle++) {
    await rewrite(session, random);
    await session.replicator.renewCheckpoint(signal);
  }
  await settled(session);
  expect(session.replicator.status().collectionProblem).toContain(kept);
  expect(deletions.names).toEqual([]);
  expect(session.replicator.status().deadObjects).toBeGreaterThan(0);
  await expectAttachable(clean, theirs, join(temporary.path, "kept-attached"), kept);
  await session.close();

  await clean.delete(kept!);
  session = await Session.open(directory, store, known, { clock, keepDeletedSeconds: DAY_SECONDS });
  await session.replicator.renewCheckpoint(signal);
  await settled(session);
  expect(deletions.names).toEqual([]); // it may be back in a moment
  for (let times = 0; times < 3; times++) {
    clock.aheadSeconds += 2 * DAY_SECONDS;
    await session.replicator.renewCheckpoint(signal);
    await settled(session);
  }
  clock.aheadSeconds += 2 * DAY_SECONDS;
  await expectNothingBeyond(session, clean, () => void (clock.aheadSeconds += 2 * DAY_SECONDS));
  expect(deletions.losses).toEqual([]);
  await session.close();
  await expectAttachable(clean, known, join(temporary.path, "kept-copy"));
});

test("nothing is deleted once somebody is about to replace the root on purpose", async () => {
  const { directory, clean, known } = await makeVault(temporary.path, "fence");
  const deletions = newDeletions();
  const store = new FaultyStore(guarding(clean, deletions), { seed: 1, chances: {} });
  const session = await Session.open(directory, store, known);
  const random = seeded(11);
  const putIfMatch = store.putIfMatch.bind(store);
  let fence: string | undefined;
  store.putIfMatch = async (name, content, version, given) => {
    const put = await putIfMatch(name, content, version, given);
    if (name !== ROOT_NAME) return put;
    const number = (session.replicator.status().lastRoot?.number ?? 0) + 1;
    const hash = toHex(sha256(content));
    if (fence !== undefined) await clean.delete(fence);
    fence = keptRootObject(number, hash);
    await clean.put(fence, content); // as tcfs store accept does first
    return put;
  };
  for (let cycle = 0; cycle < 3; cycle++) {
    await rewrite(session, random);
    await session.replicator.renewCheckpoint(signal);
  }
  await eventually("it is told of", 20_000, () => {
    return session.replicator.status().collectionProblem?.includes("another copy") === true;
  });
  expect(deletions.names).toEqual([]);
  await session.close();
});
