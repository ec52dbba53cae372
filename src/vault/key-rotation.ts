/**
 * The end of a key epoch (FORMAT.md §8.8), beside a vault in use: everything goes over to the newest key, is counted, and
 * only then the older key is given up. Each step may be done again; a rotation that was interrupted goes on with the
 * next opening for writing.
 */
import { setTimeout as delay } from "node:timers/promises";
import { counted } from "../counted.ts";
import type { PackChunkStore } from "../chunkstore/pack-chunk-store.ts";
import { TcfsError, isTcfsError } from "../errors.ts";
import type { Volume } from "../fs/volume.ts";
import { renewDeviceSeals } from "../keys/devices/device-book.ts";
import type { VaultHeader } from "../keys/header.ts";
import type { EpochRooms } from "../keys/epoch-rooms.ts";
import type { Renewal, VaultKeys } from "../keys/key-epochs.ts";
import { EVERYTHING } from "../format/record-keys.ts";
import type { LevelMetadataStore } from "../metadata/level-metadata-store.ts";
import { systemClock } from "../platform/clock.ts";
import type { Disk } from "../platform/disk.ts";
import type { Replica } from "./open-replica.ts";
import { readOwnHeader } from "./own-header.ts";
import { rewriteHeader } from "./rewrite-header.ts";
import type { RotationPhase, RotationReport, RotationStatus } from "./rotation-status.ts";

/** Rests for as long as it worked, in pieces of this; the mount's own work comes between. */
const WORK_MS = 20;
const RETRY_MS = [1000, 5000, 30_000, 120_000] as const;

export interface KeyRotationOptions {
  readonly disk: Disk;
  /** The vault's. */
  readonly directory: string;
  readonly epochs: EpochRooms;
  readonly metadata: LevelMetadataStore;
  readonly chunks: PackChunkStore;
  readonly volume: Volume;
  readonly replica: Replica | undefined;
  /** What a TPM remembers of the vault goes over to the newest epoch. */
  readonly renewAnchor: () => Promise<void>;
  /** Told when it begins to fail, and with none when it goes on. */
  readonly onOutcome: (error: unknown) => void;
  readonly onEnd: (report: RotationReport) => void;
  /** The header is written, and its copy could not be. */
  readonly onOlderCopy: (error: TcfsError) => void;
}

interface Ending {
  readonly keyEpoch: number;
  readonly endingEpoch: number;
  readonly renewal: Renewal;
}

export class KeyRotation {
  readonly #options: KeyRotationOptions;
  readonly #stop = new AbortController();
  #ending: Ending | undefined;
  #running: Promise<RotationReport> | undefined;
  #report: RotationReport | undefined;
  #progress: { phase: RotationPhase; doneCount: number } = { phase: "packs", doneCount: 0 };
  #lastError: string | null = null;
  #needsPerson = false;
  #workedSinceMs = systemClock.monotonicMs();

  constructor(options: KeyRotationOptions) {
    this.#options = options;
  }

  /** Null while none is under way. */
  status(): RotationStatus | null {
    if (this.#ending === undefined) return null;
    const { keyEpoch, endingEpoch, renewal } = this.#ending;
    const trouble = { lastError: this.#lastError, needsPerson: this.#needsPerson };
    return { keyEpoch, endingEpoch, renewal, ...this.#progress, ...trouble };
  }

  /** Of the last one that ended since the vault was opened. */
  get report(): RotationReport | undefined {
    return this.#report;
  }

  /**
   * Go on with what the header says is ending; at once, in the background.
   * @param header - Authenticated.
   */
  resume(header: VaultHeader): void {
    const [older] = header.keyring?.older ?? [];
    if (older === undefined || this.#ending !== undefined || this.#stop.signal.aborted) return;
    this.#ending = { keyEpoch: header.keyEpoch, endingEpoch: older.keyEpoch, renewal: older.renewal };
    this.#running = this.#run(this.#ending).finally(() => {
      this.#ending = undefined;
    });
    this.#running.catch(() => undefined); // told to whoever waits, and by the next opening
  }

  /**
   * Begin the epoch of `after`, durably, and go on as {@link resume}.
   * @param keys - Of `after`; lent for the call.
   * @throws TcfsError `TCFS_BUSY` while one is under way, or if the header was changed by another; `TCFS_CORRUPT` while
   *   metadata are known to be damaged.
   */
  async begin(before: VaultHeader, after: VaultHeader, keys: VaultKeys): Promise<void> {
    const { directory, epochs } = this.#options;
    if (this.#ending !== undefined) throw new TcfsError("TCFS_BUSY", "a rotation is under way");
    this.#requireIntact();
    this.#tellCopy(await rewriteHeader(directory, before, after));
    epochs.begin(keys);
    this.resume(after);
  }

  /** @returns The report once it has ended. @throws TcfsError `TCFS_INTERRUPTED` when the vault is closed before. */
  async wait(): Promise<RotationReport | undefined> {
    return this.#running === undefined ? this.#report : this.#running;
  }

  /** Stop where it is. Idempotent. */
  async close(): Promise<void> {
    this.#stop.abort();
    await this.#running?.catch(() => undefined);
  }

  /** Until it is done, or the vault is closed. */
  async #run(ending: Ending): Promise<RotationReport> {
    for (let round = 1; ; round++) {
      const report = await this.#rotate(ending);
      const leftCount = report.records.olderCount + report.packs.olderCount;
      if (leftCount === 0) {
        await this.#persist(() => this.#end());
        this.#report = report;
        this.#options.onEnd(report);
        return report;
      }
      // A pack that was fetched while the others were done, say: it is met in the next round.
      this.#lastError = `${counted(leftCount, "object is", "objects are")} still under key epoch ${ending.endingEpoch}`;
      await this.#rest(retryMs(round - 1));
    }
  }

  async #rotate({ keyEpoch, endingEpoch, renewal }: Ending): Promise<RotationReport> {
    const { metadata, chunks, volume, replica } = this.#options;
    const { signal } = this.#stop;
    const { database } = metadata;
    await this.#enter("packs", async (pause) => {
      // A header that was sealed before the epoch began may be on its way to the disk: whoever counted now would miss it.
      await chunks.ownPacks.retire();
      await chunks.rewrapper.rewrapAll(pause);
    });
    await this.#enter("records", (pause) => database.renewal.renew({ signal, pause }));
    const notRenewedCount =
      renewal === "data" ? await this.#enter("data", (pause) => volume.renewPacks(signal, pause)) : null;
    const { disk, directory, epochs } = this.#options;
    await this.#enter("journal", async () => {
      await renewDeviceSeals({ disk, directory, sealer: epochs.sealer });
      await this.#options.renewAnchor();
      await database.clearPast();
    });
    const objectCount = await this.#enter("store", async (pause) => (await replica?.renew(signal, pause)) ?? null);
    const records = await this.#enter("count", (pause) => database.renewal.count({ signal, pause }));
    const packs = await this.#enter("count", (pause) => chunks.rewrapper.count(pause));
    return { keyEpoch, endedEpoch: endingEpoch, records, packs, notRenewedCount, objectCount };
  }

  /** Each phase until it is done: to begin from the first one would be much work for nothing. */
  #enter<T>(phase: RotationPhase, action: (pause: (doneCount?: number) => Promise<void>) => Promise<T>): Promise<T> {
    return this.#persist(() => {
      this.#progress = { phase, doneCount: 0 };
      this.#workedSinceMs = systemClock.monotonicMs();
      return action((doneCount = 1) => this.#pause(doneCount));
    });
  }

  async #persist<T>(action: () => Promise<T>): Promise<T> {
    for (let failures = 0; ; failures++) {
      if (this.#isStopped()) throw interrupted();
      try {
        this.#requireIntact();
        const result = await action();
        if (failures > 0) this.#options.onOutcome(undefined);
        this.#lastError = null;
        this.#needsPerson = false;
        return result;
      } catch (error) {
        if (this.#isStopped()) throw interrupted();
        this.#lastError = error instanceof Error ? error.message : String(error);
        this.#needsPerson = isTcfsError(error, "TCFS_NO_TPM") || isTcfsError(error, "TCFS_TPM");
        this.#options.onOutcome(error);
        await this.#rest(retryMs(failures));
      }
    }
  }

  #isStopped(): boolean {
    return this.#stop.signal.aborted;
  }

  /** Work for a while, then rest for as long. */
  async #pause(doneCount: number): Promise<void> {
    this.#progress.doneCount += doneCount;
    const workedMs = systemClock.monotonicMs() - this.#workedSinceMs;
    if (workedMs >= WORK_MS) await this.#rest(workedMs);
    if (this.#isStopped()) throw interrupted();
  }

  async #rest(delayMs: number): Promise<void> {
    await delay(delayMs, undefined, { signal: this.#stop.signal }).catch(() => undefined); // whoever rests looks why
    this.#workedSinceMs = systemClock.monotonicMs();
  }

  /** The header as it lies there now: slots may have come and gone since. */
  async #end(): Promise<void> {
    const { disk, directory, epochs, replica } = this.#options;
    const before = await readOwnHeader(disk, directory, epochs);
    this.#tellCopy(await rewriteHeader(directory, before, epochs.endRotation(before)));
    epochs.forgetOlder();
    replica?.tellHeader();
  }

  #tellCopy(failure: TcfsError | undefined): void {
    if (failure !== undefined) this.#options.onOlderCopy(failure);
  }

  /** A record that cannot be read now may be readable in another copy, under the key that this would give up. */
  #requireIntact(): void {
    const damage = this.#options.metadata.database.damage.ofRange(EVERYTHING);
    if (damage === undefined) return;
    throw new TcfsError(damage.code, `no key is given up while metadata are damaged: ${damage.message}`);
  }
}

function retryMs(failures: number): number {
  return RETRY_MS[Math.min(failures, RETRY_MS.length - 1)] ?? 0;
}

function interrupted(): TcfsError {
  return new TcfsError("TCFS_INTERRUPTED", "the rotation was interrupted: it goes on when the vault is opened again");
}
