/**
 * What tpm2-tools say when they fail → the error that a person is told. Pure.
 * The tools print the TPM's response code in parentheses: `ERROR: Esys_Unseal(0x99D) - tpm:session(1):a policy check failed`.
 */
import { TcfsError } from "../../errors.ts";
import type { TcfsErrorCode } from "../../errors.ts";

/** How a tool ended. */
export interface ToolFailure {
  /** Without the prefix `tpm2_`. */
  readonly tool: string;
  readonly errorOutput: string;
  readonly isMissing: boolean;
  readonly isTimedOut: boolean;
}

/** Format-one codes (TPM 2.0 Library, part 2, §6.6): which handle, parameter or session they concern is masked out. */
const FORMAT_ONE = 0x80;
const FORMAT_ONE_MASK = 0xbf;
const SESSION_WARNING_MASK = 0xfff;

const FORMAT_ONE_CODES: Readonly<Record<number, readonly [TcfsErrorCode, string]>> = {
  0x8e: ["TCFS_WRONG_KEY", "the PIN is wrong"],
  0xa2: ["TCFS_WRONG_KEY", "the TPM refuses the authorization: its owner password is set"],
  0x9d: ["TCFS_TPM_CHANGED", "the TPM's policy is not met: its PCRs have changed"],
  0x9f: ["TCFS_TPM_FOREIGN", "the TPM does not know what the slot holds: it is another TPM's, or was tampered with"],
  0x8b: ["TCFS_TPM_FOREIGN", "the TPM has no storage key: it was cleared, or it is another TPM"],
};

const OTHER_CODES: Readonly<Record<number, readonly [TcfsErrorCode, string]>> = {
  0x921: ["TCFS_TPM_LOCKED", "the TPM is locked after too many wrong PINs"],
  0x902: ["TCFS_TPM", "the TPM has no room for another object: another program fills it"],
  0x903: ["TCFS_TPM", "the TPM has no room for another session: another program fills it"],
  0x922: ["TCFS_TPM", "the TPM asks to try again later"],
};

const NO_CONNECTION = /could not load tcti|failed to connect|failed to open|Could not open TCTI/iu;

/** @returns The TPM's (last) response code in what a tool printed. */
export function responseCode(errorOutput: string): number | undefined {
  const codes = [...errorOutput.matchAll(/\(0x([0-9a-f]{1,8})\)/giu)];
  const last = codes.at(-1)?.[1];
  return last === undefined ? undefined : Number.parseInt(last, 16);
}

/** The error of one step; its caller may know more to say. */
export function toolError({ tool, errorOutput, isMissing, isTimedOut }: ToolFailure): TcfsError {
  if (isMissing)
    return new TcfsError(
      "TCFS_NO_TPM",
      "tpm2-tools are not installed: apt-get install tpm2-tools, or use another slot",
    );
  if (isTimedOut) return new TcfsError("TCFS_TPM", `the TPM did not answer in time (tpm2_${tool})`);
  if (NO_CONNECTION.test(errorOutput)) return new TcfsError("TCFS_NO_TPM", "the TPM cannot be reached: see --tcti");
  const code = responseCode(errorOutput);
  const known = code === undefined ? undefined : knownCode(code);
  if (known !== undefined) return new TcfsError(...known);
  const detail = errorOutput.split("\n").find((line) => line.startsWith("ERROR:")) ?? "it gave no reason";
  return new TcfsError("TCFS_TPM", `the TPM failed at tpm2_${tool}: ${detail.replace(/^ERROR:\s*/u, "").trim()}`);
}

function knownCode(code: number): readonly [TcfsErrorCode, string] | undefined {
  if ((code & FORMAT_ONE) !== 0) return FORMAT_ONE_CODES[code & FORMAT_ONE_MASK];
  return OTHER_CODES[code & SESSION_WARNING_MASK];
}
