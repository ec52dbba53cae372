/** Brings packs to the store: oldest first, several at once, each once; what an earlier session brought is found again. */
import { type PackDirectory } from "../chunkstore/pack-directory.ts";
import { TcfsError, isTcfsError } from "../errors.ts";
import type { PackRecord } from "../format/records.ts";
import type { ObjectStore } from "../remote/object-store.ts";
import { packObject } from "./object-names.ts";
import type { StoredPacks } from "./stored-packs.ts";

/** Each holds a pack in memory. */
const UPLOADS_AT_ONCE = 3;

export interface PackUploaderOptions {
  readonly local: PackDirectory;
  readonly stored: StoredPacks;
}

export interface UploadProgress {
  /** Of packs still to be brought in this run. */
  backlogBytes: number;
  backlogPacks: number;
  /** Bytes brought since the session began. */
  uploadedBytes: number;
}

/** A pack that the step needs is gone because the vault has moved on: begin again with a newer state. */
export class PackGone extends Error {}

export class PackUploader {
  readonly #local: PackDirectory;
  readonly #stored: StoredPacks;
  readonly progress: UploadProgress = { backlogBytes: 0, backlogPacks: 0, uploadedBytes: 0 };

  constructor({ local, stored }: PackUploaderOptions) {
    this.#local = local;
    this.#stored = stored;
  }

  /** @returns Those that the store is not known to have. */
  missing(packs: readonly PackRecord[]): PackRecord[] {
    return packs.filter(({ pack }) => !this.#stored.has(pack));
  }

  /**
   * @param packs - None of them is written to any more.
   * @throws TcfsError what the store throws; `TCFS_CORRUPT` where a pack is neither here nor there. {@link PackGone}.
   */
  async upload(store: ObjectStore, packs: readonly PackRecord[], signal: AbortSignal): Promise<void> {
    const { progress } = this;
    progress.backlogPacks = packs.length;
    progress.backlogBytes = packs.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0);
    const failed = new AbortController();
    const either = AbortSignal.any([signal, failed.signal]);
    const queue = packs.values();
    const work = async (): Promise<void> => {
      for (const record of queue) {
        if (either.aborted) return;
        await this.#bring(store, record, either);
        progress.backlogPacks -= 1;
        progress.backlogBytes -= record.lengthBytes;
      }
    };
    const workers = Array.from({ length: UPLOADS_AT_ONCE }, () =>
      work().catch((error: unknown) => {
        failed.abort(); // the others end too; the first failure is the one to tell
        throw error;
      }),
    );
    const outcomes = await Promise.allSettled(workers);
    const failures = outcomes.flatMap((outcome) => (outcome.status === "rejected" ? [outcome.reason as unknown] : []));
    for (const failure of failures) if (!isTcfsError(failure, "TCFS_CANCELLED")) throw failure;
    if (either.aborted) throw new TcfsError("TCFS_CANCELLED", "the upload was given up");
  }

  async #bring(store: ObjectStore, { pack, lengthBytes }: PackRecord, signal: AbortSignal): Promise<void> {
    const name = packObject(pack);
    const content = await this.#local.read(pack);
    if (content === undefined || content.length < lengthBytes) {
      await this.#requireThere(store, { name, lengthBytes }, signal);
    } else if (this.#local.isOwn(pack) || (await store.head(name, signal)) !== content.length) {
      await this.#put(store, name, content, signal);
      this.progress.uploadedBytes += content.length;
    }
    await this.#stored.add(pack);
  }

  /** Another content under a name that nobody else chooses is an upload that was cut short, or damage. */
  async #put(store: ObjectStore, name: string, content: Uint8Array, signal: AbortSignal): Promise<void> {
    try {
      await store.putIfAbsent(name, content, signal);
    } catch (error) {
      if (!isTcfsError(error, "TCFS_REMOTE_CONFLICT")) throw error;
      await store.put(name, content, signal);
    }
  }

  async #requireThere(
    store: ObjectStore,
    { name, lengthBytes }: { readonly name: string; readonly lengthBytes: number },
    signal: AbortSignal,
  ): Promise<void> {
    const found = await store.head(name, signal);
    if (found !== undefined && found >= lengthBytes) return;
    throw new PackGone(`${name} is damaged or missing, here and in the store`);
  }
}

/** @returns What {@link PackGone} comes to if the vault has not moved on. */
export function asDamage(error: PackGone): TcfsError {
  return new TcfsError("TCFS_CORRUPT", `${error.message}: the store keeps its earlier state`);
}
