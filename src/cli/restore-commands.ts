/** The words and flags of `tcfs restore` and `tcfs undo`. Rooms are loaded only when used. */
import type { Argv } from "yargs";
import { JSON_FLAG } from "./command-flags.ts";
import type { Settings } from "./settings.ts";

/** The flags that say which vault, as the other commands on snapshots have them. */
interface VaultFlags {
  vault: string | undefined;
  "passphrase-file": string | undefined;
  "recovery-file": string | undefined;
  mountpoint: string | undefined;
}

/**
 * @param common - Adds the flags that say which vault and what opens it.
 * @param setExitCode - Called where the command ends with another one than 0, and no error.
 */
export function addRestoreCommands(
  commands: Argv,
  settings: Settings,
  common: (command: Argv) => Argv<VaultFlags>,
  setExitCode: (code: number) => void,
): Argv {
  return commands
    .command(
      "restore [name]",
      "go back to a snapshot in place, after a snapshot of what is there now; or copy it out with --to",
      (command) => restoreBuilder(common(command)),
      async (parameters) => {
        setExitCode(await (await import("./commands/restore.ts")).runRestore(parameters, settings));
      },
    )
    .command(
      "undo",
      "take the last restore (or undo) back",
      (command) => common(command).option("json", JSON_FLAG),
      async (parameters) => (await import("./commands/restore.ts")).runUndo(parameters, settings),
    );
}

const MANY = { type: "string", array: true, nargs: 1, requiresArg: true } as const;

function restoreBuilder<T>(command: Argv<T>) {
  return command
    .positional("name", { type: "string", describe: "the snapshot's name" })
    .option("at", {
      type: "string",
      requiresArg: true,
      describe: "instead of a name: as it was at TIME (“2 hours ago”, “2026-11-20 14:00”), from snapshots and versions",
    })
    .option("path", {
      ...MANY,
      describe: "only this file or directory, in the mount or else from the vault's root; may be given again",
    })
    .option("to", {
      type: "string",
      requiresArg: true,
      describe: "copy into the empty or new directory DIR, out of the vault; again after an interruption goes on",
    })
    .option("glob", {
      ...MANY,
      describe: "with --to or --list: only what matches, as *.jpg or 'photos/**/2026-*'; may be given again",
    })
    .option("list", { type: "boolean", describe: "only list what was there, and with --at where each file comes from" })
    .option("dry-run", { type: "boolean", describe: "with --path or --to: only say what would be done" })
    .option("keep-set-id", { type: "boolean", describe: "with --to: keep set-user-id and set-group-id bits" })
    .option("keep-devices", { type: "boolean", describe: "with --to: make device files (needs root)" })
    .option("json", JSON_FLAG)
    .example("$0 restore before-upgrade", "everything, in place; tcfs undo takes it back")
    .example("$0 restore monday --path docs/letter.odt", "one file, in place")
    .example("$0 restore --at '2 hours ago' --path src", "one directory as it was then")
    .example("$0 restore monday --path src --dry-run", "what would change")
    .example("$0 restore monday --to /tmp/monday --glob '*.jpg'", "all photos, out of the vault")
    .example("$0 restore monday --list --path docs", "what was there");
}
