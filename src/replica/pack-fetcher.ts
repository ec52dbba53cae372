/** Brings packs back from the store when they are read and are not here: once for all who ask, verified by whoever opens them. */
import type { RemotePacks } from "../chunkstore/pack-directory.ts";
import { packPath } from "../chunkstore/open-packs.ts";
import { TcfsError } from "../errors.ts";
import type { PackId } from "../ids.ts";
import type { Disk } from "../platform/disk.ts";
import type { ObjectStore } from "../remote/object-store.ts";
import { dirname } from "node:path";
import { MAX_PACK_OBJECT_BYTES, packObject, toHex } from "./object-names.ts";

/** A read waits this long for the store, and fails then. */
const FETCH_TIMEOUT_MS = 60_000;
/** A write waits this long to learn whether its content is there already, and is stored anew then. */
const ASK_TIMEOUT_MS = 3000;

export class PackFetcher implements RemotePacks {
  readonly #openStore: () => Promise<ObjectStore>;
  readonly #disk: Disk;
  readonly #directory: string;
  readonly #closing = new AbortController();
  readonly #running = new Map<string, Promise<boolean>>();

  /** @param directory - The vault's `packs`. */
  constructor(openStore: () => Promise<ObjectStore>, disk: Disk, directory: string) {
    this.#openStore = openStore;
    this.#disk = disk;
    this.#directory = directory;
  }

  /**
   * @returns Whether the pack is here now; false if the store has none of that name.
   * @throws TcfsError what the store throws; `TCFS_STORE_FULL` if there is no room for it.
   */
  fetch(pack: PackId): Promise<boolean> {
    const name = toHex(pack);
    let fetching = this.#running.get(name);
    if (fetching === undefined) {
      fetching = this.#fetch(pack).finally(() => this.#running.delete(name));
      this.#running.set(name, fetching);
    }
    return fetching;
  }

  async lengthOf(pack: PackId): Promise<number | undefined> {
    const signal = AbortSignal.any([this.#closing.signal, AbortSignal.timeout(ASK_TIMEOUT_MS)]);
    return (await this.#openStore()).head(packObject(pack), signal);
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await Promise.allSettled(this.#running.values());
  }

  async #fetch(pack: PackId): Promise<boolean> {
    const timeout = AbortSignal.timeout(FETCH_TIMEOUT_MS);
    const signal = AbortSignal.any([this.#closing.signal, timeout]);
    const store = await this.#openStore();
    try {
      const found = await store.get(packObject(pack), { maxBytes: MAX_PACK_OBJECT_BYTES, signal });
      if (found === undefined) return false;
      const path = packPath(this.#directory, pack);
      await this.#disk.makeDirectory(dirname(path));
      await this.#disk.replaceFile(path, found.content);
      return true;
    } catch (error) {
      if (!timeout.aborted) throw error;
      throw new TcfsError("TCFS_REMOTE_UNAVAILABLE", "the store took too long", { cause: error });
    }
  }
}
