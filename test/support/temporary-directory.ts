/** Directories that live as long as a test. */
import { chmod, mkdtemp, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

const SEARCH_BY_ALL = 0o711;

export interface TemporaryDirectory extends AsyncDisposable {
  readonly path: string;
}

/** Make a directory that every user may enter; it goes, with all it holds, on disposal. */
export async function temporaryDirectory(purpose: string): Promise<TemporaryDirectory> {
  await openToAll(tmpdir());
  const path = await mkdtemp(join(tmpdir(), `tcfs-${purpose}-`));
  await chmod(path, 0o755);
  return {
    path,
    [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }),
  };
}

/** The run's own directory (test/leftovers.ts) is closed to the other users that tests act as. */
async function openToAll(path: string): Promise<void> {
  const { mode } = await stat(path);
  if ((mode & SEARCH_BY_ALL) !== SEARCH_BY_ALL) await chmod(path, (mode & 0o7777) | SEARCH_BY_ALL);
}
