/** A real SeaweedFS for tests, where its binary is installed; and its bucket. */
import {
  BucketAlreadyExists,
  BucketAlreadyOwnedByYou,
  CreateBucketCommand,
  DeleteBucketCommand,
  ListBucketsCommand,
  PutObjectCommand,
  S3Client,
  S3ServiceException,
} from "@aws-sdk/client-s3";
import { hasSeaweed, startSeaweed } from "../../scripts/lib/seaweed.mjs";
import { S3Store } from "../../src/remote/s3-store.ts";
import { eventually, sleep } from "../support/run.ts";

export type Seaweed = Awaited<ReturnType<typeof startSeaweed>>;

/** Why tests with it are left out, if they are. */
export const NO_SEAWEED = hasSeaweed() ? undefined : "SeaweedFS is not installed (npm test installs it where pip can)";
if (NO_SEAWEED !== undefined) console.log(`skipped: ${NO_SEAWEED}`);

const BUCKET = "vault";
/** At least as many as there are workers (vitest.config.ts). */
const PORT_SHARES = 8;
/** In a row, with a pause after each: only then is it full, and was not just busy. */
const REFUSALS_OF_A_FULL_SERVER = 3;
const REFUSAL_PAUSE_MS = 500;

/** @param volumes - Room, in volumes of 64 MiB. */
export async function startWithBucket(volumes?: number): Promise<Seaweed> {
  // Files of tests that run at the same time have ports of their own, also while a server is killed and starts again.
  const portShare = { number: Number(process.env["VITEST_POOL_ID"] ?? 1) - 1, count: PORT_SHARES };
  const server = await startSeaweed({ portShare, ...(volumes === undefined ? {} : { volumes }) });
  await createBucket(server, BUCKET);
  return server;
}

/** Asked for until it is there: a server that has just been started may refuse for a while. */
export function createBucket(server: Seaweed, bucket: string): Promise<void> {
  return asOwner(server, (client) =>
    eventually(`there is a bucket ${bucket}`, 60_000, () =>
      client.send(new CreateBucketCommand({ Bucket: bucket })).then(
        () => true,
        (error: unknown) => error instanceof BucketAlreadyOwnedByYou || error instanceof BucketAlreadyExists,
      ),
    ),
  );
}

/** SeaweedFS deletes it with all that is in it, and makes it anew for whoever writes to it. */
export function deleteBucket(server: Seaweed, bucket: string): Promise<void> {
  return asOwner(server, async (client) => {
    await client.send(new DeleteBucketCommand({ Bucket: bucket }));
  });
}

/** With other objects, of so many bytes each, until none is taken any more: it may refuse one that it has room for. */
export function fill(server: Seaweed, bucket: string, lengthBytes: number): Promise<void> {
  return asOwner(server, async (client) => {
    const Body = Buffer.alloc(lengthBytes, "ballast");
    for (let number = 0, refusals = 0; refusals < REFUSALS_OF_A_FULL_SERVER; number++) {
      const put = new PutObjectCommand({ Bucket: bucket, Key: `ballast/${String(number)}`, Body });
      const isTaken = await client.send(put).then(
        () => true,
        () => false,
      );
      refusals = isTaken ? 0 : refusals + 1;
      if (!isTaken) await sleep(REFUSAL_PAUSE_MS);
    }
  });
}

/** Resolves when the server lets in nobody without the other secret. */
export async function changeSecret(server: Seaweed, secretAccessKey: string): Promise<void> {
  const old = { ...server.credentials };
  server.changeSecret(secretAccessKey);
  const send = (credentials: typeof old): Promise<number | undefined> =>
    asOwner({ endpoint: server.endpoint, credentials }, (client) => client.send(new ListBucketsCommand({}))).then(
      ({ $metadata }) => $metadata.httpStatusCode,
      (error: unknown) => (error instanceof S3ServiceException ? error.$metadata.httpStatusCode : undefined),
    );
  await eventually("the old secret is refused", 60_000, async () => (await send(old)) === 403);
  await eventually("the new one is not", 60_000, async () => (await send(server.credentials)) === 200);
}

/** As the owner of the server does it: without tcfs. */
async function asOwner<T>(
  server: Pick<Seaweed, "endpoint" | "credentials">,
  work: (client: S3Client) => Promise<T>,
): Promise<T> {
  const client = new S3Client({
    region: "us-east-1",
    endpoint: server.endpoint,
    forcePathStyle: true,
    credentials: server.credentials,
  });
  try {
    return await work(client);
  } finally {
    client.destroy();
  }
}

export function storeOf(server: Seaweed, prefix = "a"): S3Store {
  const place = { kind: "s3", bucket: BUCKET, prefix, endpoint: server.endpoint, region: "us-east-1" } as const;
  return new S3Store(place, server.credentials);
}
