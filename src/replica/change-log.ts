/**
 * What the vault's commits changed since the store's last step: the newest value of each record, copied, up to a bound.
 * Beyond it the changes are forgotten, and the next step must be a checkpoint.
 */
import { latin1Of } from "../bytes.ts";
import type { RecordChange } from "../format/journal-codec.ts";

/** Of keys and values held in memory. */
const MAX_HELD_BYTES = 24 * 1024 * 1024;
/** What an entry takes beside them, about. */
const ENTRY_BYTES = 200;

export interface CapturedChanges {
  /** The last commit in it. */
  readonly commit: number;
  /** Undefined: all that is known is that it is not known; only a checkpoint will do. */
  readonly changes: ReadonlyMap<string, RecordChange> | undefined;
}

export class ChangeLog {
  #changes: Map<string, RecordChange> | undefined;
  #heldBytes = 0;
  #commit: number;
  readonly #maxBytes: number;

  /** @param isKnown - Whether the store has everything up to `commit`. */
  constructor(commit: number, isKnown: boolean, maxBytes = MAX_HELD_BYTES) {
    this.#commit = commit;
    this.#changes = isKnown ? new Map() : undefined;
    this.#maxBytes = maxBytes;
  }

  /** The last commit noted. */
  get commit(): number {
    return this.#commit;
  }

  /** Whether there is anything to tell the store. */
  get isEmpty(): boolean {
    return this.#changes?.size === 0;
  }

  /** Whether the store may lack the newest value of a record. @param name - Its key, in Latin-1. */
  has(name: string): boolean {
    return this.#changes?.has(name) ?? true;
  }

  /** Of the changes that are known. */
  get heldBytes(): number {
    return this.#heldBytes;
  }

  /** How many changed records are of one kind; undefined where the changes are not known. */
  count(kind: number): number | undefined {
    if (this.#changes === undefined) return undefined;
    let found = 0;
    for (const { key } of this.#changes.values()) if (key[0] === kind) found += 1;
    return found;
  }

  /** As {@link count}, with what was captured and did not get into the store yet; null where that is not known. */
  countWith(captured: CapturedChanges | undefined, kind: number): number | null {
    const rest = this.count(kind);
    if (rest === undefined || (captured !== undefined && captured.changes === undefined)) return null;
    let found = rest;
    for (const { key } of captured?.changes?.values() ?? []) if (key[0] === kind) found += 1;
    return found;
  }

  /** The store turned out to have everything up to `commit`. */
  storeHas(commit: number): void {
    if (this.#changes !== undefined || this.#commit !== commit) return;
    this.#changes = new Map();
  }

  /** A commit is durable. @param changes - Lent. */
  note(commit: number, changes: readonly RecordChange[]): void {
    this.#commit = commit;
    if (this.#changes === undefined) return;
    for (const { key, value } of changes) {
      const name = latin1Of(key);
      const before = this.#changes.get(name);
      if (before !== undefined) this.#heldBytes -= weigh(before);
      const own: RecordChange = { key: before?.key ?? key.slice(), value: value?.slice() };
      this.#changes.set(name, own);
      this.#heldBytes += weigh(own);
    }
    if (this.#heldBytes <= this.#maxBytes) return;
    this.#changes = undefined;
    this.#heldBytes = 0;
  }

  /** All so far, in the same synchronous step as a walk of the records begins, if one does. Then the log is empty. */
  capture(): CapturedChanges {
    const captured: CapturedChanges = { commit: this.#commit, changes: this.#changes };
    this.#changes = new Map();
    this.#heldBytes = 0;
    return captured;
  }

  /** What was captured did not get into the store. */
  giveBack({ changes }: CapturedChanges): void {
    if (changes === undefined || this.#changes === undefined) {
      this.#changes = undefined;
      this.#heldBytes = 0;
      return;
    }
    const newer = this.#changes;
    this.#changes = new Map(changes);
    for (const [name, change] of newer) this.#changes.set(name, change);
    this.#heldBytes = 0;
    for (const change of this.#changes.values()) this.#heldBytes += weigh(change);
  }
}

function weigh({ key, value }: RecordChange): number {
  return key.length + (value?.length ?? 0) + ENTRY_BYTES;
}
