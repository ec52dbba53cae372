import { createServer, type RequestListener, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { patientStore } from "../../src/remote/patient-store.ts";
import { S3Store } from "../../src/remote/s3-store.ts";
import { NO_SEAWEED, type Seaweed, startWithBucket, storeOf } from "./seaweed.ts";
import { testObjectStore } from "./store-contract.ts";

const CREDENTIALS = { accessKeyId: "AKIAnotasecret", secretAccessKey: "verysecretvalue" };

describe.skipIf(NO_SEAWEED !== undefined)("SeaweedFS", () => {
  let server: Seaweed;
  let store: S3Store;
  beforeAll(async () => {
    server = await startWithBucket();
    store = storeOf(server);
  });
  afterAll(async () => {
    await store.close();
    await server.stop();
  });

  testObjectStore("SeaweedFS", () => Promise.resolve(store));

  test("denies wrong credentials, and says nothing of them", async () => {
    const place = { kind: "s3", bucket: "vault", prefix: "", endpoint: server.endpoint, region: "us-east-1" } as const;
    const stranger = new S3Store(place, CREDENTIALS);
    const error: unknown = await stranger.put("a", Buffer.from("x")).catch((caught: unknown) => caught);
    expect(error).toMatchObject({ code: "TCFS_REMOTE_DENIED" });
    const told = `${String(error)} ${(error as Error).stack ?? ""} ${String((error as Error).cause)}`;
    expect(told).not.toMatch(/AKIAnotasecret|verysecretvalue/u);
    await stranger.close();
  });

  test("misses a bucket that is not there", async () => {
    const place = {
      kind: "s3",
      bucket: "no-such",
      prefix: "",
      endpoint: server.endpoint,
      region: "us-east-1",
    } as const;
    const nowhere = new S3Store(place, server.credentials);
    await expect(nowhere.get("a", { maxBytes: 1 })).rejects.toMatchObject({ code: "TCFS_REMOTE_MISSING" });
    await nowhere.close();
  });

  test("is out of reach when killed, and has everything when it is back", async () => {
    await store.put("kept", Buffer.from("before"));
    await server.kill();
    await expect(store.get("kept", { maxBytes: 9 })).rejects.toMatchObject({ code: "TCFS_REMOTE_UNAVAILABLE" });
    // It refuses connections, then answers 500 until its parts have found each other. The clock stands still.
    const waits = vi.fn();
    const patient = patientStore(store, { clock: { monotonicMs: () => 0 }, pause: sleep, onWait: waits });
    const asked = patient.get("kept", { maxBytes: 9 });
    await server.restart();
    const kept = await asked;
    expect(waits).toHaveBeenCalledOnce();
    expect(Buffer.from(kept?.content ?? []).toString()).toBe("before");
  });
});

/** An HTTP server that answers each request as the next of its listeners does, the last one for ever. */
async function serving(
  listeners: readonly RequestListener[],
  use: (store: S3Store) => Promise<void>,
): Promise<{ requestCount: number }> {
  const told = { requestCount: 0 };
  const server: Server = createServer((request, response) => {
    request.resume();
    request.on("end", () => listeners[Math.min(told.requestCount++, listeners.length - 1)]?.(request, response));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const endpoint = `http://127.0.0.1:${String((server.address() as AddressInfo).port)}`;
  const store = new S3Store(
    { kind: "s3", bucket: "vault", prefix: "p", endpoint, region: "us-east-1" },
    CREDENTIALS,
    2,
  );
  try {
    await use(store);
  } finally {
    await store.close();
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  }
  return told;
}

const failing =
  (status: number, code: string, message = ""): RequestListener =>
  (_request, response) => {
    response.writeHead(status, { "content-type": "application/xml" });
    response.end(`<Error><Code>${code}</Code><Message>${message}</Message></Error>`);
  };
const giving =
  (content: string, announcedBytes = content.length): RequestListener =>
  (_request, response) => {
    response.writeHead(200, { "content-length": announcedBytes, etag: '"e"' });
    if (content.length === announcedBytes) response.end(content);
    else response.write(content, () => setTimeout(() => response.destroy(), 20));
  };

describe("S3 answers", () => {
  test("a body cut short is asked for again, and is damage in the end", async () => {
    const { requestCount } = await serving([giving("abc", 10), giving("abc", 10), giving("whole")], async (store) => {
      expect(Buffer.from((await store.get("a", { maxBytes: 10 }))?.content ?? []).toString()).toBe("whole");
    });
    expect(requestCount).toBe(3);
    await serving([giving("abc", 10)], async (store) => {
      await expect(store.get("a", { maxBytes: 10 })).rejects.toMatchObject({ code: "TCFS_CORRUPT" });
    });
  });

  test.for([
    [403, "RequestTimeTooSkewed", "TCFS_REMOTE_DENIED"],
    [400, "ExpiredToken", "TCFS_REMOTE_DENIED"],
    [409, "ConditionalRequestConflict", "TCFS_REMOTE_CONFLICT"],
    [507, "InsufficientStorage", "TCFS_REMOTE_FULL"],
    [404, "NoSuchBucket", "TCFS_REMOTE_MISSING"],
  ] as const)("%i %s is %s", async ([status, name, code]) => {
    // A conflict looks at what is there.
    await serving([failing(status, name, "AKIAnotasecret"), giving("another")], async (store) => {
      const error: unknown = await store.putIfAbsent("a", Buffer.from("x")).catch((caught: unknown) => caught);
      expect(error).toMatchObject({ code });
      expect(String(error)).not.toContain("AKIAnotasecret");
    });
  });

  test.for([
    [500, "InternalError", "", "TCFS_REMOTE_UNAVAILABLE"],
    [500, "InternalError", "assign volume: no free volumes left for", "TCFS_REMOTE_FULL"],
    [503, "SlowDown", "", "TCFS_REMOTE_THROTTLED"],
    [503, "ServiceUnavailable", "", "TCFS_REMOTE_UNAVAILABLE"],
  ] as const)("%i %s (%s) is tried again, and %s in the end", async ([status, name, text, code]) => {
    const { requestCount } = await serving([failing(status, name, text)], async (store) => {
      await expect(store.put("a", Buffer.from("x"))).rejects.toMatchObject({ code });
    });
    expect(requestCount).toBeGreaterThan(1);
  });

  test("a put whose answer was lost is recognised by its content", async () => {
    const breakOff: RequestListener = (_request, response) => response.destroy();
    await serving([breakOff, failing(412, "PreconditionFailed"), giving("mine")], async (store) => {
      expect(await store.putIfAbsent("a", Buffer.from("mine"))).toBe('"e"');
    });
    await serving([breakOff, failing(412, "PreconditionFailed"), giving("theirs")], async (store) => {
      await expect(store.putIfAbsent("a", Buffer.from("mine"))).rejects.toMatchObject({ code: "TCFS_REMOTE_CONFLICT" });
    });
  });

  test("a request that hangs ends with its signal", async () => {
    await serving([() => undefined], async (store) => {
      const signal = AbortSignal.timeout(100);
      await expect(store.get("a", { maxBytes: 1, signal })).rejects.toMatchObject({ code: "TCFS_CANCELLED" });
    });
  });

  test("a huge body is not read", async () => {
    await serving([giving("x", 2 ** 40)], async (store) => {
      await expect(store.get("a", { maxBytes: 100 })).rejects.toMatchObject({ code: "TCFS_CORRUPT" });
    });
  });
});
