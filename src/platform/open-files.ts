/** How many files a process may have open. Node raises the soft limit to the hard one when it starts. */
import { readFileSync } from "node:fs";

import { TcfsError } from "../errors.ts";

const LIMIT = /^Max open files\s+(\d+|unlimited)/mu;

/** @throws TcfsError `TCFS_TOO_MANY_FILES` if this process, and so whoever it starts, may have fewer than `count` open. */
export function requireOpenFiles(count: number, what: string): void {
  const found = LIMIT.exec(readFileSync("/proc/self/limits", "latin1"))?.[1];
  const limit = Number(found);
  if (Number.isNaN(limit) || limit >= count) return;
  const message = `${what} needs ${count} open files, and this process may have ${limit}: raise the hard limit`;
  throw new TcfsError("TCFS_TOO_MANY_FILES", `${message} (ulimit -Hn, LimitNOFILE=, /etc/security/limits.conf)`);
}
