/**
 * Secrets kept in files: who may own them, who may read them, how much of them counts (FORMAT.md §8.3).
 * A file that others can read, or could have written, is refused.
 */
import { constants } from "node:fs";
import { open, rm } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { dirname } from "node:path";
import { TcfsError } from "../errors.ts";

/** Longest passphrase, and longest recovery file. */
const MAX_SECRET_BYTES = 4096;

const NEWLINE = 0x0a;
const CARRIAGE_RETURN = 0x0d;

export interface SecretFileRules {
  /** User ids that may own the file. */
  readonly owners: readonly number[];
}

/**
 * The passphrase in a file: its first line, without the newline (or CR LF).
 * @returns Owned by the caller, who wipes it.
 * @throws TcfsError `TCFS_UNSAFE_FILE` unless it is a regular file of an allowed owner that neither group nor others
 *   can read or write; `TCFS_USAGE` if there is no such file, or its first line is empty or too long.
 */
export async function readPassphraseFile(path: string, rules: SecretFileRules): Promise<Uint8Array> {
  const content = await readSecret(path, rules);
  const line = firstLine(content);
  content.fill(0);
  if (line === undefined) throw new TcfsError("TCFS_USAGE", `the first line of ${path} is too long for a passphrase`);
  if (line.length === 0) throw new TcfsError("TCFS_USAGE", `the first line of ${path} is empty`);
  return line;
}

/** The text of a recovery file, under the same rules; any white space may stand between the words. */
export async function readRecoveryFile(path: string, rules: SecretFileRules): Promise<Uint8Array> {
  const content = await readSecret(path, rules);
  if (content.length > MAX_SECRET_BYTES) {
    content.fill(0);
    throw new TcfsError("TCFS_USAGE", `${path} is too long for recovery words`);
  }
  return content;
}

/** The bytes of a key file, under the same rules; what they are is for the slot to say. */
export function readKeyFile(path: string, rules: SecretFileRules): Promise<Uint8Array> {
  return readSecret(path, rules);
}

/**
 * Write a secret to a new file, 0600, and flush it and its name: what it opens may come right after, and outlive a power cut.
 * @throws TcfsError `TCFS_EXISTS` rather than touch a file that is there; `TCFS_USAGE` if it cannot be written, and is gone.
 */
export async function writeSecretFile(path: string, content: string | Uint8Array): Promise<void> {
  let handle: FileHandle;
  try {
    handle = await open(path, "wx", 0o600);
  } catch (cause) {
    if (isNodeError(cause, "EEXIST")) {
      throw new TcfsError("TCFS_EXISTS", `${path} exists already and is not overwritten`, { cause });
    }
    throw unreadable(path, "created", cause);
  }
  try {
    await handle.chmod(0o600);
    await handle.writeFile(content);
    await handle.sync();
    await flushNames(dirname(path));
  } catch (cause) {
    await rm(path, { force: true });
    throw unreadable(path, "written", cause);
  } finally {
    await handle.close();
  }
}

/** Where a directory may be written and not read, or the filesystem flushes none, nothing can be done. */
async function flushNames(directory: string): Promise<void> {
  try {
    const handle = await open(directory, constants.O_RDONLY | constants.O_DIRECTORY);
    await handle.sync().finally(() => handle.close());
  } catch (error) {
    if (!isNodeError(error, "EACCES") && !isNodeError(error, "EINVAL")) throw error;
  }
}

async function readSecret(path: string, rules: SecretFileRules): Promise<Uint8Array> {
  let handle: FileHandle;
  try {
    // O_NONBLOCK: opening a FIFO must not wait for a writer.
    handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  } catch (cause) {
    throw unreadable(path, "read", cause);
  }
  try {
    const stat = await handle.stat();
    if (!stat.isFile()) throw unsafe(path, "is not a regular file");
    if (!rules.owners.includes(stat.uid)) throw unsafe(path, "belongs to another user");
    if ((stat.mode & 0o077) !== 0) throw unsafe(path, "can be read by others; make it private with: chmod 600");
    const buffer = new Uint8Array(MAX_SECRET_BYTES + 2);
    const { bytesRead } = await handle.read(buffer, 0, buffer.length, 0);
    const content = buffer.slice(0, bytesRead);
    buffer.fill(0);
    return content;
  } finally {
    await handle.close();
  }
}

function firstLine(content: Uint8Array): Uint8Array | undefined {
  const newline = content.indexOf(NEWLINE);
  let end = newline === -1 ? content.length : newline;
  if (newline > 0 && content[newline - 1] === CARRIAGE_RETURN) end = newline - 1;
  return end > MAX_SECRET_BYTES ? undefined : content.slice(0, end);
}

function unreadable(path: string, verb: string, cause: unknown): TcfsError {
  const reason = isNodeError(cause, "ENOENT") ? "there is no such file" : cause instanceof Error ? cause.message : "";
  return new TcfsError("TCFS_USAGE", `${path} cannot be ${verb}: ${reason}`, { cause });
}

function unsafe(path: string, why: string): TcfsError {
  return new TcfsError("TCFS_UNSAFE_FILE", `the secret in ${path} is not safe: it ${why}`);
}

function isNodeError(error: unknown, code: string): boolean {
  return error instanceof Error && "code" in error && error.code === code;
}
