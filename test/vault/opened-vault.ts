/** A vault in a temporary directory, opened in this process as a daemon opens it, and without a mount. */
import { join } from "node:path";
import { openDeviceBook, withSealer } from "../../src/vault/device-setup.ts";
import type { OpenVault, OpenVaultOptions } from "../../src/vault/open-vault.ts";
import { openQuietly } from "../../src/cli/access/with-open-vault.ts";
import type { SecretKey } from "../../src/crypto/secret-key.ts";
import { writeNewHeader } from "../../src/keys/header-file.ts";
import { type VaultHeader, formatHeader } from "../../src/keys/header.ts";
import type { Renewal } from "../../src/keys/key-epochs.ts";
import { wrapHandover } from "../../src/keys/key-handover.ts";
import { type RotatedHeader, rotateHeader } from "../../src/keys/keyring.ts";
import { NodeDisk } from "../../src/platform/node-disk.ts";
import { systemRandom } from "../../src/platform/random.ts";
import { keyringOptions, makeVault } from "../keys/fixtures.ts";
import { type TemporaryDirectory, temporaryDirectory } from "../support/temporary-directory.ts";

export interface Unlocked {
  readonly header: VaultHeader;
  readonly key: SecretKey;
}

export class VaultDirectory implements AsyncDisposable {
  readonly directory: string;
  /** As it was made. */
  readonly first: Unlocked;
  readonly #temporary: TemporaryDirectory;

  private constructor(temporary: TemporaryDirectory, directory: string, first: Unlocked) {
    this.#temporary = temporary;
    this.directory = directory;
    this.first = first;
  }

  static async make(): Promise<VaultDirectory> {
    const temporary = await temporaryDirectory("vault");
    const directory = join(temporary.path, "vault");
    const { header, key } = await makeVault();
    const disk = new NodeDisk();
    await disk.makeDirectories(directory);
    const opened = await openQuietly({ directory, header, key, isReadOnly: false, isNew: true });
    await opened.close();
    await withSealer(header, key, (sealer) => openDeviceBook({ disk, directory, sealer }, header.deviceId));
    await writeNewHeader(disk, directory, header);
    return new VaultDirectory(temporary, directory, { header, key });
  }

  /** For writing, as a command does, unless something else is said. */
  open({ header, key }: Unlocked, options: Partial<OpenVaultOptions> = {}): Promise<OpenVault> {
    return openQuietly({ directory: this.directory, header, key, isReadOnly: false, ...options });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#temporary[Symbol.asyncDispose]();
  }
}

/** A header of the next epoch that 24 words open: no Argon2. */
export function nextHeader({ header, key }: Unlocked, renewal: Renewal = "wraps"): Promise<RotatedHeader> {
  const slot = { kind: { kind: "recovery-words" }, material: new Uint8Array(32) } as const;
  return rotateHeader(header, key, { slots: [slot], renewal }, keyringOptions("next"));
}

/** Begin a rotation of a vault that is open. */
export async function beginRotation(vault: OpenVault, before: Unlocked, next: RotatedHeader): Promise<void> {
  const wrappedKey = wrapHandover(before.header.vaultId, before.key, next.key, systemRandom);
  await vault.rotate(formatHeader(next.header), wrappedKey);
}
