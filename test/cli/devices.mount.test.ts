/** Devices as their user sees them: who writes to the store is named, vouched for, revoked; strangers are refused. */
import { cp, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { CommandLine } from "./fixtures.ts";

interface Row {
  readonly id: string;
  readonly name: string;
  readonly isThis: boolean;
  readonly revokedAt: string | null;
}

async function devicesOf(line: CommandLine, ...words: string[]): Promise<Row[]> {
  return JSON.parse((await line.expect("OK", ["device", "list", "--json", ...words])).stdout) as Row[];
}

describe("devices", () => {
  test("are the one that made the vault and those that attached; a revoked one uploads nothing, and what it had stored stays", async () => {
    await using line = await CommandLine.make();
    const store = join(line.directory, "store");
    const url = `file://${store}`;
    const [first] = await devicesOf(line, ...line.unlock);
    expect(first).toMatchObject({ isThis: true, revokedAt: null });
    expect(first?.id).toBe((await line.header())["deviceId"]);
    await line.expect("USAGE", ["device", "revoke", first?.id ?? "", ...line.unlock]);
    await line.expect("OK", ["store", "set", url, ...line.unlock]);
    await line.mount();
    await writeFile(join(line.mountPoint, "a"), "of the first");
    await line.expect("OK", ["wait", line.mountPoint, "--timeout", "600"]);
    await line.uploads("pause");
    const wait = ["wait", line.mountPoint, "--timeout", "600"];

    await using second = await CommandLine.make({ isBare: true });
    const unlock = ["--vault", second.vault, "--passphrase-file", line.passphraseFile];
    await second.expect("OK", ["attach", url, ...unlock]);
    const known = await devicesOf(second, ...unlock);
    expect(known.map(({ isThis }) => isThis)).toEqual([false, true]);
    await second.expect("OK", ["mount", second.mountPoint, ...unlock, "--pid-file", second.pidFile]);
    await writeFile(join(second.mountPoint, "b"), "of the second");
    await second.expect("OK", ["wait", second.mountPoint, "--timeout", "600"]);

    // The first has not looked since: it revokes what it does not know yet, by what the store says.
    const revoked = await line.expect("OK", ["device", "revoke", known[1]?.id ?? "", ...line.unlock]);
    expect(revoked.stdout).toMatch(/is revoked/u);
    expect((await devicesOf(line, ...line.unlock))[1]?.revokedAt).toMatch(/^20/u);
    await line.expect("USAGE", ["device", "revoke", known[1]?.id ?? "", ...line.unlock]);
    await writeFile(join(second.mountPoint, "c"), "too late");
    const refused = await second.expect("DEVICE_REVOKED", ["wait", second.mountPoint, "--timeout", "600"]);
    expect(refused.stderr).toMatch(/this device, .*, was revoked at 20.*nothing is uploaded any more/u);
    expect(await readFile(join(second.mountPoint, "c"), "utf8")).toBe("too late");
    await second.umount();

    // What it had stored before is the store's state all the same.
    await using third = await CommandLine.make({ isBare: true });
    const again = ["--vault", third.vault, "--passphrase-file", line.passphraseFile];
    await third.expect("OK", ["attach", url, ...again]);
    await third.expect("OK", ["mount", third.mountPoint, ...again, "--pid-file", third.pidFile]);
    expect(await readFile(join(third.mountPoint, "b"), "utf8")).toBe("of the second");
    await third.umount();
    await line.uploads("resume");
    expect((await line.expect("REMOTE_DIVERGED", wait)).stderr).toMatch(/another device wrote to the store/u);
    await line.umount();
  });

  test("whose key the vault's list does not know, or whose list was taken away or set back, are refused at an attach", async () => {
    await using line = await CommandLine.make();
    const store = join(line.directory, "store");
    const url = `file://${store}`;
    await line.expect("OK", ["store", "set", url, ...line.unlock]);
    await line.mount();
    await writeFile(join(line.mountPoint, "a"), "a");
    await line.expect("OK", ["wait", line.mountPoint, "--timeout", "600"]);
    await line.umount();
    const attach = ["attach", url, "--vault", join(line.directory, "copy"), "--passphrase-file", line.passphraseFile];
    const list = await readFile(join(store, "devices"));

    // A device with the same vault key that nobody enrolled: its own list is kept from the store.
    await cp(line.vault, join(line.directory, "stranger"), { recursive: true });
    const stranger = join(line.directory, "stranger");
    for (const name of ["device", "devices"]) await rm(join(stranger, name));
    const unlock = ["--vault", stranger, "--passphrase-file", line.passphraseFile];
    await line.expect("OK", ["mount", line.mountPoint, ...unlock, "--pid-file", line.pidFile]);
    await writeFile(join(line.mountPoint, "b"), "b");
    const settled = await line.expect("REMOTE_DIVERGED", ["wait", line.mountPoint, "--timeout", "600"]);
    expect(settled.stderr).toMatch(/show different keys of/u);
    await line.umount();
    await line.expect("OK", attach);
    await rm(join(line.directory, "copy"), { recursive: true });

    await rm(join(store, "devices"));
    expect((await line.expect("DEVICE_UNKNOWN", attach)).stderr).toMatch(/not in the vault's list of devices/u);
    await writeFile(join(store, "devices"), list.subarray(0, list.length - 1));
    await line.expect("CORRUPT", attach);
    await writeFile(join(store, "devices"), list);
    const root = await readFile(join(store, "root"));
    root[root.length - 1] = (root[root.length - 1] ?? 0) ^ 1;
    await writeFile(join(store, "root"), root);
    await line.expect("CORRUPT", attach);
  });
});
