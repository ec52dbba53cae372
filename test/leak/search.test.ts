/** The search itself: a leak test that cannot find anything proves nothing. */
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { temporaryDirectory } from "../support/temporary-directory.ts";
import { findInText, findNeedles } from "./search.ts";

const NEEDLE = "canary-0123456789abcdef";

test.each([
  ["as it is", Buffer.from(`before${NEEDLE}after`)],
  ["in UTF-16", Buffer.from(`..${NEEDLE}`, "utf16le")],
  ["in hexadecimal", Buffer.from(Buffer.from(NEEDLE).toString("hex"))],
  ["backwards", Buffer.from(NEEDLE).reverse()],
  ["in base64", Buffer.from(Buffer.from(`${NEEDLE}...`).toString("base64"))],
  ["in base64, one byte later", Buffer.from(Buffer.from(`x${NEEDLE}...`).toString("base64"))],
  ["in base64, two bytes later", Buffer.from(Buffer.from(`xy${NEEDLE}...`).toString("base64"))],
  ["in base64, at the end", Buffer.from(Buffer.from(`xyz${NEEDLE}`).toString("base64"))],
])("finds a text that stands there %s", (_, haystack) => {
  expect(findInText(haystack, [NEEDLE])).not.toEqual([]);
});

test("finds a text in names and contents at any depth", async () => {
  await using directory = await temporaryDirectory("search");
  await mkdir(join(directory.path, "a", NEEDLE), { recursive: true });
  await writeFile(join(directory.path, "a", "file"), `..${NEEDLE}..`);
  expect(await findNeedles(directory.path, [NEEDLE])).toHaveLength(2);
});

test("finds nothing where nothing is", async () => {
  await using directory = await temporaryDirectory("search");
  await writeFile(join(directory.path, "file"), "canary-0123456789abcde");
  expect(await findNeedles(directory.path, [NEEDLE])).toEqual([]);
});
