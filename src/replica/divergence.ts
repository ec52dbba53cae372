/** What is said when the store's root is not ours: uploads have ended, and what can be done. */
import { TcfsError } from "../errors.ts";

/** @param sentence - Why nothing is written any more. */
export function diverged(sentence: string): TcfsError {
  const comfort = "Nothing is uploaded any more; what is in this vault stays in it";
  const advice = "tcfs store accept tells what is where, and goes on from here if you want that";
  return new TcfsError("TCFS_REMOTE_DIVERGED", `${sentence}. ${comfort}. ${advice}`);
}
