/** A restore of a directory that takes more than its share of the cache, and that is in use elsewhere by now. */
import { expect, test } from "vitest";
import { ROOT_INODE, type Name } from "../../src/ids.ts";
import { caller } from "./fixtures/files.ts";
import { TestVault } from "./fixtures/test-vault.ts";

const FLAGS = { noReplace: false, exchange: false, whiteout: false };
const NAMES = Array.from({ length: 230 }, (_, at) => `name ${String(at)}` as Name);

test("has all of its names at once, and none of them is taken for absent", async () => {
  await using vault = await TestVault.create({ cacheBytes: 500_000 });
  const { operations, snapshots } = vault.volume;
  const [kept, moved] = ["kept" as Name, "moved" as Name];
  const directory = await operations.makeDirectory(
    ROOT_INODE,
    kept,
    { mode: 0o755, umask: 0, deviceNumber: 0 },
    caller,
  );
  for (const name of NAMES) {
    const request = { mode: 0o100644, umask: 0, deviceNumber: 0 };
    await operations.makeNode(directory.ino, name, request, caller);
  }
  await snapshots.take("s", "");
  await operations.rename({ parent: ROOT_INODE, name: kept }, { parent: ROOT_INODE, name: moved }, FLAGS, caller);
  await snapshots.restorePaths({ name: "s" }, ["/kept"], false);
  const restored = await operations.lookup(ROOT_INODE, kept);
  expect(restored?.ino).not.toBe(directory.ino);
  const missing: Name[] = [];
  for (const name of NAMES) {
    if ((await operations.lookup(restored?.ino ?? ROOT_INODE, name)) === undefined) missing.push(name);
  }
  expect(missing).toEqual([]);
});
