/** Writing a snapshot out, against somebody who can write in the target and acts at the worst moment. No vault, no mount. */
import {
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  readdirSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { TcfsError } from "../../../src/errors.ts";
import type { SnapshotEntry } from "../../../src/fs/snapshots/snapshot-reader.ts";
import { CopyOut, dataRuns } from "../../../src/cli/restore-out/copy-out.ts";
import { HostDirectory } from "../../../src/cli/restore-out/host-directory.ts";
import { CopyReport } from "../../../src/cli/restore-out/report.ts";
import { Selection } from "../../../src/cli/restore-out/selection.ts";
import { SnapshotSource } from "../../../src/cli/snapshot-source.ts";
import type { SnapshotRequest } from "../../../src/cli/control/snapshot-protocol.ts";
import { temporaryDirectory } from "../../support/temporary-directory.ts";

interface Made extends AsyncDisposable {
  readonly target: string;
  /** Where nothing may be written. */
  readonly outside: string;
  readonly copy: (options?: { isResumed?: boolean; isTrusted?: boolean }) => Promise<CopyReport>;
  /** Called before a directory's entries or a file's data are given. */
  onAsk: (operation: "readDirectory" | "readData", ino: number) => void;
  /** Files whose data was asked for. */
  readonly dataAsked: number[];
}

const ME = { uid: process.geteuid!(), gid: process.getegid!() };
const TIME = { seconds: 1_234_567_890, nanoseconds: 123_456_789 };

/** A snapshot in memory: directories by their entries, files by their content. */
type Node = { readonly [name: string]: Node } | string | Buffer;

async function make(tree: Node, changes: Readonly<Record<string, Partial<SnapshotEntry>>> = {}): Promise<Made> {
  const directory = await temporaryDirectory("copy-out");
  const [target, outside] = [join(directory.path, "target"), join(directory.path, "outside")];
  mkdirSync(target);
  mkdirSync(outside);
  writeFileSync(join(outside, "precious"), "precious");
  const nodes = new Map<number, Node>();
  const entries = new Map<number, SnapshotEntry[]>();
  const enter = (name: string, node: Node): SnapshotEntry => {
    const ino = changes[name]?.ino ?? nodes.size + 1;
    nodes.set(ino, node);
    const isFile = typeof node === "string" || Buffer.isBuffer(node);
    const lengthBytes = isFile ? String(Buffer.byteLength(node)) : "0";
    const rest = { linkCount: 1, deviceNumber: 0, allocatedBytes: 0, accessTime: TIME, modifyTime: TIME };
    const mode = isFile ? 0o100640 : 0o040750;
    const entry = { name, ino, mode, ...ME, lengthBytes, ...rest, ...changes[name] };
    if (!isFile)
      entries.set(
        ino,
        Object.entries(node).map(([below, inner]) => enter(below, inner)),
      );
    return entry;
  };
  const root = enter("", tree);
  const made: Made = {
    target,
    outside,
    dataAsked: [],
    onAsk: () => undefined,
    copy: async ({ isResumed = false, isTrusted = true } = {}) => {
      const report = new CopyReport(() => undefined);
      using opened = new HostDirectory(openSync(target, "r"));
      const options = { report, isResumed, isTrusted, target: opened, token: "0123456789abcdef" };
      const attributes = { keepSetId: false, note: (what: string) => report.note(what) };
      const { signal } = new AbortController();
      const selection = new Selection([[]], []);
      await new CopyOut({ ...options, source, selection, attributes, keepsDevices: false, signal }).run(root);
      return report;
    },
    [Symbol.asyncDispose]: () => directory[Symbol.asyncDispose](),
  };
  const answer = (request: SnapshotRequest): unknown => {
    if (request.operation === "readDirectory") {
      made.onAsk(request.operation, request.ino);
      return { entries: entries.get(request.ino) };
    }
    if (request.operation !== "readData") throw new Error(request.operation);
    made.onAsk(request.operation, request.ino);
    made.dataAsked.push(request.ino);
    const content = Buffer.from(nodes.get(request.ino) as string);
    const start = Number(request.offset);
    return { offset: request.offset, data: content.subarray(start, start + request.lengthBytes).toString("base64") };
  };
  const source = new SnapshotSource({ name: "then" }, async (request) => answer(request) as never);
  return made;
}

function untouched(made: Made): void {
  expect(readdirSync(made.outside)).toEqual(["precious"]);
  expect(readFileSync(join(made.outside, "precious"), "utf8")).toBe("precious");
}

describe("writing out", () => {
  test("brings modes, times to the nanosecond, holes and names of 255 bytes", async () => {
    const long = "\u00ff".repeat(255); // bytes that are no UTF-8
    const sparse = Buffer.concat([Buffer.from("start"), Buffer.alloc(3_000_000), Buffer.from("end")]);
    await using made = await make(
      { d: { f: "text", [long]: "long" }, sparse, closed: { x: "x" } },
      { closed: { mode: 0o040500 } },
    );
    const report = await made.copy();
    expect(report).toMatchObject({ fileCount: 4, directoryCount: 2, failedCount: 0, failures: [] });
    const file = lstatSync(join(made.target, "d/f"), { bigint: true });
    expect(Number(file.mode & 0o7777n)).toBe(0o640);
    expect(file.mtimeNs).toBe(BigInt(TIME.seconds) * 1_000_000_000n + BigInt(TIME.nanoseconds));
    expect(readdirSync(join(made.target, "d"), "latin1").sort()).toEqual(["f", long]);
    expect(readFileSync(join(made.target, "sparse")).equals(sparse)).toBe(true);
    expect(statSync(join(made.target, "sparse")).blocks).toBeLessThan(100);
    expect(statSync(join(made.target, "closed")).mode & 0o777).toBe(0o500);
    rmSync(join(made.target, "closed"), { recursive: true, force: true });
  });

  test("puts a directory's files where it made the directory, whatever stands in its place by then", async () => {
    await using made = await make({ d: { f: "text" } });
    made.onAsk = (operation, ino) => {
      if (operation !== "readDirectory" || ino !== 2) return;
      renameSync(join(made.target, "d"), join(made.target, "moved"));
      symlinkSync(made.outside, join(made.target, "d"));
    };
    await made.copy();
    untouched(made);
    expect(readFileSync(join(made.target, "moved/f"), "utf8")).toBe("text");
  });

  test("goes on in the target that it opened when that is swapped for a link", async () => {
    await using made = await make({ a: "1", b: "2" });
    made.onAsk = (operation, ino) => {
      if (operation !== "readData" || ino !== 2) return;
      renameSync(made.target, `${made.target}.moved`);
      symlinkSync(made.outside, made.target);
    };
    await made.copy();
    untouched(made);
    expect(readdirSync(`${made.target}.moved`).sort()).toEqual(["a", "b"]);
  });

  test("neither follows nor replaces what is put under a file's name before it has it", async () => {
    await using made = await make({ precious: "stolen", other: "2" });
    made.onAsk = (operation, ino) => {
      if (operation === "readData" && ino === 2)
        symlinkSync(join(made.outside, "precious"), join(made.target, "precious"));
    };
    const report = await made.copy();
    untouched(made);
    expect(report.failures).toEqual([{ path: "precious", reason: "something else is there, and is left alone" }]);
    expect(report.fileCount).toBe(1);
    expect(readdirSync(made.target).sort()).toEqual(["other", "precious"]);
  });

  test("notices that the file under work was swapped", async () => {
    await using made = await make({ f: "text" });
    made.onAsk = (operation) => {
      if (operation !== "readData") return;
      const partial = join(made.target, readdirSync(made.target)[0]!);
      rmSync(partial);
      symlinkSync(join(made.outside, "precious"), partial);
    };
    const report = await made.copy();
    untouched(made);
    expect(report.failures).toMatchObject([{ path: "f", reason: expect.stringContaining("meanwhile") as string }]);
  });

  test("makes no hard link to what took a file's place", async () => {
    const link = { ino: 2, linkCount: 2 };
    await using made = await make(
      { a: "linked", b: { c: "x" }, d: "linked" },
      { a: link, d: link, b: { ino: 7 }, c: { ino: 8 } },
    );
    made.onAsk = (operation, ino) => {
      if (operation !== "readData" || ino !== 8) return;
      rmSync(join(made.target, "a"));
      linkSync(join(made.outside, "precious"), join(made.target, "a"));
    };
    const report = await made.copy();
    expect(report).toMatchObject({ linkCount: 0, fileCount: 3 });
    expect(readFileSync(join(made.target, "d"), "utf8")).toBe("linked");
    expect(statSync(join(made.outside, "precious")).nlink).toBe(2);
  });

  test("goes on after an interruption without reading what is whole, and leaves no part behind", async () => {
    const link = { ino: 2, linkCount: 2 };
    await using made = await make(
      { a: "one", b: { c: "two", d: "three" }, e: "one" },
      { a: link, e: link, b: { ino: 10 } },
    );
    const failing = made.dataAsked;
    made.onAsk = (operation) => {
      if (operation === "readData" && failing.length === 2) throw new TcfsError("TCFS_DAEMON_ENDED", "killed");
    };
    await expect(made.copy()).rejects.toMatchObject({ code: "TCFS_DAEMON_ENDED" });
    // As after SIGKILL: what was under work is still there.
    writeFileSync(join(made.target, "b/.tcfs-partial-0123456789abcdef-4"), "thr");
    made.onAsk = () => undefined;
    failing.length = 0;
    const report = await made.copy({ isResumed: true });
    expect(failing).toHaveLength(1);
    expect(report).toMatchObject({ skippedCount: 2, fileCount: 1, linkCount: 1, failures: [] });
    expect(readdirSync(join(made.target, "b")).sort()).toEqual(["c", "d"]);
    expect(statSync(join(made.target, "a")).ino).toBe(statSync(join(made.target, "e")).ino);
    const again = await made.copy({ isResumed: true });
    expect(again).toMatchObject({ skippedCount: 4, fileCount: 0 });
  });

  test("reads what was written before the machine started anew, and writes what lost its data again", async () => {
    await using made = await make({ good: "data", bad: "data" });
    await made.copy();
    writeFileSync(join(made.target, "bad"), "\0\0\0\0");
    utimesSync(join(made.target, "bad"), TIME.seconds, statSync(join(made.target, "good")).mtime);
    const report = await made.copy({ isResumed: true, isTrusted: false });
    expect(readFileSync(join(made.target, "good"), "utf8")).toBe("data");
    expect(report.skippedCount).toBe(1);
    expect(report.fileCount + report.failedCount).toBe(1);
  });

  test("leaves alone what a resumed restore finds and did not make", async () => {
    await using made = await make({ d: { f: "text" }, g: "text", l: "" }, { l: { mode: 0o120777, target: "x" } });
    symlinkSync(made.outside, join(made.target, "d"));
    writeFileSync(join(made.target, "g"), "mine, and longer");
    symlinkSync("x", join(made.target, "l"));
    const report = await made.copy({ isResumed: true });
    untouched(made);
    expect(readFileSync(join(made.target, "g"), "utf8")).toBe("mine, and longer");
    expect(readlinkSync(join(made.target, "l"))).toBe("x");
    expect(report.failures.map(({ path }) => path)).toEqual(["d", "g"]);
  });

  test("tells of a damaged file and goes on", async () => {
    await using made = await make({ a: "1", b: "2" });
    made.onAsk = (operation, ino) => {
      if (operation === "readData" && ino === 2) throw new TcfsError("TCFS_CORRUPT", "a chunk does not verify");
    };
    const report = await made.copy();
    expect(report.failures).toEqual([{ path: "a", reason: "a chunk does not verify" }]);
    expect(existsSync(join(made.target, "b"))).toBe(true);
    expect(readdirSync(made.target)).toEqual(["b"]);
  });
});

test("zeros are left out by whole units", () => {
  const data = Buffer.alloc(5 * 4096 + 10);
  data[4096 * 2 + 5] = 1;
  data[4096 * 3] = 1;
  data[5 * 4096 + 9] = 1;
  expect(dataRuns(data)).toEqual([
    { start: 2 * 4096, end: 4 * 4096 },
    { start: 5 * 4096, end: 5 * 4096 + 10 },
  ]);
  expect(dataRuns(Buffer.alloc(0))).toEqual([]);
});
