import { describe, expect, test } from "vitest";
import { openStore } from "../../src/remote/open-store.ts";
import { formatStoreUrl, parseStoreUrl } from "../../src/remote/store-url.ts";

describe("a store's URL", () => {
  test.for([
    ["file:///srv/store", { kind: "directory", path: "/srv/store" }],
    ["file:///srv/my%20store/", { kind: "directory", path: "/srv/my store" }],
    ["s3://bucket", { kind: "s3", bucket: "bucket", prefix: "", endpoint: undefined, region: "us-east-1" }],
    [
      "s3://bucket/a/b/?endpoint=http://127.0.0.1:8333/&region=eu-central-1",
      { kind: "s3", bucket: "bucket", prefix: "a/b", endpoint: "http://127.0.0.1:8333", region: "eu-central-1" },
    ],
  ] as const)("%s names its place, and is written one way", ([text, place]) => {
    expect(parseStoreUrl(text)).toEqual(place);
    expect(parseStoreUrl(formatStoreUrl(place))).toEqual(place);
  });

  test.for([
    "nonsense",
    "http://host/bucket",
    "file://host/path",
    "file:path",
    "file:///",
    "file:///a?b=c",
    "s3://b",
    "s3://Bucket_/x",
    "s3://bucket:80/x",
    "s3://bucket/a//b",
    "s3://bucket/x?endpoint=ftp://host",
    "s3://bucket/x?endpoint=http://u:p@host",
    "s3://bucket/x?profile=a",
    "s3://bucket/x#f",
    `s3://bucket/${"x".repeat(2000)}`,
  ])("%s is refused", (text) => {
    expect(() => parseStoreUrl(text)).toThrow(expect.objectContaining({ code: "TCFS_USAGE" }) as Error);
  });

  test("credentials in it are refused without being repeated", () => {
    for (const text of ["s3://AKIA:secret@bucket/x", "s3://bucket/x?secret=hunter2&endpoint=http://u:hunter2@h"]) {
      const failure = (() => {
        try {
          return formatStoreUrl(parseStoreUrl(text));
        } catch (error) {
          return String(error);
        }
      })();
      expect(failure).toMatch(/cannot be used/u);
      expect(failure).not.toMatch(/hunter2|AKIA:/u);
    }
  });

  test("an S3 store is not opened without credentials, nor a directory that is not there", async () => {
    await expect(openStore("s3://bucket/x", { create: true })).rejects.toMatchObject({ code: "TCFS_REMOTE_DENIED" });
    await expect(openStore("file:///nowhere/at/all", { create: false })).rejects.toMatchObject({
      code: "TCFS_REMOTE_MISSING",
    });
  });
});
