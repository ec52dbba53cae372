import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { maskedCrc32c } from "../../src/metadata/stored-checksum.ts";
import { blankTable } from "../../src/metadata/table-blanking.ts";
import { checkTable } from "../../src/metadata/table-check.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

const MAGIC = 0xdb4775248b80fb57n;
const ONE_RESTART = Buffer.from([0, 0, 0, 0, 1, 0, 0, 0]);
const ALL_KEYS = [{ after: undefined, upTo: undefined }];

function varint(value: number): Buffer {
  const bytes: number[] = [];
  for (let rest = value; ; rest = Math.floor(rest / 128)) {
    bytes.push((rest % 128) + (rest > 127 ? 128 : 0));
    if (rest <= 127) return Buffer.from(bytes);
  }
}

/** A block with the trailer that LevelDB writes behind it. */
function sealBlock(entries: Buffer): Buffer {
  const block = Buffer.concat([entries, ONE_RESTART, Buffer.of(0)]);
  const sum = Buffer.alloc(4);
  sum.writeUInt32LE(maskedCrc32c(block));
  return Buffer.concat([block, sum]);
}

/** A table's end, which begins at `start`: an index with one block, where the handle says, and every checksum right. */
function tableNaming(offset: number, lengthBytes: number, start = 0): Buffer {
  const handle = Buffer.concat([varint(offset), varint(lengthBytes)]);
  const key = Buffer.alloc(9, 1);
  const list = sealBlock(Buffer.alloc(0));
  const index = sealBlock(Buffer.concat([Buffer.of(0, key.length, handle.length), key, handle]));
  const footer = Buffer.alloc(48);
  const indexAt = start + list.length;
  Buffer.concat([varint(start), varint(list.length - 5), varint(indexAt), varint(index.length - 5)]).copy(footer);
  footer.writeBigUInt64LE(MAGIC, 40);
  return Buffer.concat([list, index, footer]);
}

test.for([2 ** 20, 2 ** 32, 2 ** 50])(
  "a table that names a block of %d bytes is damaged, and no memory taken for it",
  async (lengthBytes) => {
    await using directory = await temporaryDirectory("table");
    const path = join(directory.path, "000005.ldb");
    await writeFile(path, tableNaming(0, lengthBytes));
    expect(await checkTable(path, new AbortController().signal)).toEqual(ALL_KEYS);
  },
);

test.for([
  ["its end", 2 ** 32],
  ["a block", 0],
])("a table damaged in %s is, blanked, one of the same length that verifies", async ([, offset]) => {
  await using directory = await temporaryDirectory("table");
  const path = join(directory.path, "000005.ldb");
  const data = sealBlock(Buffer.concat([Buffer.of(0, 1, 0), Buffer.of(1)])); // a key of one byte, which LevelDB cannot bear
  data.writeUInt8(2, 3);
  const table = Buffer.concat([data, tableNaming(offset as number, data.length - 5, data.length)]);
  await writeFile(path, table);
  const damage = await checkTable(path, new AbortController().signal);
  expect(damage).toHaveLength(1);
  const blanked = blankTable(table, damage);
  expect(blanked).toHaveLength(table.length);
  await writeFile(path, blanked);
  expect(await checkTable(path, new AbortController().signal)).toEqual([]);
});

test("a table that has gone is not damaged, one that cannot be looked at is not well either", async () => {
  await using directory = await temporaryDirectory("table");
  const { signal } = new AbortController();
  expect(await checkTable(join(directory.path, "000005.ldb"), signal)).toEqual([]);
  await expect(checkTable(directory.path, signal)).rejects.toMatchObject({ code: "EISDIR" });
});
