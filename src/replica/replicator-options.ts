/** What a Replicator is made of. */
import type { PlainRecord } from "../crypto/engine.ts";
import type { TcfsError } from "../errors.ts";
import type { PackRecord } from "../format/records.ts";
import type { DeviceBook } from "../keys/devices/device-book.ts";
import type { Device } from "../keys/devices/device-list.ts";
import type { Disk } from "../platform/disk.ts";
import type { ObjectStore } from "../remote/object-store.ts";
import type { Pace } from "../remote/paced-store.ts";
import type { ReplicaState } from "./replica-state.ts";
import type { StepWriterOptions } from "./step-writer.ts";
import type { UploadSettings } from "./upload-settings.ts";

export interface ReplicatorOptions extends Omit<StepWriterOptions, "identity"> {
  readonly openStore: () => Promise<ObjectStore>;
  readonly disk: Disk;
  /** The vault's. */
  readonly directory: string;
  /** As `disownNewer` left it. */
  readonly state: ReplicaState;
  readonly devices: DeviceBook;
  /** Told of devices that came into the list without this one's doing. */
  readonly onNewDevices: (devices: readonly Device[]) => void;
  /** The vault's last commit. */
  readonly commit: number;
  /** As of the call: {@link ChangeLog.capture}. */
  readonly allRecords: () => AsyncIterable<readonly PlainRecord[]>;
  /** The vault's header as it lies on the disk. @param least - Revision of the one that the store has; it is not older. */
  readonly readHeader: (least: number) => Promise<{ readonly content: Uint8Array; readonly revision: number }>;
  /** The root that has just been written, or was looked at, has all that was brought so far and is named still. */
  readonly onRooted?: () => void;
  /** Told when uploads begin to fail or end for good, and with none when they succeed again. */
  readonly onOutcome: (error: unknown) => void;
  /** The store's newest manifest is damaged: the next step is a checkpoint. */
  readonly onHeadDamaged: (error: TcfsError) => void;
  /** The vault's packs, for the figures. */
  readonly packs: () => AsyncIterable<PackRecord>;
  readonly settings: UploadSettings;
  readonly pace: Pace;
}
