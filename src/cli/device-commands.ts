/** The words and flags of `tcfs device`. Rooms are loaded only when used. */
import type { Argv } from "yargs";
import { JSON_FLAG } from "./command-flags.ts";
import { PCRS, type SharedFlags } from "./key-commands.ts";
import type { Settings } from "./settings.ts";

export function deviceCommands(settings: Settings, { secrets, file }: SharedFlags): (command: Argv) => Argv {
  return (device) =>
    device
      .command(
        "enroll",
        "let this machine's TPM vouch for this copy of the vault, or give it a name",
        (command) =>
          secrets(command)
            .option("name", {
              type: "string",
              requiresArg: true,
              describe: "what to call it (default: the host's name)",
            })
            .option(
              "ca",
              file("authorities (PEM) that must have certified the TPM: the maker's roots, and what is between"),
            )
            .option("tpm", { type: "boolean", default: true, describe: "--no-tpm: no TPM vouches for it" })
            .option("pcrs", { ...PCRS, describe: "the PCRs to quote, as BANK:LIST (default sha256:7)" })
            .example("$0 device enroll --name desk --ca tpm-roots.pem", "the certificate in the TPM is checked"),
        async (parameters) => (await import("./commands/device-attest.ts")).runDeviceEnroll(parameters, settings),
      )
      .command(
        "attest",
        "have this machine's TPM prove again that it is the one, and quote its PCRs",
        (command) => secrets(command),
        async (parameters) => (await import("./commands/device-attest.ts")).runDeviceAttest(parameters, settings),
      )
      .command(
        "list",
        "show the copies of the vault that write to its store",
        (command) => secrets(command).option("json", JSON_FLAG),
        async (parameters) => (await import("./commands/device.ts")).runDeviceList(parameters, settings),
      )
      .command(
        "revoke <device>",
        "refuse what a device writes to the store from now on",
        (command) =>
          secrets(command)
            .positional("device", {
              type: "string",
              demandOption: true,
              describe: "its name, or the beginning of its id",
            })
            .example("$0 device revoke old-laptop", "it is lost, or was given away"),
        async (parameters) => (await import("./commands/device.ts")).runDeviceRevoke(parameters, settings),
      )
      .demandCommand(1, "say what to do with the devices: enroll, attest, list, revoke");
}
