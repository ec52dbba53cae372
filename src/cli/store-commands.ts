/** The words and flags of the commands on stores. Rooms are loaded only when used. */
import type { Argv } from "yargs";
import type { Settings } from "./settings.ts";

interface SecretFlags {
  vault: string | undefined;
  "passphrase-file": string | undefined;
  "recovery-file": string | undefined;
}

/** @param secrets - Adds the flags that say which vault and what opens it. */
export function addStoreCommands(
  commands: Argv,
  settings: Settings,
  secrets: <T>(command: Argv<T>) => Argv<T & SecretFlags>,
): Argv {
  const vault = { type: "string", requiresArg: true, describe: "the vault's directory" } as const;
  const url = {
    type: "string",
    describe: "file:///directory, or s3://bucket/prefix?endpoint=URL&region=NAME",
  } as const;
  return commands
    .command("store", "where the vault is uploaded to", (command) =>
      command
        .command(
          "set <url>",
          "give the vault a store; while it is mounted, everything in it is uploaded there",
          (set) =>
            secrets(set)
              .positional("url", { ...url, demandOption: true })
              .example(
                "$0 store set 's3://vault/first?endpoint=http://127.0.0.1:8333'",
                "credentials: as the AWS tools",
              ),
          async (parameters) => (await import("./commands/store.ts")).runStoreSet(parameters, settings),
        )
        .command(
          "show",
          "tell which store it is, and its last known root",
          (show) => show.option("vault", vault).option("json", { type: "boolean", describe: "print JSON" }),
          async (parameters) => (await import("./commands/store.ts")).runStoreShow(parameters, settings),
        )
        .command(
          "test [url]",
          "try out whether a store keeps what uploads rest on",
          (test) => test.option("vault", vault).positional("url", url),
          async (parameters) => (await import("./commands/store.ts")).runStoreTest(parameters, settings),
        )
        .demandCommand(1, "say what to do with the store: set, show, test"),
    )
    .command(
      "attach <url>",
      "open the vault of a store on this machine, with the passphrase or the recovery words",
      (command) =>
        secrets(command)
          .positional("url", { ...url, demandOption: true })
          .example("$0 attach file:///mnt/nas/vault --vault ~/v --recovery-file words", "then: tcfs mount"),
      async (parameters) => (await import("./commands/attach.ts")).runAttach(parameters, settings),
    )
    .command(
      "wait [path]",
      "wait until everything written so far is in the store",
      (command) =>
        command
          .positional("path", { type: "string", describe: "the mount point, or anything in it, instead of --vault" })
          .option("vault", vault)
          .option("timeout", { type: "number", requiresArg: true, describe: "give up after so many seconds" }),
      async (parameters) => (await import("./commands/wait.ts")).runWait(parameters, settings),
    );
}
