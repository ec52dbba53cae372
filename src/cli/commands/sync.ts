/** `tcfs sync`: what syncfs(2) means. Linux passes that call on to virtiofs and fuseblk alone, not to FUSE. */
import { askDaemon } from "../control/control-client.ts";
import { findVault } from "../access/find-vault.ts";
import type { MountedVaultArguments } from "../access/find-vault.ts";
import type { Settings } from "../settings.ts";

/** A vault without a daemon has everything on the disk. @throws TcfsError what the commit threw. */
export async function runSync(parameters: MountedVaultArguments, settings: Settings): Promise<void> {
  await askDaemon(await findVault(parameters, settings), { operation: "sync" });
}
