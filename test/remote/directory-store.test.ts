import { cp, mkdtemp, mkdir, readFile, readdir, rename, rm, symlink, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DirectoryStore } from "../../src/remote/directory-store.ts";
import { systemClock } from "../../src/platform/clock.ts";
import { Pace, pacedStore } from "../../src/remote/paced-store.ts";
import { RequestTrace, watchedStore } from "../../src/remote/watched-store.ts";
import type { ObjectStore } from "../../src/remote/object-store.ts";
import { FaultyStore, insisting } from "./faulty-store.ts";
import { collect } from "../support/collect.ts";
import { testObjectStore } from "./store-contract.ts";

let root = "";
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "tcfs-store-"));
});
afterAll(() => rm(root, { recursive: true, force: true }));

const openDirectory = (): Promise<DirectoryStore> => DirectoryStore.open(join(root, "objects"), { create: true });

testObjectStore("directory", openDirectory);
testObjectStore("watched(paced(directory))", async () =>
  watchedStore(pacedStore(await openDirectory(), new Pace(systemClock)), new RequestTrace()),
);

const seed = Number(process.env["TCFS_STORE_SEED"] ?? 20_261_122);
let faulty: ObjectStore | undefined;
testObjectStore(`faulty(directory), seed ${String(seed)}`, async () => {
  const chances = { slow: 0.2, failing: 0.1, throttled: 0.1, lost: 0.15, full: 0.05 };
  faulty ??= insisting(new FaultyStore(await openDirectory(), { seed, chances, liesInListings: true }));
  return faulty;
});

describe("directory", () => {
  test("is missing where it is not made, and is not made unasked", async () => {
    const path = join(root, "absent");
    await expect(DirectoryStore.open(path, { create: false })).rejects.toMatchObject({ code: "TCFS_REMOTE_MISSING" });
    const store = await DirectoryStore.open(path, { create: true });
    await rm(path, { recursive: true });
    await expect(store.head("a")).rejects.toMatchObject({ code: "TCFS_REMOTE_MISSING" });
    await expect(store.put("a/b", Buffer.from("x"))).rejects.toMatchObject({ code: "TCFS_REMOTE_MISSING" });
    expect(await readdir(root)).not.toContain("absent");
  });

  test("does not follow a symbolic link in an object's place", async () => {
    const store = await openDirectory();
    await store.put("links/there", Buffer.from("x"));
    await writeFile(join(root, "outside"), "secret");
    await symlink(join(root, "outside"), join(root, "objects/links/link"));
    await expect(store.get("links/link", { maxBytes: 100 })).rejects.toMatchObject({ code: "TCFS_CORRUPT" });
  });

  test("takes away a lock that a crash left, not one that is held", async () => {
    const store = await openDirectory();
    const version = await store.put("locked", Buffer.from("1"));
    const lock = join(root, "objects/.tcfs-work/lock");
    await mkdir(join(root, "objects/.tcfs-work"), { recursive: true });
    await writeFile(lock, "left by a crash");
    const anHourAgo = new Date(Date.now() - 3_600_000);
    await utimes(lock, anHourAgo, anHourAgo);
    const second = await store.putIfMatch("locked", Buffer.from("2"), version);
    await writeFile(lock, "held");
    const startedAt = performance.now();
    setTimeout(() => void rm(lock), 300);
    await store.putIfMatch("locked", Buffer.from("3"), second);
    expect(performance.now() - startedAt).toBeGreaterThan(200);
  });

  test("whose drive is not mounted is away, and not empty, though there is a directory in its place", async () => {
    const store = await openDirectory();
    await store.put("packs/ab/cd", Buffer.from("1"));
    const place = join(root, "objects");
    await rename(place, `${place}-mounted`);
    await mkdir(place);
    const away: unknown = expect.objectContaining({ code: "TCFS_REMOTE_UNAVAILABLE" });
    await expect(store.head("packs/ab/cd")).rejects.toEqual(away);
    await expect(store.get("root", { maxBytes: 10 })).rejects.toEqual(away);
    await expect(store.put("root", Buffer.from("2"))).rejects.toEqual(away);
    await expect(store.putIfAbsent("root", Buffer.from("2"))).rejects.toEqual(away);
    await expect(store.delete("packs/ab/cd")).rejects.toEqual(away);
    await expect(collect(store.list("packs/"))).rejects.toEqual(away);
    expect(await readdir(place)).toEqual([]);
    await rm(place, { recursive: true });
    await rename(`${place}-mounted`, place);
    expect(await store.head("packs/ab/cd")).toBe(1);
  });

  test("whose directory is replaced by another store, or an older copy of it, is away, and nothing is written there", async () => {
    const store = await openDirectory();
    await store.put("root", Buffer.from("1"));
    const place = join(root, "objects");
    await rename(place, `${place}-before`);
    await cp(`${place}-before`, place, { recursive: true });
    await store.get("root", { maxBytes: 10 });
    const away: unknown = expect.objectContaining({ code: "TCFS_REMOTE_UNAVAILABLE" });
    await expect(store.put("root", Buffer.from("2"))).rejects.toEqual(away);
    await expect(store.put("header", Buffer.from("2"))).rejects.toEqual(away);
    expect(await readFile(join(place, "root"), "latin1")).toBe("1");
    expect(await readdir(place)).not.toContain("header");
  });

  test("leaves no unfinished files", async () => {
    const store = await openDirectory();
    await store.put("done", Buffer.from("1"));
    await store.putIfAbsent("done", Buffer.from("2")).catch(() => undefined);
    expect(await readdir(join(root, "objects/.tcfs-work"))).toEqual([]);
  });
});
