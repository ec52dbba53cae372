/**
 * Packs that the vault names and that the store cannot be given whole: missing or damaged here before they were sent, or
 * lost by the store and not here. Every manifest tells of them (FORMAT.md §11.2); `store.lost` is a hint for what comes
 * before the first look at the store. Each is looked at again now and then, and leaves the list once it is found.
 */
import { join } from "node:path";
import { counted } from "../counted.ts";
import { toHex } from "../bytes.ts";
import { TcfsError, isTcfsError } from "../errors.ts";
import { type LostKind, type LostPack, MAX_LOST_PACKS, decodeLost, encodeLost } from "../format/replica-codec.ts";
import type { PackId } from "../ids.ts";
import { type Clock, systemClock } from "../platform/clock.ts";
import type { Disk } from "../platform/disk.ts";
import { STATE_NAME } from "./replica-state.ts";

const FILE_NAME = "store.lost";
/** Between two looks, unless somebody waits. */
export const LOOK_AGAIN_MS = 10 * 60_000;
/** What the store has damaged is fetched whole for a look: each time it was for nothing it is left alone twice as long. */
const LONGEST_REST_MS = 24 * 3600_000;
/** Names in a sentence; the rest is counted. */
const MAX_NAMED = 8;

interface Entry extends LostPack {
  /** By the clock; undefined: not in this session. */
  readonly lookedAtMs: number | undefined;
  /** From then on it is left alone for so long; 0 before the first look. */
  readonly restMs: number;
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
      for (const one of content === undefined ? [] : decodeLost(content)) lost.#set(one);
    } catch (error) {
      if (!isTcfsError(error)) throw error;
    }
    return lost;
  }

  /** A new vault directory, whose store's root says so. */
  static async create(disk: Disk, directory: string, lost: readonly LostPack[]): Promise<void> {
    if (lost.length > 0) await disk.replaceFile(join(directory, FILE_NAME), encodeLost(lost));
  }

  /**
   * Add what another root says to what is known in a vault directory that nobody has open: it is looked at like all else.
   * @throws TcfsError what the disk throws
   */
  static async addTo(disk: Disk, directory: string, told: readonly LostPack[]): Promise<void> {
    const options = { disk, directory, clock: systemClock };
    const lost = await LostPacks.open({ ...options, onListed: nothing, onLost: nothing, onFound: nothing });
    const fresh = told.filter(({ pack }) => !lost.has(pack));
    if (fresh.length > 0) await LostPacks.create(disk, directory, [...lost.all(), ...fresh].slice(0, MAX_LOST_PACKS));
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
    for (const one of fresh) this.#set(one);
    if (fresh.length > 0) this.#isDirty = true;
    await this.save();
  }

  /** The store's root says this from now on. */
  tell(told: readonly LostPack[]): void {
    this.#told = textOf(told);
  }

  /** Whether to look for it again. @param isWaitedFor - Somebody wants to know now. */
  isDue(pack: PackId, isWaitedFor: boolean): boolean {
    const { lookedAtMs, restMs = 0 } = this.#entries.get(toHex(pack)) ?? {};
    return isWaitedFor || lookedAtMs === undefined || this.#options.clock.monotonicMs() - lookedAtMs >= restMs;
  }

  /** All that could be done about it was done just now. */
  looked(pack: PackId): void {
    const entry = this.#entries.get(toHex(pack));
    if (entry === undefined) return;
    const jitter = 0.75 + Math.random() / 2;
    const longerMs = Math.min(LONGEST_REST_MS, Math.max(LOOK_AGAIN_MS, entry.restMs * 2)) * jitter;
    const restMs = entry.kind === "damaged" ? longerMs : LOOK_AGAIN_MS;
    this.#set(entry, { lookedAtMs: this.#options.clock.monotonicMs(), restMs });
  }

  /** Somebody may have mended the store: the next step looks for all of them. */
  lookAgain(): void {
    for (const entry of this.#entries.values()) this.#set(entry);
  }

  /**
   * Before anything is said of what is not here: the vault directory itself must be. A drive that is gone for a while would
   * have everything missing.
   * @throws TcfsError `TCFS_IO`
   */
  async requireDirectory(): Promise<void> {
    const { disk, directory } = this.#options;
    await disk.syncDirectory(directory);
    if ((await disk.list(directory)).includes(STATE_NAME)) return;
    throw new TcfsError("TCFS_IO", `the vault directory ${directory} is gone: what it lacks cannot be told`);
  }

  /**
   * It was found to be lost.
   * @returns Whether that is on the disk, where it has to be: what is missing is found out again without, and written down
   *   by the next {@link save}.
   */
  async note(lost: LostPack): Promise<boolean> {
    const before = this.#entries.get(toHex(lost.pack));
    this.#set(lost, before);
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

  #set({ pack, kind }: LostPack, look?: Pick<Entry, "lookedAtMs" | "restMs">): void {
    const isNew = !this.has(pack);
    const { lookedAtMs, restMs = 0 } = look ?? {};
    this.#entries.set(toHex(pack), { pack: pack.slice() as PackId, kind, lookedAtMs, restMs });
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

function nothing(): void {
  // Nobody is there to be told.
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
