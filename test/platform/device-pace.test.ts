import { expect, test } from "vitest";
import { DevicePace } from "../../src/platform/device-pace.ts";

/** A device on which a call on the calling thread takes `callMs`. */
class Device {
  nowMs = 1000;
  callMs = 0;
  readonly pace = new DevicePace({ monotonicMs: () => this.nowMs });

  /** @returns For each call `h` where it was made here, `p` where it was to go to the pool. */
  call(count: number): string {
    let places = "";
    for (let index = 0; index < count; index++) places += this.#callOnce();
    return places;
  }

  #callOnce(): string {
    if (!this.pace.admits()) return "p";
    return this.pace.measure(() => {
      this.nowMs += this.callMs;
      return "h";
    });
  }
}

test("a quick device is called at once, for ever", () => {
  const device = new Device();
  device.callMs = 0.5;
  expect(device.call(500)).toBe("h".repeat(500));
});

test("eight slow calls in a row send the next 64 to the pool, then one is tried again", () => {
  const device = new Device();
  device.callMs = 0.6;
  expect(device.call(8 + 64 + 1 + 64 + 1)).toBe(`${"h".repeat(8)}${"p".repeat(64)}h${"p".repeat(64)}h`);
});

test("slow calls that are accidents change nothing", () => {
  const device = new Device();
  for (let round = 0; round < 10; round++) {
    device.callMs = 30;
    expect(device.call(7)).toBe("hhhhhhh");
    device.callMs = 0.1;
    expect(device.call(1)).toBe("h");
  }
});

test("a device that became quick is called at once after the next trial", () => {
  const device = new Device();
  device.callMs = 5;
  device.call(8);
  device.callMs = 0.05;
  expect(device.call(70)).toBe(`${"p".repeat(64)}${"h".repeat(6)}`);
});

test("a failure is the caller's", () => {
  const device = new Device();
  const fail = (): never => {
    throw new Error("made to fail");
  };
  expect(() => device.pace.measure(fail)).toThrow("made to fail");
  expect(device.call(1)).toBe("h");
});
