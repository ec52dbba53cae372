/**
 * Which chunks ride in the metadata, so that they can be moved to packs: one list per commit that stored some
 * (FORMAT.md §7), held in memory as long as any of its chunks is still inline. Costs nothing when there are none.
 */
import type { InlineList } from "../format/records.ts";
import type { ChunkId, ChunkIdKey } from "../ids.ts";
import { chunkIdKey } from "../format/record-keys.ts";

/** Numbers are u32; one that commits a thousand times a second has used them all after fifty days, and begins anew. */
const LAST_LIST = 0xffff_ffff;

export class InlineChunks {
  /** By list number: its chunks that are still inline. */
  readonly #lists = new Map<number, Map<ChunkIdKey, ChunkId>>();
  readonly #homes = new Map<ChunkIdKey, number>();
  /** Lists of the database that have become empty here. */
  readonly #emptied = new Set<number>();
  #nextList = 1;

  /** Chunks in the lists; some may have been moved or deleted by an earlier session. */
  get count(): number {
    return this.#homes.size;
  }

  /** The oldest `maxCount` of them. */
  oldest(maxCount: number): ChunkId[] {
    const chunks: ChunkId[] = [];
    for (const list of this.#lists.values()) {
      for (const id of list.values()) {
        if (chunks.length === maxCount) return chunks;
        chunks.push(id);
      }
    }
    return chunks;
  }

  /** Learn a list of the database. */
  add({ list, chunks }: InlineList): void {
    this.#nextList = list === LAST_LIST ? 1 : list + 1;
    const members = new Map<ChunkIdKey, ChunkId>();
    for (const id of chunks) {
      const key = chunkIdKey(id);
      this.remove([key]);
      members.set(key, id);
      this.#homes.set(key, list);
    }
    this.#lists.set(list, members);
  }

  /** These are inline no more. */
  remove(keys: Iterable<ChunkIdKey>): void {
    for (const key of keys) {
      const list = this.#homes.get(key);
      if (list === undefined) continue;
      this.#homes.delete(key);
      const members = this.#lists.get(list);
      members?.delete(key);
      if (members?.size !== 0) continue;
      this.#lists.delete(list);
      this.#emptied.add(list);
    }
  }

  /**
   * The lists to put into a batch that stores `added` inline and takes `removed` out: changes nothing here.
   * @returns A list for the new ones, and an empty one for each whose last chunk goes.
   */
  plan(added: readonly ChunkId[], removed: ReadonlySet<ChunkIdKey>): InlineList[] {
    const lists: InlineList[] = [];
    if (added.length > 0) lists.push({ list: this.#freeList(), chunks: added });
    for (const list of this.#emptied) lists.push({ list, chunks: [] });
    const touched = new Set<number>();
    for (const key of removed) {
      const list = this.#homes.get(key);
      if (list !== undefined) touched.add(list);
    }
    for (const list of touched) {
      const members = this.#lists.get(list) ?? new Map<ChunkIdKey, ChunkId>();
      if ([...members.keys()].every((key) => removed.has(key))) lists.push({ list, chunks: [] });
    }
    return lists;
  }

  #freeList(): number {
    let list = this.#nextList;
    while (this.#lists.has(list) || this.#emptied.has(list)) list = list === LAST_LIST ? 1 : list + 1;
    return list;
  }

  /** A batch with these lists and without these chunks is durable. */
  committed(lists: readonly InlineList[], removed: Iterable<ChunkIdKey>): void {
    this.remove(removed);
    for (const list of lists) {
      if (list.chunks.length > 0) this.add(list);
      else this.#emptied.delete(list.list);
    }
  }
}
