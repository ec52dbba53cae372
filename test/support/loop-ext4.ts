/** A fresh ext4 in an image file: the reference that tests the tests, and a disk that can be filled. Needs root. */
import { mkdir, open } from "node:fs/promises";
import { join } from "node:path";
import { Cleanup } from "./cleanup.ts";
import { attempt, eventually, run } from "./run.ts";
import { temporaryDirectory } from "./temporary-directory.ts";

export interface LoopExt4 extends AsyncDisposable {
  readonly mountPoint: string;
  /** Unmount and mount again: what only the page cache held is gone. */
  remount(): Promise<void>;
}

/** Make and mount an ext4 of `megabytes`, with ACLs and user xattrs. Everything goes on disposal. */
export async function loopExt4(megabytes: number): Promise<LoopExt4> {
  const cleanup = new Cleanup();
  try {
    const directory = cleanup.use(await temporaryDirectory("ext4"));
    const image = join(directory.path, "image");
    const mountPoint = join(directory.path, "mount");
    const file = await open(image, "w");
    await file.truncate(megabytes * 2 ** 20);
    await file.close();
    await mkdir(mountPoint);
    await run("mkfs.ext4", ["-q", "-F", "-m", "0", "-I", "256", "-E", "lazy_itable_init=1", image]);
    const mount = (): Promise<string> => run("mount", ["-o", "loop,acl,user_xattr", image, mountPoint]);
    await mount();
    cleanup.add(() => unmountAnyway(mountPoint));
    return {
      mountPoint,
      remount: async () => {
        const unmount = async (): Promise<boolean> => (await attempt("umount", [mountPoint])).code === 0;
        await eventually("nobody uses it any more", 60_000, unmount);
        await mount();
      },
      [Symbol.asyncDispose]: () => cleanup[Symbol.asyncDispose](),
    };
  } catch (error) {
    await cleanup[Symbol.asyncDispose]();
    throw error;
  }
}

/** Unmount; if something still uses it, at least take it out of the tree. */
export async function unmountAnyway(mountPoint: string): Promise<void> {
  const isMounted = async (): Promise<boolean> => (await attempt("mountpoint", ["-q", mountPoint])).code === 0;
  const unmounted = await attempt("umount", [mountPoint]);
  if (unmounted.code !== 0 && ((await isMounted()) || unmounted.stderr.includes("busy"))) {
    await run("umount", ["-l", mountPoint]);
  }
}
