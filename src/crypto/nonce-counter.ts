/** The counter that makes a session's record nonces (FORMAT.md §6): each value is given out once. */

/** u48, as stored. A counter never repeats, so the 2^32 messages of random nonces are no limit here (SP 800-38D §8.3). */
const COUNTER_END = 2 ** 48;

export class NonceCounter {
  #next: number;

  constructor(start = 0) {
    this.#next = start;
  }

  /** @returns The first of `count` values that nobody else gets. @throws RangeError when the session has no more. */
  take(count: number): number {
    if (this.#next + count > COUNTER_END) throw new RangeError("this session has sealed 2^48 records");
    const first = this.#next;
    this.#next += count;
    return first;
  }
}
