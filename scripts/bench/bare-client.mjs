/** The SDK that tcfs uses, with nothing around it: what a store can be asked of at most, as a measure for tcfs. */
import { GetObjectCommand, PutObjectCommand, S3Client } from "@aws-sdk/client-s3";

const BUCKET = "bench";

export class BareClient {
  #client;
  #prefix;
  /** @type {{ key: string, lengthBytes: number }[]} */
  #objects = [];

  /**
   * @param {Awaited<ReturnType<typeof import("../lib/seaweed.mjs").startSeaweed>>} server
   * @param {string} prefix
   */
  constructor({ endpoint, credentials }, prefix) {
    this.#prefix = prefix;
    this.#client = new S3Client({
      region: "us-east-1",
      endpoint,
      forcePathStyle: true,
      credentials,
      requestChecksumCalculation: "WHEN_REQUIRED",
      responseChecksumValidation: "WHEN_REQUIRED",
    });
  }

  /**
   * Makes the bucket and the connection, outside of the clock.
   * @returns {Promise<void>}
   */
  async prepare() {
    await this.#client.send(new PutObjectCommand({ Bucket: BUCKET, Key: `${this.#prefix}/first`, Body: "first" }));
  }

  /**
   * @param {Buffer} content - As long as all objects.
   * @param {readonly number[]} lengths
   * @param {number} atOnce
   * @returns {Promise<number>} Milliseconds.
   */
  upload(content, lengths, atOnce) {
    let at = 0;
    const bodies = lengths.map((lengthBytes, index) => {
      const body = content.subarray(at, (at += lengthBytes));
      return { key: `${this.#prefix}/${String(index)}`, body };
    });
    this.#objects = bodies.map(({ key, body }) => ({ key, lengthBytes: body.length }));
    return inLanes(bodies, atOnce, async ({ key, body }) => {
      await this.#client.send(new PutObjectCommand({ Bucket: BUCKET, Key: key, Body: body }));
    });
  }

  /**
   * All that was uploaded, whole objects.
   * @param {number} atOnce
   * @returns {Promise<number>} Milliseconds.
   */
  download(atOnce) {
    return inLanes(this.#objects, atOnce, ({ key }) => this.#get(key, undefined));
  }

  /**
   * Aligned ranges at random places of all objects, one after another.
   * @param {number} count
   * @param {number} rangeBytes
   * @param {() => number} random - From 0, below 1.
   * @returns {Promise<number>} Milliseconds.
   */
  readRanges(count, rangeBytes, random) {
    const ranges = Array.from({ length: count }, () => {
      const { key, lengthBytes } = /** @type {{ key: string, lengthBytes: number }} */ (
        this.#objects[Math.floor(random() * this.#objects.length)]
      );
      const first = Math.floor(random() * Math.floor(lengthBytes / rangeBytes)) * rangeBytes;
      return { key, range: `bytes=${String(first)}-${String(first + rangeBytes - 1)}` };
    });
    return inLanes(ranges, 1, ({ key, range }) => this.#get(key, range));
  }

  close() {
    this.#client.destroy();
  }

  /**
   * @param {string} key
   * @param {string | undefined} range
   */
  async #get(key, range) {
    const place = { Bucket: BUCKET, Key: key, ...(range === undefined ? {} : { Range: range }) };
    const { Body } = await this.#client.send(new GetObjectCommand(place));
    await Body?.transformToByteArray();
  }
}

/**
 * @template T
 * @param {readonly T[]} items
 * @param {number} atOnce
 * @param {(item: T) => Promise<void>} work
 * @returns {Promise<number>} Milliseconds.
 */
async function inLanes(items, atOnce, work) {
  const from = performance.now();
  const queue = items.values();
  const lane = async () => {
    for (const item of queue) await work(item);
  };
  await Promise.all(Array.from({ length: atOnce }, lane));
  return performance.now() - from;
}
