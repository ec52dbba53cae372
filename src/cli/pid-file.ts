/** `--pid-file`: the daemon's process id, there from before the mount is ready until it has ended. */
import { readFile, rm, writeFile } from "node:fs/promises";
import { TcfsError } from "../errors.ts";

/** @param path - Absolute; nothing is written without one. @returns Takes the file away, if it is still ours. */
export async function writePidFile(path: string | undefined): Promise<AsyncDisposable> {
  if (path === undefined) return { [Symbol.asyncDispose]: () => Promise.resolve() };
  const content = `${process.pid}\n`;
  try {
    await writeFile(path, content, { mode: 0o644 });
  } catch (cause) {
    throw new TcfsError("TCFS_USAGE", `the pid file ${path} cannot be written: ${String(cause)}`, { cause });
  }
  return {
    [Symbol.asyncDispose]: async () => {
      const current = await readFile(path, "utf8").catch(() => undefined);
      if (current === content) await rm(path, { force: true });
    },
  };
}
