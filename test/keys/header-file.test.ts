import { beforeAll, describe, expect, test } from "vitest";
import { TcfsError, isTcfsError } from "../../src/errors.ts";
import { formatHeader } from "../../src/keys/header.ts";
import type { VaultHeader } from "../../src/keys/header.ts";
import { hasHeader, readHeader, refreshHeaderCopy, replaceHeader, writeNewHeader } from "../../src/keys/header-file.ts";
import { changePassphrase, rotateHeader } from "../../src/keys/keyring.ts";
import { MemoryDisk, keyringOptions, makeVault, openedBy, utf8 } from "./fixtures.ts";

let header: VaultHeader;
let changed: VaultHeader;

beforeAll(async () => {
  const vault = await makeVault();
  header = vault.header;
  changed = await changePassphrase(header, openedBy(vault, "passphrase"), utf8("new"), keyringOptions("change"));
});

const codeOf = async (attempt: Promise<unknown>) =>
  attempt.then(
    () => undefined,
    (error: unknown) => (isTcfsError(error) ? error.code : error),
  );

const lockNothing = async (): Promise<AsyncDisposable> => ({ [Symbol.asyncDispose]: async () => undefined });

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
    let locks = 0;
    const lock = async (): Promise<AsyncDisposable> => {
      locks++;
      return lockNothing();
    };
    await refreshHeaderCopy(disk.asDisk(), "/v", lock);
    expect(disk.files.get("/v/vault.json.bak")).toEqual(disk.files.get("/v/vault.json"));
    await refreshHeaderCopy(disk.asDisk(), "/v", lock);
    expect(locks).toBe(1);
  });

  test("keeps a newer header's copy that another process wrote while the lock was waited for", async () => {
    const disk = new MemoryDisk();
    await writeNewHeader(disk.asDisk(), "/v", header);
    await disk.replaceFile("/v/vault.json.bak", utf8("stale"));
    await refreshHeaderCopy(disk.asDisk(), "/v", async () => {
      await replaceHeader(disk.asDisk(), "/v", header, changed);
      return { [Symbol.asyncDispose]: async () => undefined };
    });
    expect(disk.files.get("/v/vault.json.bak")).toEqual(Uint8Array.from(formatHeader(changed)));
  });

  test("from before a rotation is refused while its copy tells of it, and never takes the copy's place", async () => {
    const disk = new MemoryDisk();
    const rotated = await rotateHeader(
      header,
      (await makeVault()).key,
      { slots: [{ kind: { kind: "recovery-words" }, material: new Uint8Array(32) }], renewal: "wraps" },
      keyringOptions("rotate"),
    );
    await writeNewHeader(disk.asDisk(), "/v", header);
    await replaceHeader(disk.asDisk(), "/v", header, rotated.header);
    disk.files.set("/v/vault.json", Uint8Array.from(formatHeader(header)));
    await expect(readHeader(disk.asDisk(), "/v")).rejects.toThrow(
      /from before the vault's key was rotated \(it is of key epoch 1, vault.json.bak of 2\).*put vault.json.bak/u,
    );
    await refreshHeaderCopy(disk.asDisk(), "/v", lockNothing);
    expect(disk.files.get("/v/vault.json.bak")).toEqual(Uint8Array.from(formatHeader(rotated.header)));
    disk.files.set("/v/vault.json", Uint8Array.from(formatHeader(rotated.header)));
    expect(await readHeader(disk.asDisk(), "/v")).toEqual(rotated.header);

    // Another vault's copy, or a damaged one, says nothing.
    disk.files.set("/v/vault.json", Uint8Array.from(formatHeader((await makeVault("other", "other")).header)));
    expect(await codeOf(readHeader(disk.asDisk(), "/v"))).toBeUndefined();
    disk.files.set("/v/vault.json.bak", utf8("stale"));
    expect(await codeOf(readHeader(disk.asDisk(), "/v"))).toBeUndefined();
  });

  test("is the new one though its copy cannot be written, which is told and not thrown", async () => {
    const disk = new MemoryDisk();
    await writeNewHeader(disk.asDisk(), "/v", header);
    const full = new MemoryDisk(disk.files);
    full.replaceFile = async (path, content) => {
      if (path.endsWith(".bak")) throw new TcfsError("TCFS_STORE_FULL", "no space");
      disk.files.set(path, content);
    };
    const told = await replaceHeader(full.asDisk(), "/v", header, changed);
    expect(told?.message).toMatch(/^vault.json is changed, but its copy .* older one until the next mount: no space$/u);
    expect(await readHeader(disk.asDisk(), "/v")).toEqual(changed);
  });

  test("is the old or the new one, whichever write the power fails in", async () => {
    for (const failing of [0, 1]) {
      const disk = new MemoryDisk();
      await writeNewHeader(disk.asDisk(), "/v", header);
      let writes = 0;
      const failingDisk = new MemoryDisk(disk.files);
      failingDisk.replaceFile = async (path, content) => {
        if (writes++ === failing) throw new Error("the power failed");
        disk.files.set(path, content);
      };
      await expect(replaceHeader(failingDisk.asDisk(), "/v", header, changed)).rejects.toThrow(/power/u);
      expect(await readHeader(disk.asDisk(), "/v")).toEqual(failing === 0 ? header : changed);
    }
  });
});
