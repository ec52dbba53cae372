/**
 * What the store is given of a pack that is not whole any more (FORMAT.md §11.3). A mark behind it makes it longer than the
 * pack: whoever has the pack whole sees by its length that the store does not, whatever became of the list that names it.
 */
const MARK = Buffer.from("TCFSLOST", "latin1");

/** @param content - What could be read of the pack, zeros for the rest. @returns The object, fresh. */
export function encodeRemains(content: Uint8Array): Uint8Array {
  return new Uint8Array(Buffer.concat([content, MARK]));
}

/** @returns Of a pack's file or object: views of the pack, and whether it is what remains of one. */
export function decodeRemains(object: Uint8Array): { readonly content: Uint8Array; readonly isMarked: boolean } {
  const isMarked = isMark(object.subarray(-MARK.length));
  return { content: isMarked ? object.subarray(0, -MARK.length) : object, isMarked };
}

/** Where in an object of that length its mark is, if it has one. */
export function markRange(objectBytes: number): { readonly offset: number; readonly lengthBytes: number } {
  return { offset: Math.max(0, objectBytes - MARK.length), lengthBytes: Math.min(objectBytes, MARK.length) };
}

export function isMark(bytes: Uint8Array): boolean {
  return MARK.equals(bytes);
}
