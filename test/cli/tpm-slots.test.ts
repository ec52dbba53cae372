/** Key slots in TPMs, as a rotation and a resealing leave them. */
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { toHex } from "../../src/bytes.ts";
import { planSlots, wipePlan } from "../../src/cli/access/rotation-slots.ts";
import { readSettings } from "../../src/cli/settings.ts";
import { resealSlots } from "../../src/cli/access/tpm-slots.ts";
import type { VaultArguments } from "../../src/cli/access/vault-access.ts";
import { formatKeyFile } from "../../src/keys/key-file.ts";
import { readHeader, writeNewHeader } from "../../src/keys/header-file.ts";
import type { VaultHeader } from "../../src/keys/header.ts";
import { type NewVault, addSlot, rotateHeader, unlockHeader } from "../../src/keys/keyring.ts";
import { type TpmSlot, isTpmSlot } from "../../src/keys/slot-format.ts";
import { checkTpmSlot, sealInTpm, unsealFromTpm } from "../../src/keys/tpm/tpm-secret.ts";
import { NodeDisk } from "../../src/platform/node-disk.ts";
import { systemRandom } from "../../src/platform/random.ts";
import { codeOf, keyringOptions, makeVault, utf8 } from "../keys/fixtures.ts";
import { SoftwareTpm, swtpmIsMissing } from "../support/swtpm.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

const settings = readSettings({ PATH: process.env["PATH"] });
const PCR_7 = { pcrBank: "sha256", pcrs: [7] } as const;
const PIN = "hex:2468";
const at = (tpm: SoftwareTpm) => ({ tcti: tpm.tcti, toolPath: settings.toolPath });
const secret = (path: string, content: string | Uint8Array) => writeFile(path, content, { mode: 0o600 });

/** The vault's header with a slot in each of these TPMs besides. */
async function withTpms(
  vault: NewVault,
  tpms: readonly { readonly tpm: SoftwareTpm; readonly pin?: string }[],
): Promise<VaultHeader> {
  let { header } = vault;
  for (const [n, { tpm, pin }] of tpms.entries()) {
    const request = { selection: PCR_7, pin: pin === undefined ? undefined : utf8(pin) };
    const slot = await sealInTpm(at(tpm), request, systemRandom);
    header = await addSlot(header, vault.key, slot, keyringOptions(`tpm ${n}`));
  }
  return header;
}

describe.skipIf(swtpmIsMissing !== undefined)("TPM slots", () => {
  test("are made anew by a rotation where TPM and PIN are at hand, and else dropped with the reason", async () => {
    await using here = await SoftwareTpm.make();
    await using away = await SoftwareTpm.make();
    await using directory = await temporaryDirectory("slots");
    const vault = await makeVault();
    const keyFile = await addSlot(
      await withTpms(vault, [{ tpm: here }, { tpm: here, pin: PIN }, { tpm: away }]),
      vault.key,
      { kind: { kind: "key-file" }, material: new Uint8Array(32).fill(7) },
      keyringOptions("file"),
    );
    const [words, pin, wrong, file] = ["words", "pin", "wrong", "key"].map((name) => join(directory.path, name));
    if (words === undefined || pin === undefined || wrong === undefined || file === undefined) return;
    await secret(words, vault.recoveryWords);
    await secret(pin, PIN);
    await secret(wrong, "2468");
    await secret(file, formatKeyFile(new Uint8Array(32).fill(7)));
    const given: VaultArguments = { recoveryFile: words, tcti: here.tcti };
    const kinds = (slots: readonly { readonly kind: string }[]): string[] => slots.map(({ kind }) => kind).sort();

    const plan = await planSlots(keyFile, { ...given, pinFile: pin, keyFile: file }, settings);
    expect(plan.words).toBeUndefined();
    expect(kinds(plan.kept)).toEqual(["key-file", "recovery-words", "tpm2", "tpm2-pin"]);
    expect(plan.dropped.map(({ slot, why }) => `${slot.kind}: ${why}`).join("\n")).toMatch(
      /^passphrase: --passphrase-file FILE keeps it\ntpm2: this machine's TPM.*is needed: this TPM is not the one/u,
    );
    const next = await rotateHeader(
      keyFile,
      plan.key,
      { slots: plan.slots, renewal: "wraps" },
      keyringOptions("rotated"),
    );
    expect(kinds(next.header.slots)).toEqual(kinds(plan.kept));
    for (const slot of next.header.slots.filter(isTpmSlot)) {
      const bytes = await unsealFromTpm(at(here), slot, slot.kind === "tpm2-pin" ? utf8(PIN) : undefined);
      const opened = await unlockHeader(next.header, { kind: slot.kind, slotId: slot.id, bytes });
      expect(toHex(opened.key.expose())).toBe(toHex(next.key.expose()));
    }
    wipePlan(plan);

    // A wrong PIN is told, rather than that its slot is dropped; without any it is.
    expect(await codeOf(planSlots(keyFile, { ...given, pinFile: wrong }, settings))).toBe("TCFS_WRONG_KEY");
    // A state that nobody has agreed to does not open the new key by itself.
    await here.extend(7);
    const later = await planSlots(keyFile, given, settings);
    expect(kinds(later.kept)).toEqual(["recovery-words"]);
    expect(later.dropped.map(({ why }) => why).join("\n")).toMatch(/PCR sha256:7 is not what it was.*tcfs key reseal/u);
    wipePlan(later);
    expect(await here.leftInside()).toBe("");
  });

  test("of this machine are resealed though another machine's are among them", async () => {
    await using here = await SoftwareTpm.make();
    await using away = await SoftwareTpm.make();
    await using temporary = await temporaryDirectory("reseal");
    const directory = join(temporary.path, "vault");
    await mkdir(directory);
    const vault = await makeVault();
    const header = await withTpms(vault, [{ tpm: away }, { tpm: here }]);
    await writeNewHeader(new NodeDisk(), directory, header);
    await here.extend(7);
    const slots = header.slots.filter(isTpmSlot);
    const reseal = (chosen: readonly TpmSlot[], isForced: boolean) =>
      resealSlots(directory, { header, key: vault.key }, chosen, isForced, { tcti: here.tcti }, settings);
    expect(await codeOf(reseal(slots, true))).toBe("TCFS_TPM_FOREIGN");
    expect(await codeOf(reseal(slots.slice(0, 1), false))).toBe("TCFS_TPM_FOREIGN");
    expect((await reseal(slots, false)).count).toBe(1);
    const resealed = (await readHeader(new NodeDisk(), directory)).slots.filter(isTpmSlot);
    expect(toHex(resealed[0]?.id ?? new Uint8Array())).toBe(toHex(slots[0]?.id ?? new Uint8Array()));
    const own = resealed[1];
    if (own !== undefined) await checkTpmSlot(at(here), own);
    expect(own).toBeDefined();
  });
});
