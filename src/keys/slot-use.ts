/**
 * `slot-use.json`: when each key slot last opened the vault (FORMAT.md §8.6). Told by `tcfs key list`, believed by nobody:
 * it is not authenticated, and losing it loses nothing. The header is not written for it, so that a mount can never
 * damage what opens the vault.
 */
import { join } from "node:path";
import { z } from "zod";
import { toHex } from "../bytes.ts";
import type { Disk } from "../platform/disk.ts";
import { timeField } from "./fields.ts";
import type { KeySlot } from "./slot-format.ts";

const NAME = "slot-use.json";
const MAX_BYTES = 4096;

const schema = z.record(z.string().regex(/^[0-9a-f]{16}$/u), timeField);

/** Slot id in hexadecimal → time of the last use. */
export type SlotUses = Readonly<Record<string, string>>;

/** @returns What is known; nothing where the file is missing, damaged or no file. */
export async function readSlotUses(disk: Disk, directory: string): Promise<SlotUses> {
  try {
    await using file = closing(await disk.open(join(directory, NAME)));
    const into = new Uint8Array(MAX_BYTES);
    const content = into.subarray(0, await file.it.readInto(into, 0));
    return schema.parse(JSON.parse(new TextDecoder().decode(content)));
  } catch {
    return {};
  }
}

/**
 * Note that a slot opened the vault; slots that are gone are forgotten.
 * @param slots - All slots of the vault.
 */
export async function recordSlotUse(
  disk: Disk,
  directory: string,
  slots: readonly KeySlot[],
  used: KeySlot,
  time: string,
): Promise<void> {
  const before = await readSlotUses(disk, directory);
  const ids = slots.map(({ id }) => toHex(id));
  const uses = Object.fromEntries(
    ids.flatMap((id) => {
      const at = id === toHex(used.id) ? time : before[id];
      return at === undefined ? [] : [[id, at]];
    }),
  );
  await disk.replaceFile(join(directory, NAME), Buffer.from(`${JSON.stringify(uses, null, 2)}\n`));
}

function closing<T extends { close(): Promise<void> }>(it: T): AsyncDisposable & { readonly it: T } {
  return { it, [Symbol.asyncDispose]: () => it.close() };
}
