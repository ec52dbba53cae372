/** The control socket's requests on what is on this disk of a vault with a store, and what each is answered with. */
import { z } from "zod";
import { MIN_CACHE_BYTES } from "../../cache/cache-settings.ts";
import type { CacheFigures, PinFigures, WarmReport } from "../../fs/local-copies.ts";

/** In the vault, from its root. */
const path = z.string();

export const CACHE_REQUESTS = [
  z.strictObject({ operation: z.literal("cacheFigures") }),
  z.strictObject({ operation: z.literal("cacheLimit"), maxBytes: z.int().min(MIN_CACHE_BYTES).nullable() }),
  z.strictObject({ operation: z.literal("cacheClear") }),
  z.strictObject({ operation: z.literal("pin"), path }),
  z.strictObject({ operation: z.literal("unpin"), path }),
  z.strictObject({ operation: z.literal("listPins") }),
  z.strictObject({ operation: z.literal("warm"), path }),
] as const;

export type CacheRequest = z.infer<(typeof CACHE_REQUESTS)[number]>;

/** What each request is answered with. */
export interface CacheAnswers {
  readonly cacheFigures: CacheFigures;
  readonly cacheLimit: CacheFigures;
  readonly cacheClear: { readonly freedBytes: number };
  readonly pin: WarmReport;
  readonly unpin: null;
  readonly listPins: readonly PinFigures[];
  readonly warm: WarmReport;
}
