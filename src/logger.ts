/**
 * What the outer rooms log through. An event says what happened, its fields where: operation, ino, chunk index,
 * pack, errno, milliseconds. Never a key, a plaintext or a name. Inner rooms throw and return; they do not log.
 */

/** Numbers, words of ours, and stacks of errors that are bugs. */
export type LogFields = Readonly<Record<string, unknown>>;

export interface Logger {
  info(event: string, fields?: LogFields): void;
  warn(event: string, fields?: LogFields): void;
  error(event: string, fields?: LogFields): void;
}
