/** Asking for what comes next must never be what a read fails for. */
import { expect, test, vi } from "vitest";
import { ChunkPrefetcher } from "../../src/chunkstore/chunk-prefetcher.ts";
import { TcfsError } from "../../src/errors.ts";
import type { ChunkId } from "../../src/ids.ts";

test.each(["TCFS_IO", "TCFS_CORRUPT", "TCFS_CLOSED"] as const)("a record that answers %s is passed over", (code) => {
  const frames = { prefetch: vi.fn() };
  const approach = vi.fn(() => true);
  const prefetcher = new ChunkPrefetcher({
    ledger: { uncommitted: () => undefined },
    metadata: {
      getChunk: () => {
        throw new TcfsError(code, "a test's");
      },
    },
    frames,
    shelf: { approach } as never,
  });
  const id = new Uint8Array(32) as ChunkId;
  prefetcher.prefetch(id, 0, 4096);
  expect(prefetcher.approach([id])).toBe(true);
  expect(frames.prefetch).not.toHaveBeenCalled();
  expect(approach).not.toHaveBeenCalled();
});
