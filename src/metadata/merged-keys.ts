/** The keys of several walks, each in order, merged: each key once, in order. */
import type { StoredEntry } from "./database.ts";

/** One walk of the database. */
export interface KeyList {
  readonly entries: AsyncIterable<readonly StoredEntry[]>;
  /** What of a found key counts; keeps their order. */
  readonly keyOf: (key: Uint8Array) => Uint8Array;
}

/** A walk at its first key that was not yet taken. */
interface List {
  readonly walk: AsyncIterator<readonly StoredEntry[]>;
  readonly keyOf: KeyList["keyOf"];
  batch: readonly StoredEntry[];
  next: number;
  key: Uint8Array;
}

/** @returns Keys in batches, borrowed. */
export async function* mergedKeys(keyLists: readonly KeyList[]): AsyncGenerator<readonly Uint8Array[]> {
  const all = keyLists.map(({ entries, keyOf }) => ({ walk: entries[Symbol.asyncIterator](), keyOf }));
  try {
    const lists = new ListHeap();
    for (const list of await Promise.all(all.map(begin))) if (list !== undefined) lists.add(list);
    let keys: Uint8Array[] = [];
    let last: Uint8Array | undefined;
    for (let list = lists.first; list !== undefined; list = lists.first) {
      if (last === undefined || Buffer.compare(last, list.key) !== 0) {
        last = list.key;
        keys.push(last);
      }
      if (!advance(list)) {
        yield keys;
        keys = [];
        if (!(await refill(list))) lists.removeFirst();
      }
      lists.sinkFirst();
    }
    yield keys;
  } finally {
    for (const { walk } of all) await walk.return?.();
  }
}

async function begin(opened: Pick<List, "walk" | "keyOf">): Promise<List | undefined> {
  const list = { ...opened, batch: [], next: 0, key: new Uint8Array(0) };
  return (await refill(list)) ? list : undefined;
}

/** @returns False where the batch is used up. */
function advance(list: List): boolean {
  const entry = list.batch[++list.next];
  if (entry !== undefined) list.key = list.keyOf(entry[0]);
  return entry !== undefined;
}

/** @returns False where the list is. */
async function refill(list: List): Promise<boolean> {
  do {
    const step = await list.walk.next();
    if (step.done === true) return false;
    list.batch = step.value;
    list.next = -1;
  } while (!advance(list)); // a walk may give an empty batch
  return true;
}

/** A binary heap of lists: the one with the smallest key comes first. */
class ListHeap {
  readonly #lists: List[] = [];

  get first(): List | undefined {
    return this.#lists[0];
  }

  add(list: List): void {
    let at = this.#lists.push(list) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!this.#isBefore(at, parent)) return;
      this.#swap(at, parent);
      at = parent;
    }
  }

  removeFirst(): void {
    const last = this.#lists.pop();
    if (last !== undefined && this.#lists.length > 0) this.#lists[0] = last;
  }

  /** Put the first where it belongs: its key is another now. */
  sinkFirst(): void {
    let at = 0;
    for (;;) {
      let smallest = at;
      for (const child of [2 * at + 1, 2 * at + 2]) {
        if (child < this.#lists.length && this.#isBefore(child, smallest)) smallest = child;
      }
      if (smallest === at) return;
      this.#swap(at, smallest);
      at = smallest;
    }
  }

  #isBefore(left: number, right: number): boolean {
    return Buffer.compare((this.#lists[left] as List).key, (this.#lists[right] as List).key) < 0;
  }

  #swap(left: number, right: number): void {
    const list = this.#lists[left] as List;
    this.#lists[left] = this.#lists[right] as List;
    this.#lists[right] = list;
  }
}
