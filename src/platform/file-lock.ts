/**
 * A lock of the kernel's on a file or directory: one holder at a time, let go by the end of the process at the latest.
 * Node has no flock(2), so util-linux's flock(1) takes it and passes it to a `cat` that ends with us.
 */
import { spawn } from "node:child_process";
import { TcfsError } from "../errors.ts";

/** flock(1) ends with this if the time is up. */
const TIMED_OUT = 1;

/**
 * @param path - A file, made if missing.
 * @param purpose - For the sentence: what another process is doing.
 * @returns Lets go of it.
 * @throws TcfsError `TCFS_BUSY` if another process holds it for longer than `timeoutSeconds`; `TCFS_IO`.
 */
export async function lockPath(path: string, purpose: string, timeoutSeconds: number): Promise<AsyncDisposable> {
  const words = ["--exclusive", "--wait", String(timeoutSeconds), path, "cat"];
  const holder = spawn("flock", words, { stdio: ["pipe", "pipe", "ignore"] });
  const ended = new Promise<number | null>((resolve, reject) => {
    holder.once("error", reject);
    holder.once("close", resolve);
  });
  holder.stdin.on("error", () => undefined); // it ended: told by its exit
  holder.stdin.write("\n");
  // `cat` gives the line back: it runs, so the lock is held.
  const held = new Promise<"held">((resolve) => {
    holder.stdout.once("data", () => {
      resolve("held");
    });
  });
  let outcome;
  try {
    outcome = await Promise.race([held, ended]);
  } catch (cause) {
    throw new TcfsError("TCFS_IO", "flock(1) of util-linux cannot be started", { cause });
  }
  if (outcome === TIMED_OUT) throw new TcfsError("TCFS_BUSY", `another process ${purpose}; try again`);
  if (outcome !== "held") throw new TcfsError("TCFS_IO", `${path} cannot be locked`);
  return {
    [Symbol.asyncDispose]: async () => {
      holder.stdin.end();
      await ended;
    },
  };
}

/** As {@link lockPath}, for a directory: where it is gone, no file is made in its place. */
export function lockDirectory(path: string, purpose: string, timeoutSeconds: number): Promise<AsyncDisposable> {
  return lockPath(`${path}/`, purpose, timeoutSeconds);
}
