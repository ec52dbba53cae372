/**
 * Where the header lies: `vault.json`, and `vault.json.bak` beside it (FORMAT.md §8.1).
 * The copy has the same bytes, is written after the header, and opens nothing: it is there for a person to put back by
 * hand when the header is damaged. It is looked at for one thing: a header older than it by a key epoch is refused.
 */
import { join } from "node:path";
import { TcfsError } from "../errors.ts";
import type { Disk } from "../platform/disk.ts";
import { MAX_HEADER_BYTES, formatHeader, parseHeader } from "./header.ts";
import type { VaultHeader } from "./header.ts";

export const HEADER_NAME = "vault.json";
const COPY_NAME = "vault.json.bak";

/** @returns Whether `directory` holds a header, readable or not. */
export async function hasHeader(disk: Disk, directory: string): Promise<boolean> {
  return (await disk.list(directory)).includes(HEADER_NAME);
}

/** @returns What to say of a directory without a header: a vault that lost it still has its copy. */
export async function noVault(disk: Pick<Disk, "list">, directory: string): Promise<TcfsError> {
  const sentence = (await hasHeaderCopy(disk, directory))
    ? `the vault in ${directory} has lost ${HEADER_NAME}, but not the copy of it: cp ${COPY_NAME} ${HEADER_NAME} in there`
    : `there is no vault in ${directory}: tcfs init makes one, --vault DIR names another`;
  return new TcfsError("TCFS_NO_VAULT", sentence);
}

/** @returns Whether `directory` holds a header's copy, readable or not. */
export async function hasHeaderCopy(disk: Pick<Disk, "list">, directory: string): Promise<boolean> {
  return (await disk.list(directory)).includes(COPY_NAME);
}

/**
 * Read and parse a vault's header.
 * @throws TcfsError `TCFS_NO_VAULT` if there is none; `TCFS_BAD_HEADER` if it is from before a rotation that its copy
 *   knows of; what {@link parseHeader} throws.
 */
export async function readHeader(disk: Disk, directory: string): Promise<VaultHeader> {
  const content = await readBounded(disk, join(directory, HEADER_NAME));
  if (content === undefined) throw await noVault(disk, directory);
  const header = parseOrAdvise(content);
  await requireNotOutdated(disk, directory, { header, content });
  return header;
}

function parseOrAdvise(content: Uint8Array): VaultHeader {
  try {
    return parseHeader(content);
  } catch (error) {
    if (!(error instanceof TcfsError) || error.code !== "TCFS_BAD_HEADER") throw error;
    const advice = `${COPY_NAME} in the vault directory is its copy, which you can put in its place`;
    throw new TcfsError(error.code, `${error.message} (${advice})`, { cause: error.cause });
  }
}

/**
 * An older header that somebody put back opens, and its key does not open what was sealed since the rotation: by it the
 * vault would lose that, and its newer header with it.
 */
async function requireNotOutdated(
  disk: Disk,
  directory: string,
  { header, content }: { readonly header: VaultHeader; readonly content: Uint8Array },
): Promise<void> {
  const bytes = await readBounded(disk, join(directory, COPY_NAME));
  if (bytes === undefined || Buffer.from(content).equals(bytes)) return;
  const copy = parseIfWhole(bytes);
  if (copy === undefined || !isOutdated(header, copy)) return;
  const epochs = `it is of key epoch ${header.keyEpoch}, ${COPY_NAME} of ${copy.keyEpoch}`;
  const message = `${HEADER_NAME} is from before the vault's key was rotated (${epochs}), and opens nothing written since`;
  throw new TcfsError("TCFS_BAD_HEADER", `${message}: put ${COPY_NAME} in its place`);
}

function isOutdated(header: VaultHeader, copy: VaultHeader): boolean {
  return Buffer.compare(copy.vaultId, header.vaultId) === 0 && copy.keyEpoch > header.keyEpoch;
}

function parseIfWhole(content: Uint8Array | undefined): VaultHeader | undefined {
  try {
    return content && parseHeader(content);
  } catch (error) {
    if (error instanceof TcfsError) return undefined;
    throw error;
  }
}

/** Write a new vault's header. @throws TcfsError `TCFS_VAULT_EXISTS` if there is one already. */
export async function writeNewHeader(disk: Disk, directory: string, header: VaultHeader): Promise<void> {
  if (await hasHeader(disk, directory))
    throw new TcfsError("TCFS_VAULT_EXISTS", `there is a vault in ${directory} already`);
  await disk.replaceFile(join(directory, HEADER_NAME), formatHeader(header));
  await writeHeaderCopy(disk, directory, header);
}

/** The copy of a header that was just written. */
export async function writeHeaderCopy(disk: Disk, directory: string, header: VaultHeader): Promise<void> {
  await disk.replaceFile(join(directory, COPY_NAME), formatHeader(header));
}

/**
 * Replace the header durably, then its copy. The caller holds the header's lock.
 * @param before - The header that `after` was made from.
 * @returns Why the copy is still the older header; the header itself is the newer one then.
 * @throws TcfsError `TCFS_BUSY` if another process changed it since; what the disk throws.
 */
export async function replaceHeader(
  disk: Disk,
  directory: string,
  before: VaultHeader,
  after: VaultHeader,
): Promise<TcfsError | undefined> {
  const current = await readBounded(disk, join(directory, HEADER_NAME));
  if (current === undefined || !Buffer.from(formatHeader(before)).equals(current))
    throw new TcfsError("TCFS_BUSY", "another process changed the vault's header at the same time; try again");
  const content = formatHeader(after);
  await disk.replaceFile(join(directory, HEADER_NAME), content);
  try {
    await disk.replaceFile(join(directory, COPY_NAME), content);
    return undefined;
  } catch (error) {
    if (!(error instanceof TcfsError)) throw error;
    const message = `${HEADER_NAME} is changed, but its copy ${COPY_NAME} is the older one until the next mount`;
    return new TcfsError(error.code, `${message}: ${error.message}`, { cause: error });
  }
}

/**
 * Make the copy equal to the header, should a power cut have come between the two. For a vault opened to be written.
 * @param lock - Taken only if there is something to do, so that a header that is just being replaced stays the newer one.
 */
export async function refreshHeaderCopy(
  disk: Disk,
  directory: string,
  lock: () => Promise<AsyncDisposable>,
): Promise<void> {
  if ((await staleCopy(disk, directory)) === undefined) return;
  await using _lock = await lock();
  const content = await staleCopy(disk, directory);
  if (content !== undefined) await disk.replaceFile(join(directory, COPY_NAME), content);
}

/** @returns The header's bytes if the copy has others, unless the copy is what is to be put back. */
async function staleCopy(disk: Disk, directory: string): Promise<Uint8Array | undefined> {
  const content = await readBounded(disk, join(directory, HEADER_NAME));
  const copy = await readBounded(disk, join(directory, COPY_NAME));
  if (content === undefined || (copy !== undefined && Buffer.from(content).equals(copy))) return undefined;
  const [present, other] = [parseIfWhole(content), parseIfWhole(copy)];
  if (present !== undefined && other !== undefined && isOutdated(present, other)) return undefined;
  return content;
}

/** At most one byte more than a header may have, so that a huge file is refused and not loaded. */
async function readBounded(disk: Disk, path: string): Promise<Uint8Array | undefined> {
  let file;
  try {
    file = await disk.open(path);
  } catch (error) {
    if (error instanceof TcfsError && error.code === "TCFS_NO_ENTRY") return undefined;
    throw error;
  }
  try {
    const into = new Uint8Array(MAX_HEADER_BYTES + 1);
    return into.slice(0, await file.readInto(into, 0));
  } finally {
    await file.close();
  }
}
