/** Credentials of a daemon: read again where it can by itself, and handed over where it cannot. */
import { describe, expect, test } from "vitest";
import { type Handing, HandedCredentials } from "../../src/cli/daemon/handed-credentials.ts";
import type { RenewalRequest } from "../../src/cli/access/credentials.ts";
import { SecretKey } from "../../src/crypto/secret-key.ts";
import { deriveSubkeys } from "../../src/crypto/subkeys.ts";
import { KeyHandover, sealCredentials, wrapHandover } from "../../src/keys/key-handover.ts";
import { systemRandom } from "../../src/platform/random.ts";
import { VAULT_ID, noise } from "../crypto/fixtures.ts";
import { SecretSession, missingSecretService } from "../support/secret-session.ts";

const request = (source: string, sessionBus?: string): RenewalRequest => ({
  config: { source, kdbxPasswordFile: null, kdbxKeyFile: null, hasPassphrase: false },
  settings: {
    secretOwners: [process.getuid?.() ?? 0],
    sessionBus,
    credentialSource: { environment: {}, owners: [] },
  },
});

const handing = (content: Handing): Uint8Array => new TextEncoder().encode(JSON.stringify(content));

describe("credentials that are handed over", () => {
  test("are told as the way out while the daemon cannot read any, and taken once, before its own place", async () => {
    const credentials = await HandedCredentials.from(request(`kdbx:${import.meta.filename}#Store`));
    expect(await credentials.hasChanged()).toBe(false);
    await expect(credentials.read()).rejects.toThrow(
      /no terminal to ask for the master password on.*; or: tcfs credentials renew hands the daemon other ones/u,
    );
    const given = { accessKeyId: "AKIA", secretAccessKey: "new" };
    await credentials.take(handing({ credentials: given, renewal: undefined }));
    expect(await credentials.hasChanged()).toBe(true);
    expect(await credentials.read()).toEqual(given);
    expect(await credentials.hasChanged()).toBe(false);
    await expect(credentials.read()).rejects.toThrow(/^tcfs credentials renew hands/u);
  });

  test("are sealed by the vault's key, each kind for what it is", () => {
    const [vaultKey, other] = [new SecretKey(noise("vault", 32)), new SecretKey(noise("other", 32))];
    const daemon = new KeyHandover(deriveSubkeys(vaultKey.expose(), VAULT_ID).handover);
    const content = noise("content", 500);
    const sealed = sealCredentials(VAULT_ID, vaultKey, content, systemRandom);
    expect(daemon.unseal(sealed)).toEqual(content);
    const isRefused = (attempt: () => unknown): void => {
      expect(attempt).toThrow(expect.objectContaining({ code: "TCFS_WRONG_KEY" }));
    };
    isRefused(() => daemon.unseal(sealCredentials(VAULT_ID, other, content, systemRandom)));
    isRefused(() => daemon.unseal(wrapHandover(VAULT_ID, vaultKey, other, systemRandom)));
    isRefused(() => daemon.unwrap(sealCredentials(VAULT_ID, vaultKey, noise("key", 32), systemRandom)));
    isRefused(() => daemon.unseal(sealed.subarray(0, 20)));
    expect(daemon.unwrap(wrapHandover(VAULT_ID, vaultKey, other, systemRandom)).expose()).toEqual(other.expose());
  });
});

describe.skipIf(missingSecretService.length > 0)("credentials from the Secret Service", () => {
  test("are read again by a daemon when they were changed there, without asking anybody", async () => {
    await using session = await SecretSession.start();
    const credentials = await HandedCredentials.from(request("secret-service:Store", session.bus));
    await expect(credentials.read()).rejects.toThrow(/no password manager serves.*tcfs credentials renew/u);
    await session.startKeyring();
    for (const password of ["first", "second"]) {
      await session.store("Store", password, "UserName", "AKIA", "region", "eu");
      const found = { accessKeyId: "AKIA", secretAccessKey: password, place: { region: "eu" } };
      expect(await credentials.read()).toEqual(found);
    }
    expect(await credentials.hasChanged()).toBe(false); // it tells of no changes: a refusal does
  });
});
