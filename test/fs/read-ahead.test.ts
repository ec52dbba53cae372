import { expect, test } from "vitest";
import { APPROACH_STEP_BYTES, APPROACH_TRUST, MAX_APPROACH_BYTES } from "../../src/fs/limits.ts";
import { ReadAhead } from "../../src/fs/read-ahead.ts";
import type { InodeRecord } from "../../src/format/records.ts";
import type { InodeNumber } from "../../src/ids.ts";

const READ_BYTES = 131_072;
const STEP = APPROACH_STEP_BYTES;

class Reading {
  readonly approached: number[] = [];
  readonly prefetched: number[] = [];
  isTaken = true;
  readonly #ahead: ReadAhead;
  readonly #inode: InodeRecord;

  constructor(lengthBytes: number, hasStore = true) {
    this.#inode = { ino: 7 as InodeNumber, lengthBytes: BigInt(lengthBytes) } as InodeRecord;
    this.#ahead = new ReadAhead({
      hasStore,
      prefetch: (_inode, offset) => this.prefetched.push(Number(offset)),
      approach: (_inode, offset) => {
        if (this.isTaken) this.approached.push(Number(offset));
        return this.isTaken;
      },
    });
  }

  read(from: number, to: number): void {
    for (let at = from; at < to; at += READ_BYTES) this.#ahead.note(this.#inode, BigInt(at), READ_BYTES);
  }
}

test("a reader that goes on gets some times what it has read ahead of it from the store, up to a bound, each part once", () => {
  const first = STEP / APPROACH_TRUST;
  const reading = new Reading(400 * STEP);
  reading.read(0, first - READ_BYTES);
  expect(reading.approached).toEqual([]);
  reading.read(first - READ_BYTES, first);
  expect(reading.approached).toEqual([first]);
  reading.read(first, 3 * first);
  expect(reading.approached).toEqual([0, 1, 2].map((step) => first + step * STEP));
  reading.read(3 * first, 100 * STEP);
  const aheadCount = Math.floor((100 * STEP + MAX_APPROACH_BYTES - first) / STEP);
  expect(reading.approached).toEqual(Array.from({ length: aheadCount }, (_, i) => first + i * STEP));
});

test("what was not taken is told again, and nothing behind the reader", () => {
  const reading = new Reading(400 * STEP);
  reading.isTaken = false;
  reading.read(0, 10 * STEP);
  reading.isTaken = true;
  reading.read(10 * STEP, 10 * STEP + READ_BYTES);
  expect(reading.approached[0]).toBe(10 * STEP + READ_BYTES);
});

test("nothing is asked of the store for reads here and there, for short files, or without a store", () => {
  const scattered = new Reading(400 * STEP);
  for (let n = 0; n < 500; n++) scattered.read(((n * 37) % 399) * STEP, ((n * 37) % 399) * STEP + READ_BYTES);
  expect(scattered.approached).toEqual([]);
  expect(scattered.prefetched).toEqual([]);
  const short = new Reading(STEP / APPROACH_TRUST);
  short.read(0, STEP / APPROACH_TRUST);
  expect(short.approached).toEqual([]);
  const local = new Reading(400 * STEP, false);
  local.read(0, 20 * STEP);
  expect(local.approached).toEqual([]);
  expect(local.prefetched.length).toBeGreaterThan(0);
});

test("reads that come out of order, as the kernel's own do, are those of one reader", () => {
  const reading = new Reading(400 * STEP);
  for (let at = 0; at < 2 * STEP; at += 2 * READ_BYTES) {
    reading.read(at + READ_BYTES, at + 2 * READ_BYTES);
    reading.read(at, at + READ_BYTES);
  }
  expect(reading.approached.length).toBeGreaterThan(0);
});
