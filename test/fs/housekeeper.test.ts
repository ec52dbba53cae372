/** What tidies up on its own is done, or has stopped, before the volume closes. */
import { setTimeout } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import type { ChunkStore } from "../../src/chunkstore/chunk-store.ts";
import type { FileTable } from "../../src/fs/file-table.ts";
import { Housekeeper } from "../../src/fs/housekeeper.ts";
import type { SpaceGuard } from "../../src/fs/space-guard.ts";
import type { Clock } from "../../src/platform/clock.ts";

describe("Housekeeper", () => {
  it("closes only when the move of inline chunks has ended, and commits none of it then", async () => {
    let endMove = (): void => undefined;
    const moving = new Promise<void>((resolve) => {
      endMove = resolve;
    });
    const chunks = {
      statistics: () => ({ inlineBytes: 1, storedBytes: 1 }),
      isDirty: true,
      migrateInline: () => moving,
    };
    let tidy = (): void => undefined;
    const after = (_ms: number, action: () => void): { cancel: () => void } => {
      tidy = action;
      return { cancel: () => undefined };
    };
    const events: string[] = [];
    const housekeeper = new Housekeeper({
      files: { releasedBytes: 0, dropSpareMemory: () => undefined } as unknown as FileTable,
      chunks: chunks as unknown as ChunkStore,
      space: {
        space: { totalBytes: 1e12, availableBytes: 1e12 },
        isAmple: true,
        putBy: () => Promise.resolve(),
      } as unknown as SpaceGuard,
      clock: { after, monotonicMs: () => 0 } as unknown as Clock,
      barrier: () => Promise.resolve(void events.push("commit")),
      onFailure: () => events.push("failure"),
    });
    housekeeper.consider();
    tidy();
    const closed = housekeeper.close().then(() => events.push("closed"));
    await setTimeout(1);
    expect(events).toEqual([]);
    endMove();
    await closed;
    expect(events).toEqual(["closed"]);
  });
});
