/** A real SeaweedFS for tests, where its binary is installed; and its bucket. */
import { CreateBucketCommand, DeleteBucketCommand, PutObjectCommand, S3Client } from "@aws-sdk/client-s3";
import { hasSeaweed, startSeaweed } from "../../scripts/lib/seaweed.mjs";
import { S3Store } from "../../src/remote/s3-store.ts";

export type Seaweed = Awaited<ReturnType<typeof startSeaweed>>;

/** Why tests with it are left out, if they are. */
export const NO_SEAWEED = hasSeaweed() ? undefined : "SeaweedFS is not installed (npm test installs it where pip can)";
if (NO_SEAWEED !== undefined) console.log(`skipped: ${NO_SEAWEED}`);

const BUCKET = "vault";

/** @param volumes - Room, in volumes of 64 MiB. */
export async function startWithBucket(volumes?: number): Promise<Seaweed> {
  const server = await startSeaweed(volumes === undefined ? {} : { volumes });
  await createBucket(server, BUCKET);
  return server;
}

export function createBucket(server: Seaweed, bucket: string): Promise<void> {
  return asOwner(server, async (client) => {
    await client.send(new CreateBucketCommand({ Bucket: bucket }));
  });
}

/** SeaweedFS deletes it with all that is in it, and makes it anew for whoever writes to it. */
export function deleteBucket(server: Seaweed, bucket: string): Promise<void> {
  return asOwner(server, async (client) => {
    await client.send(new DeleteBucketCommand({ Bucket: bucket }));
  });
}

/** With other objects, of so many bytes each, until none is taken any more. */
export function fill(server: Seaweed, bucket: string, lengthBytes: number): Promise<void> {
  return asOwner(server, async (client) => {
    const Body = Buffer.alloc(lengthBytes, "ballast");
    for (let number = 0, isTaken = true; isTaken; number++) {
      const put = new PutObjectCommand({ Bucket: bucket, Key: `ballast/${String(number)}`, Body });
      isTaken = await client.send(put).then(
        () => true,
        () => false,
      );
    }
  });
}

/** As the owner of the server does it: without tcfs. */
async function asOwner(server: Seaweed, work: (client: S3Client) => Promise<void>): Promise<void> {
  const client = new S3Client({
    region: "us-east-1",
    endpoint: server.endpoint,
    forcePathStyle: true,
    credentials: server.credentials,
  });
  try {
    await work(client);
  } finally {
    client.destroy();
  }
}

export function storeOf(server: Seaweed, prefix = "a"): S3Store {
  const place = { kind: "s3", bucket: BUCKET, prefix, endpoint: server.endpoint, region: "us-east-1" } as const;
  return new S3Store(place, server.credentials);
}
