/** One snapshot of a vault, or the vault at a time, read over the control socket of its daemon, or from the vault itself where none runs. */
import type { InodeNumber } from "../ids.ts";
import type { PastSource } from "../fs/snapshots/past-trees.ts";
import type { SnapshotEntry, SnapshotPathAnswer } from "../fs/snapshots/snapshot-reader.ts";
import { ControlConnection } from "./control/control-connection.ts";
import { findVault } from "./access/find-vault.ts";
import type { Settings } from "./settings.ts";
import type { SnapshotAnswers, SnapshotRequest } from "./control/snapshot-protocol.ts";
import { answerSnapshotRequest } from "./control/snapshot-requests.ts";
import type { SnapshotArguments } from "./control/snapshot-requests.ts";
import { secretSource } from "./access/vault-access.ts";
import { withOpenVault } from "./access/with-open-vault.ts";

/** Bytes asked for at a time, and requests under way: reading, sealing's reverse and writing overlap. */
const READ_BYTES = 1024 * 1024;
const READS_IN_FLIGHT = 3;

type Ask = <R extends SnapshotRequest>(request: R) => Promise<SnapshotAnswers[R["operation"]]>;

/** A piece of a file that is not only zeros. */
export interface DataPiece {
  readonly offset: bigint;
  readonly data: Buffer;
}

export class SnapshotSource {
  #source: PastSource;
  readonly #ask: Ask;

  constructor(source: PastSource, ask: Ask) {
    this.#source = source;
    this.#ask = ask;
  }

  /**
   * From the first one on it is this very snapshot, whatever gets its name later.
   * @throws TcfsError `TCFS_NO_SNAPSHOT`, `TCFS_NO_ENTRY`, each with near names.
   */
  async find(path: string): Promise<SnapshotPathAnswer> {
    const answer = await this.#ask({ operation: "readPath", source: this.#source, path });
    if ("name" in this.#source) this.#source = { ...this.#source, epoch: answer.epoch };
    return answer;
  }

  async *list(ino: number): AsyncGenerator<SnapshotEntry> {
    for (let after: string | undefined = "0"; after !== undefined;) {
      const answer: SnapshotAnswers["readDirectory"] = await this.#ask({
        operation: "readDirectory",
        source: this.#source,
        ino: ino as InodeNumber,
        after,
      });
      yield* answer.entries;
      after = answer.next;
    }
  }

  /** What a file holds, in order; zeros may be left out. @throws TcfsError `TCFS_CORRUPT` for what cannot be read. */
  async *data({ ino, origin, ...entry }: SnapshotEntry): AsyncGenerator<DataPiece> {
    const lengthBytes = BigInt(entry.lengthBytes);
    const token = origin === undefined ? {} : { token: origin.token };
    const reads: { readonly offset: bigint; readonly answer: Promise<SnapshotAnswers["readData"]> }[] = [];
    let next = 0n;
    const send = (): void => {
      while (reads.length < READS_IN_FLIGHT && next < lengthBytes) {
        const request = { operation: "readData", source: this.#source, ino, offset: String(next), ...token } as const;
        const answer = this.#ask({ ...request, lengthBytes: READ_BYTES });
        answer.catch(() => undefined); // told by the one that is waited for
        reads.push({ offset: next, answer });
        next += BigInt(READ_BYTES);
      }
    };
    send();
    for (let read = reads.shift(); read !== undefined; read = reads.shift()) {
      const { offset: place, data } = await read.answer;
      const offset = BigInt(place);
      if (data === undefined && offset > next) {
        // A hole beyond all that was asked for.
        reads.length = 0;
        next = offset;
      }
      send();
      if (data !== undefined) yield { offset, data: Buffer.from(data, "base64") };
    }
  }
}

/** @throws TcfsError as the daemon, opening and `action` do. */
export async function withSnapshots<T>(
  parameters: SnapshotArguments,
  settings: Settings,
  action: (ask: Ask, vault: string) => Promise<T>,
): Promise<T> {
  const directory = await findVault(parameters, settings);
  await using connection = await ControlConnection.open(directory);
  if (connection !== undefined) return await action((request) => connection.ask(request) as Promise<never>, directory);
  return await withOpenVault(directory, secretSource(parameters), settings, { isReadOnly: true }, ({ volume }) =>
    action((request) => answerSnapshotRequest(volume.snapshots, request) as Promise<never>, directory),
  );
}
