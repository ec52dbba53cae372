/**
 * `upload.json` in the vault directory (FORMAT.md §11.5): whether uploads rest, how fast they may be and how long they may
 * linger. They last until they are changed, over mounts too. Not authenticated: who can write there can delete all of it.
 */
import { join } from "node:path";
import { z } from "zod";
import { TcfsError } from "../errors.ts";
import type { Disk } from "../platform/disk.ts";

const FILE_NAME = "upload.json";
const MAX_FILE_BYTES = 4096;
const DEFAULT_MAX_AGE_SECONDS = 60;
/** Slower than this no pack arrives within an hour or so. */
const MIN_LIMIT = 4096;
const MAX_AGE_SECONDS = 7 * 24 * 3600;
const DEFAULT_KEEP_SECONDS = 7 * 24 * 3600;
/** Whoever attaches, or reads lazily from an older root, needs what it leads to for so long at least. */
const MIN_KEEP_SECONDS = 60;
const MAX_KEEP_SECONDS = 10 * 365 * 24 * 3600;

/** What is not named stays as it is. */
export const uploadChangeSchema = z.strictObject({
  isPaused: z.boolean().optional(),
  /** Null: none. */
  limitBytesPerSecond: z.int().min(MIN_LIMIT).nullable().optional(),
  /** From the first change to the beginning of its upload, at most. */
  maxAgeSeconds: z.int().min(1).max(MAX_AGE_SECONDS).optional(),
  /** From the root that does not lead to an object any more to its deletion in the store. */
  keepDeletedSeconds: z.int().min(MIN_KEEP_SECONDS).max(MAX_KEEP_SECONDS).optional(),
});

const settingsSchema = z.strictObject({
  isPaused: z.boolean().default(false),
  limitBytesPerSecond: z.int().min(MIN_LIMIT).nullable().default(null),
  maxAgeSeconds: z.int().min(1).max(MAX_AGE_SECONDS).default(DEFAULT_MAX_AGE_SECONDS),
  keepDeletedSeconds: z.int().min(MIN_KEEP_SECONDS).max(MAX_KEEP_SECONDS).default(DEFAULT_KEEP_SECONDS),
});

export type UploadChange = z.infer<typeof uploadChangeSchema>;
export type UploadSettings = Readonly<z.infer<typeof settingsSchema>>;

/** @throws TcfsError `TCFS_CORRUPT` */
export async function readUploadSettings(disk: Disk, directory: string): Promise<UploadSettings> {
  const content = await disk.readFile(join(directory, FILE_NAME));
  try {
    if (content === undefined) return settingsSchema.parse({});
    if (content.length > MAX_FILE_BYTES) throw new RangeError("too long");
    return settingsSchema.parse(JSON.parse(Buffer.from(content).toString("utf8")));
  } catch (cause) {
    throw new TcfsError("TCFS_CORRUPT", `${FILE_NAME} in the vault directory is damaged: remove it`, { cause });
  }
}

/** Durable when it resolves. @returns The settings with the change. @throws TcfsError `TCFS_USAGE` for what cannot be. */
export async function changeUploadSettings(
  disk: Disk,
  directory: string,
  change: UploadChange,
): Promise<UploadSettings> {
  const parsed = uploadChangeSchema.safeParse(change);
  if (!parsed.success) {
    const bounds = `a limit has at least ${MIN_LIMIT} bytes per second, an age is between a second and a week; what is deleted is kept for a minute to ten years`;
    throw new TcfsError("TCFS_USAGE", bounds);
  }
  const named = Object.fromEntries(Object.entries(parsed.data).filter(([, value]) => value !== undefined));
  const settings = settingsSchema.parse({ ...(await readUploadSettings(disk, directory)), ...named });
  await disk.replaceFile(join(directory, FILE_NAME), Buffer.from(`${JSON.stringify(settings, null, 2)}\n`));
  return settings;
}
