/** The words and flags of the commands on the cache. Rooms are loaded only when used. */
import type { Argv } from "yargs";
import { type AddSecrets, JSON_FLAG, vaultFlags } from "./command-flags.ts";
import type { Settings } from "./settings.ts";

/** @param secrets - Adds the flags that say which vault and what opens it. */
export function addCacheCommands(commands: Argv, settings: Settings, secrets: AddSecrets): Argv {
  const common = (command: Argv) => vaultFlags(command, secrets).option("json", JSON_FLAG);
  const tree = {
    type: "string",
    demandOption: true,
    describe: "a file or directory, in a mount or in the vault",
  } as const;
  return commands
    .command(
      "cache",
      "tell how much of a vault with a store is on this disk, limit it, or give it up",
      (command) =>
        common(command)
          .option("max-size", {
            type: "string",
            requiresArg: true,
            describe: "most that local packs may take, unsent data included: 20g, or auto for half of the disk",
          })
          .option("clear", { type: "boolean", describe: "delete all that the store has and that is not pinned" })
          .example("$0 cache --max-size 50g", "least recently used packs go first"),
      async (parameters) => (await import("./commands/cache.ts")).runCache(parameters, settings),
    )
    .command(
      "pin <path>",
      "fetch a tree and keep it on this disk",
      (command) => common(command).positional("path", tree).example("$0 pin ~/vault/music", "to have it offline"),
      async (parameters) => (await import("./commands/cache.ts")).runPin(parameters, settings),
    )
    .command(
      "unpin <path>",
      "let a pinned tree go when room is needed",
      (command) => common(command).positional("path", tree),
      async (parameters) => (await import("./commands/cache.ts")).runUnpin(parameters, settings),
    )
    .command("pins", "list pinned trees", common, async (parameters) =>
      (await import("./commands/cache.ts")).runPins(parameters, settings),
    )
    .command(
      "warm <path>",
      "fetch a tree now, without keeping it for good",
      (command) => common(command).positional("path", tree),
      async (parameters) => (await import("./commands/cache.ts")).runWarm(parameters, settings),
    );
}
