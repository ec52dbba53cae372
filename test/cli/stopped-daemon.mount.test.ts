/** A daemon that runs and says nothing: commands say so, and which process it is, instead of waiting for ever. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { CommandLine } from "./fixtures.ts";

let line: CommandLine;
beforeAll(async () => {
  line = await CommandLine.make();
  await line.mount();
});
afterAll(() => line[Symbol.asyncDispose]());

const COMMANDS = [
  "status",
  "status --json",
  "sync",
  "snapshot now",
  "snapshots",
  "wait",
  "gc",
  "umount",
  "umount --lazy",
];

test("a daemon that is stopped is told of, with its pid, whatever it is asked; it answers when it goes on", async () => {
  const pid = line.pid();
  process.kill(pid, "SIGSTOP");
  try {
    for (const command of COMMANDS) {
      const [name = "", ...words] = command.split(" ");
      const place = name === "umount" ? [line.mountPoint] : []; // the others go by TCFS_VAULT
      const env = { TCFS_VAULT: line.vault };
      const { stderr } = await line.expect("DAEMON_SILENT", [name, ...words, ...place], { env });
      expect(stderr).toBe(`tcfs: the daemon (pid ${pid}) is stopped by a signal: kill -CONT ${pid} lets it go on\n`);
    }
  } finally {
    process.kill(pid, "SIGCONT");
  }
  await line.expect("OK", ["status", line.mountPoint]);
  await line.expect("OK", ["umount", line.mountPoint]);
});
