import { expect, test } from "vitest";
import { TcfsError } from "../../src/errors.ts";
import { DirectoryStore } from "../../src/remote/directory-store.ts";
import { type ObjectStore, StoreNotReady } from "../../src/remote/object-store.ts";
import { patientStore } from "../../src/remote/patient-store.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";
import { FaultyStore } from "./faulty-store.ts";
import { collect } from "../support/collect.ts";

interface Patient extends AsyncDisposable {
  readonly store: ObjectStore;
  readonly told: { waits: number; requests: number; ms: number };
}

/** @param failing - What request number n, from 1 on, fails with, if it does. Time passes in pauses alone. */
async function makePatient(failing: (request: number) => Error | undefined): Promise<Patient> {
  const place = await temporaryDirectory("patient");
  const faulty = new FaultyStore(await DirectoryStore.open(place.path, { create: true }), { seed: 1, chances: {} });
  const told = { waits: 0, requests: 0, ms: 0 };
  faulty.beforeAnswer = () => {
    const error = failing((told.requests += 1));
    if (error !== undefined) throw error;
  };
  const store = patientStore(faulty, {
    clock: { monotonicMs: () => told.ms },
    pause: (ms) => {
      told.ms += ms;
      return Promise.resolve();
    },
    onWait: () => (told.waits += 1),
  });
  return { store, told, [Symbol.asyncDispose]: () => place[Symbol.asyncDispose]() };
}

const notReady = (): Error => new StoreNotReady("made to fail: ECONNREFUSED");

test("every request is made again while the store is being started, and that is told once", async () => {
  await using patient = await makePatient((request) => (request % 3 === 0 ? undefined : notReady()));
  const { store } = patient;
  const content = Buffer.from("content");
  const version = await store.putIfAbsent("packs/a", content);
  const next = await store.putIfMatch("packs/a", Buffer.from("other"), version);
  expect(next).not.toBe(version);
  await store.put("packs/a", content);
  expect(Buffer.from((await store.get("packs/a", { maxBytes: 9 }))!.content)).toEqual(content);
  expect(Buffer.from((await store.getRange("packs/a", { offset: 1, lengthBytes: 2 }))!).toString()).toBe("on");
  expect(await store.getPart("packs/a", { offset: 0, lengthBytes: 3 })).toMatchObject({ objectBytes: 7 });
  expect(await store.head("packs/a")).toBe(7);
  expect(await collect(store.list("packs/"))).toEqual(["packs/a"]);
  await store.delete("packs/a");
  expect(await store.head("packs/a")).toBeUndefined();
  expect(patient.told).toMatchObject({ waits: 1, requests: 30 });
});

test("patience ends after fifteen seconds of one request", async () => {
  await using patient = await makePatient(notReady);
  await expect(patient.store.head("a")).rejects.toMatchObject({ code: "TCFS_REMOTE_UNAVAILABLE" });
  expect(patient.told.ms).toBeGreaterThanOrEqual(15_000);
  expect(patient.told.ms).toBeLessThan(16_000);
});

test.for(["TCFS_REMOTE_DENIED", "TCFS_REMOTE_UNAVAILABLE", "TCFS_REMOTE_MISSING", "TCFS_REMOTE_FULL"] as const)(
  "what another try does not mend is told at once: %s",
  async (code) => {
    await using patient = await makePatient(() => new TcfsError(code, "made to fail"));
    await expect(patient.store.head("a")).rejects.toMatchObject({ code });
    expect(patient.told).toEqual({ waits: 0, requests: 1, ms: 0 });
  },
);

test("a request that was given up is not made again", async () => {
  const controller = new AbortController();
  await using patient = await makePatient(() => {
    controller.abort();
    return notReady();
  });
  await expect(patient.store.head("a", controller.signal)).rejects.toMatchObject({ code: "TCFS_CANCELLED" });
  expect(patient.told.requests).toBe(1);
});
