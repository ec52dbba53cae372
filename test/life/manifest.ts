/** Everything that a person could find out about a tree, as text: types, modes, owners, times, contents, xattrs, ACLs. */
import { shell } from "../support/run.ts";

const LIST = String.raw`
find . ! -type d -printf '%p %y %m %U %G %s %n %T@ %l\n' -o -printf '%p %y %m %U %G %n %T@\n' | LC_ALL=C sort
find . -type f -print0 | LC_ALL=C sort -z | xargs -0 -r sha256sum
find . -print0 | LC_ALL=C sort -z | xargs -0 -r getfattr -h -d -m - --encoding=hex
find . ! -type l -print0 | LC_ALL=C sort -z | xargs -0 -r getfacl -n -p
`;

/** @returns The tree's manifest; equal trees have equal ones. */
export function manifestOf(directory: string): Promise<string> {
  return shell(LIST, { cwd: directory, timeoutMs: 300_000 });
}
