/** Sealing while files change: memory lent to the chunk store stays as it is until the store has settled. */
import { setTimeout } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import type { ChunkStore, StoredChunk } from "../../src/chunkstore/chunk-store.ts";
import type { ChunkInput, NamedChunk } from "../../src/crypto/engine.ts";
import { TcfsError } from "../../src/errors.ts";
import { EXTENT_PAGE_BYTES, type InodeRecord } from "../../src/format/records.ts";
import { Contents } from "../../src/fs/contents.ts";
import { FileTable } from "../../src/fs/file-table.ts";
import { blankInode } from "../../src/fs/inodes.ts";
import { sealFrozen } from "../../src/fs/sealing.ts";
import type { ChunkId, Epoch, InodeNumber } from "../../src/ids.ts";
import type { MetadataStore } from "../../src/metadata/metadata-store.ts";

const PIECE_BYTES = 4096;
const STREAM_PAGES = 16;
const now = { seconds: 0, nanoseconds: 0 };

/** A store call under way: what was lent, and its end. */
interface StoreCall {
  readonly inputs: readonly ChunkInput[];
  readonly settle: (error?: TcfsError) => void;
}

/** A chunk store whose calls end when the test says so, each input as one chunk. */
class GatedChunks {
  readonly calls: StoreCall[] = [];

  name(inputs: readonly ChunkInput[]): NamedChunk[][] {
    return inputs.map(({ pieces }) => [chunkOf(pieces)]);
  }

  store(inputs: readonly ChunkInput[]): Promise<StoredChunk[][]> {
    return new Promise((resolve, reject) => {
      const settle = (error?: TcfsError): void => {
        if (error !== undefined) reject(error);
        else resolve(inputs.map(({ pieces }) => [chunkOf(pieces)]));
      };
      this.calls.push({ inputs, settle });
    });
  }

  asStore(): ChunkStore {
    return this as unknown as ChunkStore;
  }

  call(index: number): StoreCall {
    const call = this.calls[index];
    if (call === undefined) throw new RangeError("no such call");
    return call;
  }
}

function chunkOf(pieces: readonly Uint8Array[]): StoredChunk {
  const lengthBytes = pieces.reduce((sum, piece) => sum + piece.length, 0);
  return { id: new Uint8Array(32).fill(1) as ChunkId, lengthBytes, isNew: true };
}

/** Contents of new files: nothing is stored, so nothing but the counters of the metadata is used. */
function setUp(): { chunks: GatedChunks; files: FileTable; contents: Contents } {
  const metadata = { volume: { allocatedBytes: 0 } } as unknown as MetadataStore;
  const chunks = new GatedChunks();
  const files = new FileTable(metadata);
  const contents = new Contents({ files, metadata, chunks: chunks.asStore(), onSealed: () => undefined });
  return { chunks, files, contents };
}

function newFile(ino: number): InodeRecord {
  return blankInode(ino as InodeNumber, 1 as Epoch, now, { mode: 0o100644, uid: 0, gid: 0 });
}

function bytesAt(contents: Contents, inode: InodeRecord, lengthBytes: number): Buffer {
  const loan = contents.read(inode, 0n, lengthBytes);
  if (loan instanceof Promise) throw new RangeError("not in memory");
  return Buffer.concat(loan.pieces);
}

describe("StreamSealer", () => {
  it("keeps memory that two streams share from being overwritten until both are sealed", async () => {
    const { chunks, contents } = setUp();
    const streams = [newFile(2), newFile(3)];
    for (let at = 0; at < EXTENT_PAGE_BYTES; at += PIECE_BYTES) {
      for (const inode of streams) contents.write(inode, BigInt(at), Buffer.alloc(PIECE_BYTES, inode.ino));
    }
    for (const inode of streams) {
      for (let page = 1; page < STREAM_PAGES; page++) {
        contents.write(inode, BigInt(page * EXTENT_PAGE_BYTES), Buffer.alloc(EXTENT_PAGE_BYTES, inode.ino));
      }
    }
    await setTimeout(1);
    expect(chunks.calls).toHaveLength(2);
    chunks.call(0).settle();
    await setTimeout(1);

    const [, second] = streams as [InodeRecord, InodeRecord];
    const header = Buffer.alloc(PIECE_BYTES, 0xee);
    contents.write(second, 0n, header);
    const lent = Buffer.concat(chunks.call(1).inputs[0]?.pieces ?? []);
    expect(lent.equals(Buffer.alloc(lent.length, second.ino)), "what is being sealed stays as it was").toBe(true);
    chunks.call(1).settle();
    await setTimeout(1);
    expect(bytesAt(contents, second, PIECE_BYTES).equals(header), "the newer write is not lost").toBe(true);
  });

  it("names the next batch from the last cut on while the one before it is written", async () => {
    const { chunks, contents } = setUp();
    const inode = newFile(2);
    for (let page = 0; page < 3 * STREAM_PAGES; page++) {
      contents.write(inode, BigInt(page * EXTENT_PAGE_BYTES), Buffer.alloc(EXTENT_PAGE_BYTES, page));
      await setTimeout(0);
    }
    expect(chunks.calls).toHaveLength(3);
    const firstBytes = chunks.calls.map(({ inputs }) => inputs[0]?.pieces[0]?.[0]);
    expect(firstBytes).toEqual([0, STREAM_PAGES, 2 * STREAM_PAGES]);
    for (const index of [2, 0, 1]) {
      chunks.call(index).settle();
      await setTimeout(1);
    }
    const isHeld = contents.isHeld(inode, 0n, 3 * STREAM_PAGES * EXTENT_PAGE_BYTES);
    expect(isHeld, "all of it became chunks, in whatever order the writes ended").toBe(false);
  });
});

describe("sealFrozen", () => {
  it("leaves a small write that replaces what is being sealed as it is", async () => {
    const { chunks, files, contents } = setUp();
    const inode = newFile(2);
    contents.write(inode, 0n, Buffer.alloc(PIECE_BYTES, 1));
    const frozen = files.freeze();
    const sealing = sealFrozen(frozen.files, chunks.asStore(), 0);
    const newer = Buffer.alloc(PIECE_BYTES, 2);
    contents.write(inode, 0n, newer);
    chunks.call(0).settle();
    await sealing;
    expect(contents.isHeld(inode, 0n, PIECE_BYTES), "it is no part of what was sealed").toBe(true);
    expect(bytesAt(contents, inode, PIECE_BYTES).equals(newer)).toBe(true);
  });

  it("waits for what was being sealed when it was frozen, not for what is written since", async () => {
    const { chunks, files, contents } = setUp();
    const inode = newFile(2);
    const writeBatch = (batch: number): void => {
      for (let page = batch * STREAM_PAGES; page < (batch + 1) * STREAM_PAGES; page++) {
        contents.write(inode, BigInt(page * EXTENT_PAGE_BYTES), Buffer.alloc(EXTENT_PAGE_BYTES, page));
      }
    };
    writeBatch(0);
    const frozen = files.freeze();
    let isSettled = false;
    const sealing = Promise.resolve(sealFrozen(frozen.files, chunks.asStore(), 0)).finally(() => {
      isSettled = true;
    });
    writeBatch(1);
    await setTimeout(1);
    expect(chunks.calls).toHaveLength(2);
    expect(isSettled, "the frozen batch is still written").toBe(false);
    chunks.call(0).settle();
    await setTimeout(1);
    expect(isSettled, "a stream that goes on holds no commit up").toBe(true);
    chunks.call(1).settle();
    await sealing;
  });

  it("does not fail before every call that it made has settled, and starts no more after a failure", async () => {
    const { chunks, files, contents } = setUp();
    const inode = newFile(2);
    const pageCount = 160; // five sealing batches, none of their pages full
    for (let page = 0; page < pageCount; page++) {
      contents.write(inode, BigInt(page * EXTENT_PAGE_BYTES), Buffer.alloc(EXTENT_PAGE_BYTES - PIECE_BYTES, page));
    }
    const frozen = files.freeze();
    let isSettled = false;
    const sealing = Promise.resolve(sealFrozen(frozen.files, chunks.asStore(), 0)).finally(() => {
      isSettled = true;
    });
    sealing.catch(() => undefined);
    await setTimeout(1);
    expect(chunks.calls).toHaveLength(2);
    chunks.call(0).settle(new TcfsError("TCFS_STORE_FULL", "no room"));
    await setTimeout(1);
    expect(isSettled, "the second call still has memory lent to it").toBe(false);
    chunks.call(1).settle();
    await expect(sealing).rejects.toMatchObject({ code: "TCFS_STORE_FULL" });
    expect(chunks.calls).toHaveLength(2);
  });
});
