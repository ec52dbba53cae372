/** Record streams in a store: what was put in comes out again, in few requests, and nothing else. */
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { type RecordChange, changesBytes, decodeChanges, encodeChanges } from "../../src/format/journal-codec.ts";
import { chunkIdKey } from "../../src/format/record-keys.ts";
import type { StreamChunk } from "../../src/format/replica-codec.ts";
import { DirectoryStore } from "../../src/remote/directory-store.ts";
import { RequestTrace, watchedStore } from "../../src/remote/watched-store.ts";
import { packObject } from "../../src/replica/object-names.ts";
import { StreamReader, StreamWriter } from "../../src/replica/record-stream.ts";
import { noise } from "../crypto/fixtures.ts";
import { collect } from "../support/collect.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";
import { newEngine, rooms } from "./session.ts";

const CORRUPT = expect.objectContaining({ code: "TCFS_CORRUPT" }) as Error;
const MIB = 1024 * 1024;
const RANDOM = noise("records", 6 * MIB);
/** Of 6 MiB; some are deleted ones. */
const RECORDS = Array.from({ length: 6000 }, (_, index): RecordChange => {
  const key = Buffer.from(`key ${String(index).padStart(6, "0")}`);
  return { key, value: index % 1000 === 999 ? undefined : RANDOM.subarray(index * 1024, index * 1024 + 1024) };
});

/** A store in a directory, and what reads and writes streams there. */
async function openStreams() {
  const parent = await temporaryDirectory("stream");
  onTestFinished(() => parent[Symbol.asyncDispose]());
  const path = join(parent.path, "store");
  const store = await DirectoryStore.open(path, { create: true });
  const engine = newEngine();
  onTestFinished(() => {
    engine.close();
  });
  const write = async (
    records: readonly RecordChange[],
    known: readonly StreamChunk[] = [],
  ): Promise<StreamChunk[]> => {
    const byId = new Map(known.map((chunk) => [chunkIdKey(chunk.id), chunk]));
    const writer = new StreamWriter(rooms(engine), byId, async (name, content) => {
      await store.putIfAbsent(name, content);
    });
    for (let at = 0; at < records.length; at += 500) await writer.add(records.slice(at, at + 500));
    const stream = await writer.finish();
    return stream.kind === "chunks" ? [...stream.chunks] : [];
  };
  const trace = new RequestTrace();
  const reader = new StreamReader(rooms(engine), watchedStore(store, trace));
  const read = async (chunks: readonly StreamChunk[]): Promise<Buffer> =>
    Buffer.concat(await collect(reader.read({ kind: "chunks", chunks })));
  return { path, write, read, trace };
}

function encoded(records: readonly RecordChange[]): Buffer {
  return Buffer.from(encodeChanges(records, changesBytes(records)).plain);
}

test("a stream comes back as it was, its chunks several in one request", async () => {
  const { write, read, trace } = await openStreams();
  const chunks = await write(RECORDS);
  const content = await read(chunks);
  expect(content.equals(encoded(RECORDS))).toBe(true);
  expect(decodeChanges(content)).toHaveLength(RECORDS.length);
  expect(chunks.length).toBeGreaterThan(100);
  const [gets] = trace.report().totals;
  expect(gets).toMatchObject({ method: "GET range", kind: "packs" });
  expect(gets?.count).toBeLessThanOrEqual(4); // the pack's header, and then up to 4 MiB in each
});

test("a stream whose chunks are here and there comes back as it was", async () => {
  const { write, read } = await openStreams();
  const first = await write(RECORDS);
  const changed = RECORDS.map((record, index) =>
    index % 400 === 7 ? { key: record.key, value: noise(`changed ${String(index)}`, 700) } : record,
  );
  const second = await write(changed, first);
  expect(new Set(second.map(({ pack }) => packObject(pack))).size).toBe(2);
  expect((await read(second)).equals(encoded(changed))).toBe(true);
});

test("a chunk that was cut short, flipped, moved or taken away is refused", async () => {
  const { path, write, read } = await openStreams();
  const chunks = await write(RECORDS);
  await expect(read(chunks.toSpliced(70, 1))).rejects.toThrow(CORRUPT);
  const [one, two] = [chunks[70]!, chunks[71]!];
  const swapped = { ...one, packOffset: two.packOffset };
  await expect(read(chunks.with(70, swapped))).rejects.toThrow(CORRUPT);
  const pack = join(path, packObject(one.pack));
  const content = await readFile(pack);
  const flipped = Buffer.from(content);
  flipped.writeUInt8(content.readUInt8(one.packOffset + 99) ^ 1, one.packOffset + 99);
  for (const damaged of [flipped, content.subarray(0, one.packOffset + 99)]) {
    await writeFile(pack, damaged);
    await expect(read(chunks)).rejects.toThrow(CORRUPT);
  }
});
