/** For commands that open a vault themselves: what matters to them is thrown. */
import type { Logger } from "../logger.ts";

export const SILENT_LOGGER: Logger = {
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
};
