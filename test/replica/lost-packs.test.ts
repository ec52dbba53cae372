/**
 * Packs that are missing or damaged before they were sent: everything else goes up, the store's state says what it lacks,
 * and whatever comes again leaves the list. And what a damaged newest manifest comes to.
 */
import { cp, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { packPath } from "../../src/chunkstore/open-packs.ts";
import { formatPackId } from "../../src/chunkstore/pack-format.ts";
import type { PackRecord } from "../../src/format/records.ts";
import type { ChunkId } from "../../src/ids.ts";
import type { ObjectStore } from "../../src/remote/object-store.ts";
import { DEVICES_NAME, ROOT_NAME, packObject } from "../../src/replica/object-names.ts";
import { readDevices } from "../../src/keys/devices/device-book.ts";
import { readState, verifyState } from "../../src/replica/replica-state.ts";
import { acceptStanding, readStanding } from "../../src/replica/standing.ts";
import { FaultyDisk } from "../chunkstore/faulty-disk.ts";
import { FaultyStore, seeded } from "../remote/faulty-store.ts";
import { collect } from "../support/collect.ts";
import { eventually } from "../support/run.ts";
import { type TemporaryDirectory, temporaryDirectory } from "../support/temporary-directory.ts";
import { makeUnsent, waitFor } from "./lost-fixtures.ts";
import { rewrite } from "./collection-fixtures.ts";
import {
  type Known,
  Session,
  attachCopy,
  change,
  disk,
  expectAttachable,
  lostOf,
  makeVault,
  newDevice,
  sealer,
} from "./session.ts";

const SEEDS = process.env["TCFS_LOST_SEEDS"]?.split(",").map(Number) ?? [20_261_122];
const { signal } = new AbortController();
const CORRUPT: unknown = expect.objectContaining({ code: "TCFS_CORRUPT" });

let temporary: TemporaryDirectory;
beforeAll(async () => {
  temporary = await temporaryDirectory("lost");
});
afterAll(() => temporary[Symbol.asyncDispose]());

/** The chunks that a pack holds, as far as files refer to them. */
async function chunksOf(session: Session, { pack }: PackRecord): Promise<ChunkId[]> {
  const chunks = await collect(session.metadata.chunks());
  return chunks.flatMap(({ id, record }) =>
    record.kind === "packed" && Buffer.compare(record.pack, pack) === 0 ? [id] : [],
  );
}

test("a pack that is missing holds up nothing else; the root says so, over restarts, until it is there again", async () => {
  const { directory, clean, known, packs, pathOf } = await makeUnsent(temporary.path, "missing");
  const [first] = packs;
  const name = formatPackId(first!.pack);
  const content = await readFile(pathOf(first!));
  await rm(pathOf(first!));
  let session = await Session.open(directory, clean, known);
  await expect(waitFor(session)).rejects.toThrow(
    `lost: 1 pack, which neither this disk nor the store has whole: ${name};`,
  );
  await expect(waitFor(session)).rejects.toEqual(CORRUPT);
  expect(session.replicator.status()).toMatchObject({
    lostPacks: [{ pack: name, kind: "missing" }],
    backlogPacks: 0,
    backlogBytes: 0,
    activity: "idle",
    lastError: null,
    lastRoot: { commit: session.metadata.volume.commit },
  });
  known.acknowledged = session.metadata.volume.commit;
  expect(await lostOf(clean)).toEqual(new Map([[name, "missing"]]));
  expect([...(await expectAttachable(clean, known, join(temporary.path, "missing-copy")))]).toEqual([name]);
  const { number } = session.replicator.status().lastRoot!;
  await expect(waitFor(session)).rejects.toEqual(CORRUPT);
  expect(session.replicator.status().lastRoot?.number).toBe(number); // nothing new to tell
  await session.close();

  session = await Session.open(directory, clean, known);
  expect(session.replicator.status().lostPacks.length).toBe(1); // before the store was asked for anything
  await change(session, seeded(5), known);
  await session.replicator.waitForRoot(session.metadata.volume.commit, signal);
  expect(await lostOf(clean)).toEqual(new Map([[name, "missing"]]));
  await session.replicator.renewCheckpoint(signal); // as a rotation of the key does
  expect(await lostOf(clean)).toEqual(new Map([[name, "missing"]]));
  expect(known.lost).toEqual([`${name} missing`]);

  await writeFile(pathOf(first!), content);
  await waitFor(session);
  expect(known.found).toEqual([name]);
  expect(session.replicator.status().lostPacks).toEqual([]);
  expect((await lostOf(clean)).size).toBe(0);
  known.acknowledged = session.metadata.volume.commit;
  await session.close();
  expect((await expectAttachable(clean, known, join(temporary.path, "missing-whole"))).size).toBe(0);
});

test("what was lost is found again though nobody waits and nothing changes in the vault", async () => {
  const { directory, clean, known, packs, pathOf } = await makeUnsent(temporary.path, "idle");
  const content = await readFile(pathOf(packs[0]!));
  await rm(pathOf(packs[0]!));
  const session = await Session.open(directory, clean, known);
  await expect(waitFor(session)).rejects.toEqual(CORRUPT);
  await writeFile(pathOf(packs[0]!), content);
  await session.close();
  const again = await Session.open(directory, clean, known);
  again.replicator.noteHeader();
  await eventually("it is found", 20_000, async () => (await lostOf(clean)).size === 0);
  expect(known.found).toEqual([formatPackId(packs[0]!.pack)]);
  await again.close();
});

test.for(["cut off", "unreadable in part", "flipped"])(
  "of a pack that is %s, all goes up that can be read",
  async (how) => {
    const { directory, clean, known, packs, pathOf } = await makeUnsent(temporary.path, `damaged-${how}`);
    const first = packs.find(({ lengthBytes }) => lengthBytes > 70_000)!;
    const name = formatPackId(first.pack);
    const faulty = new FaultyDisk(disk);
    if (how === "cut off") await truncate(pathOf(first), first.lengthBytes - 20_000);
    if (how === "flipped") {
      const content = await readFile(pathOf(first));
      content[30_000] = (content[30_000] ?? 0) ^ 1;
      await writeFile(pathOf(first), content);
    }
    const session = await Session.open(directory, clean, known, { packDisk: spoiling(faulty, pathOf(first), how) });
    await expect(waitFor(session)).rejects.toThrow(name);
    known.acknowledged = session.metadata.volume.commit;
    expect(await lostOf(clean)).toEqual(new Map([[name, "damaged"]]));
    expect(await clean.head(packObject(first.pack))).toBeGreaterThan(first.lengthBytes); // so that nobody takes it for whole
    const chunks = await chunksOf(session, first);
    const contents = chunks.map((id) => known.contents.get(Buffer.from(id).toString("hex"))!);
    expect([...(await expectAttachable(clean, known, join(temporary.path, `damaged-copy-${how}`)))]).toEqual([name]);

    // The same content comes again: what is damaged is stored anew, and no file needs the pack's damaged part.
    const stored = await session.chunks.store(
      contents.map((content) => ({ pieces: [content], isFinal: true })),
      "pack",
    );
    expect(stored.flat().some(({ isNew }) => isNew)).toBe(true);
    await session.commit();
    await session.chunks.collect(() => session.commit(), signal);
    if (how === "unreadable in part") return session.close();
    await waitFor(session);
    expect((await lostOf(clean)).size).toBe(0);
    known.acknowledged = session.metadata.volume.commit;
    await session.close();
    expect((await expectAttachable(clean, known, join(temporary.path, `damaged-whole-${how}`))).size).toBe(0);
  },
);

/** Reads of one file fail where they touch some bytes in its middle. */
function spoiling(faulty: FaultyDisk, path: string, how: string): FaultyDisk {
  if (how !== "unreadable in part") return faulty;
  const open = faulty.open.bind(faulty);
  faulty.open = async (asked) => {
    const file = await open(asked);
    if (asked !== path) return file;
    const readInto = file.readInto.bind(file);
    return Object.assign(file, {
      readInto: async (into: Uint8Array, offset: number) => {
        if (offset < 40_000 && offset + into.length > 39_000) faulty.fail("read", "TCFS_IO");
        return readInto(into, offset);
      },
    });
  };
  return faulty;
}

test("once all files of a lost pack were written again, it is dropped, and nothing is lost", async () => {
  const { directory, clean, known, packs, pathOf } = await makeUnsent(temporary.path, "again");
  await rm(pathOf(packs[0]!));
  const session = await Session.open(directory, clean, known);
  await expect(waitFor(session)).rejects.toEqual(CORRUPT);
  const isNamed = (): boolean => session.metadata.getPack(packs[0]!.pack) !== undefined;
  for (let seed = 9; isNamed(); seed++) await rewrite(session, seeded(seed)); // all files, before long
  await waitFor(session);
  expect((await lostOf(clean)).size).toBe(0);
  known.acknowledged = session.metadata.volume.commit;
  await session.close();
  expect((await expectAttachable(clean, known, join(temporary.path, "again-copy"))).size).toBe(0);
});

test.for(["is there again", "is needed no more"])(
  "a lost pack that %s while a step is under way is not told of",
  async (how) => {
    const { directory, clean, known, packs, pathOf } = await makeUnsent(temporary.path, `under-way-${how}`);
    const [first] = packs;
    const content = await readFile(pathOf(first!));
    await rm(pathOf(first!));
    const session = await Session.open(directory, clean, known);
    await expect(waitFor(session)).rejects.toEqual(CORRUPT);
    let goOn: () => void = () => undefined;
    const gate = new Promise<void>((resolve) => (goOn = resolve));
    const get = clean.get.bind(clean);
    let isHeld = false;
    clean.get = async (name, options) => {
      isHeld ||= name === DEVICES_NAME;
      if (name === DEVICES_NAME) await gate;
      return get(name, options);
    };
    await change(session, seeded(30), known);
    await eventually("a step has looked for what is lost", 20_000, () => isHeld);
    if (how === "is there again") await writeFile(pathOf(first!), content);
    else for (let seed = 31; (await chunksOf(session, first!)).length > 0; seed++) await rewrite(session, seeded(seed));
    const waiting = waitFor(session);
    goOn();
    await waiting;
    expect((await lostOf(clean)).size).toBe(0);
    await session.close();
  },
);

test("what comes again of a pack that an earlier session found damaged is stored anew, before anything is looked at", async () => {
  const { directory, clean, known, packs, pathOf } = await makeUnsent(temporary.path, "restart");
  const first = packs.find(({ lengthBytes }) => lengthBytes > 70_000)!;
  const content = await readFile(pathOf(first));
  await writeFile(pathOf(first), content.fill(0, 1000, content.length - 1000));
  const session = await Session.open(directory, clean, known);
  const [id] = await chunksOf(session, first);
  await expect(waitFor(session)).rejects.toEqual(CORRUPT);
  await session.close();
  const again = await Session.open(directory, clean, known);
  const inputs = [{ pieces: [known.contents.get(Buffer.from(id!).toString("hex"))!], isFinal: true }];
  const [[stored] = []] = await again.chunks.store(inputs, "pack");
  expect(stored?.isNew).toBe(true);
  await again.close();
});

test("another device that attached says what is lost in its own steps too, and leaves it out where it is found", async () => {
  const { directory, clean, known, packs, pathOf } = await makeUnsent(temporary.path, "devices");
  const content = await readFile(pathOf(packs[0]!));
  await rm(pathOf(packs[0]!));
  const session = await Session.open(directory, clean, known);
  await expect(waitFor(session)).rejects.toEqual(CORRUPT);
  await session.close();
  const second = join(temporary.path, "devices-second");
  await attachCopy(clean, second);
  let other = await Session.open(second, clean, known);
  expect(other.replicator.status().lostPacks.length).toBe(1);
  await change(other, seeded(20), known);
  await expect(waitFor(other)).rejects.toEqual(CORRUPT);
  expect((await lostOf(clean)).size).toBe(1);
  await other.close();
  await rm(join(second, "store.lost")); // the root says the same
  other = await Session.open(second, clean, known);
  await change(other, seeded(21), known);
  await expect(waitFor(other)).rejects.toEqual(CORRUPT);
  expect((await lostOf(clean)).size).toBe(1);
  await clean.put(packObject(packs[0]!.pack), content); // brought by hand
  await waitFor(other);
  expect((await lostOf(clean)).size).toBe(0);
  known.acknowledged = other.metadata.volume.commit;
  await other.close();
  expect((await expectAttachable(clean, known, join(temporary.path, "devices-copy"))).size).toBe(0);
});

test.for(SEEDS)("whatever is lost when, the root says it, seed %i", async (seed) => {
  const random = seeded(seed);
  const { directory, clean, known } = await makeVault(temporary.path, `random-${String(seed)}`);
  const harmed = new Set<string>();
  for (let round = 0; round < 3; round++) {
    const store = new FaultyStore(clean, { seed: seed + round, chances: { failing: 0.05, lost: 0.05 } });
    const session = await Session.open(directory, store, known);
    for (let step = 0; step < 4; step++) {
      await change(session, random, known);
      if (random() < 0.3) await session.chunks.collect(() => session.commit(), signal);
      if (random() < 0.6) await harm(session, directory, random, harmed);
      if (random() < 0.4) continue;
      await session.replicator.waitForRoot(session.metadata.volume.commit, signal);
      known.acknowledged = session.metadata.volume.commit;
    }
    await session.close();
    if (known.acknowledged === 0) continue;
    for (const name of (await lostOf(clean)).keys()) expect(harmed).toContain(name);
    await expectAttachable(clean, known, join(temporary.path, `random-copy-${String(seed)}-${String(round)}`));
  }
});

/** Something happens to a pack that is finished, sent or not. */
async function harm(session: Session, directory: string, random: () => number, harmed: Set<string>): Promise<void> {
  await session.chunks.ownPacks.retire();
  const packs = await collect(session.metadata.packs());
  const record = packs[Math.floor(random() * packs.length)];
  if (record === undefined) return;
  const path = packPath(join(directory, "packs"), record.pack);
  const content = await readFile(path).catch(() => undefined);
  if (content === undefined) return;
  harmed.add(formatPackId(record.pack));
  const kind = random();
  const spot = Math.floor(random() * content.length);
  if (kind < 0.4) await rm(path);
  else if (kind < 0.7) await truncate(path, spot);
  else {
    content[spot] = (content[spot] ?? 0) ^ 1;
    await writeFile(path, content);
  }
}

test("a copy of the directory from before the loss, accepted over it, brings the pack whole", async () => {
  const { directory, clean, known, packs, pathOf } = await makeUnsent(temporary.path, "accepted");
  const before = `${directory}-before`;
  await cp(directory, before, { recursive: true });
  const first = packs.find(({ lengthBytes }) => lengthBytes > 70_000)!;
  const { pack } = first;
  const content = await readFile(pathOf(first));
  await writeFile(
    pathOf(first),
    content.map((byte, at) => (at === 30_000 ? byte ^ 1 : byte)),
  );
  const session = await Session.open(directory, clean, known, { keepDeletedSeconds: 86_400 });
  await expect(waitFor(session)).rejects.toEqual(CORRUPT);
  // And what was in it is deleted: no list names it any more, but the store has it still.
  for (let seed = 40; (await chunksOf(session, first)).length > 0; seed++) await rewrite(session, seeded(seed));
  await waitFor(session);
  await session.close();
  expect((await lostOf(clean)).size).toBe(0);
  expect(await clean.head(packObject(pack))).toBeDefined();

  const state = verifyState((await readState(disk, before))!, sealer);
  const devices = await readDevices({ disk, directory: before, sealer });
  const standing = await readStanding(clean, sealer, state, { commit: 10 ** 6, devices });
  const identity = newDevice("the copy");
  await acceptStanding(clean, state, standing, { disk, directory: before, sealer, identity });
  const back = await Session.open(before, clean, { ...known, acknowledged: 0 });
  await waitFor(back);
  const found = await clean.get(packObject(pack), { maxBytes: 1_000_000 });
  expect(Buffer.compare(found!.content, content)).toBe(0);
  await back.close();
  expect((await expectAttachable(clean, back.known, join(temporary.path, "accepted-copy"))).size).toBe(0);
});

/** A vault in the store, with the newest manifest's name. */
async function makeStored(
  name: string,
  isCheckpoint: boolean,
): Promise<{ directory: string; clean: ObjectStore; known: Known }> {
  const { directory, clean, known } = await makeVault(temporary.path, name);
  const session = await Session.open(directory, clean, known);
  for (const seed of [1, 2]) {
    await change(session, seeded(seed), known);
    await waitFor(session);
  }
  if (isCheckpoint) await session.replicator.renewCheckpoint(signal);
  await session.close();
  return { directory, clean, known };
}

test.for([
  ["a checkpoint", "flipped"],
  ["a checkpoint", "gone"],
  ["a commit", "cut"],
])("the newest manifest, %s, is %s: a checkpoint of what is here takes its place", async ([what, how]) => {
  const { directory, clean, known } = await makeStored(`head-${what}-${how}`, what === "a checkpoint");
  const prefix = what === "a checkpoint" ? "checkpoints/" : "commits/";
  const [newest] = (await collect(clean.list(prefix))).sort((a, b) => numberIn(b) - numberIn(a));
  const { content } = (await clean.get(newest!, { maxBytes: 1_000_000 }))!;
  if (how === "gone") await clean.delete(newest!);
  else if (how === "cut") await clean.put(newest!, content.subarray(0, content.length - 10));
  else
    await clean.put(
      newest!,
      content.map((byte, at) => (at === 70 ? byte ^ 1 : byte)),
    );
  await expect(expectAttachable(clean, known, join(temporary.path, `head-${what}-${how}-broken`))).rejects.toEqual(
    CORRUPT,
  );
  const session = await Session.open(directory, clean, known);
  await waitFor(session); // with nothing else to tell
  expect(known.damagedHeads).toEqual([expect.stringContaining(newest!)]);
  expect((await collect(clean.list("checkpoints/"))).map(numberIn)).toContain(numberIn(newest!) + 1);
  known.acknowledged = session.metadata.volume.commit;
  await change(session, seeded(3), known);
  await waitFor(session);
  expect(known.damagedHeads.length).toBe(1);
  await session.close();
  await expectAttachable(clean, known, join(temporary.path, `head-${what}-${how}-healed`));
});

function numberIn(name: string): number {
  return Number(/\/(\d+)-/u.exec(name)?.[1]);
}

test("a directory that is set back to before a loss takes the root for a newer one, and says nothing over it", async () => {
  const { directory, clean, known, packs, pathOf } = await makeUnsent(temporary.path, "back");
  const copy = `${directory}-before`;
  await cp(directory, copy, { recursive: true });
  await rm(pathOf(packs[0]!));
  const session = await Session.open(directory, clean, known);
  await expect(waitFor(session)).rejects.toEqual(CORRUPT);
  await session.close();
  const root = await clean.get(ROOT_NAME, { maxBytes: 4096 });
  const back = await Session.open(copy, clean, known);
  await expect(waitFor(back)).rejects.toMatchObject({ code: "TCFS_REMOTE_DIVERGED" });
  await back.close();
  expect((await clean.get(ROOT_NAME, { maxBytes: 4096 }))?.content).toEqual(root?.content);
});
