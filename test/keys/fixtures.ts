/** What the tests of src/keys share: a disk in memory, a fixed clock, counted randomness, one vault made once. */
import { createHash } from "node:crypto";
import { dirname } from "node:path";
import { DEFAULT_CHUNKING } from "../../src/crypto/engine.ts";
import { TcfsError, isTcfsError } from "../../src/errors.ts";
import { formatHeader } from "../../src/keys/header.ts";
import type { VaultHeader } from "../../src/keys/header.ts";
import { FLOOR_KDF_COST } from "../../src/keys/kdf.ts";
import { createHeader } from "../../src/keys/keyring.ts";
import type { NewVault, OpenedHeader } from "../../src/keys/keyring.ts";
import type { SlotKindName } from "../../src/keys/slot-format.ts";
import type { Clock } from "../../src/platform/clock.ts";
import type { Disk, DiskFile } from "../../src/platform/disk.ts";
import type { RandomSource } from "../../src/platform/random.ts";

export const PASSPHRASE = "correct horse battery staple";

const fixedClock: Clock = {
  now: () => ({ seconds: 1_795_000_000, nanoseconds: 123_000_000 }),
  monotonicMs: () => 0,
  after: () => ({ cancel: () => undefined }),
};

/** Bytes that depend on the seed and on how many were asked for before. */
function seededRandom(seed: string): RandomSource {
  let calls = 0;
  return {
    bytes: (lengthBytes) => {
      const digest = createHash("shake256", { outputLength: lengthBytes });
      return Uint8Array.from(digest.update(`${seed} ${calls++}`).digest());
    },
  };
}

export const keyringOptions = (seed = "keys") => ({
  random: seededRandom(seed),
  clock: fixedClock,
  kdf: FLOOR_KDF_COST,
});

export const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text);

/** The header's text, changed by somebody who made the checksum right again. */
export function withChecksum(
  header: VaultHeader,
  change: (body: Record<string, unknown> & { slots: unknown[] }) => void,
): Uint8Array {
  const { checksum: _, ...body } = JSON.parse(Buffer.from(formatHeader(header)).toString()) as Record<
    string,
    unknown
  > & {
    slots: unknown[];
  };
  change(body);
  const checksum = createHash("sha256").update(JSON.stringify(body)).digest("hex");
  return utf8(`${JSON.stringify({ ...body, checksum }, null, 2)}\n`);
}

/** @returns The code that an attempt fails with. */
export async function codeOf(attempt: Promise<unknown> | (() => unknown)): Promise<string> {
  try {
    await (typeof attempt === "function" ? attempt() : attempt);
  } catch (error) {
    return isTcfsError(error) ? error.code : String(error);
  }
  return "nothing thrown";
}

export async function makeVault(passphrase: string = PASSPHRASE, seed = "keys"): Promise<NewVault> {
  return createHeader(utf8(passphrase), DEFAULT_CHUNKING, keyringOptions(seed));
}

/** A new vault as one of its slots would open it. */
export function openedBy({ header, key }: NewVault, kind: SlotKindName): OpenedHeader {
  const slot = header.slots.find((candidate) => candidate.kind === kind);
  if (slot === undefined) throw new RangeError(`no slot of the kind ${kind}`);
  return { key, slot };
}

/** As much of a disk as the header needs. */
export class MemoryDisk implements Pick<Disk, "open" | "list" | "replaceFile"> {
  readonly files: Map<string, Uint8Array>;

  constructor(files = new Map<string, Uint8Array>()) {
    this.files = files;
  }

  async open(path: string): Promise<DiskFile> {
    const content = this.files.get(path);
    if (content === undefined) throw new TcfsError("TCFS_NO_ENTRY", path);
    return {
      readInto: async (into: Uint8Array, offset: number) => {
        const part = content.subarray(offset, offset + into.length);
        into.set(part);
        return part.length;
      },
      close: async () => undefined,
    } as unknown as DiskFile;
  }

  async list(directory: string): Promise<string[]> {
    return [...this.files.keys()]
      .filter((path) => dirname(path) === directory)
      .map((path) => path.split("/").at(-1) ?? "");
  }

  async replaceFile(path: string, content: Uint8Array): Promise<void> {
    this.files.set(path, Uint8Array.from(content));
  }

  asDisk(): Disk {
    return this as unknown as Disk;
  }
}
