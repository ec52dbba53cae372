/** From a pack's header to what opens its frames (FORMAT.md §5.2). */
import type { PackCipher, SealingEngine } from "../crypto/engine.ts";
import type { PackKeyWrapper } from "../crypto/pack-key.ts";
import { TcfsError } from "../errors.ts";
import type { PackId } from "../ids.ts";
import { decodePackHeader, wrapsOf } from "./pack-format.ts";

export interface PackCipherRooms {
  readonly engine: Pick<SealingEngine, "packCipher">;
  readonly packKeys: PackKeyWrapper;
  readonly vaultId: Uint8Array;
}

/**
 * @param header - The pack's first bytes.
 * @returns The caller's to wipe.
 * @throws TcfsError `TCFS_CORRUPT` if it is not this pack's or its key does not verify, `TCFS_UNKNOWN_FORMAT`.
 */
export function openPackCipher(
  header: Uint8Array,
  pack: PackId,
  { engine, packKeys, vaultId }: PackCipherRooms,
): PackCipher {
  const decoded = decodePackHeader(header);
  if (Buffer.compare(decoded.pack, pack) !== 0 || Buffer.compare(decoded.vaultId, vaultId) !== 0) {
    throw new TcfsError("TCFS_CORRUPT", "its header names another");
  }
  const packKey = packKeys.unwrap(pack, wrapsOf(decoded));
  const cipher = engine.packCipher(pack, packKey, decoded.keyEpoch);
  packKey.fill(0);
  return cipher;
}
