/** Which platform configuration registers a TPM slot is bound to: `sha256:7`, `sha256:0,2,7` (FORMAT.md §8.7). Pure. */
import { TcfsError } from "../../errors.ts";

/** Banks that are taken, and the length of their digests. SHA-1's are too weak to bind anything to. */
export const PCR_BANK_BYTES = { sha256: 32, sha384: 48, sha512: 64 } as const;
export const PCR_COUNT = 24;

export type PcrBank = keyof typeof PCR_BANK_BYTES;
export const PCR_BANKS = Object.keys(PCR_BANK_BYTES) as readonly PcrBank[];

export interface PcrSelection {
  readonly pcrBank: PcrBank;
  /** Ascending, at least one. */
  readonly pcrs: readonly number[];
}

/** State of secure boot: what systemd binds to as well. It stays over updates of kernel and initrd. */
export const DEFAULT_PCRS = "sha256:7";

/** @throws TcfsError `TCFS_USAGE` naming what is wrong. */
export function parsePcrSelection(text: string): PcrSelection {
  const [bank = "", list = "", ...rest] = text.split(":");
  const pcrBank = PCR_BANKS.find((known) => known === bank.toLowerCase());
  if (pcrBank === undefined || rest.length > 0)
    throw new TcfsError(
      "TCFS_USAGE",
      `“${text}” names no PCRs: write BANK:LIST, with ${PCR_BANKS.join(" or ")} as BANK`,
    );
  const pcrs = list.split(",").map((word) => (/^\d{1,2}$/u.test(word) ? Number(word) : PCR_COUNT));
  const wrong = pcrs.findIndex((index) => index >= PCR_COUNT);
  if (wrong !== -1)
    throw new TcfsError("TCFS_USAGE", `“${list.split(",")[wrong] ?? ""}” is no PCR: there are 0 to ${PCR_COUNT - 1}`);
  return { pcrBank, pcrs: [...new Set(pcrs)].sort((a, b) => a - b) };
}

/** As tpm2-tools take it. */
export function formatPcrSelection({ pcrBank, pcrs }: PcrSelection): string {
  return `${pcrBank}:${pcrs.join(",")}`;
}

/** @returns The PCRs whose digests differ, in words; undefined if none does. Both lists are in the selection's order. */
export function changedPcrs(
  selection: PcrSelection,
  before: readonly Uint8Array[],
  now: readonly Uint8Array[],
): string | undefined {
  const pcrs = selection.pcrs.filter((_pcr, at) => !Buffer.from(before[at] ?? []).equals(now[at] ?? new Uint8Array()));
  return pcrs.length === 0 ? undefined : formatPcrSelection({ ...selection, pcrs });
}
