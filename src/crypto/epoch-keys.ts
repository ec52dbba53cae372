/** One purpose's keys, one for each key epoch that there is something of (FORMAT.md §8.8). */
import { SecretKey } from "./secret-key.ts";

/** The generation of keys that a vault begins with. */
export const FIRST_KEY_EPOCH = 1;

export interface EpochKey {
  readonly keyEpoch: number;
  readonly key: Uint8Array;
}

/** The newest is what is sealed under; with the older one what was sealed before is opened. */
export class EpochKeys {
  readonly #keys = new Map<number, SecretKey>();
  #newest: number;

  /** @param newest - Copied. @param older - Copied. */
  constructor(newest: EpochKey, older: readonly EpochKey[] = []) {
    this.#newest = newest.keyEpoch;
    for (const { keyEpoch, key } of [newest, ...older]) {
      if (keyEpoch > newest.keyEpoch) throw new RangeError("an older key is of a newer epoch");
      this.#keys.set(keyEpoch, new SecretKey(key));
    }
  }

  /** Of what is sealed from now on. */
  get keyEpoch(): number {
    return this.#newest;
  }

  /** @returns The newest key, as {@link SecretKey.expose} gives it. @throws TcfsError `TCFS_CLOSED` */
  newest(): Uint8Array {
    return this.#of(this.#newest).expose();
  }

  /** @returns As {@link SecretKey.expose}; undefined for an epoch whose key is not known. @throws TcfsError `TCFS_CLOSED` */
  of(keyEpoch: number): Uint8Array | undefined {
    return this.#keys.get(keyEpoch)?.expose();
  }

  /** @returns Every key that is known, the newest first, as {@link SecretKey.expose} gives them. */
  all(): Uint8Array[] {
    const epochs = [...this.#keys.keys()].sort((left, right) => right - left);
    return epochs.map((keyEpoch) => this.#of(keyEpoch).expose());
  }

  /** Seal under another key from now on. @param next - Copied. */
  begin(next: EpochKey): void {
    if (next.keyEpoch <= this.#newest) throw new RangeError("a key epoch follows an older one");
    this.#keys.set(next.keyEpoch, new SecretKey(next.key));
    this.#newest = next.keyEpoch;
  }

  /** Nothing is under them any more. */
  forgetOlder(): void {
    for (const [keyEpoch, key] of this.#keys) {
      if (keyEpoch === this.#newest) continue;
      key.wipe();
      this.#keys.delete(keyEpoch);
    }
  }

  wipe(): void {
    for (const key of this.#keys.values()) key.wipe();
  }

  #of(keyEpoch: number): SecretKey {
    const key = this.#keys.get(keyEpoch);
    if (key === undefined) throw new RangeError("there is no key of this epoch");
    return key;
  }
}
