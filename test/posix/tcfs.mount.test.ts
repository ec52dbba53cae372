/** The project's own filesystem under the POSIX suite. */
import { chmod } from "node:fs/promises";
import { mountTcfs } from "../support/tcfs-mount.ts";
import { testPosix } from "./suite.ts";

testPosix("tcfs", async () => {
  const mount = await mountTcfs({ mountParameters: ["--allow-other", "-o", "suid,dev"] });
  await chmod(mount.mountPoint, 0o777);
  return {
    directory: mount.mountPoint,
    traits: {
      maximumFileBytes: 2n ** 63n - 1n,
      beyondMaximum: "EINVAL",
      maximumXattrBytes: 65_536,
      xattrOverflow: "E2BIG",
      timeRange: [-(2n ** 40n), 2n ** 40n],
    },
    [Symbol.asyncDispose]: () => mount[Symbol.asyncDispose](),
  };
});
