/** `tcfs trash`: what was deleted, how it comes back, and how it goes for good. */
import { counted } from "../../counted.ts";
import { TcfsError } from "../../errors.ts";
import type { TrashFigures, TrashRestored } from "../../fs/versions/trash.ts";
import { parseDuration } from "../../vault/durations.ts";
import { findPath, pathIn } from "../find-path.ts";
import { findVault } from "../access/find-vault.ts";
import type { MountedVaultArguments } from "../access/find-vault.ts";
import { printable } from "../printable.ts";
import type { Settings } from "../settings.ts";
import { formatBytes } from "../../vault/status.ts";
import type { VaultArguments } from "../access/vault-access.ts";
import { askVersions } from "../control/version-requests.ts";

export interface TrashArguments extends VaultArguments, MountedVaultArguments {
  readonly restore?: string | undefined;
  readonly to?: string | undefined;
  readonly empty?: boolean | undefined;
  readonly olderThan?: string | undefined;
  readonly json?: boolean | undefined;
}

const EMPTY =
  "the trash is empty (what is deleted soon after it was made is not kept: tcfs versions --policy shows how soon, as min-age)\n";
const LETTER_SUFFIX = { f: "", l: "@", d: "/" } as const;

export async function runTrash(parameters: TrashArguments, settings: Settings): Promise<void> {
  const { restore, to, empty = false, olderThan, json } = parameters;
  if (empty && restore !== undefined) throw new TcfsError("TCFS_USAGE", "--restore or --empty, not both");
  if (olderThan !== undefined && !empty) throw new TcfsError("TCFS_USAGE", "--older-than says what --empty gives up");
  if (to !== undefined && restore === undefined) throw new TcfsError("TCFS_USAGE", "--to says where --restore goes");
  const print = (value: unknown, text: string): void => {
    process.stdout.write(json === true ? `${JSON.stringify(value, null, 2)}\n` : text);
  };
  if (restore !== undefined) {
    const { vault, path } = await findPath(restore, parameters, settings);
    const target = to === undefined ? {} : { to: await pathIn(vault, to) };
    const restored = await askVersions(vault, { operation: "restoreTrash", path, ...target }, parameters, settings);
    print(restored, formatRestored(restored));
    return;
  }
  const vault = await findVault(parameters, settings);
  if (empty) {
    const olderThanSeconds = olderThan === undefined ? 0 : parseDuration(olderThan);
    const gone = await askVersions(vault, { operation: "emptyTrash", olderThanSeconds }, parameters, settings);
    print(gone, `${counted(gone.files, "file is", "files are")} gone for good: ${formatBytes(gone.bytes)}\n`);
    return;
  }
  const trash = await askVersions(vault, { operation: "listTrash" }, parameters, settings);
  print(trash, trash.length === 0 ? EMPTY : trash.map(formatDeleted).join(""));
}

/** `2026-11-22T07:30:05.123Z  1.2 KiB  projects/old/notes.txt` */
function formatDeleted({ path, deletedAt, type, bytes }: TrashFigures): string {
  const size = type === "f" ? formatBytes(bytes) : "";
  return `${deletedAt}${size.padStart(12)}  ${printable(path)}${LETTER_SUFFIX[type]}\n`;
}

function formatRestored({ files, directories, skipped }: TrashRestored): string {
  const left = skipped.map((path) => `left alone, something else is there: ${printable(path)}\n`);
  const verb = files + directories === 1 ? "is" : "are";
  const parts = directories === 0 ? [] : [counted(directories, "directory", "directories")];
  if (files > 0 || directories === 0) parts.unshift(counted(files, "file"));
  return `${parts.join(" and ")} ${verb} back\n${left.join("")}`;
}
