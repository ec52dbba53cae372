/** Who we are to an S3 store, as the AWS tools are told it: from the environment, or from a credentials file. */
import { open } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { TcfsError } from "../../errors.ts";
import type { S3Credentials } from "../../remote/s3-store.ts";

const MAX_FILE_BYTES = 64 * 1024;

/** Of the names that the AWS tools use, those whose values are for nobody else. */
export const SECRET_VARIABLES: readonly string[] = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];

/** Names that the AWS tools use. */
export interface CredentialSource {
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** User ids that may own the file. */
  readonly owners: readonly number[];
}

/** @returns Undefined where the environment says nothing. */
export function credentialsFromEnvironment({ environment }: CredentialSource): S3Credentials | undefined {
  return credentialsOf((name) => environment[name.toUpperCase()]);
}

/** The file that is read, whether or not it is there. */
export function credentialsFile({ environment }: CredentialSource): string {
  return environment["AWS_SHARED_CREDENTIALS_FILE"] ?? join(environment["HOME"] ?? homedir(), ".aws", "credentials");
}

/**
 * @param profile - Stands in for `AWS_PROFILE`.
 * @returns Undefined where nobody named a file or profile, and the usual one says nothing: a directory needs none.
 * @throws TcfsError `TCFS_UNSAFE_FILE` if others can read the file; `TCFS_USAGE` if a file or profile that was named is not there.
 */
export async function credentialsFromFile(
  source: CredentialSource,
  profile = source.environment["AWS_PROFILE"],
): Promise<S3Credentials | undefined> {
  const path = credentialsFile(source);
  const isNamed = source.environment["AWS_SHARED_CREDENTIALS_FILE"] !== undefined || profile !== undefined;
  const text = await readPrivately(path, source.owners);
  if (text === undefined) {
    if (!isNamed) return undefined;
    throw new TcfsError("TCFS_USAGE", `there is no credentials file ${path}`);
  }
  const section = sectionOf(text, profile ?? "default");
  const found = credentialsOf((name) => section.get(name));
  if (found !== undefined || !isNamed) return found;
  throw new TcfsError("TCFS_USAGE", `${path} has no credentials for the profile “${profile ?? "default"}”`);
}

function credentialsOf(find: (name: string) => string | undefined): S3Credentials | undefined {
  const accessKeyId = find("aws_access_key_id");
  const secretAccessKey = find("aws_secret_access_key");
  if (accessKeyId === undefined || secretAccessKey === undefined) return undefined;
  const sessionToken = find("aws_session_token");
  return { accessKeyId, secretAccessKey, ...(sessionToken === undefined ? {} : { sessionToken }) };
}

async function readPrivately(path: string, owners: readonly number[]): Promise<string | undefined> {
  let file;
  try {
    file = await open(path, "r");
  } catch {
    return undefined;
  }
  try {
    const { uid, mode, size } = await file.stat();
    if (!owners.includes(uid) || (mode & 0o077) !== 0 || size > MAX_FILE_BYTES) {
      throw new TcfsError("TCFS_UNSAFE_FILE", `${path} must be yours and closed to others (chmod 600)`);
    }
    return await file.readFile("utf8");
  } finally {
    await file.close();
  }
}

/** @returns `name = value` lines of one section of an INI file, names in lower case. */
function sectionOf(text: string, profile: string): Map<string, string> {
  const found = new Map<string, string>();
  let isWithin = false;
  for (const line of text.split(/\r?\n/u)) {
    const heading = /^\s*\[\s*(?:profile\s+)?(?<name>[^\]]*?)\s*\]/u.exec(line)?.groups?.["name"];
    if (heading !== undefined) isWithin = heading === profile;
    const pair = /^\s*(?<name>[\w-]+)\s*=\s*(?<value>.*?)\s*$/u.exec(line)?.groups;
    if (isWithin && pair !== undefined) found.set((pair["name"] ?? "").toLowerCase(), pair["value"] ?? "");
  }
  return found;
}
