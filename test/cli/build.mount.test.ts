/** What was built: dist/; and the command that is there before. */
import { copyFile, readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { expect, test } from "vitest";
import { attempt } from "../support/run.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";
import { COMMAND, LINKED_COMMAND } from "./fixtures.ts";

test("a daemon needs no other file of its build, which may be replaced while it runs", async () => {
  const text = await readFile(join(dirname(COMMAND), "daemon.js"), "utf8");
  expect(text).toMatch(/^import .* from "node:net";$/mu);
  expect(text.match(/(?:\bfrom|^import|\bimport\()\s*"\.[^"]*"/gmu)).toBeNull();
});

test("the SDK of a store is loaded with the store, and not by every daemon", async () => {
  const text = await readFile(join(dirname(COMMAND), "daemon.js"), "utf8");
  expect(text).toContain('await import("@aws-sdk/client-s3")');
  expect(text).not.toMatch(/^import .*"@aws-sdk/mu);
});

test("the command of a directory in which nothing is built says what builds it", async () => {
  await using directory = await temporaryDirectory("unbuilt");
  const command = join(directory.path, "tcfs.mjs");
  await copyFile(LINKED_COMMAND, command);
  const { code, stderr } = await attempt(command, ["--version"]);
  expect(stderr).toContain("npm start");
  expect(code).toBe(1);
});
