/** Vitest: `unit` (*.test.ts), `mount` (*.mount.test.ts: real mounts, one at a time), `slow` (*.slow.test.ts: seeds and fuzzing by the clock). */
import { configDefaults, defineConfig } from "vitest/config";

const EXCLUDE = [...configDefaults.exclude, "dist/**", "native/**"];
const SECOND_MS = 1000;

export default defineConfig({
  test: {
    globalSetup: ["test/leftovers.ts"],
    setupFiles: ["test/seeds.ts"],
    pool: "forks",
    maxWorkers: 2,
    projects: [
      {
        extends: true,
        test: {
          name: "unit",
          include: ["test/**/*.test.ts"],
          exclude: [...EXCLUDE, "test/**/*.mount.test.ts", "test/**/*.slow.test.ts"],
          testTimeout: 20 * SECOND_MS,
          sequence: { groupOrder: 0 },
        },
      },
      {
        extends: true,
        test: {
          name: "mount",
          include: ["test/**/*.mount.test.ts"],
          exclude: EXCLUDE,
          fileParallelism: false,
          maxWorkers: 1,
          testTimeout: 120 * SECOND_MS,
          hookTimeout: 120 * SECOND_MS,
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
          testTimeout: 900 * SECOND_MS,
          hookTimeout: 120 * SECOND_MS,
          sequence: { groupOrder: 2 },
        },
      },
    ],
  },
});
