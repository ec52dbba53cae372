/** `--pid-file`: the daemon's process id, there from before the mount is ready until it has ended. */
import { constants } from "node:fs";
import { open, readFile, rm } from "node:fs/promises";
import { TcfsError, describeErrno } from "../../errors.ts";

/** No symlink is followed and no FIFO waited for: as root in a directory of others, what they name would be overwritten. */
const FLAGS = constants.O_WRONLY | constants.O_CREAT | constants.O_NOFOLLOW | constants.O_NONBLOCK;

/** @param path - Absolute; nothing is written without one. @returns Takes the file away, if it is still ours. */
export async function writePidFile(path: string | undefined): Promise<AsyncDisposable> {
  if (path === undefined) return { [Symbol.asyncDispose]: () => Promise.resolve() };
  const content = `${process.pid}\n`;
  try {
    await writeRegular(path, content);
  } catch (cause) {
    const why = cause instanceof TcfsError ? cause.message : describeErrno(cause);
    throw new TcfsError("TCFS_USAGE", `the pid file ${path} cannot be written: ${why}`, { cause });
  }
  return {
    [Symbol.asyncDispose]: async () => {
      const current = await readFile(path, "utf8").catch(() => undefined);
      if (current === content) await rm(path, { force: true });
    },
  };
}

async function writeRegular(path: string, content: string): Promise<void> {
  const file = await open(path, FLAGS, 0o644);
  try {
    if (!(await file.stat()).isFile()) throw new TcfsError("TCFS_USAGE", "it is no regular file");
    await file.truncate(0);
    await file.writeFile(content);
  } finally {
    await file.close();
  }
}
