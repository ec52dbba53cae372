/** What a restore into a directory has done so far, what it left out, and what failed. */
import { type TreePath, showTreePath } from "../../fs/snapshots/tree-path.ts";

/** Failures that are told one by one; all are counted. */
const MAX_TOLD_FAILURES = 1000;

export interface Failure {
  readonly path: string;
  readonly reason: string;
}

export class CopyReport {
  fileCount = 0;
  directoryCount = 0;
  /** Symlinks, FIFOs and the like. */
  otherCount = 0;
  linkCount = 0;
  /** Files that an earlier run had made whole. */
  skippedCount = 0;
  failedCount = 0;
  leftOutCount = 0;
  /** Bytes of data written, zeros in holes among them. */
  writtenBytes = 0;
  readonly failures: Failure[] = [];
  readonly notes = new Map<string, number>();
  readonly #onProgress: () => void;

  /** @param onProgress - Called after each step. */
  constructor(onProgress: () => void) {
    this.#onProgress = onProgress;
  }

  file(): void {
    this.fileCount++;
    this.#onProgress();
  }

  directory(): void {
    this.directoryCount++;
  }

  other(): void {
    this.otherCount++;
    this.#onProgress();
  }

  link(): void {
    this.linkCount++;
    this.#onProgress();
  }

  skip(): void {
    this.skippedCount++;
    this.#onProgress();
  }

  progress(bytes: number): void {
    this.writtenBytes += bytes;
    this.#onProgress();
  }

  /** An entry was passed over by intent. */
  leaveOut(what: string): void {
    this.leftOutCount++;
    this.note(what);
  }

  note(what: string): void {
    this.notes.set(what, (this.notes.get(what) ?? 0) + 1);
  }

  fail(path: TreePath, reason: string): void {
    this.failedCount++;
    if (this.failures.length < MAX_TOLD_FAILURES) this.failures.push({ path: showTreePath(path), reason });
  }
}
