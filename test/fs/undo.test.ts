/** An undo of which the safety snapshot is gone. */
import { expect, test } from "vitest";
import { makeShell } from "./fixtures/shell.ts";

test("an undo of which every safety snapshot is forgotten is not undone, nor half", async () => {
  await using made = await makeShell();
  const { shell, vault } = made;
  const { snapshots } = vault.volume;
  await shell.mkdir("d");
  await shell.write("d/f", "then");
  await snapshots.take("s", "");
  await shell.write("d/f", "later");
  const { safety: ofPaths } = await snapshots.restorePaths({ name: "s" }, ["d/f"], false);
  await shell.write("d/f", "last");
  const { safety: ofAll } = await snapshots.restore("s");
  const namesThere = async (): Promise<string[]> => (await snapshots.list()).map(({ name }) => name);
  expect(await namesThere()).toEqual(["s", ofPaths, ofAll]);
  const then = await shell.tree("");
  expect((await snapshots.forget([ofPaths ?? "", ofAll], false)).nextUndo).toBeNull();
  for (const isReopened of [false, true]) {
    if (isReopened) await vault.reopen();
    const refused = vault.volume.snapshots.undo();
    await expect(refused).rejects.toMatchObject({ code: "TCFS_NO_SNAPSHOT" });
    await expect(refused).rejects.toThrow("the snapshot of the state before it was forgotten");
    expect(await shell.tree("")).toEqual(then);
    expect((await vault.volume.snapshots.list()).map(({ name }) => name)).toEqual(["s"]);
  }
  expect(vault.failures).toEqual([]);
});

test("an undo whose safety snapshot is forgotten while the undo is asked for is undone, or is not", async () => {
  await using made = await makeShell();
  const { shell, vault } = made;
  const { snapshots } = vault.volume;
  for (const isForgottenFirst of [true, false]) {
    await shell.write("f", "then");
    await snapshots.take(`s ${String(isForgottenFirst)}`, "");
    await shell.write("f", "later");
    const { safety } = await snapshots.restore(`s ${String(isForgottenFirst)}`);
    const forget = (): Promise<unknown> => snapshots.forget([safety], false);
    const early = isForgottenFirst ? forget() : undefined;
    const undoing = snapshots.undo();
    const late = isForgottenFirst ? undefined : forget();
    await Promise.all([early, late]);
    if (isForgottenFirst) await expect(undoing).rejects.toMatchObject({ code: "TCFS_NO_SNAPSHOT" });
    else expect(await undoing).toMatchObject({ restored: safety });
    expect(await shell.read("f")).toBe(isForgottenFirst ? "then" : "later");
  }
  expect(vault.failures).toEqual([]);
});
