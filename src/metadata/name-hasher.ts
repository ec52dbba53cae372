/** PRF(directory, name), remembered for the name asked last: a look-up that misses is mostly followed by a creation. */
import type { InodeNumber, Name } from "../ids.ts";

export class NameHasher {
  readonly #namePrf: (directory: InodeNumber, name: Name) => Uint8Array;
  #directory: InodeNumber | undefined;
  #name: Name | undefined;
  #prf: Uint8Array = new Uint8Array();

  constructor(namePrf: (directory: InodeNumber, name: Name) => Uint8Array) {
    this.#namePrf = namePrf;
  }

  /** 16 bytes. Borrowed: read at once, not kept. */
  hash(directory: InodeNumber, name: Name): Uint8Array {
    if (name === this.#name && directory === this.#directory) return this.#prf;
    this.#prf = this.#namePrf(directory, name);
    this.#directory = directory;
    this.#name = name;
    return this.#prf;
  }
}
