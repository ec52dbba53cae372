/** A vault that a TPM opens, as its user sees it: enrolled, mounted without a question, explained when it does not open. */
import { chmod, readFile, symlink, writeFile } from "node:fs/promises";
import { mkdirSync, readFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { hkdfSync } from "node:crypto";
import { describe, expect, test } from "vitest";
import { toHex } from "../../src/bytes.ts";
import { deriveKek } from "../../src/keys/kdf.ts";
import { parseHeader } from "../../src/keys/header.ts";
import { unlockHeader } from "../../src/keys/keyring.ts";
import { isTpmSlot } from "../../src/keys/slot-format.ts";
import { unsealFromTpm } from "../../src/keys/tpm/tpm-secret.ts";
import { attempt, run } from "../support/run.ts";
import { SoftwareTpm, swtpmIsMissing } from "../support/swtpm.ts";
import { tcfs } from "../support/tcfs-mount.ts";
import { CommandLine, LINKED_COMMAND } from "./fixtures.ts";

const PIN = "file:2468";
const PASSPHRASE = "swordfish";

describe.skipIf(swtpmIsMissing !== undefined)("a vault with a TPM", () => {
  test("is mounted without a question until the machine's state changes, and again after resealing", async () => {
    await using line = await CommandLine.make({ isBare: true });
    await using tpm = await SoftwareTpm.make();
    const place = ["--vault", line.vault, "--tcti", tpm.tcti];
    const words = ["--recovery-file", join(line.directory, "words")];
    await line.expect("NO_TPM", ["init", ...line.unlock, ...words, "--tpm", "--tcti", "device:/nowhere/tpm"]);
    await line.expect("OK", ["init", ...line.unlock, ...words, "--tpm", "--tcti", tpm.tcti]);
    const mount = ["mount", line.mountPoint, ...place, "--pid-file", line.pidFile];
    expect((await line.expect("OK", mount)).stderr).toBe("");
    await writeFile(join(line.mountPoint, "a"), "a");
    await line.umount();

    await tpm.extend(7);
    const { stderr } = await line.expect("TPM_CHANGED", mount);
    expect(stderr).toMatch(
      /^tcfs: the key slot \w+ \(TPM\) does not open: PCR sha256:7 is not what it was.*reseal\n$/u,
    );
    const resealed = await line.expect("OK", [...mount, "--passphrase-file", line.passphraseFile, "--auto-reseal"]);
    expect(resealed.stderr).toBe("tcfs: the TPM opens the vault in the machine's present state again\n");
    await line.umount();
    expect((await line.expect("OK", ["key", "test", ...place])).stdout).toMatch(
      /^The vault opens with .* \(TPM\)\.\n$/u,
    );
    expect((await line.expect("OK", ["key", "reseal", ...place])).stdout).toContain("nothing to reseal");
    await tpm.extend(7);
    const reseal = ["key", "reseal", ...place, "--passphrase-file", line.passphraseFile];
    expect((await line.expect("OK", reseal)).stdout).toBe("Resealed: 1.\n");

    // As /etc/fstab has it: mount(8)'s helper, which asks nobody.
    const helper = join(line.directory, "mount.tcfs");
    await symlink(LINKED_COMMAND, helper);
    const options = `tpm,tcti=${tpm.tcti},pid_file=${line.pidFile}`;
    expect(await attempt(helper, [line.vault, line.mountPoint, "-o", options])).toMatchObject({ code: 0, stderr: "" });
    expect(await readFile(join(line.mountPoint, "a"), "utf8")).toBe("a");
    await line.umount();

    await tpm.stop();
    expect((await line.expect("NO_TPM", mount)).stderr).toMatch(/the TPM cannot be reached/u);
    await line.expect("OK", ["key", "test", ...line.unlock]);
  });

  test("with a PIN opens for that alone, and no secret is on a command line, in an environment or on the wires", async () => {
    await using line = await CommandLine.make({ isBare: true });
    await using tpm = await SoftwareTpm.make();
    const log = join(line.directory, "tools.log");
    const env = { PATH: await loggedTools(line.directory, log) };
    const pinFile = line.secretFile("pin", `${PIN}\n`);
    const words = join(line.directory, "words");
    const enrol = ["--tpm", "--pin-file", pinFile, "--recovery-file", words, "--tcti", tpm.tcti];
    await line.expect("OK", ["init", ...line.unlock, ...enrol], { env });
    const open = ["key", "test", "--vault", line.vault, "--tcti", tpm.tcti, "--pin-file"];
    const opened = await Promise.all([1, 2].map(() => tcfs([...open, pinFile], { env })));
    for (const { stdout, stderr } of opened) expect(stdout, stderr).toMatch(/\(TPM and PIN\)/u);
    const { stderr } = await line.expect("WRONG_KEY", [...open, line.secretFile("wrong", "1357\n")], { env });
    expect(stderr).toMatch(/does not open: the PIN is wrong; 2 tries are left before the TPM locks\n$/u);
    const unasked = await line.expect("USAGE", ["key", "test", "--vault", line.vault, "--tcti", tpm.tcti], { env });
    expect(unasked.stderr).toContain("it needs its PIN, and there is no terminal to ask on: give --pin-file FILE");

    const secrets = await secretsOf(line, tpm);
    const told = readFileSync(log, "latin1");
    expect(told.match(/^tool /gmu)?.length).toBeGreaterThan(30);
    expect(told).toContain("tpm2_unseal");
    expect(told).toContain("LC_ALL=C");
    for (const [name, text] of Object.entries({ ...secrets, pin: PIN, passphrase: PASSPHRASE }))
      expect(told.toLowerCase().includes(text.toLowerCase()), `${name} in ${log}`).toBe(false);
    expect(told).not.toContain("hex:");
    const { sealedBlob, ...hidden } = secrets;
    expect(tpm.traffic()).toContain(sealedBlob);
    for (const [name, text] of Object.entries(hidden)) expect(tpm.traffic().includes(text), name).toBe(false);

    // A TPM alone is never enough.
    const slots = JSON.parse((await tcfs(["key", "list", "--vault", line.vault, "--json"])).stdout) as { id: string }[];
    await line.expect("OK", ["key", "remove", slots[1]?.id ?? "", ...line.unlock]);
    await line.expect("LAST_SLOT", ["key", "remove", slots[0]?.id ?? "", ...line.unlock]);
    await line.expect("USAGE", ["key", "add", ...line.unlock, "--pin"]);
    const short = ["--tpm", "--tcti", tpm.tcti, "--new-pin-file", line.secretFile("short", "123\n")];
    expect((await line.expect("USAGE", ["key", "add", ...line.unlock, ...short])).stderr).toContain("too short");
    await line.expect("USAGE", ["key", "add", ...line.unlock, "--tpm", "--tcti", tpm.tcti, "--pcrs", "sha1:7"]);
  });
});

/** A PATH on which each of tpm2-tools first writes down its command line and environment. */
async function loggedTools(directory: string, log: string): Promise<string> {
  const places = (process.env["PATH"] ?? "").split(delimiter);
  const tools = join(directory, "tools");
  mkdirSync(tools);
  const names = (await run("sh", ["-c", "ls $(dirname $(command -v tpm2_unseal)) | grep '^tpm2_'"])).trim().split("\n");
  for (const name of names) {
    const real = (await run("sh", ["-c", `command -v ${name}`])).trim();
    const note = `{ echo "tool ${name}"; tr '\\0' '\\n' </proc/$$/cmdline; tr '\\0' '\\n' </proc/$$/environ; } >>'${log}'`;
    await writeFile(join(tools, name), `#!/bin/sh\n${note}\nexec ${real} "$@"\n`);
    await chmod(join(tools, name), 0o755);
  }
  return [tools, ...places].join(delimiter);
}

/** In hexadecimal digits; and what the TPM sealed, which is no secret. */
async function secretsOf(line: CommandLine, tpm: SoftwareTpm) {
  const header = parseHeader(await readFile(join(line.vault, "vault.json")));
  const slot = header.slots.find(isTpmSlot);
  if (slot?.kind !== "tpm2-pin") throw new Error("no TPM slot with a PIN");
  const pin = new TextEncoder().encode(PIN);
  const bytes = await unsealFromTpm({ tcti: tpm.tcti, toolPath: process.env["PATH"] ?? "" }, slot, pin);
  const { key } = await unlockHeader(header, { kind: "tpm2-pin", slotId: slot.id, bytes });
  const pinKey = await deriveKek(pin, slot.pin.salt, slot.pin.kdf);
  const auth = new Uint8Array(hkdfSync("sha256", pinKey, slot.pin.salt, "tcfs v1 tpm2 pin auth", 32));
  return {
    tpmSecret: toHex(bytes.subarray(0, 32)),
    pinShare: toHex(bytes.subarray(32)),
    pinAuth: toHex(auth),
    pinKey: toHex(pinKey),
    vaultKey: toHex(key.expose()),
    sealedBlob: toHex(slot.tpm.private),
  };
}
