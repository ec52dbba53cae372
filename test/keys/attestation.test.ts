/** A device's TPM proves itself, on TPMs in software; and everything that is not that proof is refused. */
import { describe, expect, test } from "vitest";
import { toHex } from "../../src/bytes.ts";
import { isTcfsError } from "../../src/errors.ts";
import {
  type Answer,
  type NewAttestationKey,
  answerChallenge,
  checkAnswer,
  makeAttestationKey,
  makeChallenge,
} from "../../src/keys/tpm/attestation.ts";
import { parseAuthorities, parseCertificate, verifyCertificate } from "../../src/keys/tpm/ek-certificate.ts";
import { attestationKeyName } from "../../src/keys/tpm/tpm-structures.ts";
import type { TpmOptions } from "../../src/keys/tpm/tpm-tools.ts";
import { systemRandom } from "../../src/platform/random.ts";
import { SoftwareTpm, swtpmIsMissing } from "../support/swtpm.ts";

const PCR_7 = { pcrBank: "sha256", pcrs: [7] } as const;
const toolPath = process.env["PATH"] ?? "";
const at = (tpm: SoftwareTpm): TpmOptions => ({ tcti: tpm.tcti, toolPath });

async function failure(attempt: Promise<unknown> | (() => unknown)): Promise<string> {
  try {
    await (typeof attempt === "function" ? attempt() : attempt);
  } catch (error) {
    return isTcfsError(error) ? `${error.code} ${error.message}` : String(error);
  }
  return "nothing thrown";
}

/** One challenge, answered by `tpm` with `key`. */
async function ask(tpm: SoftwareTpm, key: NewAttestationKey, selection: typeof PCR_7 = PCR_7) {
  const asked = await makeChallenge(toolPath, key, selection, systemRandom);
  return { asked, answer: await answerChallenge(at(tpm), key, asked.challenge) };
}

const overTheWire = (bytes: Uint8Array): Uint8Array => Uint8Array.from(Buffer.from(toHex(bytes), "hex"));

const flipped = (bytes: Uint8Array, position: number): Uint8Array =>
  bytes.map((byte, index) => (index === position ? byte ^ 1 : byte));

describe.skipIf(swtpmIsMissing !== undefined)("a TPM that vouches for a device", () => {
  test("has its maker's certificate, which another maker's authorities do not make good", async () => {
    const { tpm: made, authorities } = await SoftwareTpm.makeCertified();
    await using tpm = made;
    const other = await SoftwareTpm.makeCertified();
    await using _other = other.tpm;
    const key = await makeAttestationKey(at(tpm));
    const certificate = key.certificate!;
    const now = Date.now();
    verifyCertificate(certificate, parseAuthorities(authorities), now);
    const [root, issuer] = parseAuthorities(authorities);
    expect(await failure(() => verifyCertificate(certificate, [root!], now))).toMatch(/^TCFS_NOT_ATTESTED .*leads to/u);
    expect(await failure(() => verifyCertificate(certificate, [issuer!], now))).toMatch(
      /^TCFS_NOT_ATTESTED .*leads to/u,
    );
    const strangers = parseAuthorities(other.authorities);
    expect(await failure(() => verifyCertificate(certificate, strangers, now))).toMatch(/^TCFS_NOT_ATTESTED/u);
    expect(await failure(() => verifyCertificate(certificate, parseAuthorities(authorities), 0))).toMatch(
      /valid from/u,
    );
    // A certificate that signs itself is no authority.
    expect(await failure(() => verifyCertificate(certificate, [certificate], now))).toMatch(/^TCFS_NOT_ATTESTED/u);
    const padded = Buffer.concat([certificate.raw, Buffer.alloc(50, 255)]);
    expect(parseCertificate(padded).fingerprint256).toBe(certificate.fingerprint256);
    expect(await failure(() => parseCertificate(padded.subarray(0, 200)))).toMatch(/^TCFS_NOT_ATTESTED .*damaged/u);
    expect(await failure(() => parseAuthorities("nothing"))).toMatch(/^TCFS_USAGE/u);

    // The other maker's certificate put into this TPM.
    const stolen = (await makeAttestationKey(at(other.tpm))).certificate!;
    await tpm.tool("nvundefine", "-C", "p", "0x01c00002");
    const attributes = "ownerread|authread|authwrite|ownerwrite";
    await tpm.tool("nvdefine", "-C", "o", "0x01c00002", "-s", String(stolen.raw.length), "-a", attributes);
    await tpm.write("0x01c00002", stolen.raw);
    expect(await failure(makeAttestationKey(at(tpm)))).toMatch(/^TCFS_NOT_ATTESTED .*another key/u);
  });

  test("answers a challenge, after a restart too, and no other TPM does, nor this one once it is cleared", async () => {
    await using tpm = await SoftwareTpm.make();
    await using other = await SoftwareTpm.make();
    const key = await makeAttestationKey(at(tpm));
    expect(key.certificate).toBeUndefined();
    expect(await tpm.leftInside()).toBe("");
    await tpm.stop();
    await tpm.start();
    const { asked, answer } = await ask(tpm, key);
    const [digest] = await checkAnswer(toolPath, key, asked, answer);
    expect(digest).toEqual(new Uint8Array(32));
    expect(await tpm.leftInside()).toBe("");

    expect(await failure(ask(other, key))).toMatch(/^TCFS_TPM_FOREIGN this TPM does not have the device's/u);
    // The other one's own key, with this one's endorsement key claimed.
    const claimed = { ...(await makeAttestationKey(at(other))), endorsementKey: key.endorsementKey };
    expect(await failure(ask(other, claimed))).not.toBe("nothing thrown");

    await tpm.extend(7);
    const later = await ask(tpm, key);
    const [changed] = await checkAnswer(toolPath, key, later.asked, later.answer);
    expect(changed).not.toEqual(digest);

    await tpm.tool("clear", "-c", "p");
    expect(await failure(ask(tpm, key))).toMatch(/^TCFS_TPM_FOREIGN/u);
  });

  test("is asked and judged where it is not: questions and answers are bytes alone, and the verifier needs no TPM", async () => {
    const { tpm: made, authorities } = await SoftwareTpm.makeCertified();
    await using tpm = made;
    const key = await makeAttestationKey(at(tpm));
    // What the verifier has of the device: as the list of devices has it, without the TPM's private blob.
    const known = { endorsementKey: overTheWire(key.endorsementKey), public: overTheWire(key.public) };
    await tpm.stop();
    verifyCertificate(parseCertificate(overTheWire(key.certificate!.raw)), parseAuthorities(authorities), Date.now());
    const asked = await makeChallenge(toolPath, known, PCR_7, systemRandom);
    const { credential, nonce } = asked.challenge;
    await tpm.start();
    const challenge = { credential: overTheWire(credential), nonce: overTheWire(nonce), selection: PCR_7 };
    const { secret, message, signature, values } = await answerChallenge(at(tpm), key, challenge);
    await tpm.stop();
    const answer: Answer = {
      ...{ secret: overTheWire(secret), message: overTheWire(message) },
      ...{ signature: overTheWire(signature), values: overTheWire(values) },
    };
    expect(await checkAnswer(toolPath, known, asked, answer)).toEqual([new Uint8Array(32)]);
    const later = await makeChallenge(toolPath, known, PCR_7, systemRandom);
    expect(await failure(checkAnswer(toolPath, known, later, answer))).toMatch(/^TCFS_NOT_ATTESTED/u);
  });

  test("is not believed by an old quote, another key's, other PCRs, or anything altered", async () => {
    await using tpm = await SoftwareTpm.make();
    const key = await makeAttestationKey(at(tpm));
    const other = await makeAttestationKey(at(tpm));
    const first = await ask(tpm, key);
    const second = await ask(tpm, key);
    const judge = (answer: Answer, asked = second.asked): Promise<string> =>
      failure(checkAnswer(toolPath, key, asked, answer));
    expect(await judge(second.answer)).toBe("nothing thrown");

    const { secret } = second.answer;
    expect(await judge({ ...first.answer, secret })).toMatch(/^TCFS_NOT_ATTESTED .*signature or nonce/u);
    expect(await judge({ ...second.answer, secret: first.answer.secret })).toMatch(/challenge was not answered/u);
    expect(await judge({ ...second.answer, secret: secret.subarray(1) })).toMatch(/challenge was not answered/u);

    // Another key of the same TPM, asked with the same nonce.
    const foreign = await makeChallenge(toolPath, other, PCR_7, systemRandom);
    const { nonce } = second.asked.challenge;
    const quoted = await answerChallenge(at(tpm), other, { ...foreign.challenge, nonce });
    expect(await judge({ ...quoted, secret })).toMatch(/^TCFS_NOT_ATTESTED .*signature or nonce/u);

    // Other PCRs than were asked for, with a good signature over the right nonce.
    const pcr16 = { pcrBank: "sha256", pcrs: [16] } as const;
    const elsewhere = await answerChallenge(at(tpm), key, { ...second.asked.challenge, selection: pcr16 });
    expect(await judge(elsewhere)).toMatch(/^TCFS_NOT_ATTESTED .*of other PCRs/u);
    const values = flipped(second.answer.values, 3);
    expect(await judge({ ...second.answer, values })).toMatch(/^TCFS_NOT_ATTESTED .*not what it says/u);
    for (const position of [0, 5, 60, second.answer.message.length - 1]) {
      const message = flipped(second.answer.message, position);
      expect(await judge({ ...second.answer, message })).toMatch(/^TCFS_NOT_ATTESTED/u);
    }
    expect(await judge({ ...second.answer, message: second.answer.message.subarray(0, 40) })).toMatch(
      /TCFS_NOT_ATTESTED/u,
    );

    // A key that would sign anything is no attestation key.
    const unrestricted = flipped(key.public, 7); // the byte of `restricted` in its attributes
    expect(await failure(() => attestationKeyName(unrestricted))).toMatch(/^TCFS_NOT_ATTESTED .*sign anything/u);
    expect(await failure(() => attestationKeyName(key.public.subarray(0, 20)))).toMatch(/^TCFS_NOT_ATTESTED/u);
  });
});
