/** A key slot in words: its id and its kind. */
import { toHex } from "../../bytes.ts";
import { SLOT_KIND_NAMES } from "../../keys/slot-format.ts";
import type { KeySlot } from "../../keys/slot-format.ts";

export function describeSlot({ id, kind }: Pick<KeySlot, "id" | "kind">): string {
  return `key slot ${toHex(id)} (${SLOT_KIND_NAMES[kind]})`;
}
