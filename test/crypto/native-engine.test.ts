/** What only the native engine has: reads from descriptors, and a life inside processes that end badly. */
import { closeSync, mkdtempSync, openSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { FrameRun, PackCipher, SealingEngine } from "../../src/crypto/engine.ts";
import { FRAME_BYTES } from "../../src/crypto/engine.ts";
import { openEngine } from "../../src/crypto/open-engine.ts";
import { attempt } from "../support/run.ts";
import {
  engineOptions,
  expectSameBytes,
  framesOf,
  noise,
  PACK_ID,
  PACK_KEY,
  prose,
  storedBytes,
  wholeRun,
} from "./fixtures.ts";

const CORRUPT = expect.objectContaining({ code: "TCFS_CORRUPT" }) as Error;
const SURVIVOR = join(import.meta.dirname, "native-survivor.mjs");

describe("reading frames from a descriptor", () => {
  const OFFSET = 1234;
  const plain = Uint8Array.from([...prose(2 * FRAME_BYTES), ...noise("file", 1000)]);
  let directory: string;
  let engine: SealingEngine;
  let cipher: PackCipher;
  let run: FrameRun;
  let path: string;
  let fd: number;

  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), "tcfs-engine-"));
    path = join(directory, "pack");
    engine = openEngine(engineOptions(), "native");
    cipher = engine.packCipher(PACK_ID, PACK_KEY, 1);
    const output = new Uint8Array(engine.sealBoundBytes(plain.length));
    const [sealed] = await cipher.seal([{ pieces: [plain], lengthBytes: plain.length }], 0, output);
    run = wholeRun(sealed!);
    writeFileSync(path, Buffer.concat([noise("before", OFFSET), output.subarray(0, storedBytes(run))]));
    fd = openSync(path, "r");
  });

  afterAll(() => {
    closeSync(fd);
    engine.close();
    rmSync(directory, { recursive: true });
  });

  test("reads and opens a run in one call", async () => {
    const output = new Uint8Array(plain.length);
    await cipher.readFrames!(fd, OFFSET, run, framesOf(output));
    expectSameBytes(output, plain);
  });

  test("reads at once what the page cache holds, and says so where it cannot", () => {
    const output = new Uint8Array(plain.length);
    if (cipher.readFramesSync!(fd, OFFSET, run, framesOf(output), false)) expectSameBytes(output, plain);
    expect(cipher.readFramesSync!(fd, OFFSET + FRAME_BYTES, run, framesOf(output), false)).toBe(false);
  });

  test("reads at once, waiting for the device, and refuses what is not the run", () => {
    const output = new Uint8Array(plain.length);
    expect(cipher.readFramesSync!(fd, OFFSET, run, framesOf(output), true)).toBe(true);
    expectSameBytes(output, plain);
    expect(() => cipher.readFramesSync!(fd, OFFSET + 1, run, framesOf(output), true)).toThrow(CORRUPT);
  });

  test("refuses another place, and a file that ends too soon", async () => {
    const output = new Uint8Array(plain.length);
    await expect(cipher.readFrames!(fd, OFFSET - 1, run, framesOf(output))).rejects.toEqual(CORRUPT);
    await expect(cipher.readFrames!(fd, 2 ** 40, run, framesOf(output))).rejects.toEqual(CORRUPT);
    const short = join(directory, "short");
    writeFileSync(short, noise("short", 100_000));
    truncateSync(short, OFFSET + storedBytes(run) - 1);
    const shortFd = openSync(short, "r");
    await expect(cipher.readFrames!(shortFd, OFFSET, run, framesOf(output))).rejects.toEqual(CORRUPT);
    closeSync(shortFd);
  });

  test("reports a descriptor that cannot be read", async () => {
    const writeOnly = openSync(join(directory, "write-only"), "w");
    const reading = cipher.readFrames!(writeOnly, 0, run, framesOf(new Uint8Array(plain.length)));
    await expect(reading).rejects.toEqual(expect.objectContaining({ code: "TCFS_IO" }));
    closeSync(writeOnly);
  });
});

describe("the addon in a process of its own", () => {
  test.each([
    ["process.exit while calls are under way", "exit-under-way"],
    ["an uncaught exception while calls are under way", "uncaught"],
    ["worker threads that finish their calls", "finish"],
    ["worker threads that exit while calls are under way", "exit"],
    ["worker threads terminated while calls are under way", "terminate"],
    ["garbage collection of everything but the call", "garbage"],
    ["a full stack", "full-stack"],
    ["arguments of every wrong kind", "misuse"],
  ])("survives %s", async (_what, mode) => {
    const result = await attempt(process.execPath, ["--expose-gc", SURVIVOR, mode]);
    expect(result).toEqual({ code: 0, signal: undefined, stdout: "survived", stderr: "" });
  });
});
