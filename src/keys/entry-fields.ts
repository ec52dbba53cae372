/** An entry of a password database: its fields by name, as KeePass calls them. Pure. */
import { TcfsError } from "../errors.ts";

/** The values are UTF-8, none of them empty, and their owner's to wipe. */
export type EntryFields = ReadonlyMap<string, Uint8Array>;

/** @returns The value itself. @throws TcfsError `TCFS_USAGE` if there is none. */
export function passwordOf(fields: EntryFields, entry: string): Uint8Array {
  const password = fields.get("Password");
  if (password === undefined) throw new TcfsError("TCFS_USAGE", `the entry “${entry}” has no password`);
  return password;
}

/** Upper and lower case are the same in the names of attributes, which a person types. */
export function attributeOf(fields: EntryFields, name: string): Uint8Array | undefined {
  for (const [key, value] of fields) if (key.toLowerCase() === name) return value;
  return undefined;
}

export function wipeFields(fields: EntryFields): void {
  for (const value of fields.values()) value.fill(0);
}
