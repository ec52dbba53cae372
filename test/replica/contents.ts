/** What files hold, read past the kernel's page cache, and a cache that is written full. */
import { execFile } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { open } from "node:fs/promises";
import { promisify } from "node:util";

const run = promisify(execFile);

export function hashOf(content: Uint8Array): string {
  return createHash("sha256").update(content).digest("hex");
}

/** Past the kernel's page cache. */
export async function coldHash(path: string): Promise<string> {
  const script = 'set -o pipefail; dd if="$0" iflag=direct bs=1M status=none | sha256sum';
  const { stdout } = await run("bash", ["-c", script, path]);
  return stdout.slice(0, 64);
}

/** Write until there is no room. @returns What was written of it. */
export async function writeUntilFull(
  path: string,
  mostBytes: number,
): Promise<{ readonly bytes: number; readonly code: string | undefined }> {
  const file = await open(path, "w");
  let bytes = 0;
  try {
    for (; bytes < mostBytes; bytes += 1024 * 1024) await file.write(randomBytes(1024 * 1024));
    return { bytes, code: undefined };
  } catch (error) {
    return { bytes, code: (error as NodeJS.ErrnoException).code };
  } finally {
    await file.close().catch(() => undefined);
  }
}
