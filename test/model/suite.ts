/**
 * The model test against any subject. TCFS_MODEL_SEED (and TCFS_MODEL_PATH, both printed by a failure) replay;
 * TCFS_MODEL_SECONDS says how long the search goes on.
 */
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, test } from "vitest";
import { compileDriver, Driver } from "../posix/driver.ts";
import { Cleanup } from "../support/cleanup.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";
import { History, type Subject } from "./history.ts";
import { histories } from "./operations.ts";

export interface ModelRun {
  readonly name: string;
  readonly openSubject: () => Promise<Subject>;
  readonly seeds: readonly number[];
  readonly historiesPerSeed: number;
  readonly longestHistory: number;
  readonly secondsPerSeed: number;
}

const SETUP_MS = 120_000;
const SHRINKING_MS = 120_000;

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
      { timeout: seconds * 1000 + SHRINKING_MS },
      async (seed) => {
        const property = fc.asyncProperty(histories(run.longestHistory), async (operations) => {
          const directory = join(subject!.mountPoint, `run-${runCount++}`);
          await new History(subject!, driver!, directory).run(operations);
        });
        await fc.assert(property, {
          seed,
          ...(path === undefined ? {} : { path }),
          numRuns: run.historiesPerSeed,
          interruptAfterTimeLimit: seconds * 1000,
          markInterruptAsFailure: false,
        });
      },
    );
  });
}

function replay(run: ModelRun): { seeds: readonly number[]; path: string | undefined; seconds: number } {
  const { TCFS_MODEL_SEED: seed, TCFS_MODEL_PATH: path, TCFS_MODEL_SECONDS: seconds } = process.env;
  return {
    seeds: seed === undefined ? run.seeds : [Number(seed)],
    path,
    seconds: seconds === undefined ? run.secondsPerSeed : Number(seconds),
  };
}
