/** What the model test runs on. */
import { loopExt4 } from "../support/loop-ext4.ts";
import { mountTcfs } from "../support/tcfs-mount.ts";
import type { Subject } from "./history.ts";

/** The reference: tests the model. It does not crash, it unmounts. */
export async function ext4Subject(): Promise<Subject> {
  const ext4 = await loopExt4(1024);
  return {
    mountPoint: ext4.mountPoint,
    remount: () => ext4.remount(),
    crash: () => ext4.remount(),
    recover: () => Promise.resolve(),
    [Symbol.asyncDispose]: () => ext4[Symbol.asyncDispose](),
  };
}

export async function tcfsSubject(): Promise<Subject> {
  const mount = await mountTcfs();
  return {
    mountPoint: mount.mountPoint,
    remount: () => mount.remount(),
    crash: () => mount.kill9(),
    recover: async () => {
      if (mount.pid === 0) await mount.mount();
    },
    [Symbol.asyncDispose]: () => mount[Symbol.asyncDispose](),
  };
}
