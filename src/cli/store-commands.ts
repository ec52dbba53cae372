/** The words and flags of the commands on stores. Rooms are loaded only when used. */
import type { Argv } from "yargs";
import type { UploadArguments, UploadWord } from "./commands/upload.ts";
import type { AddSecrets } from "./command-flags.ts";
import type { Settings } from "./settings.ts";

/** Of init, attach and store set. */
export const CACHE_SIZE = {
  type: "string",
  requiresArg: true,
  describe: "most that its packs may take on this disk, unsent data included: 20g, or auto for half of the disk",
} as const;

const VAULT = { type: "string", requiresArg: true, describe: "the vault's directory" } as const;
const URL_WORD = {
  type: "string",
  describe: "file:///directory, or s3://bucket/prefix?endpoint=URL&region=NAME",
} as const;

/** @param secrets - Adds the flags that say which vault and what opens it. */
export function addStoreCommands(
  commands: Argv,
  settings: Settings,
  secrets: AddSecrets,
  setExitCode: (code: number) => void,
): Argv {
  const withStore = addUploadCommand(addStoreCommand(commands, settings, secrets), settings, secrets);
  return addRecoveryCommands(withStore, settings, secrets, setExitCode);
}

function addStoreCommand(commands: Argv, settings: Settings, secrets: AddSecrets): Argv {
  return commands.command("store", "where the vault is uploaded to", (command) =>
    command
      .command(
        "set <url>",
        "give the vault a store; while it is mounted, everything in it is uploaded there",
        (set) =>
          secrets(set)
            .positional("url", { ...URL_WORD, demandOption: true })
            .option("cache-size", CACHE_SIZE)
            .example("$0 store set 's3://vault/first?endpoint=http://127.0.0.1:8333'", "credentials: as the AWS tools"),
        async (parameters) => (await import("./commands/store.ts")).runStoreSet(parameters, settings),
      )
      .command(
        "show",
        "tell which store it is, and its last known root",
        (show) => show.option("vault", VAULT).option("json", { type: "boolean", describe: "print JSON" }),
        async (parameters) => (await import("./commands/store.ts")).runStoreShow(parameters, settings),
      )
      .command(
        "test [url]",
        "try out whether a store keeps what uploads rest on",
        (test) => secrets(test).positional("url", URL_WORD),
        async (parameters) => (await import("./commands/store.ts")).runStoreTest(parameters, settings),
      )
      .command(
        "accept",
        "uploads have ended at a root that is not ours: tell what is where, and go on from this directory",
        (accept) =>
          secrets(accept)
            .option("yes", { type: "boolean", alias: "y", describe: "ask nothing" })
            .option("dry-run", { type: "boolean", describe: "only tell" }),
        async (parameters) => (await import("./commands/store-accept.ts")).runStoreAccept(parameters, settings),
      )
      .command(
        "forget <root>",
        "delete a root that tcfs store accept kept, and let go what only it leads to",
        (forget) =>
          secrets(forget)
            .positional("root", { type: "string", demandOption: true, describe: "as tcfs store accept named it" })
            .option("yes", { type: "boolean", alias: "y", describe: "ask nothing" }),
        async (parameters) => (await import("./commands/store-forget.ts")).runStoreForget(parameters, settings),
      )
      .demandCommand(1, "say what to do with the store: set, show, test, accept, forget"),
  );
}

function addRecoveryCommands(
  commands: Argv,
  settings: Settings,
  secrets: AddSecrets,
  setExitCode: (code: number) => void,
): Argv {
  return commands
    .command(
      "attach <url>",
      "open the vault of a store on this machine, with the passphrase or the recovery words",
      (command) =>
        secrets(command)
          .positional("url", { ...URL_WORD, demandOption: true })
          .option("root", { type: "string", requiresArg: true, describe: "a kept root, as tcfs store accept named it" })
          .option("tpm-freshness", {
            type: "boolean",
            describe: "refuse a state older than this machine's TPM remembers, and have it remember from now on",
          })
          .option("accept-older", { type: "boolean", describe: "take a state that the TPM objects to as it is" })
          .option("cache-size", CACHE_SIZE)
          .example("$0 attach file:///mnt/nas/vault --vault ~/v --recovery-file words", "then: tcfs mount"),
      async (parameters) => (await import("./commands/attach.ts")).runAttach(parameters, settings),
    )
    .command(
      "rehearse-recovery [url]",
      "bring the vault back from its store alone, in a scratch directory, and tell what would be lost",
      (command) =>
        secrets(command)
          .positional("url", { ...URL_WORD, describe: "the store, if not that of the vault" })
          .option("scratch", { ...VAULT, describe: "where to work, if not the system's temporary directory" })
          .option("sample", { type: "string", default: "64m", requiresArg: true, describe: "how much data to read" })
          .option("all", { type: "boolean", describe: "read and verify every file; takes as much room as the vault" })
          .option("json", { type: "boolean", describe: "print the report as JSON" })
          .example("$0 rehearse-recovery --recovery-file words", "do the 24 words still open it?"),
      async (parameters) =>
        setExitCode(await (await import("./commands/rehearse-recovery.ts")).runRehearsal(parameters, settings)),
    )
    .command(
      "wait [path]",
      "wait until everything written so far is in the store",
      (command) =>
        command
          .positional("path", { type: "string", describe: "the mount point, or anything in it, instead of --vault" })
          .option("vault", VAULT)
          .option("timeout", { type: "number", requiresArg: true, describe: "give up after so many seconds" }),
      async (parameters) => (await import("./commands/wait.ts")).runWait(parameters, settings),
    );
}

function addUploadCommand(commands: Argv, settings: Settings, secrets: AddSecrets): Argv {
  const upload = async (word: UploadWord, parameters: UploadArguments) =>
    (await import("./commands/upload.ts")).runUpload(word, parameters, settings);
  return commands
    .command("upload", "how the vault goes to its store; holds until it is changed, over mounts too", (command) =>
      command
        .command(
          "pause",
          "upload nothing until resumed",
          (pause) => pause.option("vault", VAULT),
          async (parameters) => upload("pause", parameters),
        )
        .command(
          "resume",
          "go on",
          (resume) => resume.option("vault", VAULT),
          async (parameters) => upload("resume", parameters),
        )
        .command(
          "limit <rate>",
          "bytes per second, such as 500k or 2m, or none",
          (limit) => limit.option("vault", VAULT).positional("rate", { type: "string", demandOption: true }),
          async (parameters) => upload("limit", parameters),
        )
        .command(
          "max-age <age>",
          "how long a change may wait before its upload begins, such as 30s or 10m",
          (age) => age.option("vault", VAULT).positional("age", { type: "string", demandOption: true }),
          async (parameters) => upload("max-age", parameters),
        )
        .command(
          "keep-deleted <age>",
          "how long the store keeps what the vault needs no more, for whoever reads an older state: 7d at first",
          (keep) => keep.option("vault", VAULT).positional("age", { type: "string", demandOption: true }),
          async (parameters) => upload("keep-deleted", parameters),
        )
        .demandCommand(1, "say what about uploads: pause, resume, limit, max-age, keep-deleted"),
    )
    .command(
      "audit-leak [url]",
      "measure what whoever runs the store sees of the vault",
      (command) =>
        secrets(command)
          .positional("url", { ...URL_WORD, describe: "the store, if not that of the vault" })
          .option("json", { type: "boolean", describe: "print JSON" }),
      async (parameters) => (await import("./commands/audit-leak.ts")).runAuditLeak(parameters, settings),
    );
}
