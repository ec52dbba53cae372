/** Who we are to an S3 store: from the environment, or from an AWS-style credentials file. Read only when a store needs it. */
import { open, readdir } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { TcfsError } from "../errors.ts";
import { parseStoreUrl } from "../remote/store-url.ts";
import type { Settings } from "./settings.ts";
import type { S3Credentials } from "../remote/s3-store.ts";

const MAX_FILE_BYTES = 64 * 1024;

/** Names that the AWS tools use. */
export interface CredentialSource {
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** User ids that may own the file. */
  readonly owners: readonly number[];
}

/** @returns Those for the vault's store; undefined where it has none, or a directory. @throws as {@link readStoreCredentials}. */
export async function credentialsFor(
  directory: string,
  { credentialSource }: Pick<Settings, "credentialSource">,
): Promise<S3Credentials | undefined> {
  const names = await readdir(directory);
  return names.includes("store.json") ? readStoreCredentials(credentialSource) : undefined;
}

/** @returns Those for the store that a URL names; undefined for a directory. @throws as {@link readStoreCredentials}. */
export async function credentialsIfS3(
  url: string,
  { credentialSource }: Pick<Settings, "credentialSource">,
): Promise<S3Credentials | undefined> {
  return parseStoreUrl(url).kind === "s3" ? readStoreCredentials(credentialSource) : undefined;
}

/**
 * @returns Undefined where neither says anything: a directory needs none.
 * @throws TcfsError `TCFS_UNSAFE_FILE` if others can read the file; `TCFS_USAGE` if a file or profile that was named is not there.
 */
export async function readStoreCredentials({
  environment,
  owners,
}: CredentialSource): Promise<S3Credentials | undefined> {
  const fromEnvironment = credentialsOf((name) => environment[name.toUpperCase()]);
  if (fromEnvironment !== undefined) return fromEnvironment;
  const named = environment["AWS_SHARED_CREDENTIALS_FILE"];
  const path = named ?? join(environment["HOME"] ?? homedir(), ".aws", "credentials");
  const text = await readPrivately(path, owners);
  if (text === undefined) {
    if (named === undefined) return undefined;
    throw new TcfsError("TCFS_USAGE", `there is no credentials file ${path}`);
  }
  const profile = environment["AWS_PROFILE"] ?? "default";
  const section = sectionOf(text, profile);
  const found = credentialsOf((name) => section.get(name));
  if (found !== undefined || (named === undefined && environment["AWS_PROFILE"] === undefined)) return found;
  throw new TcfsError("TCFS_USAGE", `${path} has no credentials for the profile “${profile}”`);
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
