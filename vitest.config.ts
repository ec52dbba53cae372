/**
 * Vitest: `unit` (*.test.ts), `mount` (*.mount.test.ts: real mounts, two files at a time), `slow` (*.slow.test.ts: seeds and
 * fuzzing by the clock, one at a time).
 */
import { configDefaults, defineConfig } from "vitest/config";

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
          fileParallelism: false,
          maxWorkers: 1,
          sequence: { groupOrder: 2 },
        },
      },
    ],
  },
});
