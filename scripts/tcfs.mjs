#!/usr/bin/env node
/** The command. It is always there: npx links what exists when it is first asked, and would never look again. */
import { existsSync } from "node:fs";

/** As docs/ERRORS.md has it. */
const TOO_MANY_FILES = 27;

const command = new URL("../dist/cli/main.js", import.meta.url);
if (existsSync(command)) {
  await import(command.href).catch((/** @type {unknown} */ error) => {
    const code = error instanceof Error && "code" in error ? error.code : undefined;
    if (code !== "EMFILE" && code !== "ENFILE") throw error;
    end("too many open files: more must be allowed (ulimit -n)", TOO_MANY_FILES);
  });
} else {
  end("it is not built yet: npm start does that, and whatever else is missing", 1);
}

/** @param {string} sentence @param {number} exitCode */
function end(sentence, exitCode) {
  console.error(`tcfs: ${sentence}`);
  process.exitCode = exitCode;
}
