import { describe, expect, test } from "vitest";
import { ChunkLedger } from "../../src/chunkstore/chunk-ledger.ts";
import { chunkIdKey } from "../../src/format/record-keys.ts";
import type { ChunkRecord } from "../../src/format/records.ts";
import type { ChunkId, PackId } from "../../src/ids.ts";
import { MemoryMetadata } from "./memory-metadata.ts";

const id = new Uint8Array(32).fill(1) as ChunkId;
const key = chunkIdKey(id);
const inline: ChunkRecord = { kind: "inline", content: new Uint8Array(100) };
const packed: ChunkRecord = {
  kind: "packed",
  pack: new Uint8Array(16) as PackId,
  packOffset: 256,
  firstFrame: 0,
  lengthBytes: 100,
  storedFrameBytes: Uint32Array.of(120),
};

async function openLedger(): Promise<{ metadata: MemoryMetadata; ledger: ChunkLedger; readonly commit: () => void }> {
  const metadata = new MemoryMetadata();
  const ledger = await ChunkLedger.open(metadata.asStore());
  const commit = (): void => {
    const batch = metadata.freeze();
    ledger.fill(batch, [...ledger.allUncommitted()], []);
    metadata.commit(batch);
    ledger.committed();
  };
  ledger.add({ id, key, replaces: undefined, record: inline, written: undefined });
  commit();
  return { metadata, ledger, commit };
}

const EMPTY = { packCount: 0, packBytes: 0, inlineBytes: 0, uniqueBytes: 0 };

describe("a chunk to be deleted", () => {
  test("that was moved to a pack meanwhile is counted as what it is when it goes", async () => {
    const { metadata, ledger, commit } = await openLedger();
    expect(ledger.totals).toEqual({ ...EMPTY, inlineBytes: 100, uniqueBytes: 100 });
    ledger.add({ id, key, replaces: inline, record: packed, written: undefined });
    commit();
    ledger.doom(id, inline);
    commit();
    expect(ledger.totals).toEqual(EMPTY);
    expect(metadata.getChunk(id)).toBeUndefined();
    expect(ledger.isDirty).toBe(false);
  });

  test("that is gone already is not counted twice", async () => {
    const { ledger, commit } = await openLedger();
    ledger.doom(id, inline);
    commit();
    ledger.doom(id, inline);
    commit();
    expect(ledger.totals).toEqual(EMPTY);
    expect(ledger.isDirty).toBe(false);
  });

  test("that is on its way to another place stays: its deletion would take the new record along", async () => {
    const { metadata, ledger, commit } = await openLedger();
    ledger.add({ id, key, replaces: inline, record: packed, written: undefined });
    ledger.doom(id, inline);
    commit();
    expect(metadata.getChunk(id)).toEqual(packed);
    expect(ledger.totals).toEqual({ ...EMPTY, uniqueBytes: 100 });
  });
});
