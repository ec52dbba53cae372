/** Opens the store that a URL names. The SDK is loaded here, when there is an S3 store, and nowhere before. */
import { TcfsError } from "../errors.ts";
import { systemClock } from "../platform/clock.ts";
import { DirectoryStore } from "./directory-store.ts";
import type { ObjectStore } from "./object-store.ts";
import type { CredentialRenewal } from "./renewing-store.ts";
import type { S3Credentials } from "./s3-store.ts";
import { formatStoreUrl, overridePlace, parseStoreUrl } from "./store-url.ts";

export interface OpenStoreOptions {
  readonly credentials?: S3Credentials | undefined;
  /** Where they come from again, if the store refuses them. */
  readonly renewal?: CredentialRenewal | undefined;
  /** Whether a missing directory is made. */
  readonly create: boolean;
}

/** Load what {@link openStore} will take: the SDK, where it is an S3 store. Asks nothing of any store. @throws TcfsError `TCFS_USAGE` */
export async function prepareStore(url: string): Promise<void> {
  if (parseStoreUrl(url).kind !== "directory") await import("./s3-store.ts");
}

/** @throws TcfsError `TCFS_USAGE`, `TCFS_REMOTE_MISSING`, `TCFS_REMOTE_DENIED`, `TCFS_REMOTE_UNAVAILABLE` */
export async function openStore(url: string, { credentials, renewal, create }: OpenStoreOptions): Promise<ObjectStore> {
  const place = parseStoreUrl(url);
  if (place.kind === "directory") return DirectoryStore.open(place.path, { create });
  const { S3Store } = await import("./s3-store.ts");
  const open = (known: S3Credentials): ObjectStore => new S3Store(overridePlace(place, known.place ?? {}), known);
  if (renewal !== undefined) {
    const { RenewingStore } = await import("./renewing-store.ts");
    return new RenewingStore({ open, credentials, renewal, clock: systemClock, place: formatStoreUrl(place) });
  }
  if (credentials !== undefined) return open(credentials);
  const message =
    "there are no credentials for the store: tcfs credentials set names them, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or ~/.aws/credentials";
  throw new TcfsError("TCFS_REMOTE_DENIED", message);
}
