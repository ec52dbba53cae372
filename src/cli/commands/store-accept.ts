/** `tcfs store accept`: what the store and this directory have of each other, and the choice to go on from the directory's. */
import { counted } from "../../counted.ts";
import { toHex } from "../../bytes.ts";
import type { ObjectSealer } from "../../crypto/object-seal.ts";
import { TcfsError } from "../../errors.ts";
import { readDevices } from "../../keys/devices/device-book.ts";
import { DEVICE_ID_BYTES, requireNotRevoked } from "../../keys/devices/device-list.ts";
import { NodeDisk } from "../../platform/node-disk.ts";
import type { ObjectStore } from "../../remote/object-store.ts";
import { usableLength } from "../../replica/remote-epoch.ts";
import { type ReplicaState, readState, verifyState } from "../../replica/replica-state.ts";
import { type Relation, type Standing, acceptStanding, readStanding } from "../../replica/standing.ts";
import { noteOf } from "../../replica/step-writer.ts";
import { probeStore } from "../../replica/store-probe.ts";
import { systemRandom } from "../../platform/random.ts";
import type { OpenVault } from "../../vault/open-vault.ts";
import { newIdentity, withSealer } from "../../vault/device-setup.ts";
import type { Settings } from "../settings.ts";
import { openNamedStore, requireSameVault } from "../access/store-setup.ts";
import { askYes } from "../terminal.ts";
import { type VaultArguments, secretSource, unlockVault, vaultDirectory } from "../access/vault-access.ts";
import { openQuietly } from "../access/with-open-vault.ts";

export interface StoreAcceptArguments extends VaultArguments {
  /** Ask nothing. */
  readonly yes?: boolean | undefined;
  /** Tell, and change nothing. */
  readonly dryRun?: boolean | undefined;
}

const HAPPENED: Readonly<Record<Relation, string>> = {
  known: "The store has what this directory knows of it: there is nothing to accept.",
  lost: "The store has lost its root: it was emptied, or is another one.",
  refused: "The store's root is refused:",
  unreadable: "The store's root cannot be read: it is damaged, or was not written with this vault's key.",
  older: "The store has gone back to an older state than it had from this directory.",
  copied: "This directory is an older copy: the same device has written to the store from another one.",
  foreign: "Another device has written to the store.",
  behind: "This directory holds an older state than the store has from it: it was restored, or is a copy.",
};

/**
 * @throws TcfsError `TCFS_VAULT_IN_USE` while it is mounted, `TCFS_USAGE` if it has no store or nobody can be asked,
 *   `TCFS_CORRUPT` if packs are neither here nor in the store, `TCFS_CANCELLED` for a no. Nothing has changed then.
 */
export async function runStoreAccept(parameters: StoreAcceptArguments, settings: Settings): Promise<void> {
  const directory = await vaultDirectory(parameters, settings);
  const { header, key } = await unlockVault(directory, secretSource(parameters), settings);
  try {
    await withSealer(header, key, async (sealer) => {
      const found = await readState(new NodeDisk(), directory);
      if (found === undefined)
        throw new TcfsError("TCFS_USAGE", "this vault has no store: tcfs store set URL gives it one");
      const state = verifyState(found, sealer);
      await using vault = await openQuietly({ directory, header, key, isReadOnly: true });
      const store = await openNamedStore(state.url, settings, secretSource(parameters), { create: false, directory });
      try {
        await requireSameVault(store, header);
        await accept({ store, sealer, state, vault, directory }, parameters);
      } finally {
        await store.close();
      }
    });
  } finally {
    key.wipe();
  }
}

interface Parties {
  readonly store: ObjectStore;
  readonly sealer: ObjectSealer;
  readonly state: ReplicaState;
  readonly vault: OpenVault;
  readonly directory: string;
}

async function accept(parties: Parties, { yes = false, dryRun = false }: StoreAcceptArguments): Promise<void> {
  const { store, sealer, state, vault, directory } = parties;
  const { lastCommit } = vault.figures();
  const disk = new NodeDisk();
  const devices = await readDevices({ disk, directory, sealer });
  const standing = await readStanding(store, sealer, state, { commit: lastCommit.number, devices });
  requireNotRevoked(standing.devices, Uint8Array.from(Buffer.from(state.deviceId, "hex")));
  const lines = tell(store, state, standing, lastCommit);
  process.stdout.write(`${lines.join("\n")}\n`);
  if (standing.relation === "known") return;
  await requirePacks(store, vault);
  if (dryRun) return;
  if (!yes && !(await askYes("Go on from this directory's state, over the store's?"))) {
    throw new TcfsError("TCFS_CANCELLED", "nothing was changed");
  }
  await probeStore(store, systemRandom);
  const identity = newIdentity(systemRandom.bytes(DEVICE_ID_BYTES));
  const kept = await acceptStanding(store, state, standing, { disk, directory, sealer, identity });
  const isRefused = standing.refusal !== undefined;
  const opening = isRefused ? `under the name ${kept ?? ""}` : `tcfs attach '${state.url}' --root ${kept ?? ""}`;
  const whatStays = kept === undefined ? "" : ` What the store had stays in it: ${opening}`;
  process.stdout.write(`Accepted. The next mount uploads this directory's state.${whatStays}\n`);
}

function tell(
  store: ObjectStore,
  { last, pending, url }: ReplicaState,
  standing: Standing,
  lastCommit: { readonly number: number; readonly time: string },
): string[] {
  const { root, relation, theirSteps } = standing;
  const known = pending.at(-1) ?? last;
  const rows = [
    ["store", store.place],
    ["it has", root === undefined ? "no root that can be read" : describeStep(noteOf(root, ""), toHex(root.deviceId))],
    ["it had from here", known === null ? "nothing yet" : describeStep(known)],
    ["this directory", `commit ${lastCommit.number} of ${lastCommit.time}`],
  ] as const;
  const lines = rows.map(([name, value]) => `${name.padEnd(18)}${value}`);
  lines.push("", [HAPPENED[relation], standing.refusal].filter((text) => text !== undefined).join(" "));
  if (relation === "known") return lines;
  if (relation === "foreign" || relation === "copied") {
    lines.push("Unmount the vault there before you accept: whoever uploads first is the one that goes on.");
  }
  lines.push("", "To go on from this directory's state, over the store's:", `  ${lossOfTheirs(standing)}`);
  if (standing.isOfBeforeRotation === true) {
    lines.push(
      "To have something of the store's state: answer no, and attach it in a new directory with what opened the vault",
      "before its key was rotated. Once this directory's state is in the store, nothing opens the other any more.",
      "",
    );
  }
  if (standing.refusal !== undefined) return lines;
  lines.push(
    "To go on from the store's state instead: answer no; this directory stays as it is, and",
    `  tcfs attach '${url}' --vault NEW-DIRECTORY opens the store's. ${lossOfOurs(last?.commit, lastCommit.number, theirSteps)}`,
    "",
  );
  return lines;
}

function describeStep(
  { number, time, commit }: { readonly number: number; readonly time: string; readonly commit: number },
  deviceId?: string,
): string {
  const device = deviceId === undefined ? "" : `, by device ${deviceId.slice(0, 8)}`;
  return `step ${number} of ${time}, commit ${commit}${device}`;
}

function lossOfTheirs({ root, theirSteps }: Standing): string {
  if (root === undefined) return "nothing that could be read is lost.";
  const what =
    theirSteps === undefined
      ? "what it has and this directory never had"
      : `what its ${counted(theirSteps, "step")} since ${theirSteps === 1 ? "tells" : "tell"}`;
  return `${what} is no longer the store's state; it stays in the store, under the name of a kept root.`;
}

/** @param common - The commit that both sides have; undefined: none is known. */
function lossOfOurs(common: number | undefined, commit: number, theirSteps: number | undefined): string {
  if (common === undefined || theirSteps === undefined) return "What only this directory has is not in that.";
  const count = Math.max(0, commit - common);
  return `What this directory's ${counted(count, "commit")} since ${count === 1 ? "tells" : "tell"} is not in that.`;
}

/** What is neither here nor there cannot be uploaded: say so before anything is changed. */
async function requirePacks(store: ObjectStore, vault: OpenVault): Promise<void> {
  let missing = 0;
  for await (const { pack, lengthBytes } of vault.remotePacks()) {
    if (((await usableLength(store, pack, vault.packRooms)) ?? 0) < lengthBytes) missing += 1;
  }
  if (missing === 0) return;
  const message = `${counted(missing, "pack")} that this directory's files need ${missing === 1 ? "is" : "are"} neither in it nor in the store`;
  throw new TcfsError("TCFS_CORRUPT", `${message}: tcfs attach opens what the store has, tcfs check tells which files`);
}
