import { expect, test } from "vitest";
import type { PackId } from "../../src/ids.ts";
import { Backlog } from "../../src/replica/backlog.ts";

test("goes on after a failure once a pack was sent, and not for one that was there already", () => {
  const backlog = new Backlog(() => false);
  const pack = (number: number) => ({ pack: new Uint8Array(16).fill(number) as PackId, lengthBytes: 10 });
  for (const number of [1, 2, 3]) backlog.add(pack(number));
  expect(backlog.goesOn).toBe(false);
  backlog.sent(pack(1).pack, 10, 1);
  backlog.failed();
  expect(backlog.goesOn).toBe(false);
  backlog.sent(pack(2).pack, 0, 2);
  expect(backlog.goesOn).toBe(false);
  backlog.sent(pack(3).pack, 10, 3);
  expect(backlog).toMatchObject({ goesOn: true, packCount: 0, bytes: 0 });
});

test("tells the speed of lanes together: packs that end in one instant do not make it any faster", () => {
  const backlog = new Backlog(() => false);
  const pack = (number: number): PackId => new Uint8Array(16).fill(number) as PackId;
  backlog.begins(0);
  backlog.sent(pack(1), 1000, 1000);
  expect(backlog.bytesPerSecond).toBe(1000);
  for (let second = 2; second < 20; second++) {
    for (const after of [0, 1, 1]) backlog.sent(pack(second), 1000, second * 1000 + after);
    expect(backlog.bytesPerSecond).toBeLessThanOrEqual(3000);
  }
  expect(backlog.bytesPerSecond).toBeGreaterThan(2900);
});

test("tells the speed of uploads that are all short, and not for ever that of the first", () => {
  const backlog = new Backlog(() => false);
  const pack = (number: number): PackId => new Uint8Array(16).fill(number) as PackId;
  backlog.begins(0);
  backlog.sent(pack(1), 10, 100);
  expect(backlog.bytesPerSecond).toBe(100);
  for (let step = 1; step < 100; step++) {
    backlog.begins(step * 60_000);
    backlog.sent(pack(step), 1000, step * 60_000 + 100);
  }
  expect(backlog.bytesPerSecond).toBeGreaterThan(9000);
});
