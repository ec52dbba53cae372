/** The words and flags of `tcfs restore` and `tcfs undo`. Rooms are loaded only when used. */
import type { Argv } from "yargs";
import type { Settings } from "./settings.ts";

/** The flags that say which vault, as the other commands on snapshots have them. */
interface VaultFlags {
  vault: string | undefined;
  "passphrase-file": string | undefined;
  "recovery-file": string | undefined;
  mountpoint: string | undefined;
}

/** @param common - Adds the flags that say which vault and what opens it. */
export function addRestoreCommands(
  commands: Argv,
  settings: Settings,
  common: (command: Argv) => Argv<VaultFlags>,
): Argv {
  return commands
    .command(
      "restore <name>",
      "make a snapshot's state the present one, after a snapshot of what is there now",
      (command) => restoreBuilder(common(command)),
      async (parameters) => (await import("./commands/restore.ts")).runRestore(parameters, settings),
    )
    .command(
      "undo",
      "take the last restore (or undo) back",
      (command) => common(command).option("json", JSON_FLAG),
      async (parameters) => (await import("./commands/restore.ts")).runUndo(parameters, settings),
    );
}

const JSON_FLAG = { type: "boolean", describe: "print JSON with stable keys" } as const;

function restoreBuilder<T>(command: Argv<T>) {
  return command
    .positional("name", { type: "string", demandOption: true, describe: "the snapshot's name" })
    .option("path", {
      type: "string",
      array: true,
      nargs: 1,
      requiresArg: true,
      describe: "only this file or directory, from the vault's root or in its mount; may be given again",
    })
    .option("dry-run", { type: "boolean", describe: "with --path: only say what would change" })
    .option("json", JSON_FLAG)
    .example("$0 restore before-upgrade", "tcfs undo takes it back")
    .example("$0 restore monday --path docs/letter.odt", "one file, in place")
    .example("$0 restore monday --path src --path docs --dry-run", "what would change");
}
