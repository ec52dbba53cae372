/**
 * Where the header lies: `vault.json`, and `vault.json.bak` beside it (FORMAT.md §8.1).
 * The copy has the same bytes, is written after the header, and is never read by tcfs: it is there for a person to
 * put back by hand when the header is damaged.
 */
import { join } from "node:path";
import { TcfsError } from "../errors.ts";
import type { Disk } from "../platform/disk.ts";
import { MAX_HEADER_BYTES, formatHeader, parseHeader } from "./header.ts";
import type { VaultHeader } from "./header.ts";

const HEADER_NAME = "vault.json";
const COPY_NAME = "vault.json.bak";

/** @returns Whether `directory` holds a header, readable or not. */
export async function hasHeader(disk: Disk, directory: string): Promise<boolean> {
  return (await disk.list(directory)).includes(HEADER_NAME);
}

/**
 * Read and parse a vault's header.
 * @throws TcfsError `TCFS_NO_VAULT` if there is none; what {@link parseHeader} throws.
 */
export async function readHeader(disk: Disk, directory: string): Promise<VaultHeader> {
  const content = await readBounded(disk, join(directory, HEADER_NAME));
  if (content === undefined) throw new TcfsError("TCFS_NO_VAULT", `there is no vault in ${directory}`);
  try {
    return parseHeader(content);
  } catch (error) {
    if (!(error instanceof TcfsError) || error.code !== "TCFS_BAD_HEADER") throw error;
    const advice = `${COPY_NAME} in the vault directory is its copy, which you can put in its place`;
    throw new TcfsError(error.code, `${error.message} (${advice})`, { cause: error.cause });
  }
}

/** Write a new vault's header. @throws TcfsError `TCFS_VAULT_EXISTS` if there is one already. */
export async function writeNewHeader(disk: Disk, directory: string, header: VaultHeader): Promise<void> {
  if (await hasHeader(disk, directory))
    throw new TcfsError("TCFS_VAULT_EXISTS", `there is a vault in ${directory} already`);
  await writeBoth(disk, directory, header);
}

/**
 * Replace the header durably, then its copy. The caller holds the header's lock.
 * @param before - The header that `after` was made from. @throws TcfsError `TCFS_BUSY` if another process changed it since.
 */
export async function replaceHeader(
  disk: Disk,
  directory: string,
  before: VaultHeader,
  after: VaultHeader,
): Promise<void> {
  const current = await readBounded(disk, join(directory, HEADER_NAME));
  if (current === undefined || !Buffer.from(formatHeader(before)).equals(current))
    throw new TcfsError("TCFS_BUSY", "another process changed the vault's header at the same time; try again");
  await writeBoth(disk, directory, after);
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

/** @returns The header's bytes if the copy has others. */
async function staleCopy(disk: Disk, directory: string): Promise<Uint8Array | undefined> {
  const content = await readBounded(disk, join(directory, HEADER_NAME));
  const copy = await readBounded(disk, join(directory, COPY_NAME));
  if (content === undefined || (copy !== undefined && Buffer.from(content).equals(copy))) return undefined;
  return content;
}

async function writeBoth(disk: Disk, directory: string, header: VaultHeader): Promise<void> {
  const content = formatHeader(header);
  await disk.replaceFile(join(directory, HEADER_NAME), content);
  await disk.replaceFile(join(directory, COPY_NAME), content);
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
