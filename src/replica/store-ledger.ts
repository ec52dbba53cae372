/**
 * `store.objects` (FORMAT.md §11.10): which manifests and packs of record streams this device put, and which objects no
 * root leads to any more, since when. What it lacks takes room in the store and no more, until a listing shows it.
 */
import { timingSafeEqual } from "node:crypto";
import { join } from "node:path";
import { ByteReader, ByteWriter } from "../bytes.ts";
import { isTcfsError } from "../errors.ts";
import type { Disk } from "../platform/disk.ts";
import { isManifest, packOfName } from "./object-names.ts";

const FILE_NAME = "store.objects";
const MAGIC = Buffer.from("TCFSOBJS");
const FORMAT_VERSION = 1;
const LINK_BYTES = 16;
const MAC_BYTES = 32;

export interface LedgerEntry {
  readonly name: string;
  /** Number of the first root that does not lead there; 0: the present one may. */
  readonly deadBy: number;
  /** When that root was known to be the store's, in milliseconds since 1970; 0 where there is none. */
  readonly deadSinceMs: number;
  /** In the store; 0 where it is not known. */
  readonly lengthBytes: number;
}

export interface LedgerSeal {
  /** HMAC-SHA256 under the vault's store key. */
  readonly mac: (bytes: Uint8Array) => Uint8Array;
  /** 16 bytes: of `store.json`. */
  readonly link: Uint8Array;
}

export class StoreLedger {
  readonly #disk: Disk;
  readonly #path: string;
  readonly #seal: LedgerSeal;
  readonly #entries = new Map<string, LedgerEntry>();
  /** When a listing was last gone through, in milliseconds since 1970; 0: never. */
  sweptAtMs = 0;

  private constructor(disk: Disk, directory: string, seal: LedgerSeal) {
    this.#disk = disk;
    this.#path = join(directory, FILE_NAME);
    this.#seal = seal;
  }

  /** @param directory - The vault's. One that is damaged, or of another link, is an empty one. */
  static async open(disk: Disk, directory: string, seal: LedgerSeal): Promise<StoreLedger> {
    const ledger = new StoreLedger(disk, directory, seal);
    const content = await disk.readFile(ledger.#path);
    if (content === undefined) return ledger;
    const found = decodeLedger(content, seal);
    ledger.sweptAtMs = found?.sweptAtMs ?? 0;
    for (const entry of found?.entries ?? []) ledger.#entries.set(entry.name, entry);
    return ledger;
  }

  get deadCount(): number {
    return this.#sum(() => 1);
  }

  get deadBytes(): number {
    return this.#sum(({ lengthBytes }) => lengthBytes);
  }

  /** When the first of them died, in milliseconds since 1970; undefined where there is none. */
  get firstDeathMs(): number | undefined {
    let first: number | undefined;
    for (const { deadBy, deadSinceMs } of this.#entries.values()) {
      if (deadBy > 0) first = Math.min(first ?? deadSinceMs, deadSinceMs);
    }
    return first;
  }

  /** An object is about to be put, or was listed, that a root may come to lead to. */
  note(name: string): void {
    if (!this.#entries.has(name)) this.#entries.set(name, { name, deadBy: 0, deadSinceMs: 0, lengthBytes: 0 });
  }

  /** The store's root has this number now, and neither leads there nor will a later one. */
  bury(names: Iterable<string>, number: number, nowMs: number): void {
    for (const name of names) {
      const known = this.#entries.get(name);
      if (known !== undefined && known.deadBy > 0) continue;
      this.#entries.set(name, { name, deadBy: number, deadSinceMs: nowMs, lengthBytes: known?.lengthBytes ?? 0 });
    }
  }

  /** The store's root has this number now, and leads to these alone. */
  buryAllBut(live: ReadonlySet<string>, number: number, nowMs: number): void {
    this.bury(
      [...this.#entries.keys()].filter((name) => !live.has(name)),
      number,
      nowMs,
    );
  }

  /**
   * What may be deleted after the root with this number. A death in the future, by a clock that was wrong, is one of now.
   * @returns Copies.
   */
  due(number: number, nowMs: number, graceMs: number): LedgerEntry[] {
    for (const entry of this.#entries.values()) {
      if (entry.deadSinceMs > nowMs) this.#entries.set(entry.name, { ...entry, deadSinceMs: nowMs });
    }
    const isDue = ({ deadBy, deadSinceMs }: LedgerEntry): boolean =>
      deadBy > 0 && deadBy < number && deadSinceMs + graceMs <= nowMs;
    return [...this.#entries.values()].filter(isDue);
  }

  /** Dead ones whose length is not known. */
  *unmeasured(): Generator<LedgerEntry> {
    for (const entry of this.#entries.values()) if (entry.deadBy > 0 && entry.lengthBytes === 0) yield entry;
  }

  measured({ name }: LedgerEntry, lengthBytes: number): void {
    const entry = this.#entries.get(name);
    if (entry !== undefined) this.#entries.set(name, { ...entry, lengthBytes });
  }

  /** It is not in the store any more; or it is in use all the same. */
  forget(name: string): void {
    this.#entries.delete(name);
  }

  /** Durable when it resolves, if the disk takes it: what cannot be written down a listing shows again. */
  async save(): Promise<void> {
    try {
      await this.#disk.replaceFile(this.#path, encodeLedger([...this.#entries.values()], this.sweptAtMs, this.#seal));
    } catch (error) {
      if (!isTcfsError(error)) throw error;
    }
  }

  #sum(of: (entry: LedgerEntry) => number): number {
    let sum = 0;
    for (const entry of this.#entries.values()) if (entry.deadBy > 0) sum += of(entry);
    return sum;
  }
}

function encodeLedger(entries: readonly LedgerEntry[], sweptAtMs: number, { mac, link }: LedgerSeal): Uint8Array {
  const writer = new ByteWriter();
  writer.bytes(MAGIC);
  writer.u16(FORMAT_VERSION);
  writer.bytes(link);
  writer.u64(sweptAtMs);
  writer.u32(entries.length);
  for (const { name, deadBy, deadSinceMs, lengthBytes } of entries) {
    const text = Buffer.from(name, "latin1");
    writer.u8(text.length);
    writer.bytes(text);
    writer.u64(deadBy);
    writer.u64(deadSinceMs);
    writer.u32(lengthBytes);
  }
  const body = writer.take();
  return Buffer.concat([body, mac(body)]);
}

/** @returns Undefined where the file is not ours, unknown or damaged. */
function decodeLedger(
  content: Uint8Array,
  { mac, link }: LedgerSeal,
): { readonly entries: readonly LedgerEntry[]; readonly sweptAtMs: number } | undefined {
  const bodyBytes = content.length - MAC_BYTES;
  if (bodyBytes < MAGIC.length) return undefined;
  const body = content.subarray(0, bodyBytes);
  if (!timingSafeEqual(content.subarray(bodyBytes), mac(body))) return undefined;
  try {
    const reader = new ByteReader(body, FILE_NAME);
    if (Buffer.compare(reader.bytes(MAGIC.length), MAGIC) !== 0 || reader.u16() !== FORMAT_VERSION) return undefined;
    if (Buffer.compare(reader.bytes(LINK_BYTES), link) !== 0) return undefined;
    const sweptAtMs = reader.u64();
    const entries = Array.from({ length: reader.u32() }, () => readEntry(reader));
    return { entries, sweptAtMs };
  } catch (error) {
    if (isTcfsError(error)) return undefined;
    throw error;
  }
}

function readEntry(reader: ByteReader): LedgerEntry {
  const name = Buffer.from(reader.bytes(reader.u8())).toString("latin1");
  if (!isManifest(name) && packOfName(name) === undefined) throw reader.fail("a name that is none of these");
  return { name, deadBy: reader.u64(), deadSinceMs: reader.u64(), lengthBytes: reader.u32() };
}
