/** The one way to a sealing engine: native where the addon loads, portable otherwise. */
import { TcfsError } from "../errors.ts";
import { loadEngineBinding } from "./binding.ts";
import type { EngineOptions, SealingEngine } from "./engine.ts";
import { openNativeEngine } from "./native-engine.ts";
import { openPortableEngine } from "./portable-engine.ts";

/**
 * @param options - Keys and ids are copied; wipe yours.
 * @param kind - Insist on one engine; by default the fastest that works here, see `engine.kind`.
 * @throws TcfsError `TCFS_UNSUPPORTED` if `native` is insisted on and the addon does not load; RangeError on options
 *   that FORMAT.md does not allow.
 */
export function openEngine(options: EngineOptions, kind?: SealingEngine["kind"]): SealingEngine {
  if (kind === "portable") return openPortableEngine(options);
  let binding;
  try {
    binding = loadEngineBinding();
  } catch (cause) {
    if (kind === "native") throw new TcfsError("TCFS_UNSUPPORTED", "the native engine does not load", { cause });
    return openPortableEngine(options);
  }
  return openNativeEngine(binding, options);
}
