/**
 * The model test against any subject. TCFS_MODEL_SEED (and TCFS_MODEL_PATH, both printed by a failure) replay;
 * TCFS_MODEL_SECONDS says how long the search goes on.
 */
import fc from "fast-check";
import { afterAll, beforeAll, describe, test } from "vitest";
import { compileDriver, Driver } from "../posix/driver.ts";
import { Cleanup } from "../support/cleanup.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";
import { History, type Subject } from "./history.ts";
import { histories, type Operation } from "./operations.ts";

export interface ModelRun {
  readonly name: string;
  readonly openSubject: () => Promise<Subject>;
  /** The first history is of the seed itself, the next of the number after it, and so on. */
  readonly seeds: readonly number[];
  readonly historiesPerSeed: number;
  readonly longestHistory: number;
  readonly withPast: boolean;
  /** No history is begun later. */
  readonly secondsPerSeed: number;
}

const SETUP_MS = 120_000;
const SHRINKING_MS = 120_000;
/** The last history of a seed, or of shrinking: four hundred operations take a minute where all else is busy too. */
const LAST_HISTORY_MS = 400_000;

export function testModel(run: ModelRun): void {
  describe(`${run.name} agrees with the model`, () => {
    const cleanup = new Cleanup();
    let subject: Subject | undefined;
    let driver: Driver | undefined;
    let runCount = 0;
    beforeAll(async () => {
      const tools = cleanup.use(await temporaryDirectory("model"));
      const program = await compileDriver(tools.path);
      subject = cleanup.use(await run.openSubject());
      driver = cleanup.use(new Driver(program));
      await driver.umask(0);
    }, SETUP_MS);
    afterAll(() => cleanup[Symbol.asyncDispose](), SETUP_MS);

    const { seeds, path, seconds } = replay(run);
    test.each(seeds)(
      "through random histories of seed %i",
      { timeout: seconds * 1000 + SHRINKING_MS + LAST_HISTORY_MS },
      async (firstSeed) => {
        const deadline = performance.now() + seconds * 1000;
        for (let index = 0; index < run.historiesPerSeed && performance.now() < deadline; index++) {
          await search({ seed: firstSeed + index, path, run }, async (operations) => {
            const name = `run-${runCount++}`;
            await new History({ subject: subject!, driver: driver!, name }).run(operations);
          });
        }
      },
    );
  });
}

/** One history, shrunk where it fails. Each runs to its end: the next one has the mount alone. */
async function search(
  { seed, path, run }: { readonly seed: number; readonly path: string | undefined; readonly run: ModelRun },
  play: (operations: readonly Operation[]) => Promise<void>,
): Promise<void> {
  let failedAt: number | undefined;
  const property = fc.asyncProperty(histories(run.longestHistory, run.withPast), async (operations) => {
    // Out of time: nothing simpler fails, and the last failure is told.
    if (failedAt !== undefined && performance.now() > failedAt + SHRINKING_MS) return;
    try {
      await play(operations);
    } catch (error) {
      failedAt ??= performance.now();
      throw error;
    }
  });
  await fc.assert(property, { seed, ...(path === undefined ? {} : { path }), numRuns: 1 });
}

function replay(run: ModelRun): { seeds: readonly number[]; path: string | undefined; seconds: number } {
  const { TCFS_MODEL_SEED: seed, TCFS_MODEL_PATH: path, TCFS_MODEL_SECONDS: seconds } = process.env;
  return {
    seeds: seed === undefined ? run.seeds : [Number(seed)],
    path,
    seconds: seconds === undefined ? run.secondsPerSeed : Number(seconds),
  };
}
