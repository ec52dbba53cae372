/** Sealed metadata records and the PRF of names, portable (FORMAT.md §6, §7). Holds keys; does no I/O. */
import { LRUCache } from "lru-cache";

import { corrupt } from "../bytes.ts";
import { changesBytes, decodeChanges, encodeChanges } from "../format/journal-codec.ts";
import type { InodeNumber, Name } from "../ids.ts";
import { recordAadPrefix } from "./aad.ts";
import type { EngineOptions, PlainRecord, RecordCipher } from "./engine.ts";
import { RECORD_OVERHEAD_BYTES } from "./engine.ts";
import { SESSION_ID_BYTES } from "./engine-options.ts";
import { NonceCounter } from "./nonce-counter.ts";
import type { PortablePrimitives } from "./portable-primitives.ts";
import { counterNonce, openSealed, sealInto } from "./portable-primitives.ts";
import { SecretKey } from "./secret-key.ts";
import { KEY_BYTES } from "./subkeys.ts";

const COUNTER_BYTES = 6;
const HEADER_BYTES = SESSION_ID_BYTES + COUNTER_BYTES;
const NAME_PRF_BYTES = 16;
/** Old sessions' records are read all the time. */
const SESSION_CACHE_SLOTS = 64;
const SESSION_CONTEXT = Buffer.from("tcfs session", "latin1");

export class PortableRecordCipher implements RecordCipher {
  readonly keyEpoch: number;
  readonly #primitives: PortablePrimitives;
  readonly #parent: SecretKey;
  readonly #sessionId: Uint8Array;
  readonly #aadPrefix: Uint8Array;
  readonly #counter = new NonceCounter();
  readonly #sessionKeys = new LRUCache<string, SecretKey>({
    max: SESSION_CACHE_SLOTS,
    dispose: (key) => {
      key.wipe();
    },
  });

  /** @param recordsSubkey - Copied. */
  constructor(
    primitives: PortablePrimitives,
    recordsSubkey: Uint8Array,
    place: Pick<EngineOptions, "vaultId" | "sessionId" | "keyEpoch">,
  ) {
    this.#primitives = primitives;
    this.#parent = new SecretKey(recordsSubkey);
    this.#sessionId = Uint8Array.from(place.sessionId);
    this.keyEpoch = place.keyEpoch;
    this.#aadPrefix = recordAadPrefix(place.vaultId, place.keyEpoch);
  }

  seal(records: readonly PlainRecord[]): Uint8Array[] {
    this.#parent.expose();
    const first = this.#counter.take(records.length);
    return records.map((record, i) => this.#sealOne(record, first + i));
  }

  sealInto(record: PlainRecord, output: Uint8Array): Uint8Array {
    this.#parent.expose();
    const place = output.subarray(0, record.value.length + RECORD_OVERHEAD_BYTES);
    if (place.length < record.value.length + RECORD_OVERHEAD_BYTES) throw new RangeError("no room for the record");
    place.set(this.#sealOne(record, this.#counter.take(1)));
    return place;
  }

  sealChanges(changes: Uint8Array): Uint8Array {
    const plain = decodeChanges(changes);
    const sealed = this.seal(plain.flatMap(({ key, value }) => (value === undefined ? [] : [{ key, value }])));
    let next = 0;
    const own = plain.map(({ key, value }) => ({ key, value: value && sealed[next++] }));
    return encodeChanges(own, changesBytes(own)).plain;
  }

  unseal(key: Uint8Array, sealed: Uint8Array): Uint8Array {
    this.#parent.expose();
    if (sealed.length < RECORD_OVERHEAD_BYTES) throw corrupt("record", "it is truncated");
    const nonce = new Uint8Array(12);
    nonce.set(sealed.subarray(SESSION_ID_BYTES, HEADER_BYTES));
    const sessionKey = this.#sessionKey(sealed.subarray(0, SESSION_ID_BYTES)).expose();
    const value = openSealed(sessionKey, nonce, this.#aad(key), sealed.subarray(HEADER_BYTES));
    if (value === undefined) throw corrupt("record", "it does not verify");
    return new Uint8Array(value);
  }

  epochOf(key: Uint8Array, sealed: Uint8Array): number {
    this.unseal(key, sealed);
    return this.keyEpoch;
  }

  wipe(): void {
    this.#parent.wipe();
    this.#sessionKeys.clear();
  }

  #sealOne({ key, value }: PlainRecord, counter: number): Uint8Array {
    const nonce = counterNonce(counter);
    const sealed = new Uint8Array(value.length + RECORD_OVERHEAD_BYTES);
    sealed.set(this.#sessionId);
    sealed.set(nonce.subarray(0, COUNTER_BYTES), SESSION_ID_BYTES);
    const sessionKey = this.#sessionKey(this.#sessionId).expose();
    sealInto(sessionKey, nonce, this.#aad(key), [value], sealed.subarray(HEADER_BYTES));
    return sealed;
  }

  #aad(recordKey: Uint8Array): Uint8Array {
    return Buffer.concat([this.#aadPrefix, recordKey]);
  }

  #sessionKey(sessionId: Uint8Array): SecretKey {
    const name = Buffer.from(sessionId).toString("latin1");
    const known = this.#sessionKeys.get(name);
    if (known !== undefined) return known;
    const bytes = this.#primitives.keyedHash(this.#parent.expose(), [SESSION_CONTEXT, sessionId], KEY_BYTES);
    const key = new SecretKey(bytes);
    bytes.fill(0);
    this.#sessionKeys.set(name, key);
    return key;
  }
}

/** @returns Fresh 16 bytes. */
export function portableNamePrf(
  primitives: PortablePrimitives,
  namesSubkey: Uint8Array,
  directory: InodeNumber,
  name: Name,
): Uint8Array {
  const prefix = new Uint8Array(8);
  new DataView(prefix.buffer).setBigUint64(0, BigInt(directory), false);
  return primitives.keyedHash(namesSubkey, [prefix, Buffer.from(name, "latin1")], NAME_PRF_BYTES);
}
