/**
 * A vault as `tcfs init` makes it, made once in a run for each passphrase: tests get copies, with the same id and keys. Its
 * passphrase costs Argon2id's floor, not what the machine could bear: each command of a test computes it.
 */
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { run } from "./run.ts";

/**
 * @param vault - Where the copy goes; at most an empty directory.
 * @param words - Where its recovery words go.
 * @param init - Runs `tcfs init` with these words, which must succeed.
 */
export async function copyVault(
  { vault, words }: { readonly vault: string; readonly words: string },
  passphrase: string,
  init: (parameters: readonly string[]) => Promise<unknown>,
): Promise<void> {
  const template = await findTemplate(passphrase, init);
  await mkdir(vault, { recursive: true, mode: 0o700 });
  await run("cp", ["-aT", join(template, "vault"), vault]);
  await run("cp", ["-a", join(template, "words"), words]);
}

async function findTemplate(
  passphrase: string,
  init: (parameters: readonly string[]) => Promise<unknown>,
): Promise<string> {
  const root = join(process.env["TCFS_TEST_DIRECTORY"] ?? tmpdir(), "templates");
  const template = join(root, createHash("sha256").update(passphrase).digest("hex"));
  if (existsSync(template)) return template;
  await mkdir(root, { recursive: true });
  const making = await mkdtemp(join(root, "making-"));
  const vault = join(making, "vault");
  const file = join(making, "passphrase");
  await writeFile(file, `${passphrase}\n`, { mode: 0o600 });
  await init(["--vault", vault, "--passphrase-file", file, "--recovery-file", join(making, "words")]);
  await lowerCost(vault, passphrase);
  await rm(file);
  await rename(making, template).catch((error: unknown) => {
    if (!existsSync(template)) throw error; // another worker has made one meanwhile
  });
  return template;
}

/** What `tcfs key passwd` does, at the least cost that a reader accepts. */
async function lowerCost(vault: string, passphrase: string): Promise<void> {
  // Loaded in the one test that makes the template.
  const { readHeader } = await import("../../src/keys/header-file.ts");
  const { changePassphrase, unlockHeader } = await import("../../src/keys/keyring.ts");
  const { FLOOR_KDF_COST } = await import("../../src/keys/kdf.ts");
  const { rewriteHeader } = await import("../../src/vault/rewrite-header.ts");
  const { NodeDisk } = await import("../../src/platform/node-disk.ts");
  const { systemClock } = await import("../../src/platform/clock.ts");
  const { systemRandom } = await import("../../src/platform/random.ts");
  const header = await readHeader(new NodeDisk(), vault);
  const bytes = Buffer.from(passphrase);
  const opened = await unlockHeader(header, { kind: "passphrase", bytes });
  const machine = { random: systemRandom, clock: systemClock, kdf: FLOOR_KDF_COST };
  await rewriteHeader(vault, header, await changePassphrase(header, opened, bytes, machine));
  opened.key.wipe();
}
