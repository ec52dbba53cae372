/** The limit of a vault's local packs as people give it. */
import { MIN_CACHE_BYTES, readCacheSettings, writeCacheSettings } from "../cache/cache-settings.ts";
import { TcfsError } from "../errors.ts";
import { NodeDisk } from "../platform/node-disk.ts";
import { parseBytes } from "../vault/durations.ts";
import { formatBytes } from "../vault/status.ts";

/** @param text - `20g`, or `auto`. @returns Null for half of the disk. @throws TcfsError `TCFS_USAGE` */
export function parseCacheSize(text: string): number | null {
  if (text === "auto") return null;
  const bytes = parseBytes(text);
  if (bytes < MIN_CACHE_BYTES) {
    const message = `a cache of ${text} is too small to write to: ${formatBytes(MIN_CACHE_BYTES)} is the least`;
    throw new TcfsError("TCFS_USAGE", message);
  }
  return bytes;
}

/** Of a vault that nobody has open. @param maxBytes - Undefined: as it is. */
export async function noteCacheSize(directory: string, maxBytes: number | null | undefined): Promise<void> {
  if (maxBytes === undefined) return;
  const disk = new NodeDisk();
  await writeCacheSettings(disk, directory, { ...(await readCacheSettings(disk, directory)), maxBytes });
}
