import { randomBytes } from "node:crypto";
import { mkdir, stat, writeFile } from "node:fs/promises";
import { connect, createServer } from "node:net";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { askDaemon } from "../../src/cli/control/control-client.ts";
import { failureReply } from "../../src/cli/control/control-protocol.ts";
import { serveControl } from "../../src/cli/control/control-server.ts";
import type { ControlHandler } from "../../src/cli/control/control-server.ts";
import { TcfsError } from "../../src/errors.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

const echo: ControlHandler = (request) => Promise.resolve(request);

function talk(path: string, text: string | Uint8Array): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect({ path });
    let answer = "";
    socket.on("data", (data: Buffer) => (answer += data.toString()));
    socket.on("error", () => undefined);
    socket.on("close", () => {
      resolve(answer);
    });
    socket.end(text);
  });
}

describe("the control socket", () => {
  test("of somebody who never stops talking does not fill the command's memory", async () => {
    await using directory = await temporaryDirectory("control");
    const endless = createServer((socket) => {
      const talkOn = (): void => {
        while (socket.writable && socket.write("x".repeat(64 * 1024)));
      };
      socket.on("drain", talkOn).on("error", () => undefined);
      talkOn();
    });
    await new Promise<void>((resolve) => endless.listen(join(directory.path, "control.sock"), resolve));
    const asked = askDaemon(directory.path, { operation: "status" }, 1024 * 1024);
    await expect(asked).rejects.toMatchObject({ code: "TCFS_IO" });
    await new Promise((resolve) => endless.close(resolve));
  });

  test("of a daemon from before there was a hello is asked all the same", async () => {
    await using directory = await temporaryDirectory("control");
    const unknown = failureReply(new TcfsError("TCFS_USAGE", "this is no request that the daemon knows"));
    const older = createServer((socket) => {
      socket.on("data", (data: Buffer) => {
        for (const line of data.toString().trimEnd().split("\n")) {
          const reply = line.includes("hello") ? unknown : { ok: true, result: JSON.parse(line) as unknown };
          socket.write(`${JSON.stringify(reply)}\n`);
        }
      });
    });
    await new Promise<void>((resolve) => older.listen(join(directory.path, "control.sock"), resolve));
    expect(await askDaemon(directory.path, { operation: "sync" })).toEqual({ result: { operation: "sync" } });
    await new Promise((resolve) => older.close(resolve));
  });

  test("answers, is 0600, and is gone after its end", async () => {
    await using directory = await temporaryDirectory("control");
    const server = await serveControl(directory.path, echo);
    const path = join(directory.path, "control.sock");
    expect((await stat(path)).mode & 0o777).toBe(0o600);
    expect(await askDaemon(directory.path, { operation: "unmount", lazy: true })).toEqual({
      result: { operation: "unmount", lazy: true },
    });
    await server[Symbol.asyncDispose]();
    await expect(stat(path)).rejects.toThrow(/ENOENT/u);
    expect(await askDaemon(directory.path, { operation: "status" })).toBeUndefined();
    expect(await askDaemon(join(directory.path, "none"), { operation: "status" })).toBeUndefined();
  });

  test("works in a directory whose path is longer than a socket address", async () => {
    await using directory = await temporaryDirectory("control");
    const deep = join(directory.path, "d".repeat(100), "e".repeat(100));
    await mkdir(deep, { recursive: true });
    await using _server = await serveControl(deep, echo);
    expect((await stat(join(deep, "control.sock"))).isSocket()).toBe(true);
    expect(await askDaemon(deep, { operation: "sync" })).toEqual({ result: { operation: "sync" } });
  });

  test("takes the place of one that a killed daemon left", async () => {
    await using directory = await temporaryDirectory("control");
    await writeFile(join(directory.path, "control.sock"), "");
    await using _server = await serveControl(directory.path, echo);
    expect(await askDaemon(directory.path, { operation: "status" })).toEqual({ result: { operation: "status" } });
  });

  test("tells a failure with its code, and a bug as one", async () => {
    await using directory = await temporaryDirectory("control");
    await using _server = await serveControl(directory.path, ({ operation }) =>
      Promise.reject(operation === "sync" ? new TcfsError("TCFS_BUSY", "so busy") : new RangeError("oops")),
    );
    await expect(askDaemon(directory.path, { operation: "sync" })).rejects.toMatchObject({
      code: "TCFS_BUSY",
      message: "so busy",
    });
    await expect(askDaemon(directory.path, { operation: "status" })).rejects.toThrow(/daemon failed: oops/u);
  });

  test("sends an answer that was under way when it is closed", async () => {
    await using directory = await temporaryDirectory("control");
    let finish = (): void => undefined;
    const asked = deferred();
    const server = await serveControl(directory.path, () => {
      asked.resolve(undefined);
      return new Promise((resolve) => {
        finish = () => {
          resolve("late");
        };
      });
    });
    const answer = askDaemon(directory.path, { operation: "sync" });
    await asked.promise;
    const closing = server[Symbol.asyncDispose]();
    finish();
    await closing;
    expect(await answer).toEqual({ result: "late" });
  });

  test("answers what is no request with a refusal, and hangs up on what is too long", async () => {
    await using directory = await temporaryDirectory("control");
    await using _server = await serveControl(directory.path, echo);
    const path = join(directory.path, "control.sock");
    const lines = [
      "",
      "x",
      "null",
      '{"operation":"format"}',
      '{"operation":"status","x":1}',
      '{"operation":"unmount"}',
    ];
    for (const line of lines) expect(await talk(path, `${line}\n`)).toContain('"code":"TCFS_USAGE"');
    expect(await talk(path, "x".repeat(100_000))).toBe("");
    expect(await talk(path, `${" ".repeat(70_000)}{"operation":"sync"}\n`)).toBe("");
    await talk(path, randomBytes(3000));
    expect(await askDaemon(directory.path, { operation: "sync" })).toEqual({ result: { operation: "sync" } });
  });

  test("answers several requests of one connection in their order", async () => {
    await using directory = await temporaryDirectory("control");
    await using _server = await serveControl(directory.path, echo);
    const text = '{"operation":"sync"}\n{"operation":"status"}\n';
    const answers = await talk(join(directory.path, "control.sock"), text);
    expect(
      answers
        .trim()
        .split("\n")
        .map((line) => (JSON.parse(line) as { result: unknown }).result),
    ).toEqual([{ operation: "sync" }, { operation: "status" }]);
  });
});

function deferred(): { promise: Promise<unknown>; resolve: (value: unknown) => void } {
  let resolve = (_value: unknown): void => undefined;
  const promise = new Promise((settle) => {
    resolve = settle;
  });
  return { promise, resolve };
}
