/** What a TPM in software remembers of a vault: never set back, whatever crashes or is cleared in between. */
import { describe, expect, test } from "vitest";
import { Freshness } from "../../src/vault/freshness.ts";
import { ObjectSealer } from "../../src/crypto/object-seal.ts";
import { isTcfsError } from "../../src/errors.ts";
import { ADVANCES_PER_DAY, type AnchorPlace, advanceAnchor, readAnchor } from "../../src/keys/tpm/freshness-anchor.ts";
import { systemRandom } from "../../src/platform/random.ts";
import { firstEpoch, noise } from "../crypto/fixtures.ts";
import { SoftwareTpm, swtpmIsMissing } from "../support/swtpm.ts";

const VAULT_ID = new Uint8Array(16).fill(0);
const [COUNTER, RECORDS] = ["0x1800000", "0x1800001"];
const NOW = { nowMs: 1_795_000_000_000, isForced: false };

const placeAt = (tpm: SoftwareTpm, key = "store"): AnchorPlace => ({
  tpm: { tcti: tpm.tcti, toolPath: process.env["PATH"] ?? "" },
  vaultId: VAULT_ID,
  sealer: new ObjectSealer(firstEpoch(noise(key, 32)), VAULT_ID, systemRandom),
});

interface Judgement {
  readonly told: string;
  readonly isMarked: boolean;
}

async function judge(
  tpm: SoftwareTpm,
  state: { readonly commit: number; readonly root: number },
  { isAnchored = true, isOlderAccepted = false } = {},
): Promise<Judgement> {
  let isMarked = false;
  const freshness = new Freshness({
    ...placeAt(tpm),
    isAnchored,
    isOlderAccepted,
    isReadOnly: false,
    onAnchored: async () => {
      isMarked = true;
    },
    logger: { info: () => undefined, warn: () => undefined },
  });
  try {
    await freshness.check(state);
    return { told: "fresh", isMarked };
  } catch (error) {
    await freshness.advance(state); // as closing does: what was refused is not remembered
    return { told: isTcfsError(error) ? `${error.code} ${error.message}` : String(error), isMarked };
  } finally {
    freshness.close();
  }
}

describe.skipIf(swtpmIsMissing !== undefined)("a TPM's memory of a vault", () => {
  test("is made at first, holds over crashes between its steps and restarts, and says what is older", async () => {
    await using tpm = await SoftwareTpm.make();
    const place = placeAt(tpm);
    expect(await readAnchor(place)).toBeUndefined();
    expect(await judge(tpm, { commit: 10, root: 1 }, { isAnchored: false })).toEqual({ told: "fresh", isMarked: true });
    expect(await readAnchor(place)).toMatchObject({ commit: 10, root: 1, writesOfDay: 1 });
    expect((await judge(tpm, { commit: 12, root: 1 })).told).toBe("fresh");
    expect(await advanceAnchor(place, { commit: 20, root: 3 }, NOW)).toBe(true);
    await tpm.stop();
    await tpm.start();
    expect((await judge(tpm, { commit: 19, root: 3 })).told).toMatch(
      /^TCFS_STALE_STATE .*commits 20 to 20, the last known at 2026-\d\d-\d\dT.* are missing.*--accept-older/u,
    );
    expect((await judge(tpm, { commit: 20, root: 2 })).told).toMatch(/^TCFS_STALE_STATE .*shows step 2, and step 3/u);
    // Not said to be anchored any more, as in a copy from before: it is compared all the same.
    expect((await judge(tpm, { commit: 5, root: 0 }, { isAnchored: false })).told).toMatch(/^TCFS_STALE_STATE/u);
    expect((await judge(tpm, { commit: 20, root: 3 })).told).toBe("fresh");

    const older = await tpm.memory(RECORDS);
    expect(await advanceAnchor(place, { commit: 30, root: 3 }, NOW)).toBe(true);
    const newer = await tpm.memory(RECORDS);
    expect(await advanceAnchor(place, { commit: 31, root: 3 }, NOW)).toBe(true);
    expect(await readAnchor(place)).toMatchObject({ commit: 31 });
    // Who writes older records back does not set the counter back.
    for (const replayed of [older, newer]) {
      await tpm.write(RECORDS, replayed);
      const { told } = await judge(tpm, { commit: 20, root: 3 });
      expect(told).toMatch(/^TCFS_STALE_STATE/u);
    }
    expect((await judge(tpm, { commit: 31, root: 3 }, { isOlderAccepted: true })).told).toBe("fresh");
    expect(await readAnchor(place)).toMatchObject({ commit: 31 });
    const before = await tpm.memory(RECORDS);
    await tpm.tool("nvincrement", "-C", COUNTER, COUNTER);
    expect(await readAnchor(place), "records of earlier values").toBe("broken");
    await tpm.write(RECORDS, before);
    expect((await judge(tpm, { commit: 40, root: 3 }, { isOlderAccepted: true })).told).toBe("fresh");
    expect(await readAnchor(place)).toMatchObject({ commit: 40 });
    expect(await tpm.leftInside()).toBe("");
  });

  test("holds when the record is written and the counter not raised, or the record is torn", async () => {
    await using tpm = await SoftwareTpm.make();
    const place = placeAt(tpm);
    await advanceAnchor(place, { commit: 10, root: 0 }, NOW);
    const first = await tpm.memory(RECORDS);
    await advanceAnchor(place, { commit: 20, root: 0 }, NOW);
    const second = await tpm.memory(RECORDS);
    // The counter stands at the second value, where the third's record is about to be written: torn, it counts for nothing.
    const torn = second.map((byte, at) => (isOther(first, second, at) ? byte : byte ^ 0xff));
    await tpm.write(RECORDS, torn);
    expect(await readAnchor(place)).toMatchObject({ commit: 20 });
    expect((await judge(tpm, { commit: 20, root: 0 })).told).toBe("fresh");
    // Written whole and the counter not raised: what it says holds already, and the vault has it.
    await advanceAnchor(place, { commit: 30, root: 0 }, NOW);
    const third = await tpm.memory(RECORDS);
    await using other = await SoftwareTpm.make();
    const there = placeAt(other);
    await advanceAnchor(there, { commit: 10, root: 0 }, NOW);
    await advanceAnchor(there, { commit: 20, root: 0 }, NOW);
    await other.write(RECORDS, third);
    expect(await readAnchor(there)).toMatchObject({ commit: 30 });
    expect(await advanceAnchor(there, { commit: 33, root: 0 }, NOW)).toBe(true);
    expect(await readAnchor(there)).toMatchObject({ commit: 33 });
  });

  test("is missed when the TPM was cleared or is another, refused when tampered with, and begun anew when that is accepted", async () => {
    await using tpm = await SoftwareTpm.make();
    const place = placeAt(tpm);
    await advanceAnchor(place, { commit: 10, root: 0 }, NOW);
    const records = await tpm.memory(RECORDS);
    await tpm.tool("clear", "-c", "p");
    expect(await readAnchor(place)).toBeUndefined();
    expect((await judge(tpm, { commit: 10, root: 0 })).told).toMatch(
      /^TCFS_STALE_STATE this machine's TPM does not remember the vault: it was cleared.*--accept-older/u,
    );
    expect((await judge(tpm, { commit: 10, root: 0 }, { isOlderAccepted: true })).told).toBe("fresh");
    expect(await readAnchor(place)).toMatchObject({ commit: 10 });
    await tpm.write(RECORDS, records); // of before: the counter went on
    expect(await readAnchor(place)).toBe("broken");
    expect((await judge(tpm, { commit: 10, root: 0 })).told).toMatch(/^TCFS_STALE_STATE .*tampered with/u);
    expect((await judge(tpm, { commit: 10, root: 0 }, { isOlderAccepted: true })).told).toBe("fresh");
    expect(await readAnchor(placeAt(tpm, "another vault's key"))).toBe("broken");
    await tpm.tool("nvundefine", "-C", "o", RECORDS);
    expect(await readAnchor(place)).toBe("broken");
    expect((await judge(tpm, { commit: 10, root: 0 }, { isOlderAccepted: true })).told).toBe("fresh");
    await tpm.tool("nvundefine", "-C", "o", COUNTER);
    expect(await readAnchor(place)).toBe("broken");
    expect((await judge(tpm, { commit: 10, root: 0 }, { isOlderAccepted: true })).told).toBe("fresh");
    expect(await readAnchor(place)).toMatchObject({ commit: 10 });

    await tpm.stop();
    expect((await judge(tpm, { commit: 10, root: 0 })).told).toMatch(
      /^TCFS_NO_TPM .*cannot be checked.*--accept-older/u,
    );
    expect((await judge(tpm, { commit: 10, root: 0 }, { isOlderAccepted: true })).told).toBe("fresh");
  });

  test("is written so often a day and no more, but for what a person asks for", async () => {
    await using tpm = await SoftwareTpm.make();
    const place = placeAt(tpm);
    for (let count = 1; count <= ADVANCES_PER_DAY; count++) {
      expect(await advanceAnchor(place, { commit: count, root: 0 }, NOW)).toBe(true);
    }
    expect(await advanceAnchor(place, { commit: 100, root: 0 }, NOW)).toBe(false);
    expect(await readAnchor(place)).toMatchObject({ commit: ADVANCES_PER_DAY });
    expect(await advanceAnchor(place, { commit: 100, root: 0 }, { ...NOW, isForced: true })).toBe(true);
    expect(await advanceAnchor(place, { commit: 101, root: 0 }, { ...NOW, nowMs: NOW.nowMs + 86_400_000 })).toBe(true);
    expect(await readAnchor(place)).toMatchObject({ commit: 101, writesOfDay: 1 });
  });
});

/** Whether the byte is in the half that the second write changed. */
function isOther(first: Uint8Array, second: Uint8Array, at: number): boolean {
  const half = at < 72 ? [0, 72] : [72, 144];
  return Buffer.compare(first.subarray(...half), second.subarray(...half)) !== 0;
}
