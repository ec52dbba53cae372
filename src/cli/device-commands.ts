/** The words and flags of `tcfs device`. Rooms are loaded only when used. */
import type { Argv } from "yargs";
import type { SharedFlags } from "./key-commands.ts";
import type { Settings } from "./settings.ts";

export function deviceCommands(settings: Settings, { secrets }: Pick<SharedFlags, "secrets">): (command: Argv) => Argv {
  return (device) =>
    device
      .command(
        "list",
        "show the copies of the vault that write to its store",
        (command) => secrets(command).option("json", { type: "boolean", describe: "print JSON with stable keys" }),
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
      .demandCommand(1, "say what to do with the devices: list, revoke");
}
