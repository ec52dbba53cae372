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
const BYTES: Readonly<Record<string, number>> = { k: 2 ** 10, m: 2 ** 20, g: 2 ** 30, t: 2 ** 40 };
const MAX_SECONDS = 2 ** 32 - 1;

/** @param text - `0`, `90s`, `15m`, `12h`, `30d`, `4w`, `1y`. @throws TcfsError `TCFS_USAGE` */
export function parseDuration(text: string): number {
  if (text === "0") return 0;
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

/**
 * @param text - `500m`, `1.5g`, `20GiB` and `20 GiB` (as tcfs prints sizes), bytes without a letter; `20GB` is none, since
 *   it may mean either.
 * @returns Whole bytes, rounded down.
 * @throws TcfsError `TCFS_USAGE`
 */
export function parseBytes(text: string): number {
  const [, bare = "", count = bare, unit = ""] =
    /^(?:(\d{1,15})|(\d{1,15}(?:\.\d{1,3})?) ?([kmgt])(?:iB)?)$/iu.exec(text) ?? [];
  const bytes = Math.floor(Number(count) * (BYTES[unit.toLowerCase()] ?? 1));
  if (count === "" || !Number.isSafeInteger(bytes))
    throw new TcfsError("TCFS_USAGE", `“${text}” is no size such as 20g`);
  return bytes;
}
