/** The environment, read once and here alone: where the vault is unless said otherwise, who may own secret files. */
import { homedir } from "node:os";
import { join, resolve } from "node:path";

export interface Settings {
  /** `TCFS_VAULT`, or `$XDG_DATA_HOME/tcfs/default`; absolute. */
  readonly defaultVault: string;
  /** User ids that may own passphrase and recovery files: the caller, and who called sudo. */
  readonly secretOwners: readonly number[];
  /** How to reach the machine's TPM: see tpm2-tools, TCTI. */
  readonly defaultTcti: string;
  /** PATH, for the tools that are started. */
  readonly toolPath: string;
  /** What a daemon inherits of the environment: no secrets, no NODE_OPTIONS. */
  readonly daemonEnvironment: Readonly<Record<string, string>>;
}

/** The kernel's resource manager. Without an explicit one the tools try a socket on localhost that anyone may answer. */
const DEFAULT_TCTI = "device:/dev/tpmrm0";

const INHERITED = ["PATH", "HOME", "LANG", "TZ", "TMPDIR"];

export function readSettings(environment: NodeJS.ProcessEnv = process.env): Settings {
  const home = environment["HOME"] ?? homedir();
  const dataHome = environment["XDG_DATA_HOME"];
  // The XDG specification: a relative path is to be ignored.
  const data = dataHome?.startsWith("/") === true ? dataHome : join(home, ".local", "share");
  const vault = environment["TCFS_VAULT"];
  return {
    defaultVault: vault !== undefined && vault !== "" ? resolve(vault) : join(data, "tcfs", "default"),
    secretOwners: secretOwners(environment["SUDO_UID"]),
    defaultTcti: DEFAULT_TCTI,
    toolPath: environment["PATH"] ?? "/usr/bin:/bin",
    daemonEnvironment: Object.fromEntries(
      INHERITED.flatMap((name) => (environment[name] === undefined ? [] : [[name, environment[name]]])),
    ),
  };
}

function secretOwners(sudoUser: string | undefined): number[] {
  const me = process.geteuid?.() ?? 0;
  return me === 0 && sudoUser !== undefined && /^\d{1,10}$/u.test(sudoUser) ? [me, Number(sudoUser)] : [me];
}
