/** When lost packs are looked for, who learns of them, and that what is only away is not among them. */
import { cp, mkdir, readFile, readdir, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { formatPackId } from "../../src/chunkstore/pack-format.ts";
import { TcfsError } from "../../src/errors.ts";
import { readDevices } from "../../src/keys/devices/device-book.ts";
import { LostPacks } from "../../src/replica/lost-packs.ts";
import { packObject } from "../../src/replica/object-names.ts";
import { readState, verifyState } from "../../src/replica/replica-state.ts";
import { acceptStanding, readStanding } from "../../src/replica/standing.ts";
import { seeded } from "../remote/faulty-store.ts";
import { eventually } from "../support/run.ts";
import { SimulatedClock } from "../support/simulated-clock.ts";
import { type TemporaryDirectory, temporaryDirectory } from "../support/temporary-directory.ts";
import { makeUnsent, waitFor } from "./lost-fixtures.ts";
import { Session, change, disk, expectAttachable, lostOf, newDevice, sealer } from "./session.ts";

const { signal } = new AbortController();
const CORRUPT: unknown = expect.objectContaining({ code: "TCFS_CORRUPT" });

let temporary: TemporaryDirectory;
beforeAll(async () => {
  temporary = await temporaryDirectory("looks");
});
afterAll(() => temporary[Symbol.asyncDispose]());

/** A vault of which the store has all, but for one pack: that is damaged there, and not here. It is known to be lost. */
async function makeSpoiled(name: string) {
  const { directory, clean, known, packs, pathOf } = await makeUnsent(temporary.path, name);
  const session = await Session.open(directory, clean, known);
  await waitFor(session);
  await session.close();
  const spoiled = packs.find(({ lengthBytes }) => lengthBytes > 70_000)!;
  const object = packObject(spoiled.pack);
  const content = await readFile(pathOf(spoiled));
  await clean.put(
    object,
    content.map((byte, at) => (at === 30_000 ? byte ^ 1 : byte)),
  );
  await rm(pathOf(spoiled));
  await LostPacks.addTo(disk, directory, [{ pack: spoiled.pack, kind: "damaged" }]);
  return { directory, clean, known, spoiled, object, content, path: pathOf(spoiled) };
}

test("what the store has damaged is fetched ever more seldom, at once when somebody asks, and not when it is here again", async () => {
  const { directory, clean, known, spoiled, object, content, path } = await makeSpoiled("seldom");
  const get = vi.spyOn(clean, "get");
  const looks = (): number => get.mock.calls.filter(([name]) => name === object).length;
  const clock = new SimulatedClock("2026-11-23T00:00:00Z");
  const session = await Session.open(directory, clean, known, { clock });
  const settle = (): Promise<void> =>
    eventually("it rests", 60_000, () => session.replicator.status().activity === "idle");
  session.replicator.noteHeader();
  await clock.pass(48 * 3600_000, settle);
  expect(looks()).toBeGreaterThan(3);
  expect(looks()).toBeLessThan(16);
  const before = looks();
  const settings = { isPaused: false, limitBytesPerSecond: null, maxAgeSeconds: 60, keepDeletedSeconds: 604_800 };
  session.replicator.configure(settings); // as `tcfs upload resume` does
  await clock.pass(60_000, settle);
  expect(looks()).toBe(before + 1);
  await expect(waitFor(session)).rejects.toEqual(CORRUPT);
  expect(looks()).toBe(before + 2);
  await writeFile(path, content);
  await clock.pass(11 * 60_000, settle);
  expect(known.found).toEqual([formatPackId(spoiled.pack)]);
  await session.close();
  expect((await lostOf(clean)).size).toBe(0);
});

test("a root that is accepted over tells what it lacks to whoever goes on from there", async () => {
  const { directory, clean, known, spoiled } = await makeSpoiled("told");
  const other = `${directory}-other`;
  await cp(directory, other, { recursive: true });
  await rm(join(directory, "store.lost")); // the first one knows nothing of it
  await rm(join(other, "device"));
  const name = formatPackId(spoiled.pack);
  const second = await Session.open(other, clean, { ...known, states: new Map() });
  await change(second, seeded(77), second.known);
  await second.replicator.waitForRoot(second.metadata.volume.commit, signal);
  await second.close();
  expect(await lostOf(clean)).toEqual(new Map([[name, "damaged"]]));

  const state = verifyState((await readState(disk, directory))!, sealer);
  const devices = await readDevices({ disk, directory, sealer });
  const standing = await readStanding(clean, sealer, state, { commit: 10 ** 6, devices });
  expect(standing.relation).not.toBe("known");
  const place = { disk, directory, sealer, identity: newDevice("the first, again") };
  const own = await readFile(join(directory, "device"));
  const get = clean.get.bind(clean);
  const away = vi.spyOn(clean, "get").mockImplementation((name, options) => {
    if (!/^(?:commits|checkpoints)\//u.test(name)) return get(name, options);
    return Promise.reject(new TcfsError("TCFS_REMOTE_UNAVAILABLE", "made"));
  });
  const failing = acceptStanding(clean, state, { ...standing, relation: "copied" }, place);
  await expect(failing).rejects.toMatchObject({ code: "TCFS_REMOTE_UNAVAILABLE" });
  away.mockRestore();
  expect(await readFile(join(directory, "device"))).toEqual(own); // nothing has changed
  await acceptStanding(clean, state, standing, place);
  const session = await Session.open(directory, clean, known);
  await expect(waitFor(session)).rejects.toEqual(CORRUPT);
  await session.close();
  expect(await lostOf(clean)).toEqual(new Map([[name, "damaged"]]));
});

test("a vault directory that is gone for a while has nothing lost", async () => {
  const { directory, clean, known } = await makeUnsent(temporary.path, "away");
  const session = await Session.open(directory, clean, known);
  await rename(directory, `${directory}-elsewhere`);
  const waiting = waitFor(session);
  await eventually("it fails", 60_000, () => session.replicator.status().lastError !== null);
  expect(session.replicator.status().lostPacks).toEqual([]);
  await rename(`${directory}-elsewhere`, directory);
  await waiting;
  expect(known.lost).toEqual([]);
  expect((await lostOf(clean)).size).toBe(0);
  known.acknowledged = session.metadata.volume.commit;
  await session.close();
  expect((await expectAttachable(clean, known, join(temporary.path, "away-copy"))).size).toBe(0);
});

test("a store that is gone for a while has nothing lost", async () => {
  const { directory, clean, known, packs, pathOf } = await makeUnsent(temporary.path, "empty");
  let session = await Session.open(directory, clean, known);
  await waitFor(session);
  await session.close();
  await rm(pathOf(packs[0]!)); // which only the store has then
  session = await Session.open(directory, clean, known);
  await change(session, seeded(9), known);
  await waitFor(session);
  const place = `${directory}-store`;
  await rename(place, `${place}-elsewhere`);
  await mkdir(place); // where its drive was mounted
  session.replicator.noteLost(packs[0]!);
  const waiting = waitFor(session);
  await eventually("it fails", 60_000, () => session.replicator.status().lastError !== null);
  expect(await readdir(place)).toEqual([]);
  await rm(place, { recursive: true });
  await rename(`${place}-elsewhere`, place);
  await waiting;
  expect(known.lost).toEqual([]);
  expect((await lostOf(clean)).size).toBe(0);
  await session.close();
});
