/** Opens the store that a URL names. The SDK is loaded here, when there is an S3 store, and nowhere before. */
import { TcfsError } from "../errors.ts";
import { DirectoryStore } from "./directory-store.ts";
import type { ObjectStore } from "./object-store.ts";
import type { S3Credentials } from "./s3-store.ts";
import { parseStoreUrl } from "./store-url.ts";

export interface OpenStoreOptions {
  readonly credentials?: S3Credentials | undefined;
  /** Whether a missing directory is made. */
  readonly create: boolean;
}

/** @throws TcfsError `TCFS_USAGE`, `TCFS_REMOTE_MISSING`, `TCFS_REMOTE_DENIED`, `TCFS_REMOTE_UNAVAILABLE` */
export async function openStore(url: string, { credentials, create }: OpenStoreOptions): Promise<ObjectStore> {
  const place = parseStoreUrl(url);
  if (place.kind === "directory") return DirectoryStore.open(place.path, { create });
  if (credentials === undefined) {
    const message =
      "there are no credentials for the store: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or ~/.aws/credentials";
    throw new TcfsError("TCFS_REMOTE_DENIED", message);
  }
  const { S3Store } = await import("./s3-store.ts");
  return new S3Store(place, credentials);
}
