/** Lengths of time and sizes as people type them. */
import { expect, test } from "vitest";
import { formatDuration, parseBytes, parseDuration } from "../../src/vault/durations.ts";

test.for([
  ["0", 0],
  ["4096", 4096],
  ["500m", 500 * 2 ** 20],
  ["20G", 20 * 2 ** 30],
  ["1.5g", 1.5 * 2 ** 30],
  ["20GiB", 20 * 2 ** 30],
  ["2.1 MiB", Math.floor(2.1 * 2 ** 20)],
  ["1KiB", 1024],
] as const)("%s is %d bytes", ([text, bytes]) => {
  expect(parseBytes(text)).toBe(bytes);
});

test.for(["", "g", "-1", "20GB", "20 B", "1.5", "1.g", "5iB", "20gg", "20 g i B", "9999999999999t", "1e9", "٣g"])(
  "%j is no size",
  (text) => {
    expect(() => parseBytes(text)).toThrow("is no size such as 20g");
  },
);

test.for([
  ["90s", 90],
  ["12h", 43_200],
  ["4w", 2_419_200],
] as const)("%s is %d seconds, and back", ([text, seconds]) => {
  expect(parseDuration(text)).toBe(seconds);
  expect(formatDuration(seconds)).toBe(text);
});

test("nought needs no unit", () => {
  expect(parseDuration("0")).toBe(0);
});

test.for(["", "12", "h", "-1h", "1.5h", "200y"])("%j is no time", (text) => {
  expect(() => parseDuration(text)).toThrow("is no time such as 12h");
});
