/** Times as people say them: "2 hours ago". */
import { parseDate } from "chrono-node";
import { TcfsError } from "../errors.ts";

/**
 * @param text - ISO 8601, or English as people say it: "yesterday at 14:00", "2 hours ago"; without a zone in local time.
 * @throws TcfsError `TCFS_USAGE` if it is no time, or in the future.
 */
export function parseTime(text: string, now: Date): Date {
  const isIso = /^\d{4}-\d{2}-\d{2}T[\d:.]+(Z|[+-]\d{2}:?\d{2})$/u.test(text);
  const time = isIso ? new Date(text) : parseDate(text, now);
  if (time === null || Number.isNaN(time.getTime())) {
    const advice = "say it like “2 hours ago”, “yesterday 14:00”, “2026-11-20 14:00”";
    throw new TcfsError("TCFS_USAGE", `“${text}” is no time that is understood: ${advice}`);
  }
  if (time.getTime() > now.getTime()) {
    throw new TcfsError("TCFS_USAGE", `“${text}” is in the future: ${time.toISOString()}`);
  }
  return time;
}
