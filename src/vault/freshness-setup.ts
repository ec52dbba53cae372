/** Whether a vault's state is held against what the TPM remembers: as it was asked for, and as the vault says. */
import type { ObjectSealer } from "../crypto/object-seal.ts";
import { readIsAnchored } from "../keys/devices/device-book.ts";
import type { VaultHeader } from "../keys/header.ts";
import type { TpmOptions } from "../keys/tpm/tpm-tools.ts";
import type { Logger } from "../logger.ts";
import type { Disk } from "../platform/disk.ts";
import { openDeviceBook } from "./device-setup.ts";
import { Freshness } from "./freshness.ts";

export interface FreshnessRequest {
  readonly tpm: TpmOptions;
  /** See {@link MountOptions.tpmFreshness}. */
  readonly wish: boolean | undefined;
  readonly isOlderAccepted: boolean;
}

export interface FreshnessVault {
  readonly disk: Disk;
  readonly directory: string;
  readonly header: VaultHeader;
  /** Borrowed: its keys outlast what is opened. */
  readonly sealer: ObjectSealer;
  readonly isReadOnly: boolean;
  readonly logger: Pick<Logger, "info" | "warn">;
}

/** @returns Undefined where nobody wants it. The vault says so only once the TPM knows it: a crash in between refuses nothing. */
export async function openFreshness(
  { disk, directory, header, sealer, isReadOnly, logger }: FreshnessVault,
  { tpm, wish, isOlderAccepted }: FreshnessRequest,
): Promise<Freshness | undefined> {
  const place = { disk, directory, sealer };
  const isAnchored = await readIsAnchored(place);
  const isWanted = wish ?? isAnchored;
  const keep = async (value: boolean): Promise<void> => {
    const book = await openDeviceBook(place, header.deviceId);
    await book.keep({ isAnchored: value });
  };
  if (!isWanted) {
    if (isAnchored && !isReadOnly) await keep(false);
    return undefined;
  }
  return new Freshness({
    tpm,
    vaultId: header.vaultId,
    sealer,
    isAnchored,
    isOlderAccepted,
    isReadOnly,
    logger,
    onAnchored: () => keep(true),
  });
}
