import { constants } from "node:os";
import fc from "fast-check";
import { beforeEach, describe, expect, it } from "vitest";
import { lend } from "../../src/borrowed-bytes.ts";
import { TcfsError } from "../../src/errors.ts";
import { Connection } from "../../src/fuse/connection.ts";
import type { Synchronous } from "../../src/fuse/mount.ts";
import { OPCODE } from "../../src/fuse/protocol.ts";
import { MemoryFileSystem } from "./fixtures/memory-file-system.ts";
import { RecordingChannel, fields, layRequest } from "./fixtures/requests.ts";
import type { Reply, RequestFields } from "./fixtures/requests.ts";

const { EINTR, EINVAL, EIO, ENODATA, ENOENT, ENOSYS, ENOTTY, EOPNOTSUPP, ERANGE, EROFS } = constants.errno;
const UNANSWERED: readonly number[] = [OPCODE.FORGET, OPCODE.BATCH_FORGET, OPCODE.INTERRUPT];

let channel: RecordingChannel;
let operations: MemoryFileSystem;
let logs: string[];
let connection: Connection;
let nowMs: number;
let synchronous: Synchronous;
let readsAnew: boolean;
let invalidated: unknown[];

function connect(readOnly = false, hasLabels = true): void {
  channel = new RecordingChannel();
  operations = new MemoryFileSystem();
  logs = [];
  const log = (message: string, fields: unknown): void => {
    logs.push(`${message} ${JSON.stringify(fields)}`);
  };
  nowMs = 0;
  synchronous = "nothing";
  readsAnew = false;
  invalidated = [];
  connection = new Connection(
    channel,
    operations,
    { warn: log, error: log },
    {
      timeouts: { entrySeconds: 60, attributeSeconds: 60 },
      readOnly,
      synchronous: () => synchronous,
      readsAnew: () => readsAnew,
      hasLabels,
      monotonicMs: () => nowMs,
      invalidateData: (ino, offset, lengthBytes) => {
        invalidated.push([ino, offset, lengthBytes]);
        return Promise.resolve();
      },
    },
  );
}

function send(fields: RequestFields): void {
  connection.receive(layRequest(channel.request, fields));
}

async function ask(fields: RequestFields): Promise<Reply> {
  const before = channel.replies.length;
  send(fields);
  await new Promise(setImmediate);
  expect(channel.replies.length).toBe(before + 1);
  return channel.replies[before] as Reply;
}

beforeEach(() => {
  connect();
});

describe("Connection", () => {
  it("answers every request once and every notice never, whatever the bytes", async () => {
    const opcode = fc.oneof(fc.constantFrom(...Object.values(OPCODE)), fc.nat(80));
    const name = fc.stringMatching(/^[a-c.]{1,2}$/);
    const body = fc.oneof(
      fc.uint8Array({ maxLength: 120 }),
      fc.tuple(fc.array(fc.nat(5), { maxLength: 22 }), name).map(([words, name]) => fields(...words, name, name)),
    );
    const request = fc.record({ opcode, body, ino: fc.bigInt({ min: 0n, max: 4n }) });
    await fc.assert(
      fc.asyncProperty(fc.array(request, { maxLength: 40 }), async (requests) => {
        connect();
        for (const [index, request] of requests.entries()) send({ ...request, unique: BigInt(index * 2 + 2) });
        await new Promise(setImmediate);
        const expected = requests.flatMap(({ opcode }, index) =>
          UNANSWERED.includes(opcode) ? [] : [BigInt(index * 2 + 2)],
        );
        expect(channel.replies.map(({ unique }) => unique).sort((a, b) => Number(a - b))).toEqual(expected);
        for (const { lengthBytes, error, payload } of channel.replies) {
          expect(lengthBytes).toBe(16 + payload.length);
          expect(error).toBeLessThanOrEqual(0);
        }
      }),
      { numRuns: 300 },
    );
  });

  it("clears the page cache after a direct write to what was read through it, and not else", async () => {
    const O_DIRECT = 0o40_000;
    const WRITE_CACHE = 1;
    const read = (openFlags: number): Promise<Reply> =>
      ask({ opcode: OPCODE.READ, ino: 2n, body: fields(0n, 0n, 4096, 0, 0n, openFlags, 0) });
    const write = async (openFlags: number, writeFlags = 0): Promise<unknown[]> => {
      const body = fields(0n, 8192n, 3, writeFlags, 0n, openFlags, 0, Buffer.from("abc"));
      expect(await ask({ opcode: OPCODE.WRITE, ino: 2n, body })).toMatchObject({ error: 0 });
      return invalidated.splice(0);
    };
    await ask({ opcode: OPCODE.MKNOD, body: fields(0o100644, 0, 0, 0, "f") });
    await read(O_DIRECT);
    expect(await write(O_DIRECT)).toEqual([]);
    await read(0);
    expect(await write(0)).toEqual([]);
    expect(await write(O_DIRECT, WRITE_CACHE)).toEqual([]);
    expect(await write(O_DIRECT)).toEqual([[2, 8192n, 3]]);
    nowMs = 45_000;
    expect(await write(O_DIRECT)).toEqual([[2, 8192n, 3]]);
    nowMs = 90_000;
    expect(await write(O_DIRECT)).toEqual([]);
  });

  it("answers changes of names, or all changes, after a commit where the mount asks for that", async () => {
    const commitsOf = async (request: RequestFields): Promise<number> => {
      const before = operations.counts["syncAll"] ?? 0;
      expect(await ask(request)).toMatchObject({ error: 0 });
      return (operations.counts["syncAll"] ?? 0) - before;
    };
    const make = (name: string): RequestFields => ({ opcode: OPCODE.MKNOD, body: fields(0o100644, 0, 0, 0, name) });
    const write = { opcode: OPCODE.WRITE, ino: 2n, body: fields(0n, 0n, 1, 0, 0n, 0, 0, Buffer.from("a")) };
    const changeMode = { opcode: OPCODE.SETATTR, ino: 2n, body: Buffer.alloc(88) };
    const look = { opcode: OPCODE.GETATTR, ino: 2n, body: fields(0, 0, 0n) };
    expect([await commitsOf(make("a")), await commitsOf(write)]).toEqual([0, 0]);
    synchronous = "names";
    expect([await commitsOf(make("b")), await commitsOf(write), await commitsOf(changeMode)]).toEqual([1, 0, 0]);
    expect(await commitsOf({ opcode: OPCODE.UNLINK, body: fields("b") })).toBe(1);
    synchronous = "everything";
    expect([await commitsOf(make("c")), await commitsOf(write), await commitsOf(changeMode)]).toEqual([1, 1, 1]);
    expect(await commitsOf(look)).toBe(0);
  });

  it("answers a bug with EIO and logs its stack, but not the name", async () => {
    expect(await ask({ opcode: OPCODE.LOOKUP, body: fields("broken") })).toMatchObject({ error: -EIO });
    expect(logs).toHaveLength(1);
    expect(logs[0]).toContain("RangeError");
  });

  it("answers a TcfsError with its errno, thrown or rejected", async () => {
    expect(await ask({ opcode: OPCODE.UNLINK, body: fields("absent") })).toMatchObject({ error: -ENOENT });
    operations.sync = () => Promise.reject(new TcfsError("TCFS_STORE_FULL", "full"));
    const sync = await ask({ opcode: OPCODE.FSYNC, body: fields(0n, 0, 0) });
    expect(sync.error).toBe(-constants.errno.ENOSPC);
    expect(logs).toEqual([]);
  });

  it("does not let a slow request hold up the next, and interrupts it", async () => {
    let reject: (error: Error) => void = () => undefined;
    operations.sync = (_ino, caller) => {
      caller.onInterrupt(() => {
        reject(new TcfsError("TCFS_INTERRUPTED", "interrupted"));
      });
      return new Promise((_, fail) => {
        reject = fail;
      });
    };
    send({ opcode: OPCODE.FSYNC, unique: 100n, body: fields(0n, 0, 0) });
    expect(connection.pendingCount).toBe(1);
    expect(await ask({ opcode: OPCODE.GETATTR, unique: 102n, body: fields(0, 0, 0n) })).toMatchObject({ unique: 102n });
    const reply = await ask({ opcode: OPCODE.INTERRUPT, unique: 101n, body: fields(100n) });
    expect(reply).toMatchObject({ unique: 100n, error: -EINTR });
    expect(connection.pendingCount).toBe(0);
    send({ opcode: OPCODE.INTERRUPT, unique: 101n, body: fields(100n) });
    expect(channel.replies).toHaveLength(2);
  });

  it("lets requests wait, with their data as it was, while the filesystem is not ready", async () => {
    await ask({ opcode: OPCODE.MKNOD, body: fields(0o100644, 0, 0, 0, "f") });
    let makeReady = (): void => undefined;
    operations.unready = new Promise((resolve) => {
      makeReady = () => {
        operations.unready = undefined;
        resolve();
      };
    });
    const write = (offset: bigint, text: string): RequestFields => ({
      opcode: OPCODE.WRITE,
      ino: 2n,
      body: fields(0n, offset, text.length, 0, 0n, 0, 0, Buffer.from(text)),
    });
    const before = channel.replies.length;
    send(write(0n, "first"));
    send(write(5n, "again"));
    send({ opcode: OPCODE.LOOKUP, body: fields("missing") });
    await new Promise(setImmediate);
    expect(channel.replies).toHaveLength(before);
    makeReady();
    await new Promise(setImmediate);
    expect(channel.replies.slice(before).map(({ error }) => error)).toEqual([0, 0, 0]);
    const read = await ask({ opcode: OPCODE.READ, ino: 2n, body: fields(0n, 0n, 10, 0, 0n, 0, 0) });
    expect(read.payload.toString()).toBe("firstagain");
  });

  it("refuses every change on a read-only mount with EROFS", async () => {
    connect(true);
    const changes = [
      { opcode: OPCODE.MKDIR, body: fields(0o755, 0, "a") },
      { opcode: OPCODE.CREATE, body: fields(0, 0o644, 0, 0, "a") },
      { opcode: OPCODE.WRITE, body: fields(0n, 0n, 0, 0, 0n, 0, 0) },
      { opcode: OPCODE.SETATTR, body: Buffer.alloc(88) },
      { opcode: OPCODE.RENAME2, body: fields(1n, 0, 0, "a", "b") },
    ];
    for (const change of changes) expect(await ask(change)).toMatchObject({ error: -EROFS });
    expect(await ask({ opcode: OPCODE.GETATTR, body: fields(0, 0, 0n) })).toMatchObject({ error: 0 });
  });

  it("leaves OPEN, OPENDIR and ACCESS to the kernel, and knows no ioctl", async () => {
    for (const opcode of [OPCODE.OPEN, OPCODE.OPENDIR, 34]) {
      expect(await ask({ opcode, body: fields(0, 0) })).toMatchObject({ error: -ENOSYS });
    }
    expect(await ask({ opcode: OPCODE.IOCTL, body: Buffer.alloc(32) })).toMatchObject({ error: -ENOTTY });
  });

  it("has the kernel drop what it read at each open, where every read counts", async () => {
    readsAnew = true;
    for (const opcode of [OPCODE.OPEN, OPCODE.OPENDIR]) {
      const { error, payload } = await ask({ opcode, body: fields(0, 0) });
      expect([error, payload.length, payload.readUInt32LE(8)]).toEqual([0, 16, 0]); // no FOPEN_KEEP_CACHE
      expect(await ask({ opcode: OPCODE.RELEASE, body: Buffer.alloc(24) })).toMatchObject({ error: 0 });
    }
    readsAnew = false;
    expect(await ask({ opcode: OPCODE.OPEN, body: fields(0, 0) })).toMatchObject({ error: -ENOSYS });
  });

  it("answers a malformed request with EINVAL", async () => {
    expect(await ask({ opcode: OPCODE.LOOKUP, body: Buffer.from("endless") })).toMatchObject({ error: -EINVAL });
  });

  it("answers a xattr by its length, its bytes, or ERANGE", async () => {
    await ask({ opcode: OPCODE.INIT, body: fields(7, 45, 0, -1, 0) });
    await ask({ opcode: OPCODE.SETXATTR, body: fields(5, 0, 0, 0, "user.a", Buffer.from("value")) });
    const get = (limitBytes: number): Promise<Reply> =>
      ask({ opcode: OPCODE.GETXATTR, body: fields(limitBytes, 0, "user.a") });
    expect((await get(0)).payload.readUInt32LE(0)).toBe(5);
    expect((await get(5)).payload.toString()).toBe("value");
    expect(await get(4)).toMatchObject({ error: -ERANGE });
    const list = await ask({ opcode: OPCODE.LISTXATTR, body: fields(100, 0) });
    expect(list.payload.toString("latin1")).toBe("user.a\0");
  });

  it("answers that there are no labels here where the system has no SELinux, so that ls asks once, and keeps them all the same", async () => {
    const get = async (name: string): Promise<Reply> => {
      await ask({ opcode: OPCODE.INIT, body: fields(7, 45, 0, -1, 0) });
      return ask({ opcode: OPCODE.GETXATTR, body: fields(255, 0, name) });
    };
    expect(await get("security.selinux")).toMatchObject({ error: -ENODATA });
    connect(false, false);
    expect(await get("security.selinux")).toMatchObject({ error: -EOPNOTSUPP });
    expect(await get("security.capability")).toMatchObject({ error: -ENODATA });
    await ask({ opcode: OPCODE.SETXATTR, body: fields(5, 0, 0, 0, "security.selinux", Buffer.from("label")) });
    expect((await get("security.selinux")).payload.toString()).toBe("label");
  });

  it("answers EIO in place of a reply that the kernel refuses", () => {
    channel.result = -EINVAL;
    send({ opcode: OPCODE.GETATTR, body: fields(0, 0, 0n) });
    expect(channel.replies.map(({ error }) => error)).toEqual([0, -EIO]);
    channel.result = -ENOENT;
    send({ opcode: OPCODE.GETATTR, body: fields(0, 0, 0n) });
    expect(channel.replies).toHaveLength(3);
  });

  it("gives back what it borrowed for a reply, though the reply cannot be written", () => {
    let releases = 0;
    operations.read = () => ({
      pieces: [new Uint8Array(10)],
      release: () => {
        releases++;
      },
    });
    channel.write = () => {
      throw new RangeError("made to fail");
    };
    const read = { opcode: OPCODE.READ, body: fields(0n, 0n, 10, 0, 0n, 0, 0) };
    expect(() => {
      send(read);
    }).toThrow("made to fail");
    expect(releases).toBe(1);
  });

  it("answers a read of a file in very many pieces", async () => {
    operations.read = () => lend(Array.from({ length: 3000 }, (_, index) => Uint8Array.of(index & 0xff)));
    const { error, payload } = await ask({ opcode: OPCODE.READ, body: fields(0n, 0n, 3000, 0, 0n, 0, 0) });
    expect(error).toBe(0);
    expect(payload).toEqual(Buffer.from(Array.from({ length: 3000 }, (_, index) => index & 0xff)));
  });

  it("drops what has no header, and goes on", async () => {
    connection.receive(12);
    expect(channel.replies).toEqual([]);
    expect(await ask({ opcode: OPCODE.GETATTR, body: fields(0, 0, 0n) })).toMatchObject({ error: 0 });
  });
});
