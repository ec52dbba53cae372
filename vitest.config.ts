/**
 * Vitest: `unit` (*.test.ts), `mount` (*.mount.test.ts: real mounts), `slow` (*.slow.test.ts: seeds and fuzzing by the clock,
 * beside the mounts, so that both of two cores have work to the end). Two files at a time, whatever they are.
 */
import { configDefaults, defineConfig } from "vitest/config";
import { LongestFirst } from "./test/longest-first.ts";

const EXCLUDE = [...configDefaults.exclude, "dist/**", "native/**"];
const SECOND_MS = 1000;
/**
 * No test is judged by how busy the machine is: what takes seconds alone may take ten times as long beside other work. These
 * limits are for what would never end.
 */
const PATIENCE_MS = 900 * SECOND_MS;

export default defineConfig({
  test: {
    globalSetup: ["test/leftovers.ts"],
    setupFiles: ["test/seeds.ts"],
    pool: "forks",
    maxWorkers: 2,
    sequence: { sequencer: LongestFirst },
    testTimeout: PATIENCE_MS,
    hookTimeout: PATIENCE_MS,
    expect: { poll: { timeout: 120 * SECOND_MS } },
    projects: [
      {
        extends: true,
        test: {
          name: "unit",
          include: ["test/**/*.test.ts"],
          exclude: [...EXCLUDE, "test/**/*.mount.test.ts", "test/**/*.slow.test.ts"],
          sequence: { groupOrder: 0 },
        },
      },
      {
        extends: true,
        test: {
          name: "mount",
          include: ["test/**/*.mount.test.ts"],
          exclude: EXCLUDE,
          sequence: { groupOrder: 1 },
        },
      },
      {
        extends: true,
        test: {
          name: "slow",
          include: ["test/**/*.slow.test.ts"],
          exclude: EXCLUDE,
          sequence: { groupOrder: 1 },
        },
      },
    ],
  },
});
