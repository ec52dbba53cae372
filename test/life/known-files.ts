/** Files whose content a test knows by heart, and what became of them. */
import { createHash, randomBytes } from "node:crypto";
import { mkdir, open, readFile, readdir } from "node:fs/promises";
import { join } from "node:path";

/** Relative path → SHA-256 of its content. */
export type KnownFiles = ReadonlyMap<string, string>;

export interface Findings {
  readonly right: string[];
  /** Path → errno of a read that was refused. */
  readonly refused: Map<string, string>;
  /** Bytes that were never written there. */
  readonly wrong: string[];
}

const KIB = 1024;

/** Write small, large, compressible and incompressible files below `root`, each with fsync. */
export async function writeKnownFiles(root: string): Promise<KnownFiles> {
  const known = new Map<string, string>();
  const put = async (path: string, content: Buffer): Promise<void> => {
    const file = await open(join(root, path), "w");
    await file.writeFile(content);
    await file.sync();
    await file.close();
    known.set(path, hashOf(content));
  };
  for (let d = 0; d < 3; d++) {
    await mkdir(join(root, `d${d}`));
    for (let i = 0; i < 12; i++) await put(`d${d}/small${i}`, Buffer.from(`file ${d} ${i} `.repeat(1 + i * 50)));
    await put(`d${d}/noise`, randomBytes(1500 * KIB));
    await put(`d${d}/text`, Buffer.from(`line of ${d} that compresses\n`.repeat(40_000)));
  }
  return known;
}

/** Read every known file and see what comes. */
export async function readKnownFiles(root: string, known: KnownFiles): Promise<Findings> {
  const findings: Findings = { right: [], refused: new Map(), wrong: [] };
  for (const [path, hash] of known) {
    try {
      const found = hashOf(await readFile(join(root, path)));
      if (found === hash) findings.right.push(path);
      else findings.wrong.push(path);
    } catch (error) {
      findings.refused.set(path, (error as NodeJS.ErrnoException).code ?? String(error));
    }
  }
  return findings;
}

/** Every regular file below a directory, by relative path, sorted. */
export async function filesBelow(directory: string): Promise<string[]> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(directory.length + 1))
    .sort();
}

export function hashOf(content: Uint8Array): string {
  return createHash("sha256").update(content).digest("hex");
}

/** Flip one bit of a file in place. */
export async function flipBit(path: string, offset: number): Promise<void> {
  const file = await open(path, "r+");
  const byte = Buffer.alloc(1);
  await file.read(byte, 0, 1, offset);
  byte[0] = byte[0]! ^ (1 << (offset % 8));
  await file.write(byte, 0, 1, offset);
  await file.close();
}
