/** Commits by themselves: who waits for which, what a failure does, and what happens while one is made. */
import { describe, expect, test } from "vitest";
import type { ChunkStore } from "../../src/chunkstore/chunk-store.ts";
import { TcfsError } from "../../src/errors.ts";
import { Committer } from "../../src/fs/committer.ts";
import type { FileTable } from "../../src/fs/file-table.ts";
import { COMMIT_DELAY_MS } from "../../src/fs/limits.ts";
import { WriteLog } from "../../src/fs/write-log.ts";
import type { MaybePromise } from "../../src/maybe-promise.ts";
import type { MetadataStore } from "../../src/metadata/metadata-store.ts";
import type { Clock } from "../../src/platform/clock.ts";

const full = (): TcfsError => new TcfsError("TCFS_STORE_FULL", "made to fail");

/** A volume that is nothing but a number of changes; each commit makes those before it durable. */
class Bench {
  /** Changes not frozen, those frozen, and those of every commit that is durable. */
  live = 0;
  frozen = 0;
  readonly durable: number[] = [];
  readonly outcomes: unknown[] = [];
  readonly timers: { readonly delayMs: number; readonly action: () => void }[] = [];
  /** What a batch's commit does. */
  write: () => MaybePromise<void> = () => undefined;
  onOutcome: (error: unknown) => void = () => undefined;
  /** Asked where a commit finds no room. */
  makesRoom: () => MaybePromise<boolean> = () => false;
  /** While the database is opened anew nothing can be read of it. */
  reopening: Promise<void> | undefined;
  readonly log = new WriteLog();
  readonly committer: Committer;

  constructor() {
    const countLive = (): number => this.live;
    const reopening = (): Promise<void> | undefined => this.reopening;
    const files = {
      heldBytes: 0,
      isLiveChanged: false,
      log: this.log,
      freeze: () => ({ files: [], deleted: [] }),
      thaw: () => undefined,
    } as unknown as FileTable;
    const metadata = {
      get dirtyRecordCount() {
        return countLive();
      },
      freeze: () => {
        this.frozen = this.live;
        this.live = 0;
        return { commit: () => this.write() };
      },
      snapshots: { isRequested: false },
      volume: { commit: 0 },
      get reopening() {
        return reopening();
      },
    } as unknown as MetadataStore;
    const chunks = {
      isDirty: false,
      flushInto: () => undefined,
      committed: () => {
        this.durable.push(this.frozen);
      },
    } as unknown as ChunkStore;
    const clock = {
      after: (delayMs: number, action: () => void) => {
        const timer = { delayMs, action };
        this.timers.push(timer);
        return {
          cancel: () => {
            const at = this.timers.indexOf(timer);
            if (at >= 0) this.timers.splice(at, 1);
          },
        };
      },
    } as unknown as Clock;
    this.committer = new Committer({
      files,
      metadata,
      chunks,
      clock,
      onFull: () => this.makesRoom(),
      notePage: () => undefined,
      onOutcome: (error) => {
        this.outcomes.push(error);
        this.onOutcome(error);
      },
    });
  }

  change(): void {
    this.live++;
    this.committer.noteChange();
  }

  /** Commits wait until the returned call, which may give them an error. */
  stop(): (error?: Error) => void {
    let settle: (error?: Error) => void = () => undefined;
    const written = new Promise<void>((resolve, reject) => {
      settle = (error) => {
        if (error === undefined) resolve();
        else reject(error);
      };
    });
    this.write = () => written;
    return (error) => {
      this.write = () => undefined;
      settle(error);
    };
  }

  fireTimer(): void {
    const timer = this.timers.shift();
    expect(timer?.delayMs).toBe(COMMIT_DELAY_MS);
    timer?.action();
  }
}

describe("a quick commit", () => {
  test("is done when the call returns, and nothing to commit is nothing", () => {
    const bench = new Bench();
    expect(bench.committer.commit()).toBeUndefined();
    bench.change();
    expect(bench.committer.commit()).toBeUndefined();
    expect(bench.durable).toEqual([1]);
    expect(bench.timers).toEqual([]);
    expect(bench.outcomes).toEqual([undefined]);
  });

  test("throws where it fails, and nothing is dropped: the next one has it", () => {
    const bench = new Bench();
    bench.change();
    bench.write = () => {
      throw full();
    };
    expect(() => bench.committer.commit()).toThrow("made to fail");
    expect(bench.committer.stall?.code).toBe("TCFS_STORE_FULL");
    bench.live++;
    bench.write = () => undefined;
    expect(bench.committer.commit()).toBeUndefined();
    expect(bench.durable).toEqual([1, 1]);
    expect(bench.committer.stall).toBeUndefined();
  });

  test("that finds no room is made again where some is put by, before anybody hears of it", async () => {
    const bench = new Bench();
    bench.change();
    bench.write = () => {
      throw full();
    };
    bench.makesRoom = () => {
      bench.live++;
      bench.write = () => undefined;
      return Promise.resolve(true);
    };
    await bench.committer.commit();
    expect(bench.durable).toEqual([1, 1]);
    expect(bench.outcomes).toEqual([undefined]);
  });

  test("that found no room is not tried again while the database is opened anew: nothing can be read of it then", async () => {
    const bench = new Bench();
    bench.change();
    bench.write = () => {
      throw full();
    };
    let isOpen = (): void => undefined;
    bench.makesRoom = () => {
      bench.reopening = new Promise((resolve) => (isOpen = resolve));
      bench.write = () => {
        if (bench.reopening !== undefined) throw new TcfsError("TCFS_IO", "the database is being opened");
      };
      return Promise.resolve(true);
    };
    const done = bench.committer.commit();
    await new Promise(setImmediate);
    expect(bench.durable).toEqual([]);
    bench.reopening = undefined;
    isOpen();
    await done;
    expect(bench.durable).toEqual([1]);
    expect(bench.outcomes).toEqual([undefined]);
  });

  test("that fails in another way takes nothing of what is put by", () => {
    const bench = new Bench();
    bench.change();
    bench.write = () => {
      throw new TcfsError("TCFS_IO", "made to fail");
    };
    bench.makesRoom = () => {
      throw new Error("asked for room");
    };
    expect(() => bench.committer.commit()).toThrow("takes no more");
  });

  test("that is stalled is tried again by the clock", () => {
    const bench = new Bench();
    bench.change();
    bench.write = () => {
      throw full();
    };
    expect(() => bench.committer.commit()).toThrow("made to fail");
    bench.fireTimer();
    expect(bench.outcomes).toHaveLength(2);
    bench.write = () => undefined;
    bench.fireTimer();
    expect(bench.durable).toEqual([1]);
    expect(bench.timers).toEqual([]);
  });

  test("asked for inside of another's outcome runs there, and the one that waited finds all done", async () => {
    const bench = new Bench();
    bench.change();
    const release = bench.stop();
    const first = bench.committer.commit();
    bench.live++;
    const second = bench.committer.commit();
    bench.onOutcome = () => {
      bench.onOutcome = () => undefined;
      bench.live++;
      expect(bench.committer.commit()).toBeUndefined();
    };
    release();
    await Promise.all([first, second]);
    expect(bench.durable).toEqual([1, 2]);
  });

  test("asked for while its own batch is written waits for what follows, and is not lost", async () => {
    const bench = new Bench();
    const inner: MaybePromise<void>[] = [];
    bench.write = () => {
      bench.write = () => undefined;
      bench.live++;
      inner.push(bench.committer.commit());
    };
    bench.change();
    expect(bench.committer.commit()).toBeUndefined();
    expect(inner[0]).toBeInstanceOf(Promise);
    await inner[0];
    expect(bench.durable).toEqual([1, 1]);
  });
});

describe("a commit that takes time", () => {
  test("is shared by all who ask meanwhile: one more, after it", async () => {
    const bench = new Bench();
    bench.change();
    const release = bench.stop();
    const first = bench.committer.commit();
    const others = [1, 2, 3].map(() => {
      bench.live++;
      return bench.committer.commit();
    });
    expect(new Set(others).size).toBe(1);
    release();
    await Promise.all([first, ...others]);
    expect(bench.durable).toEqual([1, 3]);
  });

  test("that finds no room tells all who wait, each of them once, and the next one has everything", async () => {
    const bench = new Bench();
    bench.change();
    const release = bench.stop();
    const first = Promise.resolve(bench.committer.commit());
    bench.live++;
    const second = Promise.resolve(bench.committer.commit());
    release(full());
    const outcomes = await Promise.allSettled([first, second]);
    expect(outcomes.map(({ status }) => status)).toEqual(["rejected", "rejected"]);
    expect(bench.outcomes).toHaveLength(1);
    await bench.committer.commit();
    expect(bench.durable).toEqual([1, 1]);
  });

  test("that fails otherwise ends all writing: who waits is told, and who comes later", async () => {
    const bench = new Bench();
    bench.change();
    const release = bench.stop();
    const waiting = [Promise.resolve(bench.committer.commit())];
    bench.live++;
    waiting.push(Promise.resolve(bench.committer.commit()));
    release(new Error("the device is gone"));
    const outcomes = await Promise.allSettled(waiting);
    for (const outcome of outcomes) {
      expect(outcome).toMatchObject({ status: "rejected", reason: { code: "TCFS_IO" } });
    }
    expect(() => bench.committer.commit()).toThrow(expect.objectContaining({ code: "TCFS_IO" }));
    bench.change();
    bench.fireTimer();
    await bench.committer.close();
    expect(bench.durable).toEqual([]);
    expect(bench.timers).toEqual([]);
  });

  test("lets those who wait for room go on, whatever its outcome", async () => {
    const bench = new Bench();
    bench.change();
    const release = bench.stop();
    const committed = Promise.resolve(bench.committer.commit());
    const room = bench.committer.room();
    release(full());
    await expect(committed).rejects.toThrow("made to fail");
    await room;
  });
});
