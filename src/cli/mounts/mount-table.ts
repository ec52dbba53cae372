/** What is mounted where, and which daemon serves it: read from /proc, without touching any mount. */
import { readFileSync, readdirSync } from "node:fs";

export interface MountEntry {
  readonly mountPoint: string;
  readonly type: string;
  /** Who mounted a FUSE filesystem; undefined for others. */
  readonly userId: number | undefined;
  /** Options in effect, of the mount and of its filesystem. What is the kernel's default is not among them. */
  readonly options: readonly string[];
}

export interface DaemonProcess {
  readonly pid: number;
  readonly vault: string;
  readonly mountPoint: string;
}

export const FILESYSTEM_TYPE = "fuse.tcfs";

const VAULT_ARGUMENT = "--vault=";
const MOUNT_POINT_ARGUMENT = "--mount-point=";
const DAEMON_SCRIPT = /\/cli\/daemon\.[jt]s$/u;

/** The daemon's arguments. They say which it is to whoever reads /proc; they hold no secret. */
export function daemonArguments(vault: string, mountPoint: string): string[] {
  return [`${VAULT_ARGUMENT}${vault}`, `${MOUNT_POINT_ARGUMENT}${mountPoint}`];
}

/** The topmost mount at exactly this path, if there is one. */
export function findMount(mountPoint: string): MountEntry | undefined {
  return parseMountInfo(readFileSync("/proc/self/mountinfo", "utf8")).findLast(
    (entry) => entry.mountPoint === mountPoint,
  );
}

/** Parse /proc/PID/mountinfo (proc_pid_mountinfo(5)), in its order: later ones lie over earlier ones. */
export function parseMountInfo(text: string): MountEntry[] {
  return text.split("\n").flatMap((line) => {
    const [left = "", right = ""] = line.split(" - ", 2);
    const [, , , , mountPoint, ofMount = ""] = left.split(" ");
    const [type, , ofFilesystem = ""] = right.split(" ");
    if (mountPoint === undefined || type === undefined || type === "") return [];
    const userId = /(?:^|,)user_id=(\d+)/u.exec(ofFilesystem)?.[1];
    return [
      {
        mountPoint: unescapeOctal(mountPoint),
        type,
        userId: userId === undefined ? undefined : Number(userId),
        options: `${ofFilesystem},${ofMount}`.split(","),
      },
    ];
  });
}

/** All running daemons that this user can see, and has reason to believe: arguments alone are anyone's to choose. */
export function listDaemons(): DaemonProcess[] {
  return readdirSync("/proc").flatMap((entry) => {
    if (!/^\d+$/u.test(entry)) return [];
    const daemon = parseDaemonCommand(readIfAny(`/proc/${entry}/cmdline`));
    if (daemon === undefined || !isBelieved(entry, daemon.mountPoint)) return [];
    return [{ pid: Number(entry), ...daemon }];
  });
}

/** @param daemon - That serves it; undefined if it is not to be seen. @returns Who has the vault, in a sentence. */
export function describeUse(vault: string, daemon: DaemonProcess | undefined): string {
  const by =
    daemon === undefined ? "another process has it open" : `mounted at ${daemon.mountPoint} by pid ${daemon.pid}`;
  return `the vault ${vault} is in use: ${by}`;
}

/** Ours or root's; root believes whoever mounted what the process says it serves. */
function isBelieved(pid: string, mountPoint: string): boolean {
  // The real user: a set-id program runs as another, with arguments that its caller chose.
  const owner = /^Uid:\s(\d+)/mu.exec(readIfAny(`/proc/${pid}/status`))?.[1];
  if (owner === undefined) return false;
  const user = Number(owner);
  if (user === 0 || user === process.getuid?.()) return true;
  return process.geteuid?.() === 0 && findMount(mountPoint)?.userId === user;
}

/** As {@link processState} gives it: stopped by a signal. */
export const DAEMON_STOPPED = "T";

/** @returns The state's letter (proc_pid_stat(5)); undefined where there is no such process. */
export function processState(pid: number): string | undefined {
  return /^State:\s(\S)/mu.exec(readIfAny(`/proc/${pid}/status`))?.[1];
}

/** @returns Whether the process is still one of our daemons; one that ended and was not waited for is not. */
export function isDaemonAlive(pid: number): boolean {
  return parseDaemonCommand(readIfAny(`/proc/${pid}/cmdline`)) !== undefined;
}

function parseDaemonCommand(commandLine: string): Omit<DaemonProcess, "pid"> | undefined {
  const words = commandLine.split("\0");
  if (!words.some((word) => DAEMON_SCRIPT.test(word))) return undefined;
  const vault = words.find((word) => word.startsWith(VAULT_ARGUMENT))?.slice(VAULT_ARGUMENT.length);
  const mountPoint = words.find((word) => word.startsWith(MOUNT_POINT_ARGUMENT))?.slice(MOUNT_POINT_ARGUMENT.length);
  return vault === undefined || mountPoint === undefined ? undefined : { vault, mountPoint };
}

function unescapeOctal(text: string): string {
  if (!text.includes("\\")) return text;
  const bytes = Buffer.from(text).toString("latin1");
  const plain = bytes.replace(/\\([0-7]{3})/gu, (_match, digits: string) => String.fromCharCode(parseInt(digits, 8)));
  return Buffer.from(plain, "latin1").toString();
}

function readIfAny(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return ""; // the process ended, or is not ours to see
  }
}
