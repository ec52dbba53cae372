/** The words and flags of the commands on versions. Rooms are loaded only when used. */
import type { Argv } from "yargs";
import { type AddSecrets, JSON_FLAG, vaultFlags } from "./command-flags.ts";
import type { Settings } from "./settings.ts";

/** @param secrets - Adds the flags that say which vault and what opens it. */
export function addVersionCommands(commands: Argv, settings: Settings, secrets: AddSecrets): Argv {
  const common = (command: Argv) => vaultFlags(command, secrets).option("json", JSON_FLAG);
  const to = {
    type: "string",
    requiresArg: true,
    describe: "bring it back as PATH instead, in the mount or else from the vault's root",
  } as const;
  return commands
    .command(
      "versions [path]",
      "list what a file held before it was changed, replaced or deleted",
      (command) =>
        common(command)
          .positional("path", { type: "string", describe: "the file, in the mount or else from the vault's root" })
          .option("restore", {
            type: "string",
            requiresArg: true,
            describe: "make the version of this time the present one; what is there now becomes a version",
          })
          .option("to", to)
          .option("policy", {
            type: "string",
            describe: "show what is kept and for how long, or change it: all=1h,hourly=1d,daily=1y,max=1000,…",
          })
          .example("$0 versions notes.txt", "in the mount; from elsewhere it begins at the vault's root")
          .example("$0 versions notes.txt --restore 2026-11-22T07:30", "the beginning of a time is enough")
          .example("$0 versions --policy trash=90d,min-age=1m", "deleted files stay for 90 days"),
      async (parameters) => (await import("./commands/versions.ts")).runVersions(parameters, settings),
    )
    .command(
      "trash",
      "list what was deleted and can be brought back",
      (command) =>
        common(command)
          .option("restore", {
            type: "string",
            requiresArg: true,
            describe: "bring back the file, or the directory with all that was deleted in it, that was at this path",
          })
          .option("to", to)
          .option("empty", { type: "boolean", describe: "give up what is in it" })
          .option("older-than", {
            type: "string",
            requiresArg: true,
            describe: "with --empty: only from before 7d, 12h …",
          })
          .example("$0 trash", "of the vault that the current directory is in, or of --vault")
          .example("$0 trash --restore projects/old", "with the directories that it was in"),
      async (parameters) => (await import("./commands/trash.ts")).runTrash(parameters, settings),
    );
}
