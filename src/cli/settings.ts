/** The environment, read once and here alone: where the vault is unless said otherwise, who may own secret files. */
import { userInfo } from "node:os";
import { join, resolve } from "node:path";
import { type CredentialSource, SECRET_VARIABLES } from "./access/store-credentials.ts";

export interface Settings {
  /** `TCFS_VAULT`, or `$XDG_DATA_HOME/tcfs/default`; absolute. */
  readonly defaultVault: string;
  /** User ids that may own passphrase and recovery files: the caller, and who called sudo. */
  readonly secretOwners: readonly number[];
  /** How to reach the machine's TPM: see tpm2-tools, TCTI. */
  readonly defaultTcti: string;
  /** The session's D-Bus, where a password manager may be asked; undefined where there is none. */
  readonly sessionBus: string | undefined;
  /** PATH, for the tools that are started. */
  readonly toolPath: string;
  /** What a daemon inherits of the environment: no secrets, no NODE_OPTIONS. */
  readonly daemonEnvironment: Readonly<Record<string, string>>;
  /** What it says of credentials for a store; read when one needs them. */
  readonly credentialSource: CredentialSource;
}

/** The kernel's resource manager. Without an explicit one the tools try a socket on localhost that anyone may answer. */
const DEFAULT_TCTI = "device:/dev/tpmrm0";

/** What the AWS tools read. */
const CREDENTIALS = [...SECRET_VARIABLES, "AWS_SHARED_CREDENTIALS_FILE", "AWS_PROFILE"];
/** Else the SDK tells everybody at every start which Node a coming release of it will want. */
const NO_SDK_WARNING = "AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED";
const INHERITED = ["PATH", "HOME", "LANG", "TZ", "TMPDIR"];

/** @param environment - Without the secrets in it afterwards: what it says is handed on to every program that is started. */
export function readSettings(environment: NodeJS.ProcessEnv = process.env): Settings {
  const home = homeDirectory(environment["HOME"]);
  const dataHome = environment["XDG_DATA_HOME"];
  // The XDG specification: a relative path is to be ignored.
  const data = dataHome?.startsWith("/") === true ? dataHome : join(home, ".local", "share");
  const vault = environment["TCFS_VAULT"];
  const owners = secretOwners(environment["SUDO_UID"]);
  const credentials = { ...Object.fromEntries(CREDENTIALS.map((name) => [name, environment[name]])), HOME: home };
  for (const name of SECRET_VARIABLES) Reflect.deleteProperty(environment, name);
  environment[NO_SDK_WARNING] = "true";
  return {
    credentialSource: { environment: credentials, owners },
    defaultVault: vault !== undefined && vault !== "" ? resolve(vault) : join(data, "tcfs", "default"),
    secretOwners: owners,
    defaultTcti: DEFAULT_TCTI,
    sessionBus: environment["DBUS_SESSION_BUS_ADDRESS"] ?? usualBus(environment["XDG_RUNTIME_DIR"]),
    toolPath: environment["PATH"] ?? "/usr/bin:/bin",
    daemonEnvironment: {
      [NO_SDK_WARNING]: "true",
      ...Object.fromEntries(
        INHERITED.flatMap((name) => (environment[name] === undefined ? [] : [[name, environment[name]]])),
      ),
    },
  };
}

/** Else the one that the user database names; a container's user may have neither, and then gets what docker gives it. */
function homeDirectory(home: string | undefined): string {
  if (home?.startsWith("/") === true) return home;
  try {
    return userInfo().homedir;
  } catch {
    return "/";
  }
}

/** Where systemd puts it. */
function usualBus(runtimeDirectory: string | undefined): string | undefined {
  return runtimeDirectory === undefined ? undefined : `unix:path=${runtimeDirectory}/bus`;
}

function secretOwners(sudoUser: string | undefined): number[] {
  const me = process.geteuid?.() ?? 0;
  return me === 0 && sudoUser !== undefined && /^\d{1,10}$/u.test(sudoUser) ? [me, Number(sudoUser)] : [me];
}
