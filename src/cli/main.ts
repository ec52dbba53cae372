/** The command `tcfs`: words and flags in, one of the commands called, one exit code out. Rooms are loaded only when used. */
import { readFileSync } from "node:fs";
import yargs from "yargs";
import type { Argv, FallbackCompletionFunction } from "yargs";
import { TcfsError } from "../errors.ts";
import { credentialCommands } from "./credential-commands.ts";
import { hardenProcess } from "../platform/hardening.ts";
import { watchOutput } from "./output-failures.ts";
import { usageSentence } from "./usage-sentence.ts";
import { EXIT_CODE, describeFailure, exitCodeOf } from "./exit-codes.ts";
import { deviceCommands } from "./device-commands.ts";
import { PCRS, keyCommands } from "./key-commands.ts";
import { readSettings } from "./settings.ts";
import { addSnapshotCommands } from "./snapshot-commands.ts";
import { addVersionCommands } from "./version-commands.ts";
import { addCacheCommands } from "./cache-commands.ts";
import { CACHE_SIZE, addStoreCommands } from "./store-commands.ts";

const EPILOGUE =
  "The vault is --vault DIR, or $TCFS_VAULT, or $XDG_DATA_HOME/tcfs/default.\nExit codes and their meaning: docs/ERRORS.md.";

/** The comment of a snapshot; policies, which have sentences of their own; and mount options, which scripts put together. */
const MAY_BE_EMPTY: ReadonlySet<string> = new Set(["comment", "policy", "o"]);

/** mount(8) calls its helper by the name `mount.tcfs`: then it is that, whatever the words. */
const HELPER_NAME = /(^|\/)mount\.(fuse\.)?tcfs$/u;

hardenProcess();
const exitCodeAfterOutput = watchOutput();
process.exitCode = exitCodeAfterOutput(await main(process.argv));

async function main([, name = "", ...words]: readonly string[]): Promise<number> {
  let exitCode: number = EXIT_CODE.OK;
  try {
    if (HELPER_NAME.test(name)) {
      const { runMountHelper } = await import("./mounts/mount-helper.ts");
      return await runMountHelper(words, readSettings());
    }
    await commandLine(words, (code) => (exitCode = code)).parseAsync();
  } catch (error) {
    process.stderr.write(`${describeFailure(error)}\n`);
    return exitCodeOf(error);
  }
  return exitCode;
}

function commandLine(words: readonly string[], setExitCode: (code: number) => void): Argv {
  const settings = readSettings();
  const commands = withoutHelpAfterwards(yargs([...words]))
    .scriptName("tcfs")
    .usage("$0 <command>\n\nAn encrypted, deduplicating filesystem to mount and live in.")
    .command("init", "make a vault", initBuilder, async (parameters) =>
      (await import("./commands/init.ts")).runInit(parameters, settings),
    )
    .command("mount <mountpoint>", "mount a vault", mountBuilder, async ({ o, ...parameters }) => {
      const { runMount } = await import("./commands/mount.ts");
      setExitCode(await runMount({ ...parameters, options: o }, settings));
    })
    .command(
      ["umount <mountpoint>", "unmount <mountpoint>"],
      "flush everything, unmount, and wait for the daemon's end",
      umountBuilder,
      async (parameters) => (await import("./commands/umount.ts")).runUmount(parameters),
    )
    .command(
      "sync [mountpoint]",
      "wait until everything written so far is on the disk",
      syncBuilder,
      async (parameters) => (await import("./commands/sync.ts")).runSync(parameters, settings),
    )
    .command("status [mountpoint]", "tell about a vault and its daemon", statusBuilder, async (parameters) =>
      (await import("./commands/status.ts")).runStatus(parameters, settings),
    )
    .command("key", "manage what opens a vault (a running mount goes on)", keyCommands(settings, { secrets, file }))
    .command(
      "credentials",
      "say where the credentials for the store come from",
      credentialCommands(settings, { secrets, file }),
    )
    .command("device", "who writes to the vault's store", deviceCommands(settings, { secrets, file }))
    .command("gc", "give back the room of what nothing refers to any more", gcBuilder, async (parameters) =>
      (await import("./commands/gc.ts")).runGc(parameters, settings),
    )
    .command(
      "check",
      "read and verify all that is stored, and tell what is damaged",
      checkBuilder,
      async (parameters) => setExitCode(await (await import("./commands/check.ts")).runCheck(parameters, settings)),
    );
  const withSnapshots = addVersionCommands(
    addSnapshotCommands(commands, settings, secrets, setExitCode),
    settings,
    secrets,
  );
  return addStoreCommands(addCacheCommands(withSnapshots, settings, secrets), settings, secrets, setExitCode)
    .completion("completion", "print a script for shell completion: tcfs completion >> ~/.bashrc", offerCompletions)
    .demandCommand(1, "say what to do: tcfs --help lists the commands")
    .recommendCommands()
    .strict()
    .check(refuseEmpty)
    .version(readVersion())
    .help()
    .alias("help", "h")
    .epilogue(EPILOGUE)
    .exitProcess(false)
    .fail((message: string | null, error: Error | undefined) => {
      // yargs' own errors are about the command line.
      if (error !== undefined && error.name !== "YError") throw error;
      const sentence = message ?? error?.message ?? "this command line is not understood";
      throw new TcfsError("TCFS_USAGE", usageSentence(sentence, words));
    });
}

/** Flags to whoever has begun one. With nothing to offer the shell completes paths. (yargs counts the parameters.) */
function offerCompletions(
  current: string,
  _words: unknown,
  complete: Parameters<FallbackCompletionFunction>[2],
  done: (offered: string[]) => void,
): void {
  complete((_error, offered) => {
    done((offered ?? []).filter((word) => current.startsWith("-") || !word.startsWith("-")));
  });
}

/** An empty word is mostly a variable that was not set; a path of that kind would be the current directory, or the root. */
function refuseEmpty(parameters: Readonly<Record<string, unknown>>): true {
  for (const [name, value] of Object.entries(parameters)) {
    if (MAY_BE_EMPTY.has(name)) continue;
    if (value === "" || (Array.isArray(value) && value.includes("")))
      throw new TcfsError("TCFS_USAGE", `what is given for “${name}” is empty: is a variable not set?`);
  }
  return true;
}

/**
 * After each handler yargs lays out that command's help, for the case that it fails: a fifth of what a command takes, and
 * `fail` below tells no help.
 */
function withoutHelpAfterwards(commands: Argv): Argv {
  const internals = (commands as unknown as YargsInternals).getInternalMethods();
  internals.getUsageInstance().cacheHelpMessage = () => undefined;
  return commands;
}

/** Of yargs 18, not in its types. */
interface YargsInternals {
  getInternalMethods(): { getUsageInstance(): { cacheHelpMessage: () => void } };
}

function initBuilder(command: Argv) {
  return newSecrets(command)
    .option("json", { type: "boolean", describe: "print the result, recovery words included, as JSON" })
    .option("tpm", { type: "boolean", describe: "let this machine's TPM open the vault, besides the passphrase" })
    .option("pin", { type: "boolean", describe: "with --tpm: and only with a PIN, which is asked for twice" })
    .option("pcrs", PCRS)
    .describe("pin-file", "with --tpm: take the new PIN from the first line of FILE")
    .option("store", {
      type: "string",
      requiresArg: true,
      describe: "upload it to this empty store: file:///…, s3://…",
    })
    .option("cache-size", CACHE_SIZE)
    .describe("passphrase-file", "take the new passphrase from the first line of FILE")
    .describe("recovery-file", "write the 24 recovery words to the new FILE (0600) instead of printing them")
    .example("$0 init", "asks for a passphrase, makes the default vault, prints 24 recovery words")
    .example("$0 init --vault /data/v --passphrase-file p --recovery-file words", "asks and prints nothing secret");
}

function umountBuilder(command: Argv) {
  return command
    .positional("mountpoint", { type: "string", demandOption: true, describe: "where the vault is mounted" })
    .option("lazy", { type: "boolean", alias: "l", describe: "detach now, end when nobody uses it any more" })
    .option("wait", { type: "boolean", describe: "first wait until everything is in the store" })
    .example("$0 umount ~/vault", "if programs still use it, says which");
}

function syncBuilder(command: Argv) {
  return command
    .positional("mountpoint", { type: "string", describe: "where the vault is mounted, instead of --vault" })
    .option("vault", file("the vault's directory"))
    .example("$0 sync ~/vault", "what syncfs(2) would do, if Linux passed it on to FUSE");
}

function statusBuilder(command: Argv) {
  return secrets(command)
    .positional("mountpoint", { type: "string", describe: "where the vault is mounted, instead of --vault" })
    .option("json", { type: "boolean", describe: "print JSON with stable keys" })
    .example("$0 status", "the default vault")
    .example("$0 status --json ~/vault | jq .pid", "the daemon's process id");
}

function gcBuilder(command: Argv) {
  return secrets(command)
    .option("json", { type: "boolean", describe: "print the report as JSON" })
    .example("$0 gc", "in the running daemon, or by itself if none runs");
}

function checkBuilder(command: Argv) {
  return secrets(command)
    .option("mountpoint", { ...file("the vault that is mounted here"), alias: "m" })
    .option("json", { type: "boolean", describe: "print the report as JSON" })
    .example("$0 check", "in the running daemon beside everything else, or by itself if none runs")
    .example("$0 check --json | jq -r '.damages[].path'", "the paths to bring back from a copy");
}

function mountBuilder(command: Argv) {
  return secrets(command)
    .positional("mountpoint", { type: "string", demandOption: true, describe: "an empty directory" })
    .option("foreground", {
      type: "boolean",
      alias: "f",
      describe: "stay, log to standard error, unmount on control-C",
    })
    .option("pid-file", file("write the daemon's process id to FILE"))
    .option("read-only", { type: "boolean", describe: "refuse every change" })
    .option("snapshot", {
      type: "string",
      requiresArg: true,
      describe: "mount the snapshot of this name alone, read-only",
    })
    .option("auto-reseal", {
      type: "boolean",
      describe: "if the machine's state has changed: once unlocked, let the TPM open the vault in the new one",
    })
    .option("upload-limit", {
      type: "string",
      requiresArg: true,
      describe: "bytes per second to the store, such as 500k or none; as tcfs upload limit",
    })
    .option("tpm-freshness", {
      type: "boolean",
      describe: "have this machine's TPM remember the newest state, and refuse an older one; --no-… ends that",
    })
    .option("accept-older", { type: "boolean", describe: "take a state that the TPM objects to as it is" })
    .option("allow-other", { type: "boolean", describe: "let other users in, as far as permission bits allow" })
    .option("o", {
      type: "string",
      array: true,
      nargs: 1,
      requiresArg: true,
      describe:
        "mount options, comma-separated: ro, noatime, noexec, suid, dev, allow_other, nonempty, fsname=NAME, snapshots=listed|hidden|none, versions=…, store_wait=SECONDS",
    })
    .example("$0 mount ~/vault", "asks for the passphrase, returns when the mount is ready")
    .example("$0 mount /mnt/v --passphrase-file /etc/tcfs/pass -o noatime,allow_other", "asks nothing")
    .example("$0 mount ~/vault --recovery-file words", "the passphrase is lost");
}

function secrets<T>(command: Argv<T>) {
  const keyFile = file("unlock with the key file FILE, which tcfs key add --new-key-file made");
  return newSecrets(command).option("key-file", keyFile);
}

/** Of a vault that is being made: a key file comes later. */
function newSecrets<T>(command: Argv<T>) {
  return command
    .option("vault", file("the vault's directory"))
    .option(
      "passphrase-file",
      file(
        "take the passphrase from the first line of FILE, which must be yours and 0600; or from a KeePass database: kdbx:FILE#Group/Entry; or from a running KeePassXC: secret-service:TITLE",
      ),
    )
    .option("recovery-file", file("unlock with the 24 recovery words in FILE"))
    .option("kdbx-password-file", file("for kdbx:FILE#ENTRY: the database's master password"))
    .option("kdbx-key-file", file("likewise: the database's key file"))
    .option(
      "credentials",
      file(
        "for the store, instead of what tcfs credentials set says: kdbx:FILE#Group/Entry, secret-service:TITLE, env, aws:PROFILE",
      ),
    )
    .option("pin-file", file("the PIN of a TPM slot, from the first line of FILE"))
    .option("tcti", {
      type: "string",
      requiresArg: true,
      describe: "how to reach the TPM, as tpm2-tools take it (default device:/dev/tpmrm0)",
    });
}

/** A flag with a path; given twice, the last one counts. */
function file(describe: string) {
  const coerce = (value: string | string[]): string | undefined => (Array.isArray(value) ? value.at(-1) : value);
  return { type: "string", requiresArg: true, describe, coerce } as const;
}

function readVersion(): string {
  const manifest = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")) as {
    version: string;
  };
  return manifest.version;
}
