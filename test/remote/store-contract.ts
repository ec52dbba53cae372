/** What every object store does; a new one adds one line to the tests. */
import { randomBytes } from "node:crypto";
import { describe, expect, test } from "vitest";
import { isTcfsError } from "../../src/errors.ts";
import { collect } from "../support/collect.ts";
import type { ObjectStore, ObjectVersion } from "../../src/remote/object-store.ts";

const MAX_BYTES = 64 * 1024 * 1024;

/** @param open - A store to share among the tests: each uses names of its own. */
export function testObjectStore(name: string, open: () => Promise<ObjectStore>): void {
  const fresh = (prefix = "tests"): string => `${prefix}/${randomBytes(8).toString("hex")}`;
  const bytes = (text: string): Uint8Array => new Uint8Array(Buffer.from(text));
  const read = async (store: ObjectStore, at: string): Promise<string | undefined> => {
    const found = await store.get(at, { maxBytes: MAX_BYTES });
    return found && Buffer.from(found.content).toString();
  };

  describe(`${name}: objects`, () => {
    test.for([0, 1, 1000, 5_000_001])("gives back %i bytes as they were, with their length", async (lengthBytes) => {
      const store = await open();
      const at = fresh();
      const content = new Uint8Array(randomBytes(lengthBytes));
      const before = content.slice();
      await store.putIfAbsent(at, content);
      expect(Buffer.compare(content, before)).toBe(0);
      const found = await store.get(at, { maxBytes: MAX_BYTES });
      expect(Buffer.compare(found?.content ?? new Uint8Array(1), content)).toBe(0);
      expect(await store.head(at)).toBe(lengthBytes);
    });

    test("does not know what is not there, and deletes it all the same", async () => {
      const store = await open();
      const at = fresh();
      expect(await store.get(at, { maxBytes: 1 })).toBeUndefined();
      expect(await store.getRange(at, { offset: 0, lengthBytes: 1 })).toBeUndefined();
      expect(await store.head(at)).toBeUndefined();
      await store.delete(at);
      await store.putIfAbsent(at, bytes("a"));
      await store.delete(at);
      expect(await store.head(at)).toBeUndefined();
      await store.putIfAbsent(at, bytes("b"));
      expect(await read(store, at)).toBe("b");
    });

    test("refuses to read what is longer than allowed", async () => {
      const store = await open();
      const at = fresh();
      await store.put(at, bytes("12345"));
      await expect(store.get(at, { maxBytes: 4 })).rejects.toMatchObject({ code: "TCFS_CORRUPT" });
      expect(await read(store, at)).toBe("12345");
    });

    test("gives exactly a range, and nothing that ends early", async () => {
      const store = await open();
      const at = fresh();
      await store.put(at, bytes("0123456789"));
      const range = async (offset: number, lengthBytes: number): Promise<string> =>
        Buffer.from((await store.getRange(at, { offset, lengthBytes })) ?? []).toString();
      expect(await range(0, 10)).toBe("0123456789");
      expect(await range(3, 4)).toBe("3456");
      expect(await range(9, 1)).toBe("9");
      expect(await range(4, 0)).toBe("");
      for (const [offset, lengthBytes] of [
        [8, 3],
        [10, 1],
        [100, 5],
      ] as const) {
        await expect(store.getRange(at, { offset, lengthBytes })).rejects.toMatchObject({ code: "TCFS_CORRUPT" });
      }
    });

    test("gives a part together with the object's length, and as much of it as there is", async () => {
      const store = await open();
      const at = fresh();
      const part = async (offset: number, lengthBytes: number): Promise<unknown> => {
        const found = await store.getPart(at, { offset, lengthBytes });
        return found && { text: Buffer.from(found.content).toString(), objectBytes: found.objectBytes };
      };
      expect(await part(0, 4)).toBeUndefined();
      expect(await part(5, 4)).toBeUndefined();
      await store.put(at, bytes("0123456789"));
      expect(await part(0, 4)).toEqual({ text: "0123", objectBytes: 10 });
      expect(await part(0, 10)).toEqual({ text: "0123456789", objectBytes: 10 });
      expect(await part(0, 1000)).toEqual({ text: "0123456789", objectBytes: 10 });
      expect(await part(3, 4)).toEqual({ text: "3456", objectBytes: 10 });
      expect(await part(8, 1000)).toEqual({ text: "89", objectBytes: 10 });
      for (const offset of [10, 100]) await expect(part(offset, 1)).rejects.toMatchObject({ code: "TCFS_CORRUPT" });
      await store.put(at, bytes(""));
      expect(await part(0, 4)).toEqual({ text: "", objectBytes: 0 });
      await expect(part(1, 4)).rejects.toMatchObject({ code: "TCFS_CORRUPT" });
    });

    test("refuses names that are none", async () => {
      const store = await open();
      for (const at of ["", "/a", "a/", "a//b", "../a", "a/../b", "A", ".a", "a\0", "a".repeat(300)]) {
        await expect(async () => store.put(at, bytes("x"))).rejects.toThrow(RangeError);
      }
    });

    test("gives up a request by its signal", async () => {
      const store = await open();
      const signal = AbortSignal.abort();
      await expect(store.get(fresh(), { maxBytes: 1, signal })).rejects.toMatchObject({ code: "TCFS_CANCELLED" });
      await expect(store.put(fresh(), bytes("x"), signal)).rejects.toMatchObject({ code: "TCFS_CANCELLED" });
    });

    test("lists a prefix, mostly", async () => {
      const store = await open();
      const prefix = fresh("lists");
      for (const at of ["a", "b", "c/d"]) await store.put(`${prefix}/${at}`, bytes(at));
      const names = await collect(store.list(`${prefix}/`));
      for (const at of names) expect(at.startsWith(`${prefix}/`)).toBe(true);
      expect(names.length).toBeGreaterThan(0);
    });
  });

  describe(`${name}: conditions`, () => {
    test("makes an object once: another content is a conflict, the same one is done", async () => {
      const store = await open();
      const at = fresh();
      const version = await store.putIfAbsent(at, bytes("first"));
      await expect(store.putIfAbsent(at, bytes("other"))).rejects.toMatchObject({ code: "TCFS_REMOTE_CONFLICT" });
      expect(await store.putIfAbsent(at, bytes("first"))).toBe(version);
      expect(await read(store, at)).toBe("first");
    });

    test("replaces the version that it was told, and no other", async () => {
      const store = await open();
      const at = fresh();
      const first = await store.putIfAbsent(at, bytes("first"));
      const second = await store.putIfMatch(at, bytes("second"), first);
      await expect(store.putIfMatch(at, bytes("third"), first)).rejects.toMatchObject({ code: "TCFS_REMOTE_CONFLICT" });
      expect(await store.putIfMatch(at, bytes("second"), first)).toBe(second);
      expect(await read(store, at)).toBe("second");
      expect((await store.get(at, { maxBytes: MAX_BYTES }))?.version).toBe(second);
    });

    test("replaces nothing where nothing is", async () => {
      const store = await open();
      const version = await store.putIfAbsent(fresh(), bytes("x"));
      const at = fresh();
      await expect(store.putIfMatch(at, bytes("y"), version)).rejects.toMatchObject({ code: "TCFS_REMOTE_CONFLICT" });
      expect(await store.head(at)).toBeUndefined();
    });

    test("lets one of many win, whether they make or replace", async () => {
      const store = await open();
      const at = fresh();
      const race = async (put: (content: Uint8Array) => Promise<ObjectVersion>): Promise<string[]> => {
        const contents = Array.from({ length: 6 }, (_, i) => `${at}-${String(i)}-${String(Math.random())}`);
        const outcomes = await Promise.allSettled(contents.map((content) => put(bytes(content))));
        for (const outcome of outcomes) {
          if (outcome.status === "rejected") expect(isTcfsError(outcome.reason, "TCFS_REMOTE_CONFLICT")).toBe(true);
        }
        return contents.filter((_, i) => outcomes[i]?.status === "fulfilled");
      };
      const made = await race((content) => store.putIfAbsent(at, content));
      expect(made).toEqual([await read(store, at)]);
      const found = await store.get(at, { maxBytes: MAX_BYTES });
      const replaced = await race((content) => store.putIfMatch(at, content, found!.version));
      expect(replaced).toEqual([await read(store, at)]);
    });

    test("puts over whatever is there when it is told to", async () => {
      const store = await open();
      const at = fresh();
      await store.put(at, bytes("a"));
      await store.put(at, bytes("b"));
      expect(await read(store, at)).toBe("b");
    });
  });
}
