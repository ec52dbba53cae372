/** In which order files of tests are begun: the longest first, so that no worker is left alone with one at the end. */
import { BaseSequencer, type TestSpecification } from "vitest/node";

/** Those that take longest, and the short files that take long: else vitest goes by a file's length. The longest first. */
const LONGEST = [
  "model/model.slow",
  "life/life.mount",
  "replica/recovery.mount",
  "cli/life.mount",
  "replica/server-trouble.mount",
  "replica/cache.mount",
  "life/damaged-metadata.mount",
  "replica/killed-store.slow",
  "model/model.mount",
  "life/crash.mount",
  "life/full-disk-versions.mount",
  "life/corruption.mount",
  "posix/tcfs.mount",
  "posix/ext4.mount",
].map((name) => `/test/${name}.test.ts`);

export class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const rank = ({ moduleId }: TestSpecification): number => {
      const index = LONGEST.findIndex((path) => moduleId.endsWith(path));
      return index === -1 ? LONGEST.length : index;
    };
    return (await super.sort(files)).sort((left, right) => rank(left) - rank(right));
  }
}
