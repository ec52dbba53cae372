/** What copy_file_range takes over from a file: chunks and holes as they are, bytes in memory as a copy. */
import { copyOf } from "../bytes.ts";
import { DataSource, type RunSource } from "./dirty-runs.ts";

/** A run's source that needs no copying to be shared. */
export type StoredSource = Exclude<RunSource, DataSource>;
export type SharedSource = StoredSource | HeldCopy;

/** Bytes that were only in memory, copied before anything is written: writing may use their memory anew. */
export class HeldCopy {
  readonly bytes: Uint8Array;

  constructor(source: DataSource, offset: number, lengthBytes: number) {
    this.bytes = copyOf(source.bytes.subarray(offset, offset + lengthBytes));
  }
}

export function copyOfHeld(source: RunSource, offset: number, lengthBytes: number): SharedSource {
  return source instanceof DataSource ? new HeldCopy(source, offset, lengthBytes) : source;
}
