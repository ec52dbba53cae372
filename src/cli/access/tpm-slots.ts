/** Key slots in a TPM, as the commands use them: opened without a question where that goes, explained where it does not. */
import { TcfsError, isTcfsError } from "../../errors.ts";
import type { SecretKey } from "../../crypto/secret-key.ts";
import type { VaultHeader } from "../../keys/header.ts";
import { replaceSlot, unlockHeader } from "../../keys/keyring.ts";
import type { NewSlot, OpenedHeader } from "../../keys/keyring.ts";
import { isTpmSlot } from "../../keys/slot-format.ts";
import type { TpmSlot } from "../../keys/slot-format.ts";
import type { TpmOptions } from "../../keys/tpm/tpm-tools.ts";
import { systemClock } from "../../platform/clock.ts";
import { systemRandom } from "../../platform/random.ts";
import { describeSlot } from "./describe-slot.ts";
import { rewriteHeader } from "../../vault/rewrite-header.ts";
import { newSecret, readPassphrase } from "./secrets.ts";
import type { SecretSource } from "./secrets.ts";
import type { Settings } from "../settings.ts";
import { askSecret, askYes, hasTerminal } from "../terminal.ts";
import { warn } from "../printable.ts";

/** How a command says which TPM. */
export type TpmSource = Pick<SecretSource, "pinFile" | "tcti" | "mayAsk">;

/** Wrong PINs at a terminal before the next slot is tried. */
const MAX_PIN_ATTEMPTS = 3;

export interface TpmOutcome {
  readonly opened: OpenedHeader | undefined;
  /** Why the last one did not open. */
  readonly failure: TcfsError | undefined;
  /** Whether one did not because the machine's state has changed. */
  readonly isStale: boolean;
}

/** What a new TPM slot is asked to be. */
export interface NewTpmSlot {
  readonly pcrs: string | undefined;
  readonly hasPin: boolean;
  readonly pinFile: string | undefined;
}

/** Try the TPM slots, those without a PIN first. Says of each that does not open why; the last failure is returned instead. */
export async function openByTpm(header: VaultHeader, source: TpmSource, settings: Settings): Promise<TpmOutcome> {
  const slots = header.slots.filter(isTpmSlot).sort((a, b) => a.kind.length - b.kind.length);
  let failure: TcfsError | undefined;
  let isStale = false;
  for (const slot of slots) {
    tell(failure);
    try {
      return { opened: await openSlot(header, slot, source, settings), failure: undefined, isStale };
    } catch (error) {
      if (!(error instanceof TcfsError) || error.code === "TCFS_CANCELLED") throw error;
      isStale ||= error.code === "TCFS_TPM_CHANGED";
      failure = new TcfsError(error.code, `the ${describeSlot(slot)} does not open: ${error.message}`, {
        cause: error,
      });
    }
  }
  return { opened: undefined, failure, isStale };
}

/** Say on standard error what went otherwise than it should: why a slot was passed over, for one. */
export function tell(failure: TcfsError | undefined): void {
  if (failure !== undefined) warn(`tcfs: ${failure.message}`);
}

/** A slot for this machine's TPM. @returns Its material is the caller's to wipe. */
export async function newTpmSlot(request: NewTpmSlot, source: TpmSource, settings: Settings): Promise<NewSlot> {
  const { DEFAULT_PCRS, parsePcrSelection } = await import("../../keys/tpm/pcr-selection.ts");
  const { checkNewPin, sealInTpm } = await import("../../keys/tpm/tpm-secret.ts");
  const selection = parsePcrSelection(request.pcrs ?? DEFAULT_PCRS);
  const hasPin = request.hasPin || request.pinFile !== undefined;
  const pin = hasPin ? await newSecret(request.pinFile, settings, "--pin-file FILE", "PIN") : undefined;
  try {
    if (pin !== undefined) checkNewPin(pin);
    return await sealInTpm(tpmOptions(source, settings), { selection, pin }, systemRandom);
  } finally {
    pin?.fill(0);
  }
}

/**
 * A TPM slot's kind with a fresh secret, for a vault whose key is rotated.
 * @returns Its material is the caller's to wipe.
 * @throws TcfsError `TCFS_TPM_CHANGED` if the machine's state is not what it was: that another one opens the vault from now
 *   on is for a person to say.
 */
export async function rotatedTpmSlot(slot: TpmSlot, source: TpmSource, settings: Settings): Promise<NewSlot> {
  const { checkTpmSlot } = await import("../../keys/tpm/tpm-secret.ts");
  await checkTpmSlot(tpmOptions(source, settings), slot);
  return renewedTpmSlot(slot, source, settings);
}

/** A TPM slot's kind with a fresh secret, sealed to the machine's present state. @returns Its material is the caller's to wipe. */
async function renewedTpmSlot(slot: TpmSlot, source: TpmSource, settings: Settings): Promise<NewSlot> {
  const { resealInTpm } = await import("../../keys/tpm/tpm-secret.ts");
  const pin = slot.kind === "tpm2-pin" ? await getPin(slot, source, settings) : undefined;
  try {
    return await resealInTpm(tpmOptions(source, settings), slot, pin, systemRandom);
  } finally {
    pin?.fill(0);
  }
}

/**
 * Seal slots anew to the machine's present state.
 * @param isForced - Whether those too that can still be opened; and what cannot be resealed is an error in any case.
 * @returns The header as it stands then, and how many were resealed.
 * @throws TcfsError of the first that cannot be; another TPM's are left alone where there are others.
 */
export async function resealSlots(
  directory: string,
  unlocked: { readonly header: VaultHeader; readonly key: SecretKey },
  slots: readonly TpmSlot[],
  isForced: boolean,
  source: TpmSource,
  settings: Settings,
): Promise<{ readonly header: VaultHeader; readonly count: number }> {
  const options = tpmOptions(source, settings);
  let { header } = unlocked;
  let count = 0;
  let foreign: TcfsError | undefined;
  let ownCount = 0;
  for (const slot of slots) {
    if (!isForced) {
      const state = await stateOf(options, slot);
      if (state instanceof TcfsError) foreign = state;
      else ownCount++;
      if (state !== "stale") continue;
    }
    const fresh = await renewedTpmSlot(slot, source, settings);
    const machine = { random: systemRandom, clock: systemClock };
    const after = await replaceSlot(header, unlocked.key, slot.id, fresh, machine).finally(() => {
      fresh.material.fill(0);
    });
    tell(await rewriteHeader(directory, header, after));
    header = after;
    count++;
  }
  if (ownCount === 0 && foreign !== undefined) throw foreign;
  return { header, count };
}

/**
 * After another slot has opened the vault: reseal what the machine's new state keeps shut, if that is wished. What goes
 * wrong is told, and does not keep the vault shut.
 */
export async function resealAfterUnlock(
  directory: string,
  unlocked: OpenedHeader & { readonly header: VaultHeader; readonly isTpmStale: boolean },
  source: TpmSource & { readonly autoReseal: boolean },
  settings: Settings,
): Promise<void> {
  const slots = unlocked.header.slots.filter(isTpmSlot);
  if (slots.length === 0 || isTpmSlot(unlocked.slot)) return;
  try {
    if (!source.autoReseal) {
      if (!unlocked.isTpmStale || source.mayAsk === false || !hasTerminal()) return;
      if (!(await askYes("Let the TPM open the vault in the machine's present state from now on?"))) return;
    }
    const { count } = await resealSlots(directory, unlocked, slots, false, source, settings);
    if (count > 0) warn("tcfs: the TPM opens the vault in the machine's present state again");
  } catch (error) {
    if (!(error instanceof TcfsError)) throw error;
    warn(`tcfs: the TPM slot was not resealed: ${error.message}`);
  }
}

/** How the tools reach the TPM. */
export function tpmOptions({ tcti }: Pick<TpmSource, "tcti">, settings: Settings): TpmOptions {
  return { tcti: tcti ?? settings.defaultTcti, toolPath: settings.toolPath };
}

async function openSlot(
  header: VaultHeader,
  slot: TpmSlot,
  source: TpmSource,
  settings: Settings,
): Promise<OpenedHeader> {
  const { checkTpmSlot, unsealFromTpm } = await import("../../keys/tpm/tpm-secret.ts");
  const options = tpmOptions(source, settings);
  const unlock = async (pin: Uint8Array | undefined): Promise<OpenedHeader> => {
    const bytes = await unsealFromTpm(options, slot, pin).finally(() => pin?.fill(0));
    try {
      return await unlockHeader(header, { kind: slot.kind, slotId: slot.id, bytes });
    } finally {
      bytes.fill(0);
    }
  };
  if (slot.kind === "tpm2") return unlock(undefined);
  // Nobody types a PIN at a TPM that will not take it.
  if (source.pinFile === undefined) await checkTpmSlot(options, slot);
  for (let attempt = 1; ; attempt++) {
    try {
      return await unlock(await getPin(slot, source, settings));
    } catch (error) {
      const mayRetry =
        source.pinFile === undefined && attempt < MAX_PIN_ATTEMPTS && isTcfsError(error, "TCFS_WRONG_KEY");
      if (!mayRetry) throw error;
      warn(error.message);
    }
  }
}

async function getPin(slot: TpmSlot, source: TpmSource, settings: Settings): Promise<Uint8Array> {
  if (source.pinFile !== undefined) return readPassphrase(source.pinFile, settings);
  if (source.mayAsk === false || !hasTerminal())
    throw new TcfsError("TCFS_USAGE", "it needs its PIN, and there is no terminal to ask on: give --pin-file FILE");
  const pin = await askSecret(`PIN of the ${describeSlot(slot)} (empty: another way): `);
  if (pin.length === 0) throw new TcfsError("TCFS_USAGE", "no PIN was given");
  return pin;
}

/** @returns Why the slot is another TPM's, where it is. */
async function stateOf(options: TpmOptions, slot: TpmSlot): Promise<"fresh" | "stale" | TcfsError> {
  const { checkTpmSlot } = await import("../../keys/tpm/tpm-secret.ts");
  try {
    await checkTpmSlot(options, slot);
    return "fresh";
  } catch (error) {
    if (isTcfsError(error, "TCFS_TPM_CHANGED")) return "stale";
    if (isTcfsError(error, "TCFS_TPM_FOREIGN")) return error;
    throw error;
  }
}
