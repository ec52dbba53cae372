import { expect, test } from "vitest";
import { WritePace } from "../../src/metadata/write-pace.ts";
import type { DurableFile } from "../../src/platform/disk.ts";

const BYTES = Uint8Array.of(1, 2, 3);

/** A device on which a write on the calling thread takes `writeMs`. */
class Device {
  nowMs = 1000;
  writeMs = 0;
  failure: Error | undefined;
  /** `s`: on the calling thread; `p`: on the pool. */
  writes = "";
  readonly file = {
    writeSync: () => {
      this.writes += "s";
      this.nowMs += this.writeMs;
      if (this.failure !== undefined) throw this.failure;
    },
    write: () => {
      this.writes += "p";
      return this.failure === undefined ? Promise.resolve() : Promise.reject(this.failure);
    },
  } as unknown as DurableFile;
  readonly pace = new WritePace({ monotonicMs: () => this.nowMs });

  async write(count: number): Promise<string> {
    this.writes = "";
    for (let index = 0; index < count; index++) await this.pace.write(this.file, BYTES, 0);
    return this.writes;
  }
}

test("a quick device is written to at once, for ever", async () => {
  const device = new Device();
  device.writeMs = 0.5;
  expect(await device.write(500)).toBe("s".repeat(500));
  expect(device.pace.write(device.file, BYTES, 0)).toBeUndefined();
});

test("eight slow writes in a row send the next 64 to the pool, then one is tried again", async () => {
  const device = new Device();
  device.writeMs = 0.6;
  expect(await device.write(8 + 64 + 1 + 64 + 1)).toBe(`${"s".repeat(8)}${"p".repeat(64)}s${"p".repeat(64)}s`);
});

test("slow writes that are accidents change nothing", async () => {
  const device = new Device();
  for (let round = 0; round < 10; round++) {
    device.writeMs = 30;
    expect(await device.write(7)).toBe("sssssss");
    device.writeMs = 0.1;
    expect(await device.write(1)).toBe("s");
  }
});

test("a device that became quick is written to at once after the next trial", async () => {
  const device = new Device();
  device.writeMs = 5;
  await device.write(8);
  device.writeMs = 0.05;
  expect(await device.write(70)).toBe(`${"p".repeat(64)}${"s".repeat(6)}`);
});

test("a failure is told at once, or by the promise", async () => {
  const device = new Device();
  device.failure = new Error("made to fail");
  expect(() => device.pace.write(device.file, BYTES, 0)).toThrow("made to fail");
  device.failure = undefined;
  device.writeMs = 5;
  await device.write(8);
  device.failure = new Error("made to fail");
  await expect(device.pace.write(device.file, BYTES, 0)).rejects.toThrow("made to fail");
});
