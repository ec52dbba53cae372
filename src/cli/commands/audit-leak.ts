/** `tcfs audit-leak`: what whoever runs the store sees of the vault, measured. Needs no secret of the vault: nor do they. */
import { counted } from "../../counted.ts";
import { TcfsError } from "../../errors.ts";
import { NodeDisk } from "../../platform/node-disk.ts";
import type { ObjectStore } from "../../remote/object-store.ts";
import type { RequestTrace } from "../../remote/watched-store.ts";
import { readState } from "../../replica/replica-state.ts";
import { askDaemon } from "../control/control-client.ts";
import type { Settings } from "../settings.ts";
import { formatBytes } from "../../vault/status.ts";
import { openNamedStore } from "../access/store-setup.ts";
import { type VaultArguments, secretSource, vaultDirectory } from "../access/vault-access.ts";

export interface AuditArguments extends VaultArguments {
  readonly url?: string | undefined;
  readonly json?: boolean | undefined;
}

interface KindReport {
  readonly kind: string;
  readonly count: number;
  readonly bytes: number;
  readonly distinctLengths: number;
  /** Objects that no other one of their kind is as long as: their length tells them apart. */
  readonly uniqueLengths: number;
  /** Number of objects by the power of two below their length. */
  readonly histogram: readonly { readonly fromBytes: number; readonly count: number }[];
}

type Requests = ReturnType<RequestTrace["report"]>;

const PREFIXES = ["packs/", "commits/", "checkpoints/", "roots/", "probe/"];
const SINGLES = ["header", "root", "devices"];
const HEADS_AT_ONCE = 8;
/** Requests closer together than this are told as one burst. */
const BURST_GAP_MS = 2000;
const MAX_BURSTS_TOLD = 20;

export async function runAuditLeak(parameters: AuditArguments, settings: Settings): Promise<void> {
  const directory = await vaultDirectory(parameters, settings);
  const url = parameters.url ?? (await readState(new NodeDisk(), directory))?.url;
  if (url === undefined) throw new TcfsError("TCFS_USAGE", "this vault has no store: say which with a URL");
  const store = await openNamedStore(url, settings, secretSource(parameters), { create: false, directory });
  try {
    const lengths = await measure(store);
    const kinds = [...lengths].map(([kind, found]) => reportOf(kind, found));
    const isOwn = parameters.url === undefined;
    const reply = isOwn ? await askDaemon(directory, { operation: "storeRequests" }) : undefined;
    const requests = (reply?.result as Requests | null | undefined) ?? null;
    const text =
      parameters.json === true
        ? JSON.stringify({ store: store.place, kinds, requests }, null, 2)
        : format(store.place, kinds, requests);
    process.stdout.write(`${text}\n`);
  } finally {
    await store.close();
  }
}

/** @returns Lengths of all objects that a listing tells of, by the first part of their names. */
async function measure(store: ObjectStore): Promise<Map<string, number[]>> {
  const found = new Map<string, number[]>();
  const ask = async (names: AsyncIterable<string> | Iterable<string>): Promise<void> => {
    for await (const name of names) {
      const lengthBytes = await store.head(name);
      if (lengthBytes === undefined) continue;
      const [kind = ""] = name.split("/", 1);
      const lengths = found.get(kind) ?? [];
      found.set(kind, lengths);
      lengths.push(lengthBytes);
    }
  };
  await ask(SINGLES);
  for (const prefix of PREFIXES) {
    const names = store.list(prefix)[Symbol.asyncIterator]();
    const shared = { [Symbol.asyncIterator]: () => ({ next: () => names.next() }) };
    await Promise.all(Array.from({ length: HEADS_AT_ONCE }, () => ask(shared)));
  }
  return found;
}

/** Exported for its test. */
export function reportOf(kind: string, lengths: readonly number[]): KindReport {
  const counts = new Map<number, number>();
  const powers = new Map<number, number>();
  for (const length of lengths) {
    counts.set(length, (counts.get(length) ?? 0) + 1);
    const fromBytes = length === 0 ? 0 : 2 ** Math.floor(Math.log2(length));
    powers.set(fromBytes, (powers.get(fromBytes) ?? 0) + 1);
  }
  return {
    kind,
    count: lengths.length,
    bytes: lengths.reduce((sum, length) => sum + length, 0),
    distinctLengths: counts.size,
    uniqueLengths: [...counts.values()].filter((count) => count === 1).length,
    histogram: [...powers].sort(([left], [right]) => left - right).map(([fromBytes, count]) => ({ fromBytes, count })),
  };
}

function format(place: string, kinds: readonly KindReport[], requests: Requests | null): string {
  const lines = [`What ${place} shows to whoever runs it (docs/SECURITY.md §4 says what that tells):`, ""];
  for (const { kind, count, bytes, distinctLengths, uniqueLengths, histogram } of kinds) {
    const lengths = `${counted(distinctLengths, "length")}, ${uniqueLengths} of them once`;
    lines.push(`${kind.padEnd(12)}${counted(count, "object")}, ${formatBytes(bytes)}, ${lengths}`);
    if (count < 2) continue;
    for (const { fromBytes, count: here } of histogram)
      lines.push(`  from ${formatBytes(fromBytes).padEnd(10)} ${here}`);
  }
  lines.push("");
  if (requests === null) lines.push("Requests: mount the vault to have them watched.");
  else lines.push("Requests since the mount:", ...formatRequests(requests));
  return lines.join("\n");
}

function formatRequests({ totals, last }: Requests): string[] {
  const lines = totals.map(({ method, kind, count, bytes }) => {
    const volume = bytes === 0 ? "" : `, ${formatBytes(bytes)}`;
    return `  ${`${method} ${kind}`.padEnd(22)}${count}${volume}`;
  });
  lines.push("The last ones, by bursts:");
  const bursts: { fromMs: number; toMs: number; count: number; bytes: number }[] = [];
  for (const { atMs, bytes } of last) {
    const burst = bursts.at(-1);
    if (burst === undefined || atMs - burst.toMs > BURST_GAP_MS) {
      bursts.push({ fromMs: atMs, toMs: atMs, count: 1, bytes });
    } else {
      burst.toMs = atMs;
      burst.count += 1;
      burst.bytes += bytes;
    }
  }
  for (const { fromMs, toMs, count, bytes } of bursts.slice(-MAX_BURSTS_TOLD)) {
    const seconds = ((toMs - fromMs) / 1000).toFixed(1);
    lines.push(
      `  ${new Date(fromMs).toISOString()}  ${counted(count, "request")}, ${formatBytes(bytes)}, in ${seconds} s`,
    );
  }
  return lines;
}
