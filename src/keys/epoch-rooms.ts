/** The engine and wrappers that a vault's keys give, for every key epoch that there is (FORMAT.md §8.8). Does no I/O. */
import type { ChunkingParameters } from "../crypto/engine.ts";
import { EpochEngine } from "../crypto/epoch-engine.ts";
import type { EpochKeys } from "../crypto/epoch-keys.ts";
import { ObjectSealer } from "../crypto/object-seal.ts";
import { openEngine } from "../crypto/open-engine.ts";
import { SESSION_ID_BYTES } from "../crypto/engine-options.ts";
import { PackKeyWrapper } from "../crypto/pack-key.ts";
import type { RandomSource } from "../platform/random.ts";
import type { VaultHeader } from "./header.ts";
import type { EpochSubkeys, VaultKeys } from "./key-epochs.ts";
import { endRotation, isAuthentic } from "./keyring.ts";

export interface EpochRoomsOptions {
  readonly vaultId: Uint8Array;
  readonly chunking: ChunkingParameters;
  readonly random: RandomSource;
}

export class EpochRooms {
  readonly engine: EpochEngine;
  readonly packKeys: PackKeyWrapper;
  readonly sealer: ObjectSealer;
  readonly #options: EpochRoomsOptions;
  readonly #header: EpochKeys;
  readonly #packs: EpochKeys;
  readonly #store: EpochKeys;

  /** @param keys - Copied. */
  constructor(keys: VaultKeys, options: EpochRoomsOptions) {
    const { vaultId, random } = options;
    this.#options = options;
    this.#header = keys.keysFor("header");
    this.#packs = keys.keysFor("packs");
    this.#store = keys.keysFor("store");
    this.engine = new EpochEngine(
      this.#open(keys.newest),
      keys.older.map((epoch) => this.#open(epoch)),
    );
    this.packKeys = new PackKeyWrapper(this.#packs, vaultId, random);
    this.sealer = new ObjectSealer(this.#store, vaultId, random);
  }

  /** Of what is sealed from now on. */
  get keyEpoch(): number {
    return this.#header.keyEpoch;
  }

  /** Whether the header was written under the newest key. */
  isAuthentic(header: VaultHeader): boolean {
    return isAuthentic(header, this.#header.newest());
  }

  /** @param header - Authentic. @returns It without what it keeps of older epochs. */
  endRotation(header: VaultHeader): VaultHeader {
    return endRotation(header, this.#header.newest());
  }

  /** Seal and wrap under the newest of these from now on. @param keys - Copied. */
  begin({ newest }: VaultKeys): void {
    const { keyEpoch, subkeys } = newest;
    this.#header.begin({ keyEpoch, key: subkeys.header });
    this.#packs.begin({ keyEpoch, key: subkeys.packs });
    this.#store.begin({ keyEpoch, key: subkeys.store });
    this.engine.begin(this.#open(newest));
  }

  /** What is under older epochs opens no longer. */
  forgetOlder(): void {
    this.#header.forgetOlder();
    this.#packs.forgetOlder();
    this.#store.forgetOlder();
    this.engine.forgetOlder();
  }

  close(): void {
    this.engine.close();
    this.#header.wipe();
    this.#packs.wipe();
    this.#store.wipe();
  }

  #open({ keyEpoch, subkeys }: EpochSubkeys): ReturnType<typeof openEngine> {
    const { vaultId, chunking, random } = this.#options;
    return openEngine({ vaultId, chunking, subkeys, keyEpoch, sessionId: random.bytes(SESSION_ID_BYTES) });
  }
}
