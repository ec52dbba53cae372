/** `cache.json` (FORMAT.md §11.9): how much of the store may be on this disk, and what is to stay there. No secrets, no names. */
import { join } from "node:path";
import { z } from "zod";
import { TcfsError } from "../errors.ts";
import type { Disk } from "../platform/disk.ts";

const SETTINGS_NAME = "cache.json";
const MAX_SETTINGS_BYTES = 1024 * 1024;
/** As many trees may be pinned. */
export const MAX_PINS = 10_000;
/** Below this the limit could not hold what commits must store before anything can be given up. */
export const MIN_CACHE_BYTES = 64 * 1024 * 1024;

const schema = z.strictObject({
  format: z.literal("tcfs cache"),
  formatVersion: z.literal(1),
  maxBytes: z.int().min(MIN_CACHE_BYTES).nullable(),
  pins: z.array(z.int().min(1)).max(MAX_PINS),
});

export interface CacheSettings {
  /** Null: half of the disk. */
  readonly maxBytes: number | null;
  /** Inode numbers of pinned files and directories. */
  readonly pins: readonly number[];
}

const DEFAULT_SETTINGS: CacheSettings = { maxBytes: null, pins: [] };

/** @param directory - The vault's. @throws TcfsError `TCFS_CORRUPT` */
export async function readCacheSettings(disk: Disk, directory: string): Promise<CacheSettings> {
  const content = await disk.readFile(join(directory, SETTINGS_NAME));
  if (content === undefined) return DEFAULT_SETTINGS;
  try {
    if (content.length > MAX_SETTINGS_BYTES) throw new RangeError("too long");
    const { maxBytes, pins } = schema.parse(JSON.parse(Buffer.from(content).toString("utf8")));
    return { maxBytes, pins };
  } catch (cause) {
    const message = `${SETTINGS_NAME} in the vault directory is damaged: without it the cache has its default size`;
    throw new TcfsError("TCFS_CORRUPT", message, { cause });
  }
}

/** Durable when it resolves. */
export async function writeCacheSettings(disk: Disk, directory: string, settings: CacheSettings): Promise<void> {
  const { maxBytes, pins } = settings;
  const text = JSON.stringify(schema.parse({ format: "tcfs cache", formatVersion: 1, maxBytes, pins }), null, 2);
  await disk.replaceFile(join(directory, SETTINGS_NAME), Buffer.from(`${text}\n`));
}

/** @returns The limit where none is set. */
export function defaultCacheBytes(totalBytes: number): number {
  return Math.max(MIN_CACHE_BYTES, Math.floor(totalBytes / 2));
}
