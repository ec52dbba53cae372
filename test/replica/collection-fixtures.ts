/** What tests of the collection in a store have in common. */
import { expect } from "vitest";
import type { Clock } from "../../src/platform/clock.ts";
import type { ObjectStore } from "../../src/remote/object-store.ts";
import { collect } from "../support/collect.ts";
import { eventually } from "../support/run.ts";
import { type Deletions, type Session, change, hurriedClock, reachOf } from "./session.ts";

const { signal } = new AbortController();

/** A clock whose wall time the test sets forward. */
export function movableClock(): Clock & { aheadSeconds: number } {
  const clock = {
    ...hurriedClock,
    aheadSeconds: 0,
    now: () => {
      const { seconds, nanoseconds } = hurriedClock.now();
      return { seconds: seconds + clock.aheadSeconds, nanoseconds };
    },
  };
  return clock;
}

/** Rewrite most files, and let local collection drop what nothing refers to any more. */
export async function rewrite(session: Session, random: () => number): Promise<void> {
  for (let times = 0; times < 3; times++) await change(session, random, session.known);
  await session.chunks.collect(() => session.commit(), signal);
}

export async function upload(session: Session): Promise<void> {
  const { commit } = session.metadata.volume;
  await session.replicator.wait(commit, signal);
  session.known.acknowledged = commit;
}

export async function objectsOf(store: ObjectStore): Promise<Set<string>> {
  const names: string[] = [];
  for (const prefix of ["packs/", "commits/", "checkpoints/"]) names.push(...(await collect(store.list(prefix))));
  return new Set(names);
}

export async function settled(session: Session): Promise<void> {
  await eventually("uploads rest", 20_000, () => session.replicator.status().activity === "idle");
}

/** A checkpoint, and what the store then holds beyond it is gone with the next root. */
export async function expectNothingBeyond(
  session: Session,
  clean: ObjectStore,
  between: () => void = () => undefined,
): Promise<void> {
  await session.replicator.renewCheckpoint(signal);
  await settled(session);
  const reach = await reachOf(clean);
  const beyond = [...(await objectsOf(clean))].filter((name) => !reach.has(name));
  expect(beyond.length).toBe(session.replicator.status().deadObjects);
  between();
  await session.replicator.renewCheckpoint(signal);
  await settled(session);
  const objects = await objectsOf(clean);
  for (const name of await reachOf(clean)) expect(objects).toContain(name);
  for (const name of beyond) expect(objects).not.toContain(name);
}

export const newDeletions = (): Deletions => ({ names: [], losses: [] });
