/** Sizes of the cache as people type them; a vault without a store has none. */
import { expect, test } from "vitest";
import { answerCacheRequest } from "../../src/cli/control/cache-requests.ts";
import { parseCacheSize } from "../../src/cli/cache-size.ts";

test("a limit is a size from 64 MiB on, or auto", () => {
  expect(parseCacheSize("auto")).toBeNull();
  expect(parseCacheSize("64m")).toBe(64 * 2 ** 20);
  expect(parseCacheSize("2g")).toBe(2 * 2 ** 30);
  for (const text of ["63m", "0", "much", "-1g"]) {
    expect(() => parseCacheSize(text)).toThrow(expect.objectContaining({ code: "TCFS_USAGE" }) as Error);
  }
});

test("a vault without a store has no cache, and says so", async () => {
  const asked = answerCacheRequest(undefined, { operation: "cacheFigures" });
  await expect(asked).rejects.toMatchObject({
    code: "TCFS_USAGE",
    message: expect.stringMatching(/no store/u) as string,
  });
});
