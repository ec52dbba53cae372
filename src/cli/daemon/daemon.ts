/** The daemon's main: takes its orders and the key from the command that started it, serves one mount, ends with it. */
import { Socket } from "node:net";
import { setFlagsFromString } from "node:v8";
import { SecretKey } from "../../crypto/secret-key.ts";
import { hardenProcess } from "../../platform/hardening.ts";
import { failureReply } from "../control/control-protocol.ts";
import type { ControlReply } from "../control/control-protocol.ts";
import { openDaemonLog } from "./daemon-log.ts";
import { exitCodeOf } from "../exit-codes.ts";
import { LAUNCH_FD, LAUNCH_KEY_BYTES } from "./launch-protocol.ts";
import type { LaunchRequest } from "./launch-protocol.ts";
import { serveMount } from "./serve-mount.ts";
import { logPath } from "../control/vault-paths.ts";

/**
 * How much garbage V8 lets the heap grow by between full collections, in percent of what is in use. Left alone it takes
 * up to three times that, since it may use gigabytes.
 */
const HEAP_GROWTH_PERCENT = 100;

hardenProcess();
setFlagsFromString(`--heap-growing-percent=${HEAP_GROWTH_PERCENT}`);
const channel = new Socket({ fd: LAUNCH_FD, readable: true, writable: true });
channel.on("error", () => undefined); // the command is gone: its end of the channel says so below
const { request, key } = await receiveLaunch(channel);
const starterGone = new Promise<void>((resolve) => {
  channel.once("close", resolve).resume();
});
const log = openDaemonLog(logPath(request.vault), (line) => {
  if (request.isForeground) process.stderr.write(line);
});
process.exitCode = await run();
log.close();
// Nothing may keep the process: everything is closed, or has failed to.
process.exit();

async function run(): Promise<number> {
  const progress = { isReady: false };
  try {
    await serveMount({ ...request, key, log, onReady, onStarterGone });
    return 0;
  } catch (error) {
    const { isReady } = progress;
    log.error(isReady ? "the daemon failed" : "the mount failed", { error: isReady ? error : String(error) });
    if (!isReady) await reply(failureReply(error));
    return exitCodeOf(error);
  } finally {
    key.wipe();
  }

  async function onReady(): Promise<void> {
    progress.isReady = true;
    await reply({ ok: true, result: process.pid });
    if (!request.isForeground) channel.destroy();
  }

  /** Before the mount is ready nobody wants it any more; later only a foreground daemon minds. */
  function onStarterGone(action: () => void): void {
    void starterGone.then(() => {
      if (request.isForeground || !progress.isReady) action();
    });
  }
}

function receiveLaunch(socket: Socket): Promise<{ request: LaunchRequest; key: SecretKey }> {
  return new Promise((resolve) => {
    const leave = (): void => process.exit(1); // started by nobody that we know
    let received = Buffer.alloc(0);
    const take = (piece: Buffer): void => {
      const before = received;
      received = Buffer.concat([received, piece]);
      before.fill(0);
      piece.fill(0);
      const newline = received.indexOf("\n");
      if (newline === -1 || received.length < newline + 1 + LAUNCH_KEY_BYTES) return;
      socket.removeListener("data", take).removeListener("end", leave);
      socket.pause();
      const request = JSON.parse(received.subarray(0, newline).toString()) as LaunchRequest;
      const key = new SecretKey(received.subarray(newline + 1, newline + 1 + LAUNCH_KEY_BYTES));
      received.fill(0);
      resolve({ request, key });
    };
    socket.on("data", take);
    socket.once("end", leave);
  });
}

function reply(content: ControlReply): Promise<void> {
  return new Promise((resolve) => {
    channel.write(`${JSON.stringify(content)}\n`, () => {
      resolve();
    });
  });
}
