/** `tcfs key rotate`: a new vault key, everything goes over to it, and what opened the old one opens nothing more. */
import { rm } from "node:fs/promises";
import { resolve } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { toHex } from "../../bytes.ts";
import type { SecretKey } from "../../crypto/secret-key.ts";
import { TcfsError } from "../../errors.ts";
import { readHeader } from "../../keys/header-file.ts";
import { formatHeader } from "../../keys/header.ts";
import type { VaultHeader } from "../../keys/header.ts";
import { wrapHandover } from "../../keys/key-handover.ts";
import { rotateHeader } from "../../keys/keyring.ts";
import { formatRecoveryWords } from "../../keys/recovery-words.ts";
import { writeSecretFile } from "../../keys/secret-file.ts";
import { systemClock } from "../../platform/clock.ts";
import { NodeDisk } from "../../platform/node-disk.ts";
import { systemRandom } from "../../platform/random.ts";
import { askDaemon } from "../control/control-client.ts";
import type { OpenVault } from "../../vault/open-vault.ts";
import { Progress } from "../restore-out/progress.ts";
import { mayHaveLastSlot } from "../../vault/rewrite-header.ts";
import { type RotationReport, type RotationStatus, formatReport, formatRotation } from "../../vault/rotation-status.ts";
import { type SlotPlan, formatPlan, planSlots, wipePlan } from "../access/rotation-slots.ts";
import type { SecretSource } from "../access/secrets.ts";
import type { Settings } from "../settings.ts";
import { askYes, hasTerminal } from "../terminal.ts";
import { secretSource, unlockVault, vaultDirectory } from "../access/vault-access.ts";
import type { VaultArguments } from "../access/vault-access.ts";
import { openForWriting } from "../access/with-open-vault.ts";
import { formatWordTable } from "../word-table.ts";
import { waitForStore } from "./wait.ts";

const POLL_MS = 200;

export interface RotateArguments extends VaultArguments {
  readonly reencrypt?: boolean | undefined;
  readonly newRecoveryFile?: string | undefined;
  readonly yes?: boolean | undefined;
}

/** What the daemon says of a rotation. */
interface DaemonRotation {
  readonly status: RotationStatus | null;
  readonly report: RotationReport | null;
}

export async function runKeyRotate(parameters: RotateArguments, settings: Settings): Promise<void> {
  const directory = await vaultDirectory(parameters, settings);
  const running = await askRotation(directory);
  if (running !== undefined && running.status !== null) {
    requireSameRenewal(parameters, running.status.renewal);
    process.stdout.write("A rotation is under way: it goes on.\n");
    return finish(directory, undefined);
  }
  const header = await readHeader(new NodeDisk(), directory);
  const [older] = header.keyring?.older ?? [];
  if (older === undefined) return begin(directory, header, parameters, settings);
  requireSameRenewal(parameters, older.renewal);
  const unlocked = await unlockVault(directory, secretSource(parameters), settings);
  try {
    process.stdout.write("A rotation was interrupted: it goes on.\n");
    await using vault = await openForWriting(directory, unlocked, secretSource(parameters), settings);
    await finish(directory, vault);
  } finally {
    unlocked.key.wipe();
  }
}

async function begin(
  directory: string,
  header: VaultHeader,
  parameters: RotateArguments,
  settings: Settings,
): Promise<void> {
  const plan = await planSlots(header, parameters, settings);
  const { key } = plan;
  const wordsFile = parameters.newRecoveryFile === undefined ? undefined : resolve(parameters.newRecoveryFile);
  try {
    process.stdout.write(formatPlan(plan, parameters.reencrypt === true));
    await requireConsent(parameters);
    const renewal = parameters.reencrypt === true ? "data" : "wraps";
    const machine = { random: systemRandom, clock: systemClock };
    const next = await rotateHeader(header, key, { slots: plan.slots, renewal }, machine);
    try {
      if (wordsFile !== undefined && plan.words !== undefined)
        await writeSecretFile(wordsFile, `${formatRecoveryWords(plan.words)}\n`);
      tellWords(plan, wordsFile); // before: whatever ends us later, they are known
      const wrappedKey = wrapHandover(header.vaultId, key, next.key, systemRandom);
      await using vault = await hand(
        directory,
        { header, key },
        { text: formatHeader(next.header), wrappedKey },
        secretSource(parameters),
        settings,
      );
      await finish(directory, vault);
    } catch (error) {
      if (!(await mayHaveLastSlot(directory, next.header))) await takeWordsBack(plan, wordsFile);
      throw error;
    } finally {
      next.key.wipe();
    }
  } finally {
    wipePlan(plan);
  }
}

/** @returns The vault, opened for this, if no daemon serves it. */
async function hand(
  directory: string,
  opened: { readonly header: VaultHeader; readonly key: SecretKey },
  { text, wrappedKey }: { readonly text: Uint8Array; readonly wrappedKey: Uint8Array },
  source: SecretSource,
  settings: Settings,
): Promise<OpenVault | undefined> {
  const request = {
    operation: "rotate",
    header: Buffer.from(text).toString("base64"),
    wrappedKey: toHex(wrappedKey),
  } as const;
  if ((await askDaemon(directory, request)) !== undefined) return undefined;
  const vault = await openForWriting(directory, opened, source, settings);
  try {
    await vault.rotate(text, wrappedKey);
    return vault;
  } catch (error) {
    await vault.close();
    throw error;
  }
}

/** Follow it to its end, and tell what was counted. */
async function finish(directory: string, vault: OpenVault | undefined): Promise<void> {
  let status: RotationStatus | null = null;
  let report: RotationReport | null | undefined;
  {
    using progress = new Progress(process.stderr, () => (status === null ? "" : formatRotation(status)));
    for (;;) {
      const rotation =
        vault === undefined
          ? await askRotation(directory)
          : { status: vault.rotation.status(), report: vault.rotation.report ?? null };
      if (rotation === undefined) {
        throw new TcfsError("TCFS_INTERRUPTED", "the vault was unmounted: the rotation goes on with the next mount");
      }
      ({ status, report } = rotation);
      if (status === null) break;
      if (status.needsPerson) throw new TcfsError("TCFS_INTERRUPTED", `${formatRotation(status)}. ${GOES_ON}`);
      progress.step();
      await delay(POLL_MS);
    }
  }
  if (report === null) throw new TcfsError("TCFS_INTERRUPTED", "the rotation has not ended: tcfs key rotate goes on");
  if (report.objectCount !== null) {
    if (vault === undefined) await waitForStore(directory, undefined);
    else await vault.waitForStore(new AbortController().signal);
  }
  await vault?.close();
  process.stdout.write(`${formatReport(report)}\n`);
}

const GOES_ON = "Nothing is lost, and the new key holds; it goes on with each mount, and with tcfs key rotate";

async function askRotation(directory: string): Promise<DaemonRotation | undefined> {
  const reply = await askDaemon(directory, { operation: "rotation" });
  return reply && (reply.result as DaemonRotation);
}

async function requireConsent({ yes }: RotateArguments): Promise<void> {
  if (yes === true) return;
  if (!hasTerminal()) throw new TcfsError("TCFS_USAGE", "there is no terminal to ask on whether to begin: give --yes");
  if (!(await askYes("Begin?"))) throw new TcfsError("TCFS_CANCELLED", "nothing was changed");
}

function requireSameRenewal({ reencrypt }: RotateArguments, renewal: RotationStatus["renewal"]): void {
  if (reencrypt !== true || renewal === "data") return;
  const message = "a rotation without --reencrypt is under way: let it end (tcfs key rotate), then begin another";
  throw new TcfsError("TCFS_BUSY", message);
}

async function takeWordsBack({ words }: SlotPlan, file: string | undefined): Promise<void> {
  if (words === undefined) return;
  if (file === undefined) process.stdout.write("Nothing was changed: the new words open nothing.\n");
  else await rm(file, { force: true });
}

function tellWords({ words }: SlotPlan, file: string | undefined): void {
  if (words === undefined) return;
  if (file !== undefined) {
    process.stdout.write(`The new 24 words are in ${file}: keep them somewhere else.\n`);
    return;
  }
  const table = formatWordTable(formatRecoveryWords(words));
  process.stdout.write(
    `\nThese 24 words open the vault from now on. They are shown once: write them down.\n\n${table}\n`,
  );
}
