/** What is found wrong with a pack's bytes before they leave, and how it heals. */
import { readFile, writeFile } from "node:fs/promises";
import { basename } from "node:path";
import { expect, test } from "vitest";
import { PackBuffer } from "../../src/chunkstore/pack-directory.ts";
import { formatPackId, parsePackId } from "../../src/chunkstore/pack-format.ts";
import { findPackDamage } from "../../src/chunkstore/pack-verifier.ts";
import { PackKeyWrapper } from "../../src/crypto/pack-key.ts";
import { systemRandom } from "../../src/platform/random.ts";
import { VAULT_ID, expectSameBytes, firstEpoch, noise } from "../crypto/fixtures.ts";
import { SUBKEYS, TestVault } from "./test-vault.ts";

const packKeys = new PackKeyWrapper(firstEpoch(SUBKEYS.packs), VAULT_ID, systemRandom);

test("names the chunk that a flipped bit is in; the same content is stored anew then", async () => {
  await using vault = await TestVault.open({ openPacks: 1 });
  const contents = [noise("first", 200_000), noise("second", 200_000)];
  const chunks = [];
  for (const content of contents) chunks.push((await vault.put(content))[0]!);
  await vault.store.ownPacks.retire();
  await vault.commit(new Map(chunks.map(({ id }, ino) => [ino, [id]])));
  const [path = ""] = await vault.packFiles();
  const pack = parsePackId(basename(path))!;
  const rooms = { engine: vault.engine, packKeys, vaultId: VAULT_ID };
  const content = await readFile(path);
  const buffer = new PackBuffer();
  expect(await findPackDamage(pack, content, rooms, buffer, true)).toBeUndefined();
  const record = vault.metadata.asStore().getChunk(chunks[1]!.id);
  const at = record?.kind === "packed" ? record.packOffset + 70_000 : 0;
  content[at] = (content[at] ?? 0) ^ 1;
  const damage = await findPackDamage(pack, content, rooms, buffer, true);
  expect(damage).toEqual({ ofPack: undefined, chunks: [chunks[1]!.id] });
  await writeFile(path, content);
  vault.store.noteDamaged(pack, damage?.chunks ?? []);
  const again = await Promise.all(contents.map((each) => vault.put(each)));
  expect(again.map(([chunk]) => chunk!.isNew)).toEqual([false, true]);
  await vault.commit();
  expectSameBytes(await vault.get(again[1]!), contents[1]!);
  for (const spot of [20, 60, content.length - 30]) {
    const broken = Uint8Array.from(content);
    broken[spot] = (broken[spot] ?? 0) ^ 1;
    expect(
      (await findPackDamage(pack, broken, rooms, buffer, true))?.ofPack,
      `${formatPackId(pack)} at ${spot}`,
    ).toBeDefined();
  }
  expect((await findPackDamage(pack, content.subarray(0, 100), rooms, buffer, true))?.ofPack).toBeDefined();
});
