/** Checks of what an engine is opened with; programmer's errors, so RangeError. */
import type { ChunkingParameters, EngineOptions } from "./engine.ts";
import { MAX_CHUNK_BYTES } from "./engine.ts";
import { KEY_BYTES, VAULT_ID_BYTES } from "./subkeys.ts";

export const SESSION_ID_BYTES = 8;
/** The loose threshold needs at least a bit (FORMAT.md §4). */
const MIN_AVERAGE_BYTES = 16;

function checkChunking({ minBytes, averageBytes, maxBytes }: ChunkingParameters): void {
  const isPowerOfTwo = Number.isInteger(Math.log2(averageBytes));
  const areWhole = Number.isInteger(minBytes) && Number.isInteger(maxBytes);
  if (!isPowerOfTwo || !areWhole || averageBytes < MIN_AVERAGE_BYTES) throw new RangeError("impossible chunk sizes");
  const areOrdered = minBytes >= 1 && minBytes < averageBytes && averageBytes < maxBytes;
  if (!areOrdered || maxBytes > MAX_CHUNK_BYTES) throw new RangeError("chunk sizes are out of order or too large");
}

/** @throws RangeError on a key, id or chunk size that FORMAT.md does not allow. */
export function checkEngineOptions({ vaultId, subkeys, chunking, sessionId }: EngineOptions): void {
  checkChunking(chunking);
  if (vaultId.length !== VAULT_ID_BYTES) throw new RangeError(`a vault id has ${VAULT_ID_BYTES} bytes`);
  if (sessionId.length !== SESSION_ID_BYTES) throw new RangeError(`a session id has ${SESSION_ID_BYTES} bytes`);
  for (const key of [subkeys.chunkId, subkeys.gear, subkeys.records, subkeys.names, subkeys.packs]) {
    if (key.length !== KEY_BYTES) throw new RangeError(`a subkey has ${KEY_BYTES} bytes`);
  }
}
