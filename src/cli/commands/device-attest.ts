/** `tcfs device enroll|attest`: this machine's TPM vouches for this device (FORMAT.md §11.7). */
import { readFile } from "node:fs/promises";
import type { X509Certificate } from "node:crypto";
import { TcfsError } from "../../errors.ts";
import type { DeviceBook } from "../../keys/devices/device-book.ts";
import {
  type Device,
  type TpmProof,
  checkDeviceName,
  describeDevice,
  findDevice,
  withDevice,
} from "../../keys/devices/device-list.ts";
import {
  type AttestationKey,
  answerChallenge,
  checkAnswer,
  makeAttestationKey,
  makeChallenge,
} from "../../keys/tpm/attestation.ts";
import { parseAuthorities, verifyCertificate } from "../../keys/tpm/ek-certificate.ts";
import { DEFAULT_PCRS, changedPcrs, formatPcrSelection, parsePcrSelection } from "../../keys/tpm/pcr-selection.ts";
import type { PcrSelection } from "../../keys/tpm/pcr-selection.ts";
import type { TpmOptions } from "../../keys/tpm/tpm-tools.ts";
import { systemClock } from "../../platform/clock.ts";
import { preciseIsoTime } from "../../platform/iso-time.ts";
import { systemRandom } from "../../platform/random.ts";
import type { Settings } from "../settings.ts";
import { tpmOptions } from "../access/tpm-slots.ts";
import type { VaultArguments } from "../access/vault-access.ts";
import { withDeviceBook } from "./device.ts";

export interface EnrollArguments extends VaultArguments {
  readonly name?: string | undefined;
  /** File of authorities for the TPM's certificate. */
  readonly ca?: string | undefined;
  /** False for `--no-tpm`. */
  readonly tpm?: boolean | undefined;
  readonly pcrs?: string | undefined;
}

const ISSUER_CHARACTERS = 256;

/** @throws TcfsError `TCFS_NOT_ATTESTED`, and what the TPM does wrong; the list is as it was then. */
export async function runDeviceEnroll(parameters: EnrollArguments, settings: Settings): Promise<void> {
  const name = parameters.name === undefined ? undefined : checkDeviceName(parameters.name);
  if (parameters.tpm === false && (parameters.ca ?? parameters.pcrs) !== undefined)
    throw new TcfsError("TCFS_USAGE", "--ca and --pcrs are about a TPM: leave --no-tpm away");
  const selection = parsePcrSelection(parameters.pcrs ?? DEFAULT_PCRS);
  const authorities = parameters.ca === undefined ? undefined : await readAuthorities(parameters.ca);
  await withDeviceBook(parameters, settings, async ({ book }) => {
    const options = tpmOptions(parameters, settings);
    const made = parameters.tpm === false ? undefined : await enrolTpm(options, selection, authorities);
    if (made !== undefined) await book.keep({ blob: made.private });
    const device = await changeOwn(book, (own) => ({ ...own, name: name ?? own.name, tpm: made?.proof ?? null }));
    process.stdout.write(`${describeDevice(device)} is enrolled: ${describeProof(device.tpm)}.\n`);
  });
}

/** @throws TcfsError `TCFS_NOT_ATTESTED`, `TCFS_TPM_FOREIGN`; `TCFS_TPM_CHANGED` if the PCRs are not those of the enrolment. */
export async function runDeviceAttest(parameters: VaultArguments, settings: Settings): Promise<void> {
  await withDeviceBook(parameters, settings, async ({ book }) => {
    const { tpm } = requireOwn(book);
    const blob = await book.attestationBlob();
    if (tpm === null || blob === undefined) {
      const advice = "tcfs device enroll makes a key in this machine's TPM";
      throw new TcfsError("TCFS_NOT_ATTESTED", `no TPM vouches for this device: ${advice}`);
    }
    const options = tpmOptions(parameters, settings);
    const digests = await prove(options, tpm, blob, tpm);
    const changed = changedPcrs(tpm, tpm.pcrDigests, digests);
    if (changed !== undefined) {
      const message = `the TPM is the right one, and PCR ${changed} is not what it was at the enrolment`;
      const advice = "firmware, secure boot or what is started has changed; if that was you, enrol again";
      throw new TcfsError("TCFS_TPM_CHANGED", `${message}: ${advice}`);
    }
    const attestedAt = preciseIsoTime(systemClock.now());
    const device = await changeOwn(book, (own) => ({ ...own, tpm: { ...tpm, attestedAt } }));
    process.stdout.write(`${describeDevice(device)}: ${describeProof(device.tpm)}.\n`);
  });
}

/** For a sentence. */
export function describeProof(tpm: TpmProof | null): string {
  if (tpm === null) return "not attested: no TPM vouches for it";
  const by = tpm.certificate === null ? "whose certificate was not checked" : `certified by ${tpm.certificate.issuer}`;
  return `attested at ${tpm.attestedAt} by its TPM, ${by}, with PCRs ${formatPcrSelection(tpm)} as at the enrolment`;
}

async function enrolTpm(
  options: TpmOptions,
  selection: PcrSelection,
  authorities: readonly X509Certificate[] | undefined,
): Promise<{ readonly proof: TpmProof; readonly private: Uint8Array }> {
  const key = await makeAttestationKey(options);
  const certificate = authorities === undefined ? null : checkedCertificate(key.certificate, authorities);
  const pcrDigests = await prove(options, key, key.private, selection);
  const { endorsementKey } = key;
  const { pcrBank, pcrs } = selection;
  const attestedAt = preciseIsoTime(systemClock.now());
  const proof = { endorsementKey, public: key.public, certificate, pcrBank, pcrs, pcrDigests, attestedAt };
  return { proof, private: key.private };
}

function checkedCertificate(
  certificate: X509Certificate | undefined,
  authorities: readonly X509Certificate[],
): TpmProof["certificate"] {
  if (certificate === undefined)
    throw new TcfsError("TCFS_NOT_ATTESTED", "this TPM has no certificate to check: enrol without --ca");
  verifyCertificate(certificate, authorities, Date.now());
  const sha256 = Uint8Array.from(Buffer.from(certificate.fingerprint256.replaceAll(":", ""), "hex"));
  return { sha256, issuer: certificate.issuer.replaceAll("\n", ", ").slice(0, ISSUER_CHARACTERS) };
}

/** Verifier and device in one: a fresh challenge each time. @returns The PCRs' digests. */
async function prove(
  options: TpmOptions,
  key: AttestationKey,
  blob: Uint8Array,
  { pcrBank, pcrs }: PcrSelection,
): Promise<Uint8Array[]> {
  const asked = await makeChallenge(options.toolPath, key, { pcrBank, pcrs }, systemRandom);
  const answer = await answerChallenge(options, { public: key.public, private: blob }, asked.challenge);
  return checkAnswer(options.toolPath, key, asked, answer);
}

async function readAuthorities(path: string): Promise<X509Certificate[]> {
  const text = await readFile(path, "latin1").catch((cause: unknown) => {
    throw new TcfsError("TCFS_USAGE", `the file of authorities ${path} cannot be read`, { cause });
  });
  return parseAuthorities(text);
}

async function changeOwn(book: DeviceBook, make: (own: Device) => Device): Promise<Device> {
  await book.change((list) => withDevice(list, make(requireOwn(book))));
  return requireOwn(book);
}

function requireOwn({ list, identity }: DeviceBook): Device {
  const own = findDevice(list, identity.id);
  if (own === undefined) throw new TcfsError("TCFS_CORRUPT", "this device is not in the vault's own list of devices");
  return own;
}
