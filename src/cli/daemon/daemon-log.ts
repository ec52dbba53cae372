/** The daemon's log: one line per event, appended to `daemon.log`, which moves aside once it is long. */
import { closeSync, constants, fstatSync, openSync, renameSync, writeSync } from "node:fs";
import type { LogFields, Logger } from "../../logger.ts";

/** At this length the log becomes `daemon.log.1`, and the one before it goes. */
export const MAX_LOG_BYTES = 1024 * 1024;
const MAX_LINE_BYTES = 4096;

export interface DaemonLog extends Logger {
  close(): void;
}

/**
 * Never fails: a log that cannot be written (a full disk) must not stop the daemon.
 * @param echo - Gets each line as well: standard error of a daemon in the foreground.
 */
export function openDaemonLog(path: string, echo: (line: string) => void = () => undefined): DaemonLog {
  let fd = openLogFile(path);
  let lengthBytes = fd === undefined ? 0 : fstatSync(fd).size;

  const append = (level: string, event: string, fields: LogFields = {}): void => {
    const line = formatLine(new Date(), level, event, fields);
    echo(line);
    if (fd === undefined) return;
    try {
      if (lengthBytes + line.length > MAX_LOG_BYTES && lengthBytes > 0) {
        renameSync(path, `${path}.1`);
        closeSync(fd);
        fd = openLogFile(path);
        if (fd === undefined) return;
        lengthBytes = 0;
      }
      lengthBytes += writeSync(fd, line);
    } catch {
      // Nowhere is left to report it.
    }
  };

  return {
    info: (event, fields) => {
      append("info", event, fields);
    },
    warn: (event, fields) => {
      append("warn", event, fields);
    },
    error: (event, fields) => {
      append("error", event, fields);
    },
    close: () => {
      if (fd !== undefined) closeSync(fd);
    },
  };
}

/** `2026-11-22T00:50:00.123Z warn a chunk does not verify pack=… ino=5`; one line whatever the values hold. */
export function formatLine(time: Date, level: string, event: string, fields: LogFields): string {
  const words = Object.entries(fields).flatMap(([name, value]) =>
    value === undefined ? [] : [`${name}=${formatValue(value)}`],
  );
  const line = [time.toISOString(), level, event, ...words].join(" ").replaceAll(/\s*\n\s*/gu, " | ");
  return `${line.slice(0, MAX_LINE_BYTES)}\n`;
}

const { O_WRONLY, O_APPEND, O_CREAT, O_NOFOLLOW, O_NONBLOCK, O_NOCTTY } = constants;

/**
 * The log's descriptor, for appending. Whoever gives somebody a vault must not choose what is written to: a symlink is
 * not followed, and a FIFO or a device not written to, nor waited for.
 * @returns Undefined where there is no such file to be had.
 */
export function openLogFile(path: string): number | undefined {
  try {
    const fd = openSync(path, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0o600);
    if (fstatSync(fd).isFile()) return fd;
    closeSync(fd);
  } catch {
    // A disk that is full or read-only, or something else in its place.
  }
  return undefined;
}

function formatValue(value: unknown): string {
  if (typeof value === "string") return value;
  if (value instanceof Error) return value.stack ?? value.message;
  if (typeof value === "bigint") return value.toString();
  return JSON.stringify(value);
}
