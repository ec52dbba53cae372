/**
 * The TPM's own structures, as far as a verifier must read them (TPM 2.0 Library, part 2): a key's public area, and what a
 * quote says. Big-endian. Pure. tpm2_checkquote before 5.7 looks at neither a quote's magic nor its selection of PCRs
 * (CVE-2024-29038, CVE-2024-29039), so this does.
 */
import { createHash } from "node:crypto";
import { TcfsError } from "../../errors.ts";
import type { PcrSelection } from "./pcr-selection.ts";

const ALGORITHM_SHA256 = 0x000b;
const BANK_ALGORITHM = { sha256: 0x000b, sha384: 0x000c, sha512: 0x000d } as const;
/** TPM_GENERATED_VALUE: a restricted key signs nothing that begins so but what the TPM itself says. */
const GENERATED = 0xff54_4347;
const ATTEST_QUOTE = 0x8018;
/** clockInfo and firmwareVersion, §10.11.1 and §10.12.12. */
const CLOCK_AND_FIRMWARE_BYTES = 17 + 8;

/** TPMA_OBJECT of an attestation key: it lives in this TPM alone, was made there, and signs only what the TPM says. */
const ATTESTATION_ATTRIBUTES = bits(1, 4, 5, 16, 18);
const DECRYPT = bits(17);

/**
 * @param blob - TPM2B_PUBLIC.
 * @returns The name that the TPM gives such a key, hexadecimal.
 * @throws TcfsError `TCFS_NOT_ATTESTED` if it is no attestation key.
 */
export function attestationKeyName(blob: Uint8Array): string {
  const reader = new Reader(blob, "the attestation key");
  const area = reader.sized();
  reader.end();
  const fields = new Reader(area, "the attestation key");
  fields.u16();
  const nameAlgorithm = fields.u16();
  const attributes = fields.u32();
  const isRestricted = (attributes & ATTESTATION_ATTRIBUTES) === ATTESTATION_ATTRIBUTES;
  if (nameAlgorithm !== ALGORITHM_SHA256 || !isRestricted || (attributes & DECRYPT) !== 0) {
    throw new TcfsError("TCFS_NOT_ATTESTED", "the key is no attestation key: it would sign anything");
  }
  return `000b${createHash("sha256").update(area).digest("hex")}`;
}

/**
 * Check that a quote is the TPM's word on these PCRs, and on this question.
 * @param message - TPMS_ATTEST, whose signature was verified.
 * @param values - The PCRs' digests, one after another, as they came beside it.
 * @throws TcfsError `TCFS_NOT_ATTESTED`
 */
export function checkQuote(
  message: Uint8Array,
  {
    nonce,
    selection,
    values,
  }: { readonly nonce: Uint8Array; readonly selection: PcrSelection; readonly values: Uint8Array },
): void {
  const reader = new Reader(message, "the quote");
  if (reader.u32() !== GENERATED) throw reader.fail("the TPM did not make it");
  if (reader.u16() !== ATTEST_QUOTE) throw reader.fail("it is something else that the TPM signed");
  reader.sized();
  if (Buffer.compare(reader.sized(), nonce) !== 0)
    throw reader.fail("it answers another question: an old one was shown");
  reader.bytes(CLOCK_AND_FIRMWARE_BYTES);
  if (reader.u32() !== 1 || reader.u16() !== BANK_ALGORITHM[selection.pcrBank])
    throw reader.fail("it is of another bank");
  const selected = reader.bytes(reader.u8());
  const isSame = [...selected.keys()].every((at) => selected[at] === selectionByte(selection, at));
  if (!isSame || selected.length < 3) throw reader.fail("it is of other PCRs");
  const digest = reader.sized();
  reader.end();
  // The digest is made with the hash of the key's signature scheme.
  if (Buffer.compare(digest, createHash("sha256").update(values).digest()) !== 0) {
    throw reader.fail("the PCRs beside it are not what it says");
  }
}

function selectionByte({ pcrs }: PcrSelection, at: number): number {
  return pcrs.filter((pcr) => pcr >> 3 === at).reduce((byte, pcr) => byte | (1 << (pcr & 7)), 0);
}

function bits(...positions: readonly number[]): number {
  return positions.reduce((all, position) => all | (1 << position), 0);
}

class Reader {
  readonly #bytes: Uint8Array;
  readonly #what: string;
  #at = 0;

  constructor(bytes: Uint8Array, what: string) {
    this.#bytes = bytes;
    this.#what = what;
  }

  u8(): number {
    return this.#number(1);
  }

  u16(): number {
    return this.#number(2);
  }

  u32(): number {
    return this.#number(4);
  }

  /** After their length, a u16. */
  sized(): Uint8Array {
    return this.bytes(this.u16());
  }

  bytes(lengthBytes: number): Uint8Array {
    if (this.#at + lengthBytes > this.#bytes.length) throw this.fail("it is cut short");
    this.#at += lengthBytes;
    return this.#bytes.slice(this.#at - lengthBytes, this.#at);
  }

  end(): void {
    if (this.#at !== this.#bytes.length) throw this.fail("it is longer than it should be");
  }

  fail(why: string): TcfsError {
    return new TcfsError("TCFS_NOT_ATTESTED", `${this.#what} is refused: ${why}`);
  }

  #number(lengthBytes: number): number {
    return this.bytes(lengthBytes).reduce((sum, byte) => sum * 256 + byte, 0);
  }
}
