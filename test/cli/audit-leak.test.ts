import { expect, test } from "vitest";
import { reportOf } from "../../src/cli/commands/audit-leak.ts";

test("counts lengths, those that tell an object apart, and powers of two", () => {
  expect(reportOf("packs", [0, 1, 3, 2, 3, 1024, 1023])).toEqual({
    kind: "packs",
    count: 7,
    bytes: 2056,
    distinctLengths: 6,
    uniqueLengths: 5,
    histogram: [
      { fromBytes: 0, count: 1 },
      { fromBytes: 1, count: 1 },
      { fromBytes: 2, count: 3 },
      { fromBytes: 512, count: 1 },
      { fromBytes: 1024, count: 1 },
    ],
  });
});
