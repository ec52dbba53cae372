/** How an entry of a password database is named where a file could be: `kdbx:FILE#ENTRY`, `secret-service:TITLE`. Pure. */
import { isAbsolute, resolve } from "node:path";
import { isKdbxReference } from "./kdbx.ts";
import { isSecretServiceReference } from "./secret-service.ts";

export function isEntryReference(text: string): boolean {
  return isKdbxReference(text) || isSecretServiceReference(text);
}

/** A file or entry, with its file's absolute path: for whoever reads it in another directory. */
export function absoluteReference(text: string): string {
  if (isSecretServiceReference(text)) return text;
  if (!isKdbxReference(text)) return resolve(text);
  const file = text.slice("kdbx:".length);
  return isAbsolute(file) ? text : `kdbx:${resolve(file)}`;
}
