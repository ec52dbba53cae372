/** Times as they are told and as they stand in names: ISO 8601, in UTC, so that they sort. */
import { type Timestamp, millisecondsOf } from "./clock.ts";

/** What a Date holds reaches this far from 1970 either way (ECMA-262, Time Values). */
const MAX_DATE_MS = 8.64e15;

/** Whole seconds since 1970-01-01T00:00:00Z; a time beyond what a date holds stands still at its end. */
export function isoTime(seconds: number): string {
  return dateAt(seconds * 1000).replace(".000Z", "Z");
}

/** To the millisecond; a time beyond what a date holds stands still at its end. */
export function preciseIsoTime(time: Timestamp): string {
  return dateAt(millisecondsOf(time));
}

function dateAt(ms: number): string {
  return new Date(Math.min(Math.max(ms, -MAX_DATE_MS), MAX_DATE_MS)).toISOString();
}
