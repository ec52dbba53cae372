/** `tcfs upload`: pause, speed and patience of uploads, in the running daemon or for the next one. */
import { TcfsError } from "../../errors.ts";
import { NodeDisk } from "../../platform/node-disk.ts";
import { readState } from "../../replica/replica-state.ts";
import { type UploadChange, changeUploadSettings } from "../../replica/upload-settings.ts";
import { askDaemon } from "../control/control-client.ts";
import { parseBytes, parseDuration } from "../../vault/durations.ts";
import type { Settings } from "../settings.ts";
import { findVault } from "../access/find-vault.ts";

export type UploadWord = "pause" | "resume" | "limit" | "max-age" | "keep-deleted";

export interface UploadArguments {
  readonly vault?: string | undefined;
  /** Bytes per second, or `none`. */
  readonly rate?: string | undefined;
  readonly age?: string | undefined;
}

/** @throws TcfsError `TCFS_USAGE` if the vault has no store, or for a rate or age that cannot be. */
export async function runUpload(word: UploadWord, parameters: UploadArguments, settings: Settings): Promise<void> {
  const directory = await findVault({ vault: parameters.vault }, settings);
  await configureUploads(directory, changeOf(word, parameters));
}

/** In the daemon that serves the vault, or in its directory alone. */
export async function configureUploads(directory: string, change: UploadChange): Promise<void> {
  if ((await askDaemon(directory, { operation: "configureUploads", change })) !== undefined) return;
  const disk = new NodeDisk();
  if ((await readState(disk, directory)) === undefined) {
    throw new TcfsError("TCFS_USAGE", "this vault has no store: tcfs store set URL gives it one");
  }
  await changeUploadSettings(disk, directory, change);
}

export function parseRate(rate: string): number | null {
  return rate === "none" ? null : parseBytes(rate);
}

function changeOf(word: UploadWord, { rate = "", age = "" }: UploadArguments): UploadChange {
  switch (word) {
    case "pause":
      return { isPaused: true };
    case "resume":
      return { isPaused: false };
    case "limit":
      return { limitBytesPerSecond: parseRate(rate) };
    case "max-age":
      return { maxAgeSeconds: parseDuration(age) };
    case "keep-deleted":
      return { keepDeletedSeconds: parseDuration(age) };
  }
}
