/** The project's POSIX suite: what ordinary programs may rely on, asked of any directory. Needs root (it acts as several users). */
import { afterAll, beforeAll, beforeEach, describe } from "vitest";
import { Bench, type Target } from "./bench.ts";
import { aclCases } from "./cases/acl.ts";
import { attributeCases } from "./cases/attributes.ts";
import { concurrencyCases } from "./cases/concurrency.ts";
import { copyCases } from "./cases/copy.ts";
import { dataCases } from "./cases/data.ts";
import { directoryCases } from "./cases/directories.ts";
import { handleCases } from "./cases/handles.ts";
import { lockCases } from "./cases/locks.ts";
import { mmapCases } from "./cases/mmap.ts";
import { nameCases } from "./cases/names.ts";
import { namespaceCases } from "./cases/namespace.ts";
import { openCases } from "./cases/open.ts";
import { orphanCases } from "./cases/orphans.ts";
import { pathErrorCases } from "./cases/path-errors.ts";
import { permissionCases } from "./cases/permissions.ts";
import { renameCases } from "./cases/rename.ts";
import { setIdCases } from "./cases/set-id.ts";
import { spaceCases } from "./cases/space.ts";
import { specialFileCases } from "./cases/special-files.ts";
import { timeCases } from "./cases/times.ts";
import { xattrCases } from "./cases/xattrs.ts";

/** Ask everything of the target. Differences that are right are in its traits. */
export function testPosix(name: string, openTarget: () => Promise<Target>): void {
  describe(name, () => {
    const bench = new Bench();
    beforeAll(() => bench.open(openTarget));
    afterAll(() => bench.close());
    beforeEach(() => bench.nextCase());

    describe("paths", () => {
      pathErrorCases(bench);
    });
    describe("names", () => {
      nameCases(bench);
    });
    describe("namespace", () => {
      namespaceCases(bench);
    });
    describe("rename", () => {
      renameCases(bench);
    });
    describe("directories", () => {
      directoryCases(bench);
    });
    describe("open", () => {
      openCases(bench);
    });
    describe("orphans", () => {
      orphanCases(bench);
    });
    describe("file handles", () => {
      handleCases(bench);
    });
    describe("special files", () => {
      specialFileCases(bench);
    });
    describe("attributes", () => {
      attributeCases(bench);
    });
    describe("times", () => {
      timeCases(bench);
    });
    describe("permissions", () => {
      permissionCases(bench);
    });
    describe("set-id bits", () => {
      setIdCases(bench);
    });
    describe("xattrs", () => {
      xattrCases(bench);
    });
    describe("ACLs", () => {
      aclCases(bench);
    });
    describe("data", () => {
      dataCases(bench);
    });
    describe("space and holes", () => {
      spaceCases(bench);
    });
    describe("copies", () => {
      copyCases(bench);
    });
    describe("memory maps", () => {
      mmapCases(bench);
    });
    describe("locks", () => {
      lockCases(bench);
    });
    describe("concurrency", () => {
      concurrencyCases(bench);
    });
  });
}
