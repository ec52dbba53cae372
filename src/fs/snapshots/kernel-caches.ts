/** What the kernel may have cached and must ask for again; the mount provides it. */
import type { InodeNumber, Name } from "../../ids.ts";

/** No call rejects; each resolves once the kernel was told. */
export interface KernelCaches {
  /** Attributes alone. */
  forgetAttributes(ino: InodeNumber): Promise<void>;
  /** Attributes and data, or a directory's listing. */
  forgetInode(ino: InodeNumber): Promise<void>;
  /** That there is such a name, or that there is none. */
  forgetEntry(parent: InodeNumber, name: Name): Promise<void>;
}

export const NO_KERNEL: KernelCaches = {
  forgetAttributes: () => Promise.resolve(),
  forgetInode: () => Promise.resolve(),
  forgetEntry: () => Promise.resolve(),
};
