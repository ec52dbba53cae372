/** Arithmetic of frames that both engines share, and the checks of what they are given (FORMAT.md §4). Keyless. */
import { corrupt } from "../bytes.ts";
import type { FrameRun, SealInput, SealedChunk } from "./engine.ts";
import { FRAME_BYTES, TAG_BYTES } from "./engine.ts";

/** `plain length u24 || kind u8`, inside the seal. */
export const FRAME_HEADER_BYTES = 4;
export const FRAME_OVERHEAD_BYTES = FRAME_HEADER_BYTES + TAG_BYTES;
const STORED_FRAME_MAX_BYTES = FRAME_BYTES + FRAME_OVERHEAD_BYTES;
/** One past the largest frame number of a pack. */
const FRAME_NUMBER_END = 2 ** 32;

function frameCount(lengthBytes: number): number {
  return Math.ceil(lengthBytes / FRAME_BYTES);
}

/** @returns The most that a chunk of `lengthBytes` takes when sealed. */
export function sealBoundBytes(lengthBytes: number): number {
  return lengthBytes + frameCount(lengthBytes) * FRAME_OVERHEAD_BYTES;
}

export interface SealTotals {
  readonly lengthBytes: number;
  readonly frameCount: number;
}

/** @throws RangeError on lengths that disagree, an output too small, or frame numbers past 2^32. */
export function checkSealing(chunks: readonly SealInput[], firstFrame: number, output: Uint8Array): SealTotals {
  let lengthBytes = 0;
  let frames = 0;
  for (const chunk of chunks) {
    let sum = 0;
    for (const piece of chunk.pieces) sum += piece.length;
    if (sum !== chunk.lengthBytes) throw new RangeError(`a chunk of ${chunk.lengthBytes} bytes has pieces of ${sum}`);
    lengthBytes += sum;
    frames += frameCount(sum);
  }
  if (!Number.isSafeInteger(firstFrame) || firstFrame < 0 || firstFrame + frames > FRAME_NUMBER_END) {
    throw new RangeError(`frames from ${firstFrame} on: numbers end at 2^32`);
  }
  if (output.length < lengthBytes + frames * FRAME_OVERHEAD_BYTES)
    throw new RangeError("output is too small to seal into");
  return { lengthBytes, frameCount: frames };
}

/** @param stored - Stored length of every frame of all chunks, in order. @returns Fresh descriptions. */
export function describeSealed(chunks: readonly SealInput[], firstFrame: number, stored: Uint32Array): SealedChunk[] {
  const sealed: SealedChunk[] = [];
  let outputOffset = 0;
  let frame = 0;
  for (const { lengthBytes } of chunks) {
    const frames = frameCount(lengthBytes);
    const storedFrameBytes = stored.slice(frame, frame + frames);
    sealed.push({ firstFrame: firstFrame + frame, lengthBytes, outputOffset, storedFrameBytes });
    for (const bytes of storedFrameBytes) outputOffset += bytes;
    frame += frames;
  }
  return sealed;
}

/**
 * @returns Stored bytes of the whole run.
 * @throws RangeError if the output is not as long as the run; TcfsError `TCFS_CORRUPT` if the run cannot be one.
 */
export function checkRun(run: FrameRun, outputBytes: number): number {
  if (outputBytes !== run.lengthBytes) throw new RangeError("output has another length than the run");
  const stored = run.storedFrameBytes;
  if (stored.length !== frameCount(run.lengthBytes))
    throw corruptFrame(run.firstFrame, "the run has another frame count");
  let sum = 0;
  for (const bytes of stored) {
    if (bytes <= FRAME_OVERHEAD_BYTES || bytes > STORED_FRAME_MAX_BYTES) {
      throw corruptFrame(run.firstFrame, "a frame of the run has an impossible length");
    }
    sum += bytes;
  }
  return sum;
}

/** @throws As {@link checkRun}; also `TCFS_CORRUPT` if `sealed` is not exactly the run's bytes. */
export function checkSealedRun(run: FrameRun, sealed: Uint8Array, output: Uint8Array): void {
  if (checkRun(run, output.length) !== sealed.length) throw corruptFrame(run.firstFrame, "the run is truncated");
}

export function corruptFrame(frameNumber: number, why = "it does not verify"): Error {
  return corrupt(`frame ${frameNumber}`, why);
}
