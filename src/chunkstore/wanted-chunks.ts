/** Pure arithmetic of a store call: which bytes of the inputs each named chunk has, and how chunks share jobs. */
import { toHex } from "../bytes.ts";
import type { ChunkInput, NamedChunk } from "../crypto/engine.ts";
import { TcfsError } from "../errors.ts";
import type { ChunkId, ChunkIdKey } from "../ids.ts";
import { chunkIdKey } from "../format/record-keys.ts";
import type { ChunkToPack } from "./pack-writer.ts";

/** A named chunk of a store call with its bytes: views into the call's inputs. */
export interface WantedChunk extends ChunkToPack {
  readonly key: ChunkIdKey;
}

/** @returns For each input its chunks; what a non-final input leaves over is in none. */
export function cutInputs(inputs: readonly ChunkInput[], named: readonly (readonly NamedChunk[])[]): WantedChunk[][] {
  return inputs.map((input, i) => cutInput(input, named[i] ?? []));
}

function cutInput({ pieces }: ChunkInput, named: readonly NamedChunk[]): WantedChunk[] {
  let piece = 0;
  let position = 0;
  return named.map(({ id, lengthBytes }) => {
    const own: Uint8Array[] = [];
    for (let missing = lengthBytes; missing > 0;) {
      const current = pieces[piece];
      if (current === undefined) throw new RangeError("the engine named more bytes than it was given");
      const take = Math.min(missing, current.length - position);
      if (take > 0) own.push(current.subarray(position, position + take));
      missing -= take;
      position += take;
      if (position === current.length) {
        piece += 1;
        position = 0;
      }
    }
    return { id, key: chunkIdKey(id), lengthBytes, pieces: own };
  });
}

export interface JobLimits {
  /** Most sealed bytes of a job; at least the bound of the largest chunk. */
  readonly jobBytes: number;
  readonly chunkCount: number;
}

/** @returns The chunks in order, in groups within the limits. */
export function groupIntoJobs<T extends ChunkToPack>(
  chunks: readonly T[],
  limits: JobLimits,
  sealBoundBytes: (lengthBytes: number) => number,
): T[][] {
  const jobs: T[][] = [];
  let job: T[] = [];
  let jobBytes = 0;
  for (const chunk of chunks) {
    const boundBytes = sealBoundBytes(chunk.lengthBytes);
    if (job.length > 0 && (jobBytes + boundBytes > limits.jobBytes || job.length === limits.chunkCount)) {
      jobs.push(job);
      job = [];
      jobBytes = 0;
    }
    job.push(chunk);
    jobBytes += boundBytes;
  }
  if (job.length > 0) jobs.push(job);
  return jobs;
}

/** @returns The pieces as one fresh array. */
export function joinPieces({ pieces, lengthBytes }: ChunkToPack): Uint8Array {
  const joined = new Uint8Array(lengthBytes);
  let at = 0;
  for (const piece of pieces) {
    joined.set(piece, at);
    at += piece.length;
  }
  return joined;
}

/** @returns What to tell of a chunk that no record names. */
export function missing(id: ChunkId): TcfsError {
  const name = toHex(id.subarray(0, 8));
  return new TcfsError("TCFS_CORRUPT", `chunk ${name} is not in the vault`);
}
