/** `tcfs sync`: what syncfs(2) means. Linux passes that call on to virtiofs and fuseblk alone, not to FUSE. */
import { askDaemon } from "../control/control-client.ts";
import { findVault } from "../access/find-vault.ts";
import type { MountedVaultArguments } from "../access/find-vault.ts";
import { readHeader } from "../../keys/header-file.ts";
import { NodeDisk } from "../../platform/node-disk.ts";
import type { Settings } from "../settings.ts";

/** A vault without a daemon has everything on the disk. @throws TcfsError what the commit threw; `TCFS_NO_VAULT` if there is none. */
export async function runSync(parameters: MountedVaultArguments, settings: Settings): Promise<void> {
  const vault = await findVault(parameters, settings);
  if ((await askDaemon(vault, { operation: "sync" })) === undefined) await readHeader(new NodeDisk(), vault);
}
