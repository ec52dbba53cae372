/**
 * A device's TPM proves itself (FORMAT.md §11.7): an attestation key that lives beneath the endorsement key of one TPM
 * answers a challenge, and quotes the PCRs. The verifier's part needs no TPM.
 */
import { createPublicKey, timingSafeEqual } from "node:crypto";
import type { X509Certificate } from "node:crypto";
import { toHex } from "../../bytes.ts";
import { TcfsError, isTcfsError } from "../../errors.ts";
import type { RandomSource } from "../../platform/random.ts";
import { parseCertificate } from "./ek-certificate.ts";
import { PCR_BANK_BYTES, formatPcrSelection } from "./pcr-selection.ts";
import type { PcrSelection } from "./pcr-selection.ts";
import { attestationKeyName, checkQuote } from "./tpm-structures.ts";
import { TpmTools } from "./tpm-tools.ts";
import type { TpmOptions } from "./tpm-tools.ts";

/** TCG EK Credential Profile: where the certificate of the RSA 2048 key lies, and the key where the maker left it. */
const CERTIFICATE_INDEX = "0x01c00002";
const CHALLENGE_BYTES = 32;

/** What a verifier keeps of a device's TPM. */
export interface AttestationKey {
  /** SubjectPublicKeyInfo, DER. */
  readonly endorsementKey: Uint8Array;
  /** TPM2B_PUBLIC. */
  readonly public: Uint8Array;
}

export interface NewAttestationKey extends AttestationKey {
  /** TPM2B_PRIVATE: of use to this TPM alone. */
  readonly private: Uint8Array;
  /** Where the TPM has one. Not checked. */
  readonly certificate: X509Certificate | undefined;
}

/** A question that only one TPM can answer, and only now. */
export interface Challenge {
  readonly credential: Uint8Array;
  readonly nonce: Uint8Array;
  readonly selection: PcrSelection;
}

export interface Answer {
  readonly secret: Uint8Array;
  /** TPMS_ATTEST. */
  readonly message: Uint8Array;
  /** TPMT_SIGNATURE. */
  readonly signature: Uint8Array;
  /** Digests of the PCRs one after another. */
  readonly values: Uint8Array;
}

/** @throws TcfsError `TCFS_NO_TPM`, `TCFS_TPM`; `TCFS_NOT_ATTESTED` if its certificate is for another key. */
export function makeAttestationKey(options: TpmOptions): Promise<NewAttestationKey> {
  return TpmTools.use(options, async (tpm) => {
    const certificate = await readCertificate(tpm);
    await openEndorsementKey(tpm);
    await tpm.run("readpublic", ["-Q", "-c", "ek.ctx", "-f", "pem", "-o", "ek.pem"]);
    await tpm.flushObjects();
    const files = ["-u", "ak.pub", "-r", "ak.priv", "-c", "ak.ctx"];
    await tpm.runAndFlush("createak", ["-Q", "-C", "ek.ctx", "-G", "ecc", "-g", "sha256", "-s", "ecdsa", ...files]);
    await tpm.flushSessions();
    const key = createPublicKey(Buffer.from(await tpm.read("ek.pem")));
    if (certificate !== undefined && !certificate.publicKey.equals(key)) {
      throw new TcfsError("TCFS_NOT_ATTESTED", "the certificate in the TPM is for another key than the TPM's");
    }
    const endorsementKey = Uint8Array.from(key.export({ format: "der", type: "spki" }));
    const blobs = { public: await tpm.read("ak.pub"), private: await tpm.read("ak.priv") };
    return { endorsementKey, ...blobs, certificate };
  });
}

/**
 * The verifier asks: what is sealed in the challenge comes out only in the TPM that has both keys.
 * @returns The secret is the verifier's to keep until the answer comes.
 * @throws TcfsError `TCFS_NOT_ATTESTED` if `key` is no attestation key.
 */
export async function makeChallenge(
  toolPath: string,
  key: AttestationKey,
  selection: PcrSelection,
  random: RandomSource,
): Promise<{ readonly challenge: Challenge; readonly secret: Uint8Array }> {
  const name = attestationKeyName(key.public);
  const secret = random.bytes(CHALLENGE_BYTES);
  const credential = await TpmTools.use({ tcti: "none", toolPath }, async (tools) => {
    const pem = createPublicKey({ key: Buffer.from(key.endorsementKey), format: "der", type: "spki" });
    await tools.write("ek.pem", Buffer.from(pem.export({ format: "pem", type: "spki" })));
    const words = ["-Q", "-G", "rsa", "-u", "ek.pem", "-n", name, "-s", "-", "-o", "credential"];
    await tools.run("makecredential", words, secret);
    return tools.read("credential");
  });
  return { challenge: { credential, nonce: random.bytes(CHALLENGE_BYTES), selection }, secret };
}

/**
 * The device answers.
 * @param blobs - Of its attestation key.
 * @throws TcfsError `TCFS_TPM_FOREIGN` if this TPM does not have the keys; `TCFS_NO_TPM`, `TCFS_TPM`.
 */
export function answerChallenge(
  options: TpmOptions,
  blobs: { readonly public: Uint8Array; readonly private: Uint8Array },
  { credential, nonce, selection }: Challenge,
): Promise<Answer> {
  return TpmTools.use(options, async (tpm) => {
    try {
      await openEndorsementKey(tpm);
      await tpm.flushObjects();
      await tpm.write("ak.pub", blobs.public);
      await tpm.write("ak.priv", blobs.private);
      await openEndorsementSession(tpm);
      const loaded = ["-Q", "-C", "ek.ctx", "-u", "ak.pub", "-r", "ak.priv", "-c", "ak.ctx"];
      await tpm.runAndFlush("load", [...loaded, "-P", "session:endorsement.session"]);
      await tpm.closeSession("endorsement.session");
      await tpm.write("credential", credential);
      await openEndorsementSession(tpm);
      const activate = ["-Q", "-c", "ak.ctx", "-C", "ek.ctx", "-i", "credential", "-o", "secret"];
      await tpm.runAndFlush("activatecredential", [...activate, "-P", "session:endorsement.session"]);
      await tpm.closeSession("endorsement.session");
      const asked = ["-l", formatPcrSelection(selection), "-q", toHex(nonce), "-g", "sha256"];
      const files = ["-m", "quote.msg", "-s", "quote.sig", "-o", "quote.pcrs", "-F", "values"];
      await tpm.runAndFlush("quote", ["-Q", "-c", "ak.ctx", ...asked, ...files]);
      const [message, signature] = [await tpm.read("quote.msg"), await tpm.read("quote.sig")];
      return { secret: await tpm.read("secret"), message, signature, values: await tpm.read("quote.pcrs") };
    } catch (error) {
      if (!isTcfsError(error, "TCFS_TPM_FOREIGN")) throw error;
      const why = "this TPM does not have the device's attestation key: it is another machine's, or was cleared";
      throw new TcfsError("TCFS_TPM_FOREIGN", why, { cause: error });
    }
  });
}

/**
 * The verifier judges.
 * @param secret - As {@link makeChallenge} gave it.
 * @returns The digest of each PCR asked for.
 * @throws TcfsError `TCFS_NOT_ATTESTED` saying what does not fit.
 */
export async function checkAnswer(
  toolPath: string,
  key: AttestationKey,
  { challenge, secret }: { readonly challenge: Challenge; readonly secret: Uint8Array },
  answer: Answer,
): Promise<Uint8Array[]> {
  const { nonce, selection } = challenge;
  if (answer.secret.length !== secret.length || !timingSafeEqual(answer.secret, secret)) {
    throw new TcfsError("TCFS_NOT_ATTESTED", "the challenge was not answered by the TPM that it was made for");
  }
  await TpmTools.use({ tcti: "none", toolPath }, async (tools) => {
    await tools.write("ak.pub", key.public);
    await tools.write("quote.msg", answer.message);
    await tools.write("quote.sig", answer.signature);
    const words = ["-Q", "-u", "ak.pub", "-m", "quote.msg", "-s", "quote.sig", "-g", "sha256"];
    try {
      await tools.run("checkquote", [...words, "-q", toHex(nonce)]);
    } catch (cause) {
      if (!isTcfsError(cause, "TCFS_TPM")) throw cause;
      const why = "the quote's signature or nonce is not right: it is another key's, or an old one";
      throw new TcfsError("TCFS_NOT_ATTESTED", why, { cause });
    }
  });
  checkQuote(answer.message, { nonce, selection, values: answer.values });
  const lengthBytes = PCR_BANK_BYTES[selection.pcrBank];
  return selection.pcrs.map((_pcr, at) => answer.values.slice(at * lengthBytes, (at + 1) * lengthBytes));
}

/** The maker's template gives the same key each time, until the TPM is cleared by its maker's own means. */
async function openEndorsementKey(tpm: TpmTools): Promise<void> {
  await tpm.run("createek", ["-Q", "-G", "rsa", "-c", "ek.ctx"]);
}

/** The endorsement key's policy: whoever may use the endorsement hierarchy. Each use takes one. */
async function openEndorsementSession(tpm: TpmTools): Promise<void> {
  await tpm.openSession("endorsement.session", "policy");
  await tpm.run("policysecret", ["-Q", "-S", "endorsement.session", "-c", "e"]);
}

async function readCertificate(tpm: TpmTools): Promise<X509Certificate | undefined> {
  const indexes = new TextDecoder().decode(await tpm.run("getcap", ["handles-nv-index"]));
  if (!indexes.toLowerCase().includes("0x1c00002")) return undefined;
  await tpm.run("nvread", ["-Q", "-C", "o", CERTIFICATE_INDEX, "-o", "ek.der"]);
  return parseCertificate(await tpm.read("ek.der"));
}
