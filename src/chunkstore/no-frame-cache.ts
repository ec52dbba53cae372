/** A frame cache that keeps nothing: for whoever must see what is on the disk. */
import type { FrameCache } from "./frame-cache.ts";

export const NO_FRAME_CACHE: FrameCache = {
  usedBytes: 0,
  get: () => undefined,
  has: () => false,
  set: () => undefined,
  delete: () => undefined,
  clear: () => undefined,
};
