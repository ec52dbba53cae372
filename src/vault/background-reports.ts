/** What a vault tells in its log of the work behind it: uploads, a key rotation. */
import type { PackChunkStore } from "../chunkstore/pack-chunk-store.ts";
import { formatPackId } from "../chunkstore/pack-format.ts";
import { TcfsError } from "../errors.ts";
import { describeDevice } from "../keys/devices/device-list.ts";
import type { Logger } from "../logger.ts";
import type { KeyRotationOptions } from "./key-rotation.ts";
import type { FollowOptions } from "./open-replica.ts";

/** What is told in the log of uploads. */
export function uploadReports(
  logger: Logger,
  chunks: PackChunkStore,
): Pick<
  FollowOptions,
  "onOutcome" | "onNewDevices" | "onMissing" | "onDamage" | "onListed" | "onLost" | "onFound" | "onHeadDamaged"
> {
  return {
    onDamage: (pack, damage) => {
      const { ofPack: error, chunks: damaged } = damage;
      logger.error("a pack is damaged: tcfs check tells which files", {
        pack: formatPackId(pack),
        damagedChunks: damaged.length,
        error,
      });
      chunks.noteDamaged(pack, damaged);
    },
    onLost: ({ pack, kind }) => {
      const where = kind === "missing" ? "neither on this disk nor in the store" : "damaged, here and in the store";
      logger.error(`a pack is lost, ${where}: the store's state says so; tcfs check tells which files`, {
        pack: formatPackId(pack),
      });
    },
    onListed: (pack, isListed) => {
      chunks.distrust(pack, isListed);
    },
    onFound: (pack) => {
      logger.info("nothing is missed any more of a pack that was lost", { pack: formatPackId(pack) });
    },
    onHeadDamaged: (error) => {
      logger.error("the store's newest state is damaged: a new checkpoint, of what is here, comes after it", {
        code: error.code,
        message: error.message,
      });
    },
    onOutcome: outcomeReporter(logger, { failed: "an upload failed", healed: "uploads succeed again" }),
    onNewDevices: (devices) => {
      for (const device of devices) {
        logger.warn("a device was added to the vault", { device: describeDevice(device), at: device.enrolledAt });
      }
    },
    onMissing: () => {
      logger.error("the store lacks a pack that it took: the local copy stays, and is brought again");
    },
  };
}

/** What is told in the log of a key rotation. */
export function rotationReports(logger: Logger): Pick<KeyRotationOptions, "onOutcome" | "onEnd" | "onOlderCopy"> {
  return {
    onOlderCopy: (error) => {
      logger.warn(error.message, { code: error.code });
    },
    onOutcome: outcomeReporter(logger, {
      failed: "the key rotation stands still",
      healed: "the key rotation goes on",
    }),
    onEnd: ({ endedEpoch, records, packs }) => {
      logger.info("the key rotation has ended: 0 objects left under the older key epoch", {
        endedEpoch,
        records: records.recordCount,
        packs: packs.packCount,
      });
    },
  };
}

/** Logs when something begins to fail, and when it succeeds again: not each time. */
export function outcomeReporter(
  logger: Logger,
  sentences: { readonly failed: string; readonly healed: string },
): (error: unknown) => void {
  let lastCode: string | undefined;
  return (error) => {
    const code = error === undefined ? undefined : error instanceof TcfsError ? error.code : "unexpected";
    if (code === lastCode) return;
    lastCode = code;
    if (code === undefined) logger.info(sentences.healed);
    else logger.error(sentences.failed, { code, error: code === "unexpected" ? error : String(error) });
  };
}
