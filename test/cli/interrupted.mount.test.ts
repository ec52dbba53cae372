/** A command on snapshots that is broken off, or whose daemon ends, says how things stand. A daemon is played, so that it happens then. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createServer, type Socket } from "node:net";
import { join } from "node:path";
import { expect, test } from "vitest";
import { EXIT_CODE } from "../../src/cli/exit-codes.ts";
import { COMMAND, CommandLine } from "./fixtures.ts";

/** Run a command against a daemon that takes the request and then does this. */
async function ask(line: CommandLine, words: readonly string[], then: (socket: Socket, command: number) => void) {
  const server = createServer({ allowHalfOpen: true });
  let socket: Socket | undefined;
  server.listen(join(line.vault, "control.sock"));
  await once(server, "listening");
  try {
    const command = spawn(process.execPath, [COMMAND, ...words, ...line.unlock], { stdio: ["ignore", "pipe", "pipe"] });
    const asked = (async () => {
      const [connection] = (await once(server, "connection")) as [Socket];
      socket = connection;
      await once(connection, "data");
      then(connection, command.pid as number);
    })();
    let told = "";
    command.stderr.setEncoding("utf8").on("data", (text: string) => (told += text));
    const [ended] = await Promise.all([once(command, "close") as Promise<[number]>, asked]);
    return { code: ended[0], told };
  } finally {
    socket?.destroy();
    server.close();
  }
}

test("a daemon that ends in the middle leaves the state before or after, and that is what is said", async () => {
  await using line = await CommandLine.make();
  const end = (socket: Socket): void => void socket.destroy();
  const restored = await ask(line, ["restore", "monday"], end);
  expect(restored.code).toBe(EXIT_CODE.DAEMON_ENDED);
  expect(restored.told).toContain("mount the vault again: the next mount has it as it was before, or as it was to be");
  const listed = await ask(line, ["snapshots"], end);
  expect(listed.told).not.toContain("mount the vault again");
});

test("control-C says whether it goes on", async () => {
  await using line = await CommandLine.make();
  const interrupt = (_: Socket, command: number): void => void process.kill(command, "SIGINT");
  const undone = await ask(line, ["undo"], interrupt);
  expect(undone).toEqual({
    code: EXIT_CODE.CANCELLED,
    told: "tcfs: interrupted: the daemon goes on with it; tcfs snapshots tells when it is done\n",
  });
  const dry = await ask(line, ["forget", "monday", "--dry-run"], interrupt);
  expect(dry).toEqual({ code: EXIT_CODE.CANCELLED, told: "tcfs: interrupted: nothing was changed\n" });
});
