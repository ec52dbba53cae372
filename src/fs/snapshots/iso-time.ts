/** Times as they are told and as they stand in names: ISO 8601, in UTC, so that they sort. */

/** Whole seconds; a clock beyond what a date holds stands still at its end. */
export function isoTime(seconds: number): string {
  const reachable = Math.min(Math.max(seconds, -8.64e12), 8.64e12);
  return new Date(reachable * 1000).toISOString().replace(".000Z", "Z");
}
