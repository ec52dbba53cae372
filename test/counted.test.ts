/** Numbers of things in sentences. */
import { expect, test } from "vitest";
import { counted } from "../src/counted.ts";

test("one thing is one, and any other number of them several", () => {
  expect([0, 1, 2, 1000].map((count) => counted(count, "file"))).toEqual([
    "0 files",
    "1 file",
    "2 files",
    "1000 files",
  ]);
  expect([0, 1, 2].map((count) => counted(count, "directory", "directories"))).toEqual([
    "0 directories",
    "1 directory",
    "2 directories",
  ]);
});
