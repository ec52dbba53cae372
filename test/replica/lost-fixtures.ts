/** Vaults whose packs are about to be lost. */
import { join } from "node:path";
import { expect } from "vitest";
import { packPath } from "../../src/chunkstore/open-packs.ts";
import type { PackRecord } from "../../src/format/records.ts";
import { FaultyStore, seeded } from "../remote/faulty-store.ts";
import { collect } from "../support/collect.ts";
import { Session, change, makeVault } from "./session.ts";

/** A vault with some packs, of which the store has none yet. */
export async function makeUnsent(parent: string, name: string) {
  const { directory, clean, known } = await makeVault(parent, name);
  const away = new FaultyStore(clean, { seed: 1, chances: {} });
  away.beforeAnswer = () => {
    throw new Error("made to fail: away");
  };
  const session = await Session.open(directory, away, known);
  for (const seed of [1, 2, 3, 4, 5, 6, 7, 8]) await change(session, seeded(seed), known);
  await session.chunks.ownPacks.retire();
  await session.commit();
  const packs = await collect(session.metadata.packs());
  expect(packs.length).toBeGreaterThan(1);
  await session.close();
  const pathOf = ({ pack }: PackRecord): string => packPath(join(directory, "packs"), pack);
  return { directory, clean, known, packs, pathOf };
}

const { signal } = new AbortController();

export const waitFor = (session: Session): Promise<void> =>
  session.replicator.wait(session.metadata.volume.commit, signal);
