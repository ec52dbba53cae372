/** What the model test does to a tree: operations as data, drawn by fast-check and shrunk by it. */
import fc from "fast-check";

/** One to three names below the tree's root. */
export type TreePath = readonly string[];

export type Operation =
  | { readonly kind: "mkdir"; readonly path: TreePath; readonly mode: number }
  | { readonly kind: "rmdir"; readonly path: TreePath }
  | { readonly kind: "create"; readonly path: TreePath; readonly mode: number }
  | { readonly kind: "unlink"; readonly path: TreePath }
  | { readonly kind: "symlink"; readonly path: TreePath; readonly target: string }
  | { readonly kind: "link"; readonly path: TreePath; readonly to: TreePath }
  | { readonly kind: "rename"; readonly path: TreePath; readonly to: TreePath; readonly flags: 0 | 1 | 2 }
  | ({ readonly kind: "write"; readonly path: TreePath } & Bytes)
  | { readonly kind: "truncate"; readonly path: TreePath; readonly lengthBytes: number }
  | ({ readonly kind: "allocate"; readonly path: TreePath; readonly mode: AllocateMode } & Span)
  | ({ readonly kind: "copy"; readonly path: TreePath; readonly to: TreePath; readonly toOffset: number } & Span)
  | { readonly kind: "chmod"; readonly path: TreePath; readonly mode: number }
  | { readonly kind: "chown"; readonly path: TreePath; readonly uid: number; readonly gid: number }
  | { readonly kind: "utimens"; readonly path: TreePath; readonly seconds: number; readonly nanoseconds: number }
  | {
      readonly kind: "setxattr";
      readonly path: TreePath;
      readonly name: string;
      readonly value: string;
      readonly flags: 0 | 1 | 2;
    }
  | { readonly kind: "removexattr"; readonly path: TreePath; readonly name: string }
  | { readonly kind: "hold"; readonly slot: number; readonly path: TreePath }
  | ({ readonly kind: "writeHeld"; readonly slot: number } & Bytes)
  | { readonly kind: "truncateHeld"; readonly slot: number; readonly lengthBytes: number }
  | { readonly kind: "readHeld"; readonly slot: number }
  | { readonly kind: "release"; readonly slot: number }
  | { readonly kind: "fsync"; readonly path: TreePath }
  | { readonly kind: "check" }
  | { readonly kind: "remount" }
  | { readonly kind: "kill" }
  | { readonly kind: "killDuring"; readonly delayMs: number; readonly operation: Operation }
  | SnapshotOperation
  | VersionOperation;

/** `pick` chooses among the snapshots that there are, the oldest first. */
export type SnapshotAction =
  | { readonly kind: "takeSnapshot"; readonly name: string }
  | { readonly kind: "forgetSnapshot"; readonly pick: number }
  | { readonly kind: "restore"; readonly pick: number }
  | { readonly kind: "undo" };

export type SnapshotOperation =
  | SnapshotAction
  /** While the operation is under way. */
  | { readonly kind: "takeDuring"; readonly name: string; readonly operation: Operation }
  | { readonly kind: "readSnapshot"; readonly pick: number }
  /** One `to` more than there are snapshots stands for the present. */
  | { readonly kind: "diff"; readonly from: number; readonly to: number }
  | { readonly kind: "killDuringSnapshot"; readonly delayMs: number; readonly action: SnapshotAction };

/** `pick` chooses among what is listed. */
export type VersionAction =
  /** Of one in the trash, or what is below the directory so many names above it. */
  | { readonly kind: "restoreTrash"; readonly pick: number; readonly above: number }
  /** `place`: of what, that is there or in the trash. */
  | { readonly kind: "restoreVersion"; readonly place: number; readonly pick: number }
  /** `mark`: as at which moment; `place`: which path of those that there were then. */
  | { readonly kind: "restoreAt"; readonly mark: number; readonly place: number }
  | { readonly kind: "emptyTrash" };

export type VersionOperation =
  | VersionAction
  /** Remember this moment. */
  | { readonly kind: "mark" }
  | { readonly kind: "readVersions" }
  | { readonly kind: "deleteTree"; readonly path: TreePath }
  | { readonly kind: "killDuringVersions"; readonly delayMs: number; readonly action: VersionAction };

export interface Span {
  readonly offset: number;
  readonly lengthBytes: number;
}

export interface Bytes extends Span {
  /** Which bytes: the same seed gives the same. */
  readonly seed: number;
}

/** Modes of fallocate: plain, KEEP_SIZE, punch, zero, zero with KEEP_SIZE. */
export const ALLOCATE_MODES = [0, 1, 3, 16, 17] as const;
export type AllocateMode = (typeof ALLOCATE_MODES)[number];

export const SLOTS = 3;
const NAMES = ["a", "b", "c", "d"];
const LARGEST_OFFSET = 700_000;
const LARGEST_WRITE = 200_000;
const LARGEST_FILE = 3_000_000;

const path = fc.array(fc.constantFrom(...NAMES), { minLength: 1, maxLength: 3 });
const shortPath = fc.array(fc.constantFrom(...NAMES), { minLength: 1, maxLength: 2 });
const slot = fc.nat(SLOTS - 1);
const mode = fc.constantFrom(0o600, 0o644, 0o755, 0o700, 0o777, 0o444);
const edge = fc.constantFrom(0, 1, 4095, 4096, 4097, 65_535, 65_536, 65_537, 262_144);
const offset = fc.oneof(edge, fc.nat(LARGEST_OFFSET));
const lengthBytes = fc.oneof(
  edge.map((n) => n + 1).filter((n) => n <= LARGEST_WRITE),
  fc.integer({ min: 1, max: LARGEST_WRITE }),
);
const fileBytes = fc.oneof(edge, fc.nat(LARGEST_OFFSET), fc.nat(LARGEST_FILE));
const seed = fc.nat(1000);
const xattrName = fc.constantFrom("user.one", "user.two", "trusted.three");

const change: fc.Arbitrary<Operation> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("mkdir" as const), path: shortPath, mode }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("rmdir" as const), path }) },
  { weight: 6, arbitrary: fc.record({ kind: fc.constant("create" as const), path, mode }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("unlink" as const), path }) },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant("symlink" as const),
      path,
      target: fc.constantFrom("nowhere/x", "nowhere/longer/".repeat(20)),
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("link" as const), path, to: path }) },
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constant("rename" as const),
      path,
      to: path,
      flags: fc.constantFrom(0 as const, 0 as const, 1 as const, 2 as const),
    }),
  },
  { weight: 10, arbitrary: fc.record({ kind: fc.constant("write" as const), path, offset, lengthBytes, seed }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("truncate" as const), path, lengthBytes: fileBytes }) },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant("allocate" as const),
      path,
      mode: fc.constantFrom(...ALLOCATE_MODES),
      offset,
      lengthBytes,
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({ kind: fc.constant("copy" as const), path, to: path, offset, toOffset: offset, lengthBytes }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("chmod" as const), path, mode }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("chown" as const), path, uid: fc.nat(9), gid: fc.nat(9) }) },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant("utimens" as const),
      path,
      seconds: fc.integer({ min: -(2 ** 31), max: 2 ** 33 }),
      nanoseconds: fc.nat(999_999_999),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant("setxattr" as const),
      path,
      name: xattrName,
      value: fc.string({ maxLength: 100 }),
      flags: fc.constantFrom(0 as const, 0 as const, 1 as const, 2 as const),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("removexattr" as const), path, name: xattrName }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("hold" as const), slot, path }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("writeHeld" as const), slot, offset, lengthBytes, seed }) },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant("truncateHeld" as const), slot, lengthBytes: fileBytes }),
  },
);

const observation: fc.Arbitrary<Operation> = fc.oneof(
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("readHeld" as const), slot }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("release" as const), slot }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("fsync" as const), path }) },
  { weight: 2, arbitrary: fc.constant({ kind: "check" } as const) },
);

const interruption: fc.Arbitrary<Operation> = fc.oneof(
  fc.constant({ kind: "remount" } as const),
  fc.constant({ kind: "kill" } as const),
  fc.record({ kind: fc.constant("killDuring" as const), delayMs: fc.nat(6), operation: change }),
);

const pick = fc.nat(1000);
const snapshotName = fc.constantFrom("one", "two", "three", "four", "five");

const snapshotAction: fc.Arbitrary<SnapshotAction> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ kind: fc.constant("takeSnapshot" as const), name: snapshotName }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("forgetSnapshot" as const), pick }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("restore" as const), pick }) },
  { weight: 1, arbitrary: fc.constant({ kind: "undo" } as const) },
);

const snapshotOperation: fc.Arbitrary<SnapshotOperation> = fc.oneof(
  { weight: 12, arbitrary: snapshotAction },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constant("takeDuring" as const), name: snapshotName, operation: change }),
  },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("readSnapshot" as const), pick }) },
  { weight: 5, arbitrary: fc.record({ kind: fc.constant("diff" as const), from: pick, to: pick }) },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant("killDuringSnapshot" as const),
      delayMs: fc.nat(12),
      action: snapshotAction,
    }),
  },
);

const versionAction: fc.Arbitrary<VersionAction> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ kind: fc.constant("restoreTrash" as const), pick, above: fc.nat(2) }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("restoreVersion" as const), place: pick, pick }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("restoreAt" as const), mark: pick, place: pick }) },
  { weight: 1, arbitrary: fc.constant({ kind: "emptyTrash" } as const) },
);

const versionOperation: fc.Arbitrary<VersionOperation> = fc.oneof(
  { weight: 10, arbitrary: versionAction },
  { weight: 3, arbitrary: fc.constant({ kind: "mark" } as const) },
  { weight: 2, arbitrary: fc.constant({ kind: "readVersions" } as const) },
  { weight: 5, arbitrary: fc.record({ kind: fc.constant("deleteTree" as const), path: shortPath }) },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant("killDuringVersions" as const),
      delayMs: fc.nat(12),
      action: versionAction,
    }),
  },
);

const bytes = fc.record({ offset, lengthBytes, seed });
/** A file that is made and written twice, closed in between: so it has a version. */
const saves: fc.Arbitrary<Operation[]> = fc.tuple(shortPath, bytes, bytes).map(([place, first, second]) => [
  { kind: "create", path: place, mode: 0o644 },
  { kind: "write", path: place, ...first },
  { kind: "write", path: place, ...second },
]);

/** A history of up to `maximumLength` steps with interruptions here and there. */
export function histories(maximumLength: number, withPast: boolean): fc.Arbitrary<Operation[]> {
  const operation = fc.oneof(
    { weight: 50, arbitrary: change },
    { weight: 8, arbitrary: observation },
    { weight: 1, arbitrary: interruption },
    ...(withPast ? [{ weight: 16, arbitrary: snapshotOperation }] : []),
    ...(withPast ? [{ weight: 12, arbitrary: versionOperation }] : []),
  );
  const steps = fc.oneof({ weight: 20, arbitrary: operation.map((one) => [one]) }, { weight: 1, arbitrary: saves });
  return fc.array(steps, { minLength: 1, maxLength: maximumLength, size: "max" }).map((all) => all.flat());
}

/** The bytes that `seed` stands for: text-like for even seeds, random-like for odd ones. */
export function bytesOf({ seed: from, lengthBytes: count }: Bytes): Buffer {
  const bytes = Buffer.alloc(count);
  let state = (from + 1) * 2_654_435_761;
  for (let i = 0; i < count; i++) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    bytes[i] = from % 2 === 0 ? 0x61 + (state >>> 30) : state >>> 24;
  }
  return bytes;
}
