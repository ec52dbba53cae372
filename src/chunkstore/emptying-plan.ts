/**
 * Which packs a collection empties, in which order, and how many at a time: on a full disk as many as there is room to
 * move what lives in them, since only a pack that is empty gives anything back.
 */

/** Below this share of live bytes a pack is worth emptying. */
const LIVE_SHARE = 0.5;
/** Where room is needed: a pack that gives less than a tenth back is not worth its writes. */
const NEEDED_LIVE_SHARE = 0.9;

/** A pack in which something lives. */
export interface LivingPack {
  readonly name: string;
  /** Stored bytes of live chunks. */
  readonly liveBytes: number;
  readonly lengthBytes: number;
}

/** @returns Whether it is emptied however much room there is. */
export function isMostlyDead({ liveBytes, lengthBytes }: LivingPack): boolean {
  return liveBytes < lengthBytes * LIVE_SHARE;
}

export class EmptyingPlan {
  /** Each with the least live share first. */
  readonly #owed: LivingPack[] = [];
  readonly #optional: LivingPack[] = [];
  /** What taken packs give back once they are gone, by name. */
  readonly #gains = new Map<string, number>();
  /** Still to be given back before packs stay that are half alive. */
  #neededBytes: number;

  constructor(neededBytes: number) {
    this.#neededBytes = neededBytes;
  }

  /** To be emptied in any case. */
  addOwed(pack: LivingPack): void {
    this.#owed.push(pack);
  }

  /** Whether the pack is to be emptied for want of room. */
  isWanted(pack: LivingPack): boolean {
    return this.#neededBytes > 0 && pack.liveBytes < pack.lengthBytes * NEEDED_LIVE_SHARE;
  }

  /** To be emptied as long as room is needed. */
  addOptional(pack: LivingPack): void {
    this.#optional.push(pack);
  }

  /** A pack that was taken is gone. One that stays, since not all in it could be read, gives nothing back. */
  noteGone(name: string): void {
    this.#neededBytes -= this.#gains.get(name) ?? 0;
    this.#gains.delete(name);
  }

  /**
   * Take the packs of the next round: the deadest, as many as fit.
   * @param roomBytes - What moves may write.
   * @returns Their names; none where nothing is left, or nothing fits.
   */
  take(roomBytes: number): Set<string> {
    const taken = new Set<string>();
    let leftBytes = roomBytes;
    let neededBytes = this.#neededBytes;
    const tryAll = (packs: LivingPack[], isNeeded: () => boolean): void => {
      packs.sort((a, b) => a.liveBytes / a.lengthBytes - b.liveBytes / b.lengthBytes);
      const later = packs.splice(0).filter((pack) => {
        if (pack.liveBytes > leftBytes || !isNeeded()) return true;
        const gainedBytes = pack.lengthBytes - pack.liveBytes;
        taken.add(pack.name);
        this.#gains.set(pack.name, gainedBytes);
        leftBytes -= pack.liveBytes;
        neededBytes -= gainedBytes;
        return false;
      });
      packs.push(...later);
    };
    tryAll(this.#owed, () => true);
    tryAll(this.#optional, () => neededBytes > 0);
    return taken;
  }
}
