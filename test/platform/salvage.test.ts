import { expect, test } from "vitest";
import { readSalvaged, type SalvageableFile } from "../../src/platform/salvage.ts";
import { noise } from "../crypto/fixtures.ts";

const SECTOR_BYTES = 4096;

/** A file on a device that fails for some sectors, whatever else is asked for with them. */
function failingFile(content: Uint8Array, bad: readonly number[], code = "EIO"): SalvageableFile {
  const read = (into: Uint8Array, offset: number, lengthBytes: number, position: number) => {
    const end = Math.min(content.length, position + lengthBytes);
    const isBad = bad.some((sector) => position < (sector + 1) * SECTOR_BYTES && end > sector * SECTOR_BYTES);
    if (isBad) return Promise.reject(Object.assign(new Error(code), { code }));
    into.set(content.subarray(position, end), offset);
    return Promise.resolve({ bytesRead: Math.max(0, end - position), buffer: into });
  };
  return { read: read as SalvageableFile["read"] };
}

test("what the device cannot read is zeros, and all the rest as it is", async () => {
  const content = noise("table", 5 * SECTOR_BYTES + 100);
  const file = failingFile(content, [1, 3]);
  const expected = Uint8Array.from(content);
  for (const sector of [1, 3]) expected.fill(0, sector * SECTOR_BYTES, (sector + 1) * SECTOR_BYTES);
  for (const [start, end] of [
    [0, content.length],
    [100, content.length + 5000],
    [SECTOR_BYTES + 7, 2 * SECTOR_BYTES - 7],
    [content.length, content.length + 1],
  ] as const) {
    expect(Buffer.from(await readSalvaged(file, start, end)).equals(expected.subarray(start, end))).toBe(true);
  }
});

test("a file that ends in a sector that cannot be read has zeros there", async () => {
  const content = noise("table", 2 * SECTOR_BYTES + 100);
  const bytes = await readSalvaged(failingFile(content, [2]), 0, content.length);
  expect(bytes.length).toBe(content.length);
  expect(bytes.subarray(2 * SECTOR_BYTES).every((byte) => byte === 0)).toBe(true);
});

test("any other failure is told", async () => {
  await expect(readSalvaged(failingFile(noise("table", 100), [0], "EISDIR"), 0, 100)).rejects.toThrow("EISDIR");
});
