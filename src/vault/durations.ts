/** Lengths of time and sizes as people type them. Pure. */
import { TcfsError } from "../errors.ts";

const SECONDS: Readonly<Record<string, number>> = {
  s: 1,
  m: 60,
  h: 3600,
  d: 24 * 3600,
  w: 7 * 24 * 3600,
  y: 365 * 24 * 3600,
};
const BYTES: Readonly<Record<string, number>> = { "": 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30, t: 2 ** 40 };
const MAX_SECONDS = 2 ** 32 - 1;

/** @param text - `90s`, `15m`, `12h`, `30d`, `4w`, `1y`. @throws TcfsError `TCFS_USAGE` */
export function parseDuration(text: string): number {
  const [, count = "", unit = ""] = /^(\d{1,12})([smhdwy])$/u.exec(text) ?? [];
  const seconds = Number(count) * (SECONDS[unit] ?? Number.NaN);
  if (count === "" || seconds > MAX_SECONDS)
    throw new TcfsError("TCFS_USAGE", `“${text}” is no time such as 12h, 30d or 1y`);
  return seconds;
}

/** The largest unit that leaves no rest. */
export function formatDuration(seconds: number): string {
  const units = Object.entries(SECONDS).reverse();
  const [unit, length] = units.find(([, each]) => seconds > 0 && seconds % each === 0) ?? ["s", 1];
  return `${seconds / length}${unit}`;
}

/** @param text - `500m`, `20g`, bytes without a letter. @throws TcfsError `TCFS_USAGE` */
export function parseBytes(text: string): number {
  const [, count = "", unit = ""] = /^(\d{1,15})([kmgt]?)$/iu.exec(text) ?? [];
  const bytes = Number(count) * (BYTES[unit.toLowerCase()] ?? Number.NaN);
  if (count === "" || !Number.isSafeInteger(bytes))
    throw new TcfsError("TCFS_USAGE", `“${text}” is no size such as 20g`);
  return bytes;
}
