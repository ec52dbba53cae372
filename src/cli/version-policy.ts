/** What versions are kept and for how long, as it is typed and shown: `all=1h,hourly=1d,…`. Pure. */
import { TcfsError } from "../errors.ts";
import type { VersionPolicy } from "../format/version-codec.ts";
import { formatDuration, parseBytes, parseDuration } from "../vault/durations.ts";
import type { PolicyChanges } from "./control/version-protocol.ts";

const DURATIONS = {
  all: "allSeconds",
  hourly: "hourlySeconds",
  daily: "dailySeconds",
  trash: "trashSeconds",
  "min-age": "minimumAgeSeconds",
} as const;
const COUNTS = { max: "maxVersions", "trash-files": "trashCount" } as const;
const MAX_COUNT = 2 ** 32 - 1;

/** @param text - Settings to change, comma-separated; `on` and `off` are two. @throws TcfsError `TCFS_USAGE` */
export function parsePolicy(text: string): PolicyChanges {
  const changes: { -readonly [Key in keyof PolicyChanges]: PolicyChanges[Key] } = {};
  for (const part of text.split(",").filter((setting) => setting !== "")) {
    const [key = "", value = ""] = part.split("=", 2);
    if (part === "on" || part === "off") changes.isOff = part === "off";
    else if (Object.hasOwn(DURATIONS, key)) changes[DURATIONS[key as keyof typeof DURATIONS]] = parseDuration(value);
    else if (Object.hasOwn(COUNTS, key)) changes[COUNTS[key as keyof typeof COUNTS]] = parseCount(value);
    else if (key === "trash-bytes")
      changes.trashBytes = value === "unlimited" ? Number.MAX_SAFE_INTEGER : parseBytes(value);
    else throw new TcfsError("TCFS_USAGE", `“${part}” is no setting: on, off, ${SETTINGS.join(", ")}`);
  }
  return changes;
}

const SETTINGS = [...Object.keys(DURATIONS), ...Object.keys(COUNTS), "trash-bytes"].map((name) => `${name}=…`);

function parseCount(text: string): number {
  const count = /^\d{1,10}$/u.test(text) ? Number(text) : Number.NaN;
  if (!(count <= MAX_COUNT)) throw new TcfsError("TCFS_USAGE", `“${text}” is no number up to ${MAX_COUNT}`);
  return count;
}

/** As {@link parsePolicy} takes it. */
export function formatPolicy(policy: VersionPolicy): string {
  const durations = Object.entries(DURATIONS).map(([name, key]) => `${name}=${formatDuration(policy[key])}`);
  const counts = Object.entries(COUNTS).map(([name, key]) => `${name}=${policy[key]}`);
  const bytes = policy.trashBytes === Number.MAX_SAFE_INTEGER ? "unlimited" : String(policy.trashBytes);
  return [policy.isOff ? "off" : "on", ...durations, ...counts, `trash-bytes=${bytes}`].join(",");
}
