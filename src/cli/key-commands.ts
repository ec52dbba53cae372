/** The words and flags of `tcfs key`. Rooms are loaded only when used. */
import type { Argv } from "yargs";
import { type AddSecrets, JSON_FLAG } from "./command-flags.ts";
import type { Settings } from "./settings.ts";

/** What main.ts hands on: the flags that say which vault and what opens it, and a flag with a path. */
export interface SharedFlags {
  readonly secrets: AddSecrets;
  readonly file: (describe: string) => {
    readonly type: "string";
    readonly requiresArg: true;
    readonly describe: string;
    readonly coerce: (value: string | string[]) => string | undefined;
  };
}

/** For commands that seal something in the TPM. */
export const PCRS = {
  type: "string",
  requiresArg: true,
  describe: "with --tpm: the PCRs to bind to, as BANK:LIST (default sha256:7: the state of secure boot)",
} as const;

export function keyCommands(settings: Settings, { secrets, file }: SharedFlags): (command: Argv) => Argv {
  const slot = { type: "string", describe: "the slot's id, or its beginning: tcfs key list shows it" } as const;
  return (key) =>
    key
      .command(
        "list",
        "show the key slots: kind, when made, when last used",
        (command) => listOptions(command, file),
        async (parameters) => (await import("./commands/key.ts")).runKeyList(parameters, settings),
      )
      .command(
        "add",
        "one more way to open the vault, beside those there are",
        (command) => addOptions(secrets(command), file),
        async (parameters) => (await import("./commands/key-add.ts")).runKeyAdd(parameters, settings),
      )
      .command(
        "remove <slot>",
        "give up a key slot; the last one that needs no hardware stays",
        (command) => secrets(command).positional("slot", { ...slot, demandOption: true }),
        async (parameters) => (await import("./commands/key.ts")).runKeyRemove(parameters, settings),
      )
      .command(
        "test [slot]",
        "say which slot a secret opens; changes nothing",
        (command) =>
          secrets(command)
            .positional("slot", slot)
            .example("$0 key test --recovery-file words", "are these still the right words?"),
        async (parameters) => (await import("./commands/key.ts")).runKeyTest(parameters, settings),
      )
      .command(
        "reseal [slot]",
        "let the TPM open the vault in the machine's present state",
        (command) =>
          secrets(command)
            .positional("slot", slot)
            .example("$0 key reseal", "after an update of firmware or secure boot; asks for the passphrase"),
        async (parameters) => (await import("./commands/key-reseal.ts")).runKeyReseal(parameters, settings),
      )
      .command(
        "forget-tpm",
        "the TPM that remembers the vault's state (--tpm-freshness) is gone: wait for it no longer",
        (command) =>
          secrets(command).example("$0 key forget-tpm", "asks for the passphrase: it must open without the TPM"),
        async (parameters) => (await import("./commands/key-forget-tpm.ts")).runKeyForgetTpm(parameters, settings),
      )
      .command(
        "rotate",
        "give the vault another key: what opened the old one opens nothing more",
        (command) => rotateOptions(secrets(command), file),
        async (parameters) => (await import("./commands/key-rotate.ts")).runKeyRotate(parameters, settings),
      )
      .command(
        "passwd",
        "give the vault another passphrase: changes the lock, not the key",
        (command) =>
          secrets(command)
            .option("new-passphrase-file", file("take the new passphrase from the first line of FILE"))
            .example("$0 key passwd", "asks for the old passphrase, then twice for the new one")
            .example("$0 key passwd --recovery-file words", "the old one is lost: use the recovery words"),
        async (parameters) => (await import("./commands/key.ts")).runPasswd(parameters, settings),
      )
      .demandCommand(1, "say what to do with the key: list, add, remove, test, reseal, forget-tpm, rotate, passwd");
}

function addOptions<T>(command: Argv<T>, file: SharedFlags["file"]) {
  return command
    .option("passphrase", { type: "boolean", describe: "a passphrase, asked for twice" })
    .option("new-passphrase-file", file("a passphrase, from the first line of FILE"))
    .option("new-key-file", file("a key file: FILE is made (0600)"))
    .option("hybrid", {
      type: "boolean",
      describe: "with --new-key-file: a passphrase and a key file that open it together alone, by ML-KEM-768",
    })
    .option("words", { type: "boolean", describe: "24 more recovery words, shown once" })
    .option("new-recovery-file", file("24 more recovery words, written to the new FILE (0600)"))
    .option("tpm", { type: "boolean", describe: "this machine's TPM" })
    .option("pin", { type: "boolean", describe: "with --tpm: and a PIN, asked for twice" })
    .option("new-pin-file", file("with --tpm: and a PIN, from the first line of FILE"))
    .option("pcrs", PCRS)
    .example("$0 key add --new-key-file /media/stick/tcfs.key", "then: tcfs mount ~/vault --key-file …");
}

function listOptions(command: Argv, file: SharedFlags["file"]) {
  return command.option("vault", file("the vault's directory")).option("json", JSON_FLAG);
}

function rotateOptions<T>(command: Argv<T>, file: SharedFlags["file"]) {
  return command
    .option("reencrypt", { type: "boolean", describe: "seal the data anew too, not only the keys that it is under" })
    .option("new-recovery-file", file("write the 24 new recovery words to the new FILE (0600)"))
    .option("yes", { type: "boolean", describe: "begin without a question, whatever slots are dropped" })
    .example("$0 key rotate", "asks for the passphrase, says what will open the vault, prints 24 new words")
    .example("$0 key rotate --passphrase-file p --key-file k", "keeps both: only a given secret's slot stays");
}
