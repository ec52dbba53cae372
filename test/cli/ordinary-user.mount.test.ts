/** What a user without root's rights meets: fusermount3 mounts and unmounts, and what it complains of is told in our words. */
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { chmod, chown, readlink } from "node:fs/promises";
import { dirname } from "node:path";
import { expect, test } from "vitest";
import { eventually } from "../support/run.ts";
import { COMMAND, CommandLine, mountLine } from "./fixtures.ts";

const NOBODY = { uid: 65534, gid: 65534 };
const nobodyCannot =
  process.getuid?.() !== 0 ||
  spawnSync(process.execPath, [COMMAND, "--version"], { ...NOBODY, stdio: "ignore" }).status !== 0;
if (nobodyCannot) console.warn("what an ordinary user meets is not tested: no second user may run tcfs here");

// Names are no reasons: fusermount3 tells the mount point with each.
test.skipIf(nobodyCannot).each(["mount", "invalid argument, device not found"])(
  "a busy mount at “%s” is told of with who uses it, and unmounted once it is free",
  async (name) => {
    await using line = await CommandLine.make({ isBare: true });
    const place = name === "mount" ? line.mountPoint : await line.placeToMount(name);
    await chmod(dirname(line.directory), 0o711);
    for (const path of [line.directory, place, line.passphraseFile]) await chown(path, NOBODY.uid, NOBODY.gid);
    await line.expect("OK", ["init", ...line.unlock, "--recovery-file", `${line.vault}.words`], NOBODY);
    await line.expect("OK", line.mountWords.with(1, place), NOBODY);
    // It goes there itself: root may not.
    const holder = spawn("sh", ["-c", 'cd "$0" && exec sleep infinity', place], { ...NOBODY, stdio: "ignore" });
    const ended = once(holder, "close");
    try {
      const directory = `/proc/${String(holder.pid)}/cwd`;
      await eventually("it is in there", 60_000, async () => (await readlink(directory).catch(() => "")) === place);
      const { stderr } = await line.expect("BUSY", ["umount", place], NOBODY);
      expect(stderr).toContain(
        `${place} is busy, and everything in it is flushed; it is used by sleep (pid ${holder.pid}`,
      );
      expect(mountLine(place.replaceAll(" ", "\\040"))).toContain("fuse.tcfs");
    } finally {
      holder.kill();
      await ended;
    }
    await line.expect("OK", ["umount", place], NOBODY);
  },
);

test.skipIf(nobodyCannot)("a vault directory that its user may not write to is told of in a sentence", async () => {
  await using line = await CommandLine.make({ isBare: true });
  await chmod(dirname(line.directory), 0o711);
  for (const path of [line.directory, line.mountPoint, line.passphraseFile]) await chown(path, NOBODY.uid, NOBODY.gid);
  await line.expect("OK", ["init", ...line.unlock, "--recovery-file", `${line.vault}.words`], NOBODY);
  await chmod(line.vault, 0o500);
  const { stderr } = await line.expect("NOT_PERMITTED", line.mountWords, NOBODY);
  expect(stderr).toMatch(/^tcfs: cannot [^\n]+: EACCES, permission denied\n$/u);
  expect(mountLine(line.mountPoint)).toBeUndefined();
});
