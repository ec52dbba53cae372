import { fc, test } from "@fast-check/vitest";
import { describe, expect, it } from "vitest";
import { ByteWriter } from "../../src/bytes.ts";
import { FRAME_BYTES, MAX_CHUNK_BYTES } from "../../src/crypto/engine.ts";
import { isTcfsError } from "../../src/errors.ts";
import {
  decodeChunk,
  decodeChunkTotals,
  decodeInlineList,
  decodePack,
  encodeChunk,
  encodeChunkTotals,
  encodeInlineList,
  encodePack,
} from "../../src/format/chunk-codec.ts";
import { decodeDentry, decodeXattrs, encodeDentry, encodeXattrs } from "../../src/format/dentry-codec.ts";
import { decodeExtentPage, encodeExtentPage, MAX_CHUNK_REACH_BYTES } from "../../src/format/extent-codec.ts";
import {
  checkOrphan,
  decodeInode,
  decodeVolume,
  encodeInode,
  encodeOrphan,
  encodeVolume,
} from "../../src/format/inode-codec.ts";
import { decodeLoggedContent, encodeLoggedContent } from "../../src/format/write-codec.ts";
import {
  anyChunkRecord,
  anyChunkTotals,
  anyDentry,
  anyEpoch,
  anyExtentPage,
  anyInlineList,
  anyInode,
  anyLoggedContent,
  anyPackRecord,
  anyVolume,
  anyXattrs,
} from "./arbitrary-records.ts";

const INO = 5 as never;
const EPOCH = 3 as never;

function encoded(encode: (writer: ByteWriter) => void): Uint8Array {
  const writer = new ByteWriter(16);
  encode(writer);
  return writer.take();
}

/** Every decoder of the format, as a function of bytes alone. */
const DECODERS: Record<string, (bytes: Uint8Array) => unknown> = {
  inode: (bytes) => decodeInode(INO, bytes),
  volume: decodeVolume,
  orphan: (bytes) => {
    checkOrphan(INO, bytes);
  },
  dentry: (bytes) => decodeDentry(INO, bytes),
  xattrs: (bytes) => decodeXattrs(INO, bytes),
  extents: (bytes) => decodeExtentPage(INO, 0, bytes),
  chunk: decodeChunk,
  pack: (bytes) => decodePack(new Uint8Array(16) as never, bytes),
  totals: decodeChunkTotals,
  inlineList: (bytes) => decodeInlineList(1, bytes),
  loggedWrites: (bytes) => decodeLoggedContent(INO, bytes),
};

function decodesOrRefuses(decode: (bytes: Uint8Array) => unknown, bytes: Uint8Array): boolean {
  try {
    decode(bytes);
    return true;
  } catch (error) {
    return isTcfsError(error, "TCFS_CORRUPT");
  }
}

describe("records", () => {
  test.prop([anyInode])("an inode decodes to what was encoded", (inode) => {
    const bytes = encoded((writer) => {
      encodeInode(writer, inode);
    });
    expect(decodeInode(inode.ino, bytes)).toEqual(inode);
  });

  test.prop([anyVolume])("a volume record decodes to what was encoded", (volume) => {
    const bytes = encoded((writer) => {
      encodeVolume(writer, volume);
    });
    expect(decodeVolume(bytes)).toEqual(volume);
  });

  test.prop([anyEpoch, anyDentry])("a dentry decodes to what was encoded", (epoch, dentry) => {
    const bytes = encoded((writer) => {
      encodeDentry(writer, epoch, dentry);
    });
    expect(decodeDentry(INO, bytes)).toEqual({ ...dentry, epoch });
  });

  test.prop([anyEpoch, anyXattrs])("attributes decode to what was encoded", (epoch, xattrs) => {
    const bytes = encoded((writer) => {
      encodeXattrs(writer, epoch, xattrs);
    });
    expect(decodeXattrs(INO, bytes)).toEqual(xattrs);
  });

  test.prop([anyEpoch, anyExtentPage])("an extent page decodes to what was encoded", (epoch, page) => {
    const bytes = encoded((writer) => {
      encodeExtentPage(writer, epoch, page);
    });
    expect(decodeExtentPage(INO, 0, bytes)).toEqual(page);
  });

  test.prop([anyEpoch, anyLoggedContent])("logged writes decode to what was encoded", (epoch, content) => {
    const bytes = encoded((writer) => {
      encodeLoggedContent(writer, epoch, content);
    });
    expect(decodeLoggedContent(INO, bytes)).toEqual(content);
  });

  it("logged writes are the bytes of FORMAT.md §7.15's example", () => {
    const runs = [{ page: 1, start: 6, bytes: Buffer.from("abc") }];
    const bytes = encoded((writer) => {
      encodeLoggedContent(writer, 1 as never, { previousCommit: 7, runs });
    });
    expect(Buffer.from(bytes).toString("hex")).toBe(
      "01000000" + "0700000000000000" + "0100000000000000" + "060000" + "030000" + "616263",
    );
  });

  it("a logged run that is empty or leaves its page is refused", () => {
    const header = "01000000" + "0000000000000000" + "0000000000000000";
    for (const run of ["000000000000", "0000040100006f", "ffff030200006f6f"])
      expect(() => decodeLoggedContent(INO, Buffer.from(header + run, "hex"))).toThrow(/impossible run/);
  });

  test.prop([anyEpoch, anyChunkRecord])("a chunk record decodes to what was encoded", (epoch, record) => {
    const bytes = encoded((writer) => {
      encodeChunk(writer, epoch, record);
    });
    expect(decodeChunk(bytes)).toEqual(record);
  });

  test.prop([anyEpoch, anyPackRecord])("a pack record decodes to what was encoded", (epoch, record) => {
    const bytes = encoded((writer) => {
      encodePack(writer, epoch, record);
    });
    expect(decodePack(record.pack, bytes)).toEqual(record);
  });

  test.prop([anyEpoch, anyChunkTotals])("chunk totals decode to what was encoded", (epoch, totals) => {
    const bytes = encoded((writer) => {
      encodeChunkTotals(writer, epoch, totals);
    });
    expect(decodeChunkTotals(bytes)).toEqual(totals);
  });

  test.prop([anyEpoch, anyInlineList])("an inline list decodes to what was encoded", (epoch, list) => {
    const bytes = encoded((writer) => {
      encodeInlineList(writer, epoch, list);
    });
    expect(decodeInlineList(list.list, bytes)).toEqual(list);
  });
});

describe("hostile bytes", () => {
  for (const [kind, decode] of Object.entries(DECODERS)) {
    test.prop([fc.uint8Array({ maxLength: 300 })], { numRuns: 500 })(
      `any bytes as ${kind} record decode or are refused as corrupt`,
      (bytes) => decodesOrRefuses(decode, bytes),
    );
  }

  const samples: Record<string, fc.Arbitrary<Uint8Array>> = {
    inode: anyInode.map((inode) =>
      encoded((writer) => {
        encodeInode(writer, inode);
      }),
    ),
    volume: anyVolume.map((volume) =>
      encoded((writer) => {
        encodeVolume(writer, volume);
      }),
    ),
    dentry: anyDentry.map((dentry) =>
      encoded((writer) => {
        encodeDentry(writer, EPOCH, dentry);
      }),
    ),
    xattrs: anyXattrs.map((xattrs) =>
      encoded((writer) => {
        encodeXattrs(writer, EPOCH, xattrs);
      }),
    ),
    extents: anyExtentPage.map((page) =>
      encoded((writer) => {
        encodeExtentPage(writer, EPOCH, page);
      }),
    ),
    chunk: anyChunkRecord.map((record) =>
      encoded((writer) => {
        encodeChunk(writer, EPOCH, record);
      }),
    ),
    pack: anyPackRecord.map((record) =>
      encoded((writer) => {
        encodePack(writer, EPOCH, record);
      }),
    ),
    totals: anyChunkTotals.map((totals) =>
      encoded((writer) => {
        encodeChunkTotals(writer, EPOCH, totals);
      }),
    ),
    inlineList: anyInlineList.map((list) =>
      encoded((writer) => {
        encodeInlineList(writer, EPOCH, list);
      }),
    ),
  };
  for (const [kind, sample] of Object.entries(samples)) {
    const decode = DECODERS[kind] as (bytes: Uint8Array) => unknown;
    test.prop([sample, fc.nat(), fc.integer({ min: 1, max: 255 })])(
      `a changed byte in a ${kind} record gives another record or is refused as corrupt`,
      (bytes, at, change) => {
        const changed = bytes.slice();
        const index = at % changed.length;
        changed[index] = (changed[index] as number) ^ change;
        return decodesOrRefuses(decode, changed);
      },
    );
  }

  const fixedLength = ["inode", "volume", "pack", "totals"] as const;
  for (const kind of fixedLength) {
    test.prop([samples[kind] as fc.Arbitrary<Uint8Array>])(`a ${kind} record cut short is refused`, (bytes) => {
      const decode = DECODERS[kind] as (bytes: Uint8Array) => unknown;
      for (let length = 0; length < Math.min(bytes.length, 40); length++) {
        expect(() => decode(bytes.slice(0, length))).toThrow(expect.objectContaining({ code: "TCFS_CORRUPT" }));
      }
    });
  }

  test("trailing bytes are refused", () => {
    const orphan = encoded((writer) => {
      encodeOrphan(writer, EPOCH);
    });
    expect(() => {
      checkOrphan(INO, orphan);
    }).not.toThrow();
    expect(() => {
      checkOrphan(INO, Uint8Array.of(...orphan, 0));
    }).toThrow(/trailing/u);
  });

  it.for(["", ".", "..", "a/b", "a\0", "x".repeat(256)])("the name %j is refused, both ways", (name) => {
    const dentry = { name: name as never, ino: INO, type: 8 };
    expect(() =>
      encoded((writer) => {
        encodeDentry(writer, EPOCH, dentry);
      }),
    ).toThrow(RangeError);
    const bytes = encoded((writer) => {
      writer.u32(1);
      writer.u64(5);
      writer.u8(8);
      writer.latin1(name);
    });
    expect(() => decodeDentry(INO, bytes)).toThrow(expect.objectContaining({ code: "TCFS_CORRUPT" }));
  });

  test("epoch 0 is refused in every kind of record", () => {
    for (const [kind, sample] of Object.entries(samples)) {
      const bytes = fc.sample(sample, 1)[0] as Uint8Array;
      bytes.fill(0, 0, 4);
      expect(() => DECODERS[kind]?.(bytes), kind).toThrow(/epoch 0/u);
    }
  });

  test("overlapping and unsorted extents are a RangeError to encode", () => {
    const chunk = new Uint8Array(32) as never;
    const pages = [
      [],
      [{ start: 0, lengthBytes: 0, chunk, chunkOffset: 0 }],
      [
        { start: 0, lengthBytes: 10, chunk, chunkOffset: 0 },
        { start: 9, lengthBytes: 10, chunk, chunkOffset: 0 },
      ],
      [{ start: 1024 * 1024 - 1, lengthBytes: 2, chunk, chunkOffset: 0 }],
      [{ start: 0, lengthBytes: 2, chunk, chunkOffset: MAX_CHUNK_REACH_BYTES - 1 }],
    ];
    for (const page of pages) {
      expect(() =>
        encoded((writer) => {
          encodeExtentPage(writer, EPOCH, page);
        }),
      ).toThrow(RangeError);
    }
  });

  test("a number beyond 2^53 is refused", () => {
    const bytes = encoded((writer) => {
      writer.u32(1);
      for (let index = 0; index < 4; index++) writer.bytes(Uint8Array.of(0, 0, 0, 0, 0, 0, 0x20, 0));
    });
    expect(() => decodeChunkTotals(bytes)).toThrow(/beyond 2\^53/u);
  });
});

test("a record larger than an arena, and one that crosses into the next, come back whole", () => {
  const writer = new ByteWriter();
  const xattrs = new Map([["user.large", new Uint8Array(65_536).fill(5)]]) as never;
  for (let index = 0; index < 5; index++) {
    encodeXattrs(writer, EPOCH, xattrs);
    const large = writer.take();
    encodeOrphan(writer, EPOCH);
    expect(
      Buffer.from(
        encoded((other) => {
          encodeXattrs(other, EPOCH, xattrs);
        }),
      ).equals(large),
    ).toBe(true);
    expect(decodeXattrs(INO, large).get("user.large" as never)?.length).toBe(65_536);
    checkOrphan(INO, writer.take());
  }
});

test.prop([fc.array(anyInode, { minLength: 1, maxLength: 5 }), fc.integer({ min: 1, max: 150 })])(
  "records written one after another do not disturb each other, wherever an arena ends",
  (inodes, arenaBytes) => {
    const writer = new ByteWriter(arenaBytes);
    const records = inodes.map((inode) => {
      encodeInode(writer, inode);
      return writer.take();
    });
    expect(records.map((bytes, index) => decodeInode(inodes[index]?.ino as never, bytes))).toEqual(inodes);
  },
);

test("the format's bounds are the engine's", () => {
  expect(MAX_CHUNK_REACH_BYTES).toBe(MAX_CHUNK_BYTES);
  const frames = new Uint32Array(MAX_CHUNK_BYTES / FRAME_BYTES).fill(FRAME_BYTES + 16);
  const record = {
    kind: "packed" as const,
    pack: new Uint8Array(16) as never,
    packOffset: 0,
    firstFrame: 0,
    lengthBytes: MAX_CHUNK_BYTES,
    storedFrameBytes: frames,
  };
  const bytes = encoded((writer) => {
    encodeChunk(writer, EPOCH, record);
  });
  expect(decodeChunk(bytes)).toEqual(record);
});
