#!/usr/bin/env node
/** The command. It is always there: npx links what exists when it is first asked, and would never look again. */
import { existsSync } from "node:fs";

const command = new URL("../dist/cli/main.js", import.meta.url);
if (existsSync(command)) await import(command.href);
else {
  console.error("tcfs: it is not built yet: npm start does that, and whatever else is missing");
  process.exitCode = 1;
}
