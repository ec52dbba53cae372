/** ext4 is the reference: a case that fails here is wrong. */
import { chmod } from "node:fs/promises";
import { loopExt4 } from "../support/loop-ext4.ts";
import { testPosix } from "./suite.ts";

testPosix("ext4", async () => {
  const ext4 = await loopExt4(1024);
  await chmod(ext4.mountPoint, 0o777);
  return {
    directory: ext4.mountPoint,
    traits: {
      maximumFileBytes: 2n ** 44n - 2n ** 12n, // 2^32 blocks of 4 KiB, less one
      beyondMaximum: "EFBIG",
      maximumXattrBytes: 3900, // what is left of one block
      xattrOverflow: "ENOSPC",
      timeRange: [-(2n ** 31n), 2n ** 34n - 2n ** 31n - 1n], // 34 bits of seconds from 1901
    },
    [Symbol.asyncDispose]: () => ext4[Symbol.asyncDispose](),
  };
});
