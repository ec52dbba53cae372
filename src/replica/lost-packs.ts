/**
 * Packs that the vault names and that the store cannot be given whole: missing or damaged here before they were sent, or
 * lost by the store and not here. Every manifest tells of them (FORMAT.md §11.2); `store.lost` is a hint for what comes
 * before the first look at the store. Each is looked at again now and then, and leaves the list once it is found.
 */
import { join } from "node:path";
import { counted } from "../counted.ts";
import { toHex } from "../bytes.ts";
import { TcfsError, isTcfsError } from "../errors.ts";
import { type LostKind, type LostPack, decodeLost, encodeLost } from "../format/replica-codec.ts";
import type { PackId } from "../ids.ts";
import type { Clock } from "../platform/clock.ts";
import type { Disk } from "../platform/disk.ts";

const FILE_NAME = "store.lost";
/** Between two looks at one, unless somebody waits. */
export const LOOK_AGAIN_MS = 10 * 60_000;
/** Names in a sentence; the rest is counted. */
const MAX_NAMED = 8;

interface Entry extends LostPack {
  /** By the clock; undefined: not in this session. */
  readonly lookedAtMs: number | undefined;
}

export interface LostPacksOptions {
  readonly disk: Disk;
  /** The vault's. */
  readonly directory: string;
  readonly clock: Pick<Clock, "monotonicMs">;
  /** It is in the list from now on, or no more: also what the store's root or `store.lost` says. */
  readonly onListed: (pack: PackId, isListed: boolean) => void;
  /** A pack was just found to be lost, in which way. */
  readonly onLost: (lost: LostPack) => void;
  /** It was found, or nothing of it is missed any more. */
  readonly onFound: (pack: PackId) => void;
}

export class LostPacks {
  readonly #options: LostPacksOptions;
  /** By name. */
  readonly #entries = new Map<string, Entry>();
  /** What the store's root says; undefined before it was looked at. */
  #told: string | undefined;
  /** Whether the file says something else. */
  #isDirty = false;
  #saving: Promise<boolean> = Promise.resolve(true);

  private constructor(options: LostPacksOptions) {
    this.#options = options;
  }

  /** A file that is not as it should be is no hint. */
  static async open(options: LostPacksOptions): Promise<LostPacks> {
    const lost = new LostPacks(options);
    const content = await options.disk.readFile(join(options.directory, FILE_NAME));
    try {
      for (const one of content === undefined ? [] : decodeLost(content)) lost.#set(one, undefined);
    } catch (error) {
      if (!isTcfsError(error)) throw error;
    }
    return lost;
  }

  /** A new vault directory, whose store's root says so. */
  static async create(disk: Disk, directory: string, lost: readonly LostPack[]): Promise<void> {
    if (lost.length > 0) await disk.replaceFile(join(directory, FILE_NAME), encodeLost(lost));
  }

  get count(): number {
    return this.#entries.size;
  }

  has(pack: PackId): boolean {
    return this.#entries.has(toHex(pack));
  }

  all(): LostPack[] {
    return [...this.#entries.values()].map(({ pack, kind }) => ({ pack, kind }));
  }

  /** Whether the store's root says what is known here. */
  get isTold(): boolean {
    return this.#told === undefined || this.#told === textOf(this.all());
  }

  /** The store's root says this: whoever wrote it knew of these, too. @param told - None where there is no root. */
  async learn(told: readonly LostPack[]): Promise<void> {
    this.tell(told);
    const fresh = told.filter(({ pack }) => !this.has(pack));
    for (const one of fresh) this.#set(one, undefined);
    if (fresh.length > 0) this.#isDirty = true;
    await this.save();
  }

  /** The store's root says this from now on. */
  tell(told: readonly LostPack[]): void {
    this.#told = textOf(told);
  }

  /** Whether to look for it again. @param isWaitedFor - Somebody wants to know now. */
  isDue(pack: PackId, isWaitedFor: boolean): boolean {
    const { lookedAtMs } = this.#entries.get(toHex(pack)) ?? {};
    return isWaitedFor || lookedAtMs === undefined || this.#options.clock.monotonicMs() - lookedAtMs >= LOOK_AGAIN_MS;
  }

  /** All that could be done about it was done just now. */
  looked(pack: PackId): void {
    const entry = this.#entries.get(toHex(pack));
    if (entry !== undefined) this.#set(entry, this.#options.clock.monotonicMs());
  }

  /**
   * It was found to be lost.
   * @returns Whether that is on the disk, where it has to be: what is missing is found out again without, and written down
   *   by the next {@link save}.
   */
  async note(lost: LostPack): Promise<boolean> {
    const before = this.#entries.get(toHex(lost.pack));
    this.#set(lost, before?.lookedAtMs);
    if (before?.kind !== lost.kind) {
      this.#isDirty = true;
      this.#options.onLost(lost);
    }
    return lost.kind === "missing" || this.save();
  }

  /** It was found, or no state names it any more. The next {@link save} writes it down. */
  forget(pack: PackId): void {
    if (!this.#entries.delete(toHex(pack))) return;
    this.#isDirty = true;
    this.#options.onListed(pack, false);
    this.#options.onFound(pack);
  }

  /**
   * @param step - Waits for the end of a step, the one under way if there is one.
   * @param isUnderWay - Whether there is: it may have looked for what is lost before this was asked.
   * @throws TcfsError what `step` throws; `TCFS_CORRUPT` if packs are lost still, once the store's root says just which.
   */
  async requireNone(step: () => Promise<void>, isUnderWay: boolean): Promise<void> {
    for (let isStale = isUnderWay; ; isStale = false) {
      await step();
      if (this.count === 0) return;
      // What the vault dropped within a step is in the list until the next one.
      if (!isStale && this.isTold) break;
    }
    throw new TcfsError("TCFS_CORRUPT", `lost: ${describeLost(lostPackNames(this.all()))}. All else is in the store`);
  }

  #set({ pack, kind }: LostPack, lookedAtMs: number | undefined): void {
    const isNew = !this.has(pack);
    this.#entries.set(toHex(pack), { pack: pack.slice() as PackId, kind, lookedAtMs });
    if (isNew) this.#options.onListed(pack, true);
  }

  /**
   * Write down what has changed: once for many packs.
   * @returns Whether the file says what is known here; where it does not, the store's root says it.
   */
  save(): Promise<boolean> {
    this.#saving = this.#saving.then(() => !this.#isDirty || this.#write());
    return this.#saving;
  }

  async #write(): Promise<boolean> {
    const { disk, directory } = this.#options;
    const path = join(directory, FILE_NAME);
    this.#isDirty = false;
    try {
      if (this.count > 0) await disk.replaceFile(path, encodeLost(this.all()));
      else await disk.remove(path);
      return true;
    } catch (error) {
      if (!isTcfsError(error)) throw error;
      if (this.count === 0 && isTcfsError(error, "TCFS_NO_ENTRY")) return true;
      this.#isDirty = true;
      return false;
    }
  }
}

/** A lost pack, as people are told of it. */
export interface LostPackName {
  /** Hexadecimal. */
  readonly pack: string;
  readonly kind: LostKind;
}

export function lostPackNames(lost: readonly LostPack[]): LostPackName[] {
  return lost.map(({ pack, kind }) => ({ pack: toHex(pack), kind }));
}

/** `2 packs, which neither this disk nor the store has whole: 1f…, 3b…; tcfs check tells which files`. */
export function describeLost(lost: readonly LostPackName[]): string {
  const names = lost.slice(0, MAX_NAMED).map(({ pack }) => pack);
  const rest = lost.length > names.length ? ` and ${lost.length - names.length} more` : "";
  const what = `${counted(lost.length, "pack")}, which neither this disk nor the store has whole`;
  return `${what}: ${names.join(", ")}${rest}; tcfs check tells which files`;
}

/** @returns Equal for equal lists, in whatever order. */
function textOf(lost: readonly LostPack[]): string {
  return lost
    .map(({ pack, kind }) => `${toHex(pack)} ${kind}`)
    .sort()
    .join("\n");
}
