/** Random histories of files against a plain model: every path has the versions that it should have, byte for byte. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { DEFAULT_VERSION_POLICY } from "../../src/format/version-codec.ts";
import { TestVault } from "./fixtures/test-vault.ts";
import { Driver, pattern } from "./fixtures/versions-driver.ts";

const KIB = 1024;
const MIB = 1024 * KIB;

interface ModelFile {
  content: Buffer;
  state: "new" | "changed" | "closed";
}
interface ModelVersion {
  readonly file: ModelFile;
  readonly content: Buffer;
}

const NAMES = ["a", "b", "c"] as const;
/** Around the borders of extent pages, and on both sides of where pages stay apart. */
const OFFSETS = [0, 1000, 256 * KIB - 7, 3 * MIB, 4 * MIB - 1, 5 * MIB + 3];
const name = fc.constantFrom(...NAMES);
const offset = fc.constantFrom(...OFFSETS);
const lengthBytes = fc.constantFrom(1, 4096, 300 * KIB);
const operation = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({ kind: fc.constant("write" as const), name, offset, lengthBytes, seed: fc.nat(255) }),
  },
  { weight: 5, arbitrary: fc.record({ kind: fc.constant("close" as const), name }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("truncate" as const), name, offset }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("unlink" as const), name }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("rename" as const), name, to: name }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("sync" as const) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("collect" as const) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constantFrom("reopen" as const, "crash" as const) }) },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constantFrom("take" as const, "roll back" as const, "drop" as const) }),
  },
);
type Operation = typeof operation extends fc.Arbitrary<infer T> ? T : never;

class Model {
  readonly files = new Map<string, ModelFile>();
  /** By the snapshot's name: what was there, and what it held. Versions are in none. */
  readonly snapshots = new Map<string, Map<string, { readonly file: ModelFile; readonly content: Buffer }>>();
  /** In the order in which they were kept; those of a name with the name. */
  readonly versions: (ModelVersion & { readonly name: string | undefined })[] = [];

  change(name: string, content: (old: Buffer) => Buffer): void {
    let file = this.files.get(name);
    if (file === undefined) this.files.set(name, (file = { content: Buffer.alloc(0), state: "new" }));
    if (file.state === "closed") {
      if (file.content.length > 0) this.versions.push({ file, content: file.content, name: undefined });
      file.state = "changed";
    }
    file.content = content(file.content);
  }

  lose(name: string, isReplaced: boolean): void {
    const file = this.files.get(name);
    this.files.delete(name);
    if (file === undefined || file.state === "new" || (isReplaced && file.content.length === 0)) return;
    this.versions.push({ file, content: file.content, name });
  }

  take(snapshot: string): void {
    this.snapshots.set(
      snapshot,
      new Map([...this.files].map(([name, file]) => [name, { file, content: file.content }])),
    );
  }

  rollBack(snapshot: string): void {
    this.files.clear();
    for (const [name, { file, content }] of this.snapshots.get(snapshot) ?? []) {
      file.content = content;
      this.files.set(name, file);
    }
  }

  of(name: string): Buffer[] {
    const files = new Set([this.files.get(name)]);
    for (const version of this.versions) if (version.name === name) files.add(version.file);
    const found = this.versions.filter((version) =>
      version.name === undefined ? files.has(version.file) : version.name === name,
    );
    return found.map(({ content }) => content);
  }
}

function overwritten(old: Buffer, at: number, data: Buffer): Buffer {
  const content = Buffer.alloc(Math.max(old.length, at + data.length));
  old.copy(content);
  data.copy(content, at);
  return content;
}

async function apply(driver: Driver, model: Model, operation: Operation): Promise<void> {
  switch (operation.kind) {
    case "sync":
      await driver.operations.syncAll();
      return;
    case "collect":
      await driver.vault.volume.collect(new AbortController().signal);
      return;
    case "reopen":
    case "crash":
      await driver.reopen(operation.kind);
      for (const file of model.files.values()) file.state = "closed";
      return;
    case "take":
    case "roll back":
    case "drop":
      await applyToSnapshots(driver, model, operation.kind);
      return;
    case "write": {
      const data = pattern(operation.lengthBytes, operation.seed);
      await driver.write(operation.name, operation.offset, data);
      model.change(operation.name, (old) => overwritten(old, operation.offset, data));
      return;
    }
    default:
  }
  const file = model.files.get(operation.name);
  if (file === undefined) return;
  switch (operation.kind) {
    case "close":
      await driver.close(operation.name);
      file.state = "closed";
      return;
    case "truncate": {
      await driver.truncate(operation.name, operation.offset);
      const resized = Buffer.alloc(operation.offset);
      file.content.copy(resized);
      model.change(operation.name, () => resized);
      return;
    }
    case "unlink":
      await driver.unlink(operation.name);
      model.lose(operation.name, false);
      return;
    case "rename":
      if (operation.to === operation.name) return;
      await driver.rename(operation.name, operation.to);
      model.lose(operation.to, true);
      model.files.delete(operation.name);
      model.files.set(operation.to, file);
  }
}

async function applyToSnapshots(driver: Driver, model: Model, kind: "take" | "roll back" | "drop"): Promise<void> {
  const { snapshots } = driver.vault.volume;
  const newest = [...model.snapshots.keys()].at(-1);
  if (kind === "take") {
    const name = `snapshot ${driver.vault.metadata.volume.nextInode} ${model.snapshots.size}`;
    await snapshots.take(name, "");
    model.take(name);
  } else if (newest !== undefined && kind === "drop") {
    await snapshots.forget([newest], false);
    model.snapshots.delete(newest);
    await snapshots.cleared();
  } else if (newest !== undefined) {
    await snapshots.restore(newest);
    model.rollBack(newest);
  }
}

test("after any history every path has the versions that a plain model has, byte for byte", async () => {
  // Fewer changes than a file may have versions in a row.
  const histories = fc.asyncProperty(fc.array(operation, { minLength: 5, maxLength: 32 }), async (history) => {
    await using vault = await TestVault.create();
    await vault.volume.versions.setPolicy({ ...DEFAULT_VERSION_POLICY, minimumAgeSeconds: 0 });
    const driver = new Driver(vault);
    const model = new Model();
    for (const step of history) await apply(driver, model, step);
    for (const path of NAMES) {
      const file = model.files.get(path);
      expect(await driver.find(path).then((ino) => ino !== undefined)).toBe(file !== undefined);
      if (file !== undefined) expect((await driver.read(path)).equals(file.content)).toBe(true);
      const [found, expected] = [await driver.versions(path), model.of(path)];
      expect(found.map(({ length }) => length)).toEqual(expected.map(({ length }) => length));
      expect(found.every((content, i) => content.equals(expected[i] as Buffer))).toBe(true);
    }
    expect(vault.failures).toEqual([]);
  });
  await fc.assert(histories, { numRuns: 10, endOnFailure: false });
});
