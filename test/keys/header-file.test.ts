import { beforeAll, describe, expect, test } from "vitest";
import { isTcfsError } from "../../src/errors.ts";
import { formatHeader } from "../../src/keys/header.ts";
import type { VaultHeader } from "../../src/keys/header.ts";
import { hasHeader, readHeader, refreshHeaderCopy, replaceHeader, writeNewHeader } from "../../src/keys/header-file.ts";
import { changePassphrase } from "../../src/keys/keyring.ts";
import { MemoryDisk, keyringOptions, makeVault, utf8 } from "./fixtures.ts";

let header: VaultHeader;
let changed: VaultHeader;

beforeAll(async () => {
  const vault = await makeVault();
  header = vault.header;
  changed = await changePassphrase(header, vault.key, utf8("new"), keyringOptions("change"));
});

const codeOf = async (attempt: Promise<unknown>) =>
  attempt.then(
    () => undefined,
    (error: unknown) => (isTcfsError(error) ? error.code : error),
  );

describe("the header's file", () => {
  test("is read back as written, with an equal copy beside it", async () => {
    const disk = new MemoryDisk();
    expect(await hasHeader(disk.asDisk(), "/v")).toBe(false);
    expect(await codeOf(readHeader(disk.asDisk(), "/v"))).toBe("TCFS_NO_VAULT");
    await writeNewHeader(disk.asDisk(), "/v", header);
    expect(await readHeader(disk.asDisk(), "/v")).toEqual(header);
    expect(disk.files.get("/v/vault.json.bak")).toEqual(disk.files.get("/v/vault.json"));
  });

  test("is never written over by a new vault", async () => {
    const disk = new MemoryDisk();
    await writeNewHeader(disk.asDisk(), "/v", header);
    expect(await codeOf(writeNewHeader(disk.asDisk(), "/v", changed))).toBe("TCFS_VAULT_EXISTS");
    expect(await readHeader(disk.asDisk(), "/v")).toEqual(header);
  });

  test("is replaced only if nobody else has changed it meanwhile", async () => {
    const disk = new MemoryDisk();
    await writeNewHeader(disk.asDisk(), "/v", header);
    await replaceHeader(disk.asDisk(), "/v", header, changed);
    expect(await readHeader(disk.asDisk(), "/v")).toEqual(changed);
    expect(await codeOf(replaceHeader(disk.asDisk(), "/v", header, changed))).toBe("TCFS_BUSY");
  });

  test("that is damaged is refused with a word on its copy, which is not read by itself", async () => {
    const disk = new MemoryDisk();
    await writeNewHeader(disk.asDisk(), "/v", header);
    disk.files.set("/v/vault.json", utf8("{}"));
    await expect(readHeader(disk.asDisk(), "/v")).rejects.toThrow(/vault\.json\.bak/u);
    expect(await codeOf(readHeader(disk.asDisk(), "/v"))).toBe("TCFS_BAD_HEADER");
  });

  test("of any length is refused without being loaded whole", async () => {
    const disk = new MemoryDisk();
    disk.files.set("/v/vault.json", new Uint8Array(1 << 20).fill(0x20));
    await expect(readHeader(disk.asDisk(), "/v")).rejects.toThrow(/longer than 65536/u);
  });

  test("has its copy made equal again after a power cut between the two", async () => {
    const disk = new MemoryDisk();
    await writeNewHeader(disk.asDisk(), "/v", header);
    await disk.replaceFile("/v/vault.json", formatHeader(changed));
    await refreshHeaderCopy(disk.asDisk(), "/v", changed);
    expect(disk.files.get("/v/vault.json.bak")).toEqual(disk.files.get("/v/vault.json"));
  });
});
