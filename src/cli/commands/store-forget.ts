/** `tcfs store forget`: a kept root goes, and what only it leads to is the vault's to delete, in its time (FORMAT.md §11.10). */
import { TcfsError } from "../../errors.ts";
import { isKeptRoot } from "../../replica/object-names.ts";
import type { Settings } from "../settings.ts";
import { openNamedStore } from "../access/store-setup.ts";
import { askYes } from "../terminal.ts";
import { type VaultArguments, secretSource, vaultDirectory } from "../access/vault-access.ts";
import { urlOfStore } from "./store.ts";

export interface StoreForgetArguments extends VaultArguments {
  readonly root: string;
  /** Ask nothing. */
  readonly yes?: boolean | undefined;
}

/** @throws TcfsError `TCFS_USAGE` for what is no kept root, `TCFS_NO_ENTRY` if it is not there, `TCFS_CANCELLED` for a no. */
export async function runStoreForget(parameters: StoreForgetArguments, settings: Settings): Promise<void> {
  const { root, yes = false } = parameters;
  if (!isKeptRoot(root))
    throw new TcfsError("TCFS_USAGE", `“${root}” is no kept root: tcfs store accept told its name`);
  const directory = await vaultDirectory(parameters, settings);
  const url = await urlOfStore(parameters, settings);
  const store = await openNamedStore(url, settings, secretSource(parameters), { create: false, directory });
  try {
    if ((await store.head(root)) === undefined) throw new TcfsError("TCFS_NO_ENTRY", `${store.place} has no ${root}`);
    if (!yes && !(await askYes(`Delete ${root}? The state that it keeps cannot be attached any more.`))) {
      throw new TcfsError("TCFS_CANCELLED", "nothing was changed");
    }
    await store.delete(root);
    process.stdout.write(`Deleted. What only ${root} led to goes once it has not been there for a while.\n`);
  } finally {
    await store.close();
  }
}
