/** The words and flags of the commands on snapshots. Rooms are loaded only when used. */
import type { Argv } from "yargs";
import { type AddSecrets, JSON_FLAG, vaultFlags } from "./command-flags.ts";
import { addRestoreCommands } from "./restore-commands.ts";
import type { Settings } from "./settings.ts";

/**
 * @param secrets - Adds the flags that say which vault and what opens it.
 * @param setExitCode - Called where a command ends with another one than 0, and no error.
 */
export function addSnapshotCommands(
  commands: Argv,
  settings: Settings,
  secrets: AddSecrets,
  setExitCode: (code: number) => void,
): Argv {
  const common = (command: Argv) => vaultFlags(command, secrets);
  const name = { type: "string", demandOption: true, describe: "the snapshot's name" } as const;
  const rest = commands
    .command(
      "snapshot [name]",
      "freeze the whole tree as it is, in a moment; or say which snapshots tcfs takes by itself",
      (command) =>
        common(command)
          .positional("name", { type: "string", describe: "the snapshot's name" })
          .option("comment", { type: "string", requiresArg: true, coerce: last, describe: "what it is for" })
          .option("policy", {
            type: "string",
            requiresArg: true,
            coerce: last,
            describe: "how many automatic snapshots to keep: minutely, hourly, daily, weekly, monthly, yearly; or none",
          })
          .example("$0 snapshot before-upgrade --comment 'all tests passed'", "then: ls ~/vault/.snapshots")
          .example("$0 snapshot --policy hourly=24,daily=7,weekly=4,monthly=12", "while it is mounted"),
      async (parameters) => (await import("./commands/snapshot.ts")).runSnapshot(parameters, settings),
    )
    .command(
      "snapshots",
      "list the snapshots",
      (command) => common(command).option("json", JSON_FLAG),
      async (parameters) => (await import("./commands/snapshots.ts")).runSnapshots(parameters, settings),
    )
    .command(
      "forget [names..]",
      "give up snapshots",
      (command) =>
        common(command)
          .positional("names", { type: "string", array: true, describe: "their names" })
          .option("dry-run", { type: "boolean", describe: "only say what would be given up" }),
      async (parameters) => (await import("./commands/forget.ts")).runForget(parameters, settings),
    )
    .command(
      "diff <from> [to]",
      "what changed from a snapshot to another, or to the present",
      (command) =>
        common(command)
          .positional("from", { ...name, describe: "the older snapshot" })
          .positional("to", { type: "string", describe: "the newer snapshot; the present if not given" })
          .option("json", JSON_FLAG),
      async (parameters) => (await import("./commands/diff.ts")).runDiff(parameters, settings),
    );
  return addRestoreCommands(rest, settings, common, setExitCode);
}

/** Of a flag that is given twice, the last one counts. */
function last(value: string | string[]): string | undefined {
  return Array.isArray(value) ? value.at(-1) : value;
}
