/** Looks for a text in every file and file name below a directory, in the encodings that a careless program might use. */
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";

/**
 * @returns Where each needle was found, as "path: needle (encoding)". Sockets and fifos are not opened. Where a daemon takes
 *   files away meanwhile, the search begins anew: what they held may stand in one that was not there before.
 */
export async function findNeedles(directory: string, needles: readonly string[]): Promise<string[]> {
  const forms = needles.flatMap(formsOf);
  for (;;) {
    try {
      return await findForms(directory, forms);
    } catch (error) {
      const { code, path } = error as NodeJS.ErrnoException;
      if (code !== "ENOENT" || path === directory) throw error;
    }
  }
}

async function findForms(directory: string, forms: readonly Form[]): Promise<string[]> {
  const found: string[] = [];
  for (const entry of await readdir(directory, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    found.push(...matches(Buffer.from(entry.name), forms).map((what) => `name of ${path}: ${what}`));
    if (!entry.isFile()) continue;
    found.push(...matches(await readFile(path), forms).map((what) => `${path}: ${what}`));
  }
  return found;
}

/** @returns Which needles stand in `text`. */
export function findInText(text: string | Uint8Array, needles: readonly string[]): string[] {
  return matches(Buffer.from(text), needles.flatMap(formsOf));
}

interface Form {
  readonly what: string;
  readonly bytes: Buffer;
}

function formsOf(needle: string): Form[] {
  const plain = Buffer.from(needle);
  const form = (encoding: string, bytes: Buffer | string): Form => ({
    what: `${needle} (${encoding})`,
    bytes: Buffer.from(bytes),
  });
  return [
    form("as it is", plain),
    form("UTF-16", Buffer.from(needle, "utf16le")),
    form("hexadecimal", plain.toString("hex")),
    form("upper-case hexadecimal", plain.toString("hex").toUpperCase()),
    form("backwards", Buffer.from(plain).reverse()),
    ...[0, 1, 2].map((shift) => form(`base64, shifted by ${shift}`, base64Core(plain, shift))),
  ];
}

/** What base64 of any text makes of the needle when it starts `shift` bytes into a group of three. */
function base64Core(plain: Buffer, shift: number): string {
  const encoded = Buffer.concat([Buffer.alloc(shift), plain])
    .toString("base64")
    .replaceAll("=", "");
  return encoded.slice(Math.ceil((shift * 4) / 3), -2);
}

function matches(haystack: Buffer, forms: readonly Form[]): string[] {
  return forms.filter((form) => haystack.includes(form.bytes)).map((form) => form.what);
}
