/** The driver program from here: one child process per actor, one method per system call. */
import { spawn, type ChildProcess } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { run } from "../support/run.ts";
import { decodeText, encodeText, type Path } from "./driver-text.ts";

export type { Path } from "./driver-text.ts";

export interface FileTime {
  readonly seconds: bigint;
  readonly nanoseconds: number;
}

export interface FileStatus {
  readonly mode: number;
  readonly linkCount: number;
  readonly uid: number;
  readonly gid: number;
  readonly lengthBytes: bigint;
  /** Units of 512 bytes. */
  readonly blockCount: bigint;
  readonly ino: bigint;
  readonly deviceMajor: number;
  readonly deviceMinor: number;
  readonly accessTime: FileTime;
  readonly modifyTime: FileTime;
  readonly changeTime: FileTime;
  readonly birthTime: FileTime | undefined;
}

export interface ListedEntry {
  /** One character per byte. */
  readonly name: string;
  readonly type: number;
  readonly ino: bigint;
  /** For seekdir: where to go on after this entry. */
  readonly position: bigint;
}

export type TimeArgument = "omit" | "now" | FileTime;

/** A system call that failed. */
export class CallError extends Error {
  readonly errno: string;

  constructor(call: string, errno: string) {
    super(`${errno} from ${call}`);
    this.name = "CallError";
    this.errno = errno;
  }
}

/** Compile the driver into `directory`. @returns The program's path. */
export async function compileDriver(directory: string): Promise<string> {
  const source = fileURLToPath(new URL("driver.c", import.meta.url));
  const program = join(directory, "driver");
  await run("cc", ["-O1", "-Wall", "-Wextra", "-Werror", "-o", program, source]);
  return program;
}

type Argument = Path | number | bigint;

/** Numbers or strings in the order of the call's parameters; strings are one character per byte. */
export class Driver implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #waiting: ((line: string) => void)[] = [];
  #ended = false;

  constructor(program: string) {
    this.#child = spawn(program, [], { stdio: ["pipe", "pipe", "inherit"] });
    createInterface({ input: this.#child.stdout! }).on("line", (line) => this.#waiting.shift()?.(line));
    this.#child.on("exit", () => {
      this.#ended = true;
      for (const answer of this.#waiting.splice(0)) answer("- DRIVER_ENDED");
    });
    this.#child.stdin!.on("error", () => undefined);
  }

  get processId(): number {
    return this.#child.pid!;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#ended) return;
    const ended = new Promise((resolve) => this.#child.once("exit", resolve));
    this.#child.stdin!.end();
    const timer = setTimeout(() => this.#child.kill("SIGKILL"), 5_000);
    await ended;
    clearTimeout(timer);
  }

  /** SIGKILL to the driver itself: a client that dies within a call. */
  async kill(): Promise<void> {
    if (this.#ended) return;
    const ended = new Promise((resolve) => this.#child.once("exit", resolve));
    this.#child.kill("SIGKILL");
    await ended;
  }

  /** @throws CallError */
  async call(name: string, ...parameters: readonly Argument[]): Promise<string[]> {
    const words = parameters.map((parameter) =>
      typeof parameter === "object" || typeof parameter === "string" ? encodeText(parameter) : String(parameter),
    );
    if (this.#ended) throw new CallError(name, "DRIVER_ENDED");
    const line = await new Promise<string>((resolve) => {
      this.#waiting.push(resolve);
      this.#child.stdin!.write(`${name} ${words.join(" ")}\n`);
    });
    const values = line.split(" ");
    if (values.shift() === "-") throw new CallError(`${name}(${words.join(", ").slice(0, 200)})`, values[0] ?? "");
    return values;
  }

  async #number(name: string, ...parameters: readonly Argument[]): Promise<number> {
    return Number((await this.call(name, ...parameters))[0]);
  }

  async #bytes(name: string, ...parameters: readonly Argument[]): Promise<Buffer> {
    return Buffer.from((await this.call(name, ...parameters))[0] ?? "", "hex");
  }

  open(path: Path, flags: number, mode = 0o644): Promise<number> {
    return this.#number("open", path, flags, mode);
  }
  close(fd: number): Promise<number> {
    return this.#number("close", fd);
  }
  read(fd: number, lengthBytes: number): Promise<Buffer> {
    return this.#bytes("read", fd, lengthBytes);
  }
  pread(fd: number, lengthBytes: number, offset: number | bigint): Promise<Buffer> {
    return this.#bytes("pread", fd, lengthBytes, offset);
  }
  write(fd: number, data: string | Uint8Array): Promise<number> {
    return this.#number("write", fd, Buffer.from(data).toString("hex"));
  }
  pwrite(fd: number, data: string | Uint8Array, offset: number | bigint): Promise<number> {
    return this.#number("pwrite", fd, Buffer.from(data).toString("hex"), offset);
  }
  /** Write `lengthBytes` (≤ 4 MiB) of one byte, from a page-aligned buffer. */
  pfill(fd: number, byte: number, lengthBytes: number, offset: number | bigint): Promise<number> {
    return this.#number("pfill", fd, byte, lengthBytes, offset);
  }
  async lseek(fd: number, offset: number | bigint, whence: number): Promise<bigint> {
    return BigInt((await this.call("lseek", fd, offset, whence))[0]!);
  }
  truncate(path: Path, lengthBytes: number | bigint): Promise<number> {
    return this.#number("truncate", path, lengthBytes);
  }
  ftruncate(fd: number, lengthBytes: number | bigint): Promise<number> {
    return this.#number("ftruncate", fd, lengthBytes);
  }
  fsync(fd: number): Promise<number> {
    return this.#number("fsync", fd);
  }
  fdatasync(fd: number): Promise<number> {
    return this.#number("fdatasync", fd);
  }
  syncfs(fd: number): Promise<number> {
    return this.#number("syncfs", fd);
  }
  fallocate(fd: number, mode: number, offset: number | bigint, lengthBytes: number | bigint): Promise<number> {
    return this.#number("fallocate", fd, mode, offset, lengthBytes);
  }
  getFlags(fd: number): Promise<number> {
    return this.#number("getfl", fd);
  }
  setFlags(fd: number, flags: number): Promise<number> {
    return this.#number("setfl", fd, flags);
  }
  ioctl(fd: number, request: number): Promise<number> {
    return this.#number("ioctl", fd, request);
  }
  /** copy_file_range; an offset of undefined uses and moves the descriptor's own. */
  copyRange(
    from: { fd: number; offset?: number | bigint },
    to: { fd: number; offset?: number | bigint },
    lengthBytes: number | bigint,
  ): Promise<number> {
    return this.#number("copy", from.fd, from.offset ?? "-", to.fd, to.offset ?? "-", lengthBytes);
  }
  sendfile(toFd: number, fromFd: number, offset: number, lengthBytes: number): Promise<number> {
    return this.#number("sendfile", toFd, fromFd, offset, lengthBytes);
  }
  splice(fromFd: number, toFd: number, lengthBytes: number): Promise<number> {
    return this.#number("splice", fromFd, toFd, lengthBytes);
  }

  mkdir(path: Path, mode = 0o755): Promise<number> {
    return this.#number("mkdir", path, mode);
  }
  rmdir(path: Path): Promise<number> {
    return this.#number("rmdir", path);
  }
  unlink(path: Path): Promise<number> {
    return this.#number("unlink", path);
  }
  rename(from: Path, to: Path, flags = 0): Promise<number> {
    return this.#number("rename", from, to, flags);
  }
  link(from: Path, to: Path, flags = 0): Promise<number> {
    return this.#number("link", from, to, flags);
  }
  symlink(target: Path, path: Path): Promise<number> {
    return this.#number("symlink", target, path);
  }
  mknod(path: Path, mode: number, major = 0, minor = 0): Promise<number> {
    return this.#number("mknod", path, mode, major, minor);
  }
  async readlink(path: Path, lengthBytes = 0): Promise<string> {
    return (await this.#bytes("readlink", path, lengthBytes)).toString("latin1");
  }
  chdir(path: Path): Promise<number> {
    return this.#number("chdir", path);
  }
  /** Make and listen on a unix socket. */
  bind(path: Path): Promise<number> {
    return this.#number("bind", path);
  }
  connect(path: Path): Promise<number> {
    return this.#number("connect", path);
  }

  /** name_to_handle_at. @returns struct file_handle. */
  handle(path: Path): Promise<Buffer> {
    return this.#bytes("handle", path);
  }
  /** open_by_handle_at on the working directory's filesystem. */
  openHandle(handle: Uint8Array, flags: number): Promise<number> {
    return this.#number("open_handle", Buffer.from(handle).toString("hex"), flags);
  }
  /** Have the kernel let go of every name on this mount that nobody uses. */
  forgetNames(mountPoint: string): Promise<number> {
    return this.#number("forget_names", mountPoint);
  }

  async stat(path: Path): Promise<FileStatus> {
    return parseStatus(await this.call("stat", path));
  }
  async lstat(path: Path): Promise<FileStatus> {
    return parseStatus(await this.call("lstat", path));
  }
  async fstat(fd: number): Promise<FileStatus> {
    return parseStatus(await this.call("fstat", fd));
  }
  /** st_mode, asked for alone. */
  mode(path: Path): Promise<number> {
    return this.#number("mode", path);
  }
  /** st_ctim and st_mtim of the path itself, each asked for alone. */
  async changeAndModifyTime(path: Path): Promise<{ changeTime: FileTime; modifyTime: FileTime }> {
    const [changeTime = "", modifyTime = ""] = await this.call("times", path);
    return { changeTime: parseTime(changeTime), modifyTime: parseTime(modifyTime) };
  }
  chmod(path: Path, mode: number): Promise<number> {
    return this.#number("chmod", path, mode);
  }
  fchmod(fd: number, mode: number): Promise<number> {
    return this.#number("fchmod", fd, mode);
  }
  chown(path: Path, uid: number, gid: number): Promise<number> {
    return this.#number("chown", path, uid, gid);
  }
  lchown(path: Path, uid: number, gid: number): Promise<number> {
    return this.#number("lchown", path, uid, gid);
  }
  fchown(fd: number, uid: number, gid: number): Promise<number> {
    return this.#number("fchown", fd, uid, gid);
  }
  access(path: Path, mode: number): Promise<number> {
    return this.#number("access", path, mode);
  }
  utimens(path: Path, accessTime: TimeArgument, modifyTime: TimeArgument, flags = 0): Promise<number> {
    return this.#number("utimens", path, formatTime(accessTime), formatTime(modifyTime), flags);
  }
  futimens(fd: number, accessTime: TimeArgument, modifyTime: TimeArgument): Promise<number> {
    return this.#number("futimens", fd, formatTime(accessTime), formatTime(modifyTime));
  }

  setXattr(path: Path, name: Path, value: string | Uint8Array, flags = 0): Promise<number> {
    return this.#number("setxattr", path, name, Buffer.from(value).toString("hex"), flags);
  }
  setLinkXattr(path: Path, name: Path, value: string | Uint8Array): Promise<number> {
    return this.#number("lsetxattr", path, name, Buffer.from(value).toString("hex"), 0);
  }
  setXattrFill(path: Path, name: Path, lengthBytes: number): Promise<number> {
    return this.#number("setxattr_fill", path, name, lengthBytes);
  }
  getXattr(path: Path, name: Path, bufferBytes = 65_536): Promise<Buffer> {
    return this.#bytes("getxattr", path, name, bufferBytes);
  }
  getLinkXattr(path: Path, name: Path): Promise<Buffer> {
    return this.#bytes("lgetxattr", path, name);
  }
  xattrLength(path: Path, name: Path): Promise<number> {
    return this.#number("xattr_length", path, name);
  }
  async listXattrs(path: Path, bufferBytes = 65_536): Promise<string[]> {
    return (await this.call("listxattr", path, bufferBytes)).map(decodeText).sort();
  }
  removeXattr(path: Path, name: Path): Promise<number> {
    return this.#number("removexattr", path, name);
  }

  openDirectory(path: Path): Promise<number> {
    return this.#number("opendir", path);
  }
  /** `fd` belongs to the directory handle from here on. */
  openDirectoryOf(fd: number): Promise<number> {
    return this.#number("fdopendir", fd);
  }
  closeDirectory(handle: number): Promise<number> {
    return this.#number("closedir", handle);
  }
  async readDirectory(handle: number, count = 1_000_000): Promise<ListedEntry[]> {
    const words = await this.call("readdir", handle, count);
    const entries: ListedEntry[] = [];
    for (let i = 0; i + 3 < words.length; i += 4) {
      const [name, type, ino, position] = [words[i]!, words[i + 1]!, words[i + 2]!, words[i + 3]!];
      entries.push({ name: decodeText(name), type: Number(type), ino: BigInt(ino), position: BigInt(position) });
    }
    return entries;
  }
  async list(path: Path): Promise<string[]> {
    return (await this.call("list", path)).map(decodeText).sort();
  }

  lock(fd: number, command: number, type: number, start = 0, lengthBytes = 0): Promise<string[]> {
    return this.call("lock", fd, command, type, start, lengthBytes);
  }
  flock(fd: number, operation: number): Promise<number> {
    return this.#number("flock", fd, operation);
  }

  mmap(fd: number, lengthBytes: number, protection: number, flags: number, offset = 0): Promise<number> {
    return this.#number("mmap", fd, lengthBytes, protection, flags, offset);
  }
  async peek(map: number, offset: number, lengthBytes: number): Promise<string> {
    return (await this.#bytes("peek", map, offset, lengthBytes)).toString("latin1");
  }
  poke(map: number, offset: number, data: string): Promise<number> {
    return this.#number("poke", map, offset, Buffer.from(data, "latin1").toString("hex"));
  }
  msync(map: number): Promise<number> {
    return this.#number("msync", map);
  }
  munmap(map: number): Promise<number> {
    return this.#number("munmap", map);
  }

  become(uid: number, gid: number, groups: readonly number[]): Promise<number> {
    return this.#number("become", uid, gid, groups.join(","));
  }
  umask(mask: number): Promise<number> {
    return this.#number("umask", mask);
  }
  /** Run a program with one argument. @returns What it printed, if it ended with 0. */
  async exec(path: Path, parameter = "--ids"): Promise<string> {
    const [status, output] = await this.call("exec", path, parameter);
    if (status !== "0") throw new Error(`the program ended with ${status}`);
    return Buffer.from(output ?? "", "hex").toString();
  }
  /** Close everything the driver holds and go to `directory`. */
  reset(directory: Path): Promise<number> {
    return this.#number("reset", directory);
  }

  /* Several calls at once */

  /** Create a file with this content. */
  async file(path: Path, content: string | Uint8Array = "", mode = 0o644): Promise<void> {
    const fd = await this.open(path, CREATE_FLAGS, mode);
    try {
      const bytes = Buffer.from(content);
      for (let at = 0; at < bytes.length; at += PIECE_BYTES) await this.write(fd, bytes.subarray(at, at + PIECE_BYTES));
    } finally {
      await this.close(fd);
    }
  }

  /** Create a file that everyone may read and write, whatever the umask. */
  async sharedFile(path: Path, content: string | Uint8Array = ""): Promise<void> {
    await this.file(path, content);
    await this.chmod(path, 0o666);
  }

  /** A whole file, of at most 4 MiB. */
  async content(path: Path): Promise<Buffer> {
    const fd = await this.open(path, 0);
    try {
      return await this.pread(fd, 4 * 2 ** 20, 0);
    } finally {
      await this.close(fd);
    }
  }

  async textOf(path: Path): Promise<string> {
    return (await this.content(path)).toString("latin1");
  }
}

const PIECE_BYTES = 2 ** 20;
const CREATE_FLAGS = 0o1 | 0o100 | 0o1000; // O_WRONLY | O_CREAT | O_TRUNC

/** @returns The errno's name of a call that must fail, or "success". */
export async function errnoOf(call: Promise<unknown>): Promise<string> {
  try {
    await call;
    return "success";
  } catch (error) {
    if (error instanceof CallError) return error.errno;
    throw error;
  }
}

export function time(seconds: number | bigint, nanoseconds = 0): FileTime {
  return { seconds: BigInt(seconds), nanoseconds };
}

export function isLater(a: FileTime, b: FileTime): boolean {
  return a.seconds > b.seconds || (a.seconds === b.seconds && a.nanoseconds > b.nanoseconds);
}

function formatTime(value: TimeArgument): string {
  return typeof value === "string" ? value : `${value.seconds}:${value.nanoseconds}`;
}

function parseTime(word: string): FileTime {
  const [seconds = "", nanoseconds = ""] = word.split(":");
  return { seconds: BigInt(seconds), nanoseconds: Number(nanoseconds) };
}

function parseStatus(words: readonly string[]): FileStatus {
  const word = (i: number): string => words[i] ?? "";
  return {
    mode: Number(word(0)),
    linkCount: Number(word(1)),
    uid: Number(word(2)),
    gid: Number(word(3)),
    lengthBytes: BigInt(word(4)),
    blockCount: BigInt(word(5)),
    ino: BigInt(word(6)),
    deviceMajor: Number(word(7)),
    deviceMinor: Number(word(8)),
    accessTime: parseTime(word(10)),
    modifyTime: parseTime(word(11)),
    changeTime: parseTime(word(12)),
    birthTime: word(14) === "1" ? parseTime(word(13)) : undefined,
  };
}
