/**
 * The end of a key epoch in a store (FORMAT.md §11.8): what the state names goes over to the newest key, what nothing
 * names any more is deleted, and what is left is counted.
 */
import { PACK_HEADER_BYTES, type PackHeader, encodePackHeader, wrapsOf } from "../chunkstore/pack-format.ts";
import { type Pause, isUnderOlder, openHeader } from "../chunkstore/pack-rewrapper.ts";
import { epochOfObject } from "../crypto/object-seal.ts";
import type { PackKeyWrapper } from "../crypto/pack-key.ts";
import { TcfsError, isTcfsError } from "../errors.ts";
import type { PackRecord } from "../format/records.ts";
import type { PackId } from "../ids.ts";
import type { ObjectStore } from "../remote/object-store.ts";
import {
  DEVICES_NAME,
  KEPT_ROOTS,
  MAX_PACK_OBJECT_BYTES,
  ROOT_NAME,
  isManifest,
  packObject,
  packOfName,
} from "./object-names.ts";

/** As much of a manifest or the root as says its key epoch. */
const PREFIX_BYTES = 16;

export interface StoreRenewalOptions {
  readonly store: ObjectStore;
  readonly packKeys: PackKeyWrapper;
  readonly vaultId: Uint8Array;
  /** Every pack that the vault names. */
  readonly packs: () => AsyncIterable<PackRecord>;
  /** Writes a checkpoint none of whose stream is taken over from an older one, and its root. */
  readonly writeCheckpoint: () => Promise<void>;
  readonly pause: Pause;
  readonly signal: AbortSignal;
}

export class StoreRenewal {
  readonly #options: StoreRenewalOptions;

  constructor(options: StoreRenewalOptions) {
    this.#options = options;
  }

  /**
   * In this order: a pack that the checkpoint names was named when packs were gone through, or was made since. An upload
   * that had read its pack before the rotation may end as late as with the checkpoint's step: so packs are gone through
   * again after it, each asked for by its name, and nothing is deleted that was named at either time.
   * @returns How many objects there are, none of them under an older key.
   * @throws TcfsError what the store throws; `TCFS_BUSY` if something is left.
   */
  async run(): Promise<number> {
    await this.#requireNoKeptRoots();
    const named = new Set<string>();
    await this.#renewNamed(named);
    await this.#options.writeCheckpoint();
    await this.#renewNamed(named);
    await this.#sweep(named);
    const { objectCount, olderCount } = await this.#sweep(undefined);
    if (olderCount > 0) {
      throw new TcfsError("TCFS_BUSY", `${olderCount} of the store's objects are still under an older key epoch`);
    }
    return objectCount;
  }

  /** @param named - Gets the name of each. */
  async #renewNamed(named: Set<string>): Promise<void> {
    for await (const { pack } of this.#options.packs()) {
      named.add(packObject(pack));
      const header = await this.#headerOf(pack);
      if (header !== undefined && isUnderOlder(header, this.#options.packKeys)) await this.#renew(pack, header);
      await this.#options.pause();
    }
  }

  /** Every object that is listed, and the root. @param keep - What is under an older key and not in this is deleted. */
  async #sweep(keep: ReadonlySet<string> | undefined): Promise<{ objectCount: number; olderCount: number }> {
    const { store, signal, pause } = this.#options;
    const count = { objectCount: 1, olderCount: 0 };
    for (const name of [ROOT_NAME, DEVICES_NAME]) if (await this.#isOlderObject(name)) count.olderCount += 1;
    for (const prefix of ["commits/", "checkpoints/", "packs/"]) {
      for await (const name of store.list(prefix, signal)) {
        await pause();
        const isOlder = prefix === "packs/" ? await this.#isOlderPack(name) : await this.#isOlderManifest(name);
        if (isOlder && keep?.has(name) === false) await store.delete(name, signal);
        else if (isOlder) count.olderCount += 1;
        if (!isOlder) count.objectCount += 1;
      }
    }
    return count;
  }

  /** What `tcfs store accept` kept would be lost with the older key: somebody has to say so first, by deleting them. */
  async #requireNoKeptRoots(): Promise<void> {
    const { store, packKeys, signal } = this.#options;
    for await (const name of store.list(KEPT_ROOTS, signal)) {
      const prefix = await this.#beginningOf(name, PREFIX_BYTES);
      if (prefix === undefined || epochOfObject(prefix) < packKeys.keyEpoch - 1) continue; // gone, or lost long ago
      const advice = "attach them and copy what you want, then delete them from the store, and the rotation goes on";
      throw new TcfsError("TCFS_BUSY", `${store.place} keeps states under the older key, ${name} first: ${advice}`);
    }
  }

  async #isOlderManifest(name: string): Promise<boolean> {
    return isManifest(name) && (await this.#isOlderObject(name));
  }

  async #isOlderObject(name: string): Promise<boolean> {
    const prefix = await this.#beginningOf(name, PREFIX_BYTES);
    return prefix !== undefined && epochOfObject(prefix) < this.#options.packKeys.keyEpoch;
  }

  async #isOlderPack(name: string): Promise<boolean> {
    const pack = packOfName(name);
    const header = pack && (await this.#headerOf(pack));
    return header !== undefined && isUnderOlder(header, this.#options.packKeys);
  }

  /** @returns Undefined where there is no such pack, or it does not open: what that means, whoever reads it says. */
  async #headerOf(pack: PackId): Promise<PackHeader | undefined> {
    const bytes = await this.#beginningOf(packObject(pack), PACK_HEADER_BYTES);
    return bytes && openHeader(bytes, { pack, ...this.#options });
  }

  /** @returns Undefined where there is no such object, or it ends before: that is damage, and under no key. */
  async #beginningOf(name: string, lengthBytes: number): Promise<Uint8Array | undefined> {
    const { store, signal } = this.#options;
    try {
      return await store.getRange(name, { offset: 0, lengthBytes }, signal);
    } catch (error) {
      if (isTcfsError(error, "TCFS_CORRUPT")) return undefined;
      throw error;
    }
  }

  /** Its own bytes with another header: what lies on the disk may be damaged where the store's copy is not. */
  async #renew(pack: PackId, header: PackHeader): Promise<void> {
    const { store, packKeys, signal } = this.#options;
    const name = packObject(pack);
    const found = await store.get(name, { maxBytes: MAX_PACK_OBJECT_BYTES, signal });
    if (found === undefined) return; // gone since: the step that names it brings it
    const packKey = packKeys.unwrap(pack, wrapsOf(header));
    const wraps = [packKeys.wrap(pack, packKey)];
    packKey.fill(0);
    const content = Uint8Array.from(found.content);
    content.set(encodePackHeader({ ...header, wraps }));
    await store.put(name, content, signal);
  }
}
