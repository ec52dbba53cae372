/** Which versions of one file, or of one name, are given up as they grow older. Pure. */
import type { VersionPolicy } from "../../format/version-codec.ts";

const HOUR_SECONDS = 3600;
const DAY_SECONDS = 24 * HOUR_SECONDS;

export interface AgedVersion {
  readonly keptAt: { readonly seconds: number };
}

/**
 * All of the first while, then the last one of each hour, then of each day, then none; and never more than so many.
 * @param versions - Oldest first. A clock that was set back makes none older than it is.
 * @returns Those to drop.
 */
export function thinOut<T extends AgedVersion>(versions: readonly T[], policy: VersionPolicy, nowSeconds: number): T[] {
  const dropped: T[] = [];
  const kept: T[] = [];
  const seen = new Set<string>();
  for (const version of versions.toReversed()) {
    const { seconds } = version.keptAt;
    const slot = slotOf(seconds, nowSeconds - seconds, policy);
    if (slot === undefined || (slot !== "" && seen.has(slot))) dropped.push(version);
    else kept.push(version);
    if (slot !== undefined) seen.add(slot);
  }
  return [...dropped, ...kept.slice(policy.maxVersions)];
}

/** @returns "": all are kept; the hour or day of which one is; undefined: none is. */
function slotOf(seconds: number, ageSeconds: number, policy: VersionPolicy): string | undefined {
  if (ageSeconds <= policy.allSeconds) return "";
  if (ageSeconds <= policy.hourlySeconds) return `hour ${Math.floor(seconds / HOUR_SECONDS)}`;
  if (ageSeconds <= policy.dailySeconds) return `day ${Math.floor(seconds / DAY_SECONDS)}`;
  return undefined;
}
