/** The words and flags of `tcfs credentials`. Rooms are loaded only when used. */
import type { Argv } from "yargs";
import { JSON_FLAG } from "./command-flags.ts";
import type { SharedFlags } from "./key-commands.ts";
import type { Settings } from "./settings.ts";

const SOURCE = {
  type: "string",
  describe: "kdbx:FILE#UUID, kdbx:FILE#Group/Entry, secret-service:TITLE, env, aws or aws:PROFILE",
} as const;

export function credentialCommands(settings: Settings, { secrets, file }: SharedFlags): (command: Argv) => Argv {
  const vault = file("the vault's directory");
  return (credentials) =>
    credentials
      .command(
        "set <source>",
        "say where the credentials for the store come from; the source is read once to try it",
        (command) =>
          secrets(command)
            .positional("source", { ...SOURCE, demandOption: true })
            .option("with-passphrase", {
              type: "boolean",
              describe: "the entry's attribute “passphrase” opens the vault, too: tcfs mount then asks for neither",
            })
            .example("$0 credentials set kdbx:db.kdbx#Servers/Store", "user name and password are the key pair")
            .epilogue(
              "Attributes of the entry: bucket, endpoint, region, session_token; they stand in for what the store's URL says.",
            ),
        async (parameters) => (await import("./commands/credentials.ts")).runCredentialsSet(parameters, settings),
      )
      .command(
        "show",
        "tell where they come from; never what they are",
        (command) => command.option("vault", vault).option("json", JSON_FLAG),
        async (parameters) => (await import("./commands/credentials.ts")).runCredentialsShow(parameters, settings),
      )
      .command(
        "test",
        "read them, and log into the store with them",
        (command) => secrets(command),
        async (parameters) => (await import("./commands/credentials.ts")).runCredentialsTest(parameters, settings),
      )
      .command(
        "renew",
        "hand the running daemon what they are now",
        (command) => secrets(command).example("$0 credentials renew", "after a password was changed; mounted as it is"),
        async (parameters) => (await import("./commands/credentials.ts")).runCredentialsRenew(parameters, settings),
      )
      .command(
        "unset",
        "from now on as the AWS tools: the environment, then ~/.aws/credentials",
        (command) => command.option("vault", vault),
        async (parameters) => (await import("./commands/credentials.ts")).runCredentialsUnset(parameters, settings),
      )
      .demandCommand(1, "say what to do with the credentials: set, show, test, renew, unset");
}
