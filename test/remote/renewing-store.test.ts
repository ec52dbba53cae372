/** Credentials that change while a store is open. */
import { afterAll, describe, expect, test } from "vitest";
import { TcfsError } from "../../src/errors.ts";
import { DirectoryStore } from "../../src/remote/directory-store.ts";
import { RenewingStore } from "../../src/remote/renewing-store.ts";
import type { S3Credentials } from "../../src/remote/s3-store.ts";
import { SimulatedClock } from "../support/simulated-clock.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";
import { FaultyStore } from "./faulty-store.ts";
import { collect } from "../support/collect.ts";
import { testObjectStore } from "./store-contract.ts";

const named = (accessKeyId: string): S3Credentials => ({ accessKeyId, secretAccessKey: "s" });

/** A directory that lets in whoever calls himself `allowed`; and what the credentials are read from. */
async function makeStore(first: S3Credentials | undefined) {
  const directory = await temporaryDirectory("renewing");
  const inner = await DirectoryStore.open(`${directory.path}/store`, { create: true });
  const clock = new SimulatedClock("2026-01-01T00:00:00Z");
  const state = {
    allowed: "new",
    kept: first,
    hasChanged: false,
    failure: undefined as TcfsError | undefined,
    reads: 0,
    closed: [] as string[],
  };
  const store = new RenewingStore({
    open: ({ accessKeyId }) => {
      const guarded = new FaultyStore(inner, { seed: 1, chances: {} });
      const check = (): void => {
        if (accessKeyId !== state.allowed) throw new TcfsError("TCFS_REMOTE_DENIED", `${accessKeyId} is refused`);
      };
      guarded.beforeChange = check;
      guarded.close = async () => void state.closed.push(accessKeyId);
      return guarded;
    },
    credentials: first,
    renewal: {
      read: async () => {
        state.reads += 1;
        state.hasChanged = false;
        if (state.failure !== undefined) throw state.failure;
        return state.kept;
      },
      hasChanged: async () => state.hasChanged,
    },
    clock,
    place: "s3://bucket/",
  });
  const put = async (content = "x") => store.put("a/b", Buffer.from(content));
  return { directory, store, clock, state, put };
}

let made: Awaited<ReturnType<typeof makeStore>> | undefined;
afterAll(() => made?.directory[Symbol.asyncDispose]());
testObjectStore("renewing(directory)", async () => {
  made ??= await makeStore(named("new"));
  return made.store;
});

describe("a store whose credentials may change", () => {
  test("reads them again when they are refused, asks once more, and lets go of the old ones", async () => {
    const { directory, store, state, put } = await makeStore(named("old"));
    await using _directory = directory;
    state.kept = named("new");
    await Promise.all([put("1"), put("2"), put("3")]);
    expect(state).toMatchObject({ reads: 1, closed: ["old"] });
    expect(await collect(store.list("a/"))).toEqual(["a/b"]);
    await store.close();
    expect(state.closed).toEqual(["old", "new"]);
  });

  test("does not read them for each refusal, but at once when their place has changed", async () => {
    const { directory, clock, state, put } = await makeStore(named("old"));
    await using _directory = directory;
    for (let i = 0; i < 5; i++) await expect(put()).rejects.toMatchObject({ message: "old is refused" });
    expect(state.reads).toBe(1);
    await clock.pass(61_000, async () => undefined);
    await expect(put()).rejects.toMatchObject({ code: "TCFS_REMOTE_DENIED" });
    expect(state.reads).toBe(2);
    Object.assign(state, { kept: named("new"), hasChanged: true });
    await put();
    expect(state.reads).toBe(3);
  });

  test("says of a refusal why they could not be read again", async () => {
    const { directory, state, put } = await makeStore(named("old"));
    await using _directory = directory;
    state.failure = new TcfsError("TCFS_USAGE", "its drive is missing");
    await expect(put()).rejects.toMatchObject({
      code: "TCFS_REMOTE_DENIED",
      message: "old is refused; they could not be read again: its drive is missing",
    });
  });

  test("notices a change of their place within a minute, without a refusal", async () => {
    const { directory, clock, state, put } = await makeStore(named("new"));
    await using _directory = directory;
    Object.assign(state, { kept: named("newer"), hasChanged: true });
    await put();
    expect(state.reads).toBe(0);
    await clock.pass(61_000, async () => undefined);
    state.allowed = "newer";
    await put();
    expect(state).toMatchObject({ reads: 1, closed: ["new"] });
  });

  test("has none at first, and works once they are to be had", async () => {
    const { directory, clock, store, state, put } = await makeStore(undefined);
    await using _directory = directory;
    state.failure = new TcfsError("TCFS_USAGE", "it is locked");
    await expect(put()).rejects.toMatchObject({
      code: "TCFS_REMOTE_DENIED",
      message: "there are no credentials for s3://bucket/; they could not be read again: it is locked",
    });
    Object.assign(state, { kept: named("new"), failure: undefined });
    await expect(put()).rejects.toMatchObject({ code: "TCFS_REMOTE_DENIED" });
    expect(state.reads).toBe(1);
    await clock.pass(61_000, async () => undefined);
    await put();
    expect(await store.head("a/b")).toBe(1);
  });
});
