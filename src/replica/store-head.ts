/**
 * What the newest manifest of the store says to whoever writes the next one, asked once in a session: what is there of its
 * stream, and which packs its state lacks. One that is damaged is healed by a checkpoint: all that it said is here, too.
 */
import type { ObjectSealer } from "../crypto/object-seal.ts";
import { type TcfsError, isTcfsError } from "../errors.ts";
import type { DeviceList } from "../keys/devices/device-list.ts";
import type { ObjectStore } from "../remote/object-store.ts";
import type { LostPacks } from "./lost-packs.ts";
import { manifestObject } from "./object-names.ts";
import { readManifest } from "./remote-root.ts";
import type { RootNote } from "./replica-state.ts";
import type { StepWriter } from "./step-writer.ts";
import { corrupt } from "../bytes.ts";

export interface HeadLearners {
  readonly sealer: ObjectSealer;
  readonly steps: StepWriter;
  readonly lost: LostPacks;
}

/**
 * @param last - The store's root, which is this device's own or was attached from.
 * @returns What is wrong with the manifest, or with what its stream is in; undefined: nothing.
 * @throws TcfsError what the store throws; refusals, as {@link readManifest}
 */
export async function learnHead(
  store: ObjectStore,
  { sealer, steps, lost }: HeadLearners,
  { devices, last }: { readonly devices: DeviceList; readonly last: RootNote },
  signal: AbortSignal,
): Promise<TcfsError | undefined> {
  const kind = last.number === last.checkpoint ? "checkpoint" : "commit";
  const hash = new Uint8Array(Buffer.from(last.headHash, "hex"));
  const { number } = last;
  try {
    const manifest = await readManifest(store, sealer, devices, { kind, number, hash }, signal);
    await lost.learn(manifest.lost);
    if (await steps.learn(store, kind, manifest, signal)) return undefined;
    return corrupt(manifestObject(kind, number, hash), "the store has lost what its stream is in");
  } catch (error) {
    if (!isTcfsError(error, "TCFS_CORRUPT")) throw error;
    steps.forget();
    return error;
  }
}
