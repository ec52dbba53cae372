/** TPM slots on a real TPM 2.0, in software: what opens them, what does not, and what is said then. */
import { existsSync, readdirSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { toHex } from "../../src/bytes.ts";
import { isTcfsError } from "../../src/errors.ts";
import { formatHeader, parseHeader } from "../../src/keys/header.ts";
import { addSlot, unlockHeader } from "../../src/keys/keyring.ts";
import { isTpmSlot } from "../../src/keys/slot-format.ts";
import type { TpmSlot, TpmSlotKind } from "../../src/keys/slot-format.ts";
import { checkTpmSlot, resealInTpm, sealInTpm, unsealFromTpm } from "../../src/keys/tpm/tpm-secret.ts";
import type { TpmOptions } from "../../src/keys/tpm/tpm-tools.ts";
import { lockPath } from "../../src/platform/file-lock.ts";
import { systemRandom } from "../../src/platform/random.ts";
import { SoftwareTpm, swtpmIsMissing } from "../support/swtpm.ts";
import { keyringOptions, makeVault, utf8 } from "./fixtures.ts";

const PCR_7 = { pcrBank: "sha256", pcrs: [7] } as const;
/** Some 150 short processes in all; a busy machine takes its time over them. */
const toolPath = process.env["PATH"] ?? "";
const at = (tpm: SoftwareTpm): TpmOptions => ({ tcti: tpm.tcti, toolPath });

async function failure(attempt: Promise<unknown>): Promise<string> {
  try {
    await attempt;
  } catch (error) {
    return isTcfsError(error) ? `${error.code} ${error.message}` : String(error);
  }
  return "nothing thrown";
}

const flipped = (bytes: Uint8Array, position: number): Uint8Array =>
  bytes.map((byte, index) => (index === position ? byte ^ 1 : byte));

describe.skipIf(swtpmIsMissing !== undefined)("a secret in a TPM", () => {
  test("comes back while the PCRs are as they were, also after the power was off, and opens its key slot", async () => {
    await using tpm = await SoftwareTpm.make();
    const vault = await makeVault();
    const { kind, material } = await sealInTpm(at(tpm), { selection: PCR_7, pin: undefined }, systemRandom);
    const added = await addSlot(vault.header, vault.key, { kind, material }, keyringOptions("tpm"));
    const header = parseHeader(formatHeader(added));
    expect(header).toEqual(added);
    const slot = header.slots.find(isTpmSlot) as TpmSlot;
    await tpm.stop();
    await tpm.start();
    const bytes = await unsealFromTpm(at(tpm), slot);
    expect(toHex(bytes)).toBe(toHex(material));
    const opened = await unlockHeader(header, { kind: "tpm2", slotId: slot.id, bytes });
    expect(toHex(opened.key.expose())).toBe(toHex(vault.key.expose()));
    expect(await failure(unlockHeader(header, { kind: "tpm2", slotId: slot.id, bytes: flipped(bytes, 0) }))).toMatch(
      /^TCFS_BAD_HEADER .*tampered/u,
    );
    // The secret crossed the wires twice and never in clear, and nothing is left in the TPM or in memory.
    expect(tpm.traffic()).toContain(toHex(kind.tpm.private));
    expect(tpm.traffic()).not.toContain(toHex(material));
    expect(await tpm.leftInside()).toBe("");
    expect(await scratchDirectories()).toEqual([]);
  });

  test("stays shut when a PCR has changed, and says which; resealing opens it again", async () => {
    await using tpm = await SoftwareTpm.make();
    const selection = { pcrBank: "sha256", pcrs: [4, 7, 11] } as const;
    const { kind } = await sealInTpm(at(tpm), { selection, pin: undefined }, systemRandom);
    await tpm.extend(11);
    await tpm.extend(4);
    expect(await failure(unsealFromTpm(at(tpm), kind))).toMatch(
      /^TCFS_TPM_CHANGED PCR sha256:4,11 is not what it was/u,
    );
    // The TPM's own refusal, where the digests that we compare were changed with the PCRs.
    const now = {
      ...kind.tpm,
      pcrDigests: (await sealInTpm(at(tpm), { selection, pin: undefined }, systemRandom)).kind.tpm.pcrDigests,
    };
    expect(await failure(unsealFromTpm(at(tpm), { kind: "tpm2", tpm: now }))).toMatch(/^TCFS_TPM_CHANGED .*policy/u);
    const again = await resealInTpm(at(tpm), kind, undefined, systemRandom);
    expect(toHex(await unsealFromTpm(at(tpm), again.kind))).toBe(toHex(again.material));
    expect(await tpm.leftInside()).toBe("");
  });

  test("is another TPM's, or a cleared one's, and says so", async () => {
    await using tpm = await SoftwareTpm.make();
    await using other = await SoftwareTpm.make();
    const { kind } = await sealInTpm(at(tpm), { selection: PCR_7, pin: undefined }, systemRandom);
    expect(await failure(unsealFromTpm(at(other), kind))).toMatch(
      /^TCFS_TPM_FOREIGN .*it was cleared; use another slot/u,
    );
    await sealInTpm(at(other), { selection: PCR_7, pin: undefined }, systemRandom);
    expect(await failure(unsealFromTpm(at(other), kind))).toMatch(/^TCFS_TPM_FOREIGN .*another machine's/u);
    expect(await failure(resealInTpm(at(other), kind, undefined, systemRandom))).toMatch(/^TCFS_TPM_FOREIGN/u);
    await tpm.tool("clear", "-c", "p");
    expect(await failure(checkTpmSlot(at(tpm), kind))).toMatch(/^TCFS_TPM_FOREIGN/u);
  });

  test("does not come from blobs that were tampered with", async () => {
    await using tpm = await SoftwareTpm.make();
    const { kind } = await sealInTpm(at(tpm), { selection: PCR_7, pin: undefined }, systemRandom);
    const broken: TpmSlotKind = { kind: "tpm2", tpm: { ...kind.tpm, private: flipped(kind.tpm.private, 70) } };
    expect(await failure(unsealFromTpm(at(tpm), broken))).toMatch(/^TCFS_TPM_FOREIGN .*tampered/u);
    const other = await sealInTpm(at(tpm), { selection: { ...PCR_7, pcrs: [8] }, pin: undefined }, systemRandom);
    const weaker: TpmSlotKind = { kind: "tpm2", tpm: { ...kind.tpm, public: other.kind.tpm.public } };
    expect(await failure(unsealFromTpm(at(tpm), weaker))).toMatch(/^TCFS_TPM/u);
  });

  test("uses the storage key that is there, and says what is wrong with a bank that is not", async () => {
    await using tpm = await SoftwareTpm.make();
    const first = await sealInTpm(at(tpm), { selection: PCR_7, pin: undefined }, systemRandom);
    const second = await sealInTpm(at(tpm), { selection: PCR_7, pin: undefined }, systemRandom);
    expect(toHex(second.kind.tpm.parentName)).toBe(toHex(first.kind.tpm.parentName));
    expect(toHex(second.material)).not.toBe(toHex(first.material));
    const absent = { pcrBank: "sha512", pcrs: [7] } as const;
    await tpm.tool("pcrallocate", "sha512:none+sha256:all");
    await tpm.stop();
    await tpm.start();
    expect(await failure(sealInTpm(at(tpm), { selection: absent, pin: undefined }, systemRandom))).toMatch(
      /^TCFS_USAGE the TPM does not have the PCRs sha512:7/u,
    );
  });
});

describe.skipIf(swtpmIsMissing !== undefined)("a secret in a TPM with a PIN", () => {
  test("comes for the PIN alone; wrong ones are counted until the TPM locks, which it says", async () => {
    await using tpm = await SoftwareTpm.make();
    const request = { selection: PCR_7, pin: utf8("2468") };
    const { kind, material } = await sealInTpm(at(tpm), request, systemRandom);
    expect(material).toHaveLength(64);
    expect(toHex(await unsealFromTpm(at(tpm), kind, utf8("2468")))).toBe(toHex(material));
    const wrong = () => failure(unsealFromTpm(at(tpm), kind, utf8("1357")));
    expect(await wrong()).toBe("TCFS_WRONG_KEY the PIN is wrong; 2 tries are left before the TPM locks");
    expect(await wrong()).toBe("TCFS_WRONG_KEY the PIN is wrong; 1 try is left before the TPM locks");
    expect(await wrong()).toMatch(/^TCFS_WRONG_KEY the PIN is wrong; one more try is possible in at most 17 minutes/u);
    expect(await failure(unsealFromTpm(at(tpm), kind, utf8("2468")))).toMatch(
      /^TCFS_TPM_LOCKED the TPM is locked after too many wrong PINs; one more try is possible in at most 17 minutes/u,
    );
    await tpm.tool("dictionarylockout", "-c");
    expect(toHex(await unsealFromTpm(at(tpm), kind, utf8("2468")))).toBe(toHex(material));
    expect(tpm.traffic()).not.toContain(toHex(material.subarray(0, 32)));
    expect(tpm.traffic()).not.toContain(toHex(material.subarray(32)));
    expect(await tpm.leftInside()).toBe("");
  });

  test("is resealed with its PIN, and not with another one", async () => {
    await using tpm = await SoftwareTpm.make();
    const { kind } = await sealInTpm(at(tpm), { selection: PCR_7, pin: utf8("2468") }, systemRandom);
    await tpm.extend(7);
    expect(await failure(unsealFromTpm(at(tpm), kind, utf8("2468")))).toMatch(/^TCFS_TPM_CHANGED PCR sha256:7 /u);
    expect(await failure(resealInTpm(at(tpm), kind, utf8("1357"), systemRandom))).toMatch(/^TCFS_WRONG_KEY .*2 tries/u);
    expect(await failure(resealInTpm(at(tpm), kind, undefined, systemRandom))).toMatch(/^TCFS_USAGE .*PIN/u);
    const again = await resealInTpm(at(tpm), kind, utf8("2468"), systemRandom);
    expect(again.kind.kind).toBe("tpm2-pin");
    expect(toHex(await unsealFromTpm(at(tpm), again.kind, utf8("2468")))).toBe(toHex(again.material));
  });

  test("takes PINs that the tools would read as something else", async () => {
    await using tpm = await SoftwareTpm.make();
    for (const text of ["hex:1234", "str:abcd", "file:/etc/passwd", "ünï\u0000 ✓"]) {
      const { kind, material } = await sealInTpm(at(tpm), { selection: PCR_7, pin: utf8(text) }, systemRandom);
      expect(toHex(await unsealFromTpm(at(tpm), kind, utf8(text))), text).toBe(toHex(material));
    }
    const { kind } = await sealInTpm(at(tpm), { selection: PCR_7, pin: utf8("hex:31") }, systemRandom);
    expect(await failure(unsealFromTpm(at(tpm), kind, utf8("1")))).toMatch(/^TCFS_WRONG_KEY/u);
  });

  test("is asked for by several at once, one after the other", async () => {
    await using tpm = await SoftwareTpm.make();
    const { kind, material } = await sealInTpm(at(tpm), { selection: PCR_7, pin: utf8("2468") }, systemRandom);
    const all = await Promise.all([1, 2, 3, 4].map(() => unsealFromTpm(at(tpm), kind, utf8("2468"))));
    expect(all.map(toHex)).toEqual(Array.from({ length: 4 }, () => toHex(material)));
    expect(await tpm.leftInside()).toBe("");
  });
});

describe("a TPM that is not there", () => {
  const request = { selection: PCR_7, pin: undefined };

  test("is said to be missing", async () => {
    const none = { tcti: "device:/nowhere/tpmrm0", toolPath };
    expect(await failure(sealInTpm(none, request, systemRandom))).toBe(
      "TCFS_NO_TPM there is no TPM here: /nowhere/tpmrm0 does not exist",
    );
  });

  test.skipIf(swtpmIsMissing !== undefined)("behind a socket is said to be out of reach", async () => {
    const deaf = { tcti: "swtpm:path=/nowhere/socket", toolPath };
    expect(await failure(sealInTpm(deaf, request, systemRandom))).toMatch(/^TCFS_NO_TPM the TPM cannot be reached/u);
    const closed = { tcti: "device:/dev/null", toolPath };
    expect(await failure(sealInTpm(closed, request, systemRandom))).toMatch(/^TCFS_(NO_)?TPM /u);
  });

  test("is said to lack its tools", async () => {
    const bare = { tcti: "swtpm:path=/nowhere/socket", toolPath: "/nowhere" };
    expect(await failure(sealInTpm(bare, request, systemRandom))).toMatch(/^TCFS_NO_TPM tpm2-tools are not installed/u);
  });
});

/** What this user's talks with TPMs have left in memory. */
/** What nobody has in use: other tests may be talking to their TPMs. */
async function scratchDirectories(): Promise<string[]> {
  const uid = String(process.geteuid?.() ?? 0);
  const bases = [`/run/user/${uid}`, "/dev/shm", "/run"].map((parent) => `${parent}/tcfs-tpm-${uid}`);
  const left: string[] = [];
  for (const base of bases.filter((path) => existsSync(path))) {
    await using _lock = await lockPath(`${base}/lock`, "uses a TPM", 60);
    left.push(...readdirSync(base).filter((name) => name.startsWith("scratch-")));
  }
  return left;
}
