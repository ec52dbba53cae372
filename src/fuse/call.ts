/** One request on its way: who asked, and what an interrupt of it does. */
import type { Caller } from "../fs/operations.ts";
import type { RequestHeader } from "./request-buffer.ts";

export class Call implements Caller {
  readonly header: RequestHeader;
  #action: (() => void) | undefined;
  #isInterrupted = false;

  constructor(header: RequestHeader) {
    this.header = header;
  }

  get uid(): number {
    return this.header.uid;
  }

  get gid(): number {
    return this.header.gid;
  }

  get pid(): number {
    return this.header.pid;
  }

  onInterrupt(action: () => void): void {
    if (this.#isInterrupted) action();
    else this.#action = action;
  }

  interrupt(): void {
    this.#isInterrupted = true;
    const action = this.#action;
    this.#action = undefined;
    action?.();
  }
}
