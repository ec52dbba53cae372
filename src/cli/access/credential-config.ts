/**
 * `credentials.json` in the vault directory: where the credentials for the vault's store come from, and what opens that place.
 * It holds no secret. It is not authenticated: who can write it can make the store refuse us, and no more (docs/SECURITY.md).
 */
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { TcfsError } from "../../errors.ts";
import { absoluteReference, isEntryReference } from "../../keys/entry-reference.ts";
import type { Disk } from "../../platform/disk.ts";

const NAME = "credentials.json";
const MAX_BYTES = 16 * 1024;
const FORMAT = { format: "tcfs credentials", formatVersion: 1 } as const;

const text = z.string().min(1).max(4096);
const schema = z.strictObject({
  format: z.literal(FORMAT.format),
  formatVersion: z.literal(FORMAT.formatVersion),
  source: text,
  kdbxPasswordFile: text.nullable(),
  kdbxKeyFile: text.nullable(),
  hasPassphrase: z.boolean(),
});

export interface CredentialConfig {
  /** `kdbx:FILE#ENTRY`, `secret-service:TITLE`, `env`, `aws` or `aws:PROFILE`; paths absolute. */
  readonly source: string;
  /** What opens the KeePass database without a question; as any passphrase is named. */
  readonly kdbxPasswordFile: string | null;
  readonly kdbxKeyFile: string | null;
  /** Whether the entry's attribute `passphrase` opens the vault. */
  readonly hasPassphrase: boolean;
}

/** A source as it is typed. @returns With absolute paths. @throws TcfsError `TCFS_USAGE` if it is none. */
export function parseSource(source: string): string {
  if (source === "env" || /^aws(?::.+)?$/u.test(source)) return source;
  if (isEntryReference(source)) return absoluteReference(source);
  const known = "kdbx:FILE#UUID, kdbx:FILE#Group/Entry, secret-service:TITLE, env, aws, aws:PROFILE";
  throw new TcfsError("TCFS_USAGE", `“${source}” is no source of credentials: ${known}`);
}

/** @returns Undefined where nothing was set. @throws TcfsError `TCFS_CORRUPT` */
export async function readCredentialConfig(disk: Disk, directory: string): Promise<CredentialConfig | undefined> {
  const content = await disk.readFile(join(directory, NAME));
  if (content === undefined) return undefined;
  try {
    if (content.length > MAX_BYTES) throw new RangeError("too long");
    const { source, kdbxPasswordFile, kdbxKeyFile, hasPassphrase } = schema.parse(
      JSON.parse(Buffer.from(content).toString("utf8")),
    );
    return { source: parseSource(source), kdbxPasswordFile, kdbxKeyFile, hasPassphrase };
  } catch (cause) {
    const message = `${NAME} in the vault directory is damaged: tcfs credentials set writes it anew`;
    throw new TcfsError("TCFS_CORRUPT", message, { cause });
  }
}

export async function writeCredentialConfig(disk: Disk, directory: string, config: CredentialConfig): Promise<void> {
  const { source, kdbxPasswordFile, kdbxKeyFile, hasPassphrase } = config;
  const content = { ...FORMAT, source, kdbxPasswordFile, kdbxKeyFile, hasPassphrase };
  await disk.replaceFile(join(directory, NAME), Buffer.from(`${JSON.stringify(content, null, 2)}\n`));
}

/** From now on as the AWS tools find theirs. */
export async function removeCredentialConfig(disk: Disk, directory: string): Promise<void> {
  await rm(join(directory, NAME), { force: true });
  await disk.syncDirectory(directory);
}
