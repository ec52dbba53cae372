/** Branded numbers and byte strings: things that must not be swapped for one another (FORMAT.md §1). */

/** Inode number: 1 is the root; never reused within a vault; below 2^53. */
export type InodeNumber = number & { readonly __brand: "InodeNumber" };

/** Snapshot epoch: the counter that a snapshot raises; u32, starts at 1. */
export type Epoch = number & { readonly __brand: "Epoch" };

/**
 * A file name as the kernel gave it: one JavaScript character per byte (latin1), so that any bytes
 * but `/` and NUL survive. Decode as UTF-8 only to show it to a person.
 */
export type Name = string & { readonly __brand: "Name" };

/** `BLAKE3-keyed(K_id, plaintext)`, 32 bytes (FORMAT.md §4.2). Never shared between vaults. */
export type ChunkId = Uint8Array & { readonly __brand: "ChunkId" };

/** A chunk id as a 32-character latin1 string: the key of maps. */
export type ChunkIdKey = string & { readonly __brand: "ChunkIdKey" };

/** Random name of a pack, 16 bytes. */
export type PackId = Uint8Array & { readonly __brand: "PackId" };

export const ROOT_INODE = 1 as InodeNumber;
