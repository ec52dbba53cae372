/** Which time --at means. */
import { describe, expect, test } from "vitest";
import { parseTime } from "../../src/cli/point-in-time.ts";

const NOW = new Date(2026, 10, 22, 12, 0, 0); // local time

describe("a time", () => {
  test.each([
    ["2 hours ago", new Date(2026, 10, 22, 10, 0, 0)],
    ["yesterday at 14:00", new Date(2026, 10, 21, 14, 0, 0)],
    ["2026-11-20 14:00", new Date(2026, 10, 20, 14, 0, 0)],
    ["2026-11-20T14:00:00Z", new Date(Date.UTC(2026, 10, 20, 14, 0, 0))],
    ["2026-11-20T14:00:00+02:00", new Date(Date.UTC(2026, 10, 20, 12, 0, 0))],
  ])("is understood: %s", (text, expected) => {
    expect(parseTime(text, NOW)).toEqual(expected);
  });

  test.each(["", "soon enough", "2026-13-45T99:00:00Z", "in 3 days"])("is refused: “%s”", (text) => {
    expect(() => parseTime(text, NOW)).toThrow(expect.objectContaining({ code: "TCFS_USAGE" }));
  });
});
