/** Reads the fields of one kernel request in place. Offsets count from the end of its header. */
import { TcfsError } from "../errors.ts";
import type { InodeNumber, Name } from "../ids.ts";
import { IN_HEADER_BYTES, NAME_MAX_BYTES } from "./protocol.ts";

/** What every request begins with (fuse_in_header). `unique` is kept in halves: it is 64 bits, and only handed back. */
export interface RequestHeader {
  readonly opcode: number;
  readonly uniqueLow: number;
  readonly uniqueHigh: number;
  readonly ino: InodeNumber;
  readonly uid: number;
  readonly gid: number;
  readonly pid: number;
}

/** Typed arrays read in native byte order, which is what the protocol uses; its fields are aligned to their width. */
export class RequestBuffer {
  readonly #bytes: Buffer;
  readonly #words: Uint32Array;
  readonly #longs: BigUint64Array;
  #endOffset = 0;

  /** @param bytes - Where requests arrive: 8-byte aligned, a multiple of 8 long. */
  constructor(bytes: Uint8Array) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength >>> 2);
    this.#longs = new BigUint64Array(bytes.buffer, bytes.byteOffset, bytes.byteLength >>> 3);
  }

  /**
   * Begin with the request of `lengthBytes` that now lies in the buffer.
   * @returns Its header; undefined if not even that is there, so that nobody can be answered.
   */
  begin(lengthBytes: number): RequestHeader | undefined {
    const words = this.#words;
    if (lengthBytes < IN_HEADER_BYTES || lengthBytes > this.#bytes.length || words[0] !== lengthBytes) return undefined;
    this.#endOffset = lengthBytes;
    return {
      opcode: words[1] ?? 0,
      uniqueLow: words[2] ?? 0,
      uniqueHigh: words[3] ?? 0,
      ino: ((words[4] ?? 0) + (words[5] ?? 0) * 2 ** 32) as InodeNumber,
      uid: words[6] ?? 0,
      gid: words[7] ?? 0,
      pid: words[8] ?? 0,
    };
  }

  /** Bytes after the header. */
  get lengthBytes(): number {
    return this.#endOffset - IN_HEADER_BYTES;
  }

  /** @throws {@link TcfsError} `TCFS_INVALID` unless the request has `lengthBytes` after its header. */
  expect(lengthBytes: number): void {
    if (this.lengthBytes < lengthBytes) throw new TcfsError("TCFS_INVALID", "the kernel's request is too short");
  }

  u32(offset: number): number {
    return this.#words[(IN_HEADER_BYTES + offset) >>> 2] ?? 0;
  }

  u64(offset: number): bigint {
    return this.#longs[(IN_HEADER_BYTES + offset) >>> 3] ?? 0n;
  }

  /** A 64-bit field that is known to stay below 2^53 where it is valid. */
  u53(offset: number): number {
    return this.u32(offset) + this.u32(offset + 4) * 2 ** 32;
  }

  /** A signed 64-bit field that stays within ±2^53 where it is valid. */
  i53(offset: number): number {
    return this.u32(offset) + (this.u32(offset + 4) | 0) * 2 ** 32;
  }

  ino(offset: number): InodeNumber {
    return this.u53(offset) as InodeNumber;
  }

  /**
   * @returns The NUL-terminated name at `offset`.
   * @throws {@link TcfsError} `TCFS_INVALID` if it is empty or has no end, `TCFS_NAME_TOO_LONG` above 255 bytes.
   */
  name(offset: number): Name {
    const start = IN_HEADER_BYTES + offset;
    const end = this.#nul(start);
    if (end === start) throw new TcfsError("TCFS_INVALID", "the kernel's request has an empty name");
    if (end - start > NAME_MAX_BYTES) throw new TcfsError("TCFS_NAME_TOO_LONG", "a name is longer than 255 bytes");
    return this.#bytes.toString("latin1", start, end) as Name;
  }

  /** @returns The NUL-terminated bytes at `offset`, copied. */
  text(offset: number): Uint8Array {
    const start = IN_HEADER_BYTES + offset;
    return new Uint8Array(this.#bytes.subarray(start, this.#nul(start)));
  }

  /** @returns A view of the request itself: dies when the next request is read. */
  view(offset: number, lengthBytes: number): Uint8Array {
    this.expect(offset + lengthBytes);
    const start = IN_HEADER_BYTES + offset;
    return this.#bytes.subarray(start, start + lengthBytes);
  }

  #nul(start: number): number {
    const bytes = this.#bytes;
    let end = start;
    while (end < this.#endOffset && bytes[end] !== 0) end++;
    if (end >= this.#endOffset) throw new TcfsError("TCFS_INVALID", "the kernel's request has a name without end");
    return end;
  }
}
