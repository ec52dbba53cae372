/** posix, flock and open-file-description locks between processes; interrupted calls. */
import { expect, test } from "vitest";
import { eventually } from "../../support/run.ts";
import { refuses, type Bench } from "../bench.ts";
import {
  F_GETLK,
  F_OFD_SETLK,
  F_RDLCK,
  F_SETLK,
  F_SETLKW,
  F_UNLCK,
  F_WRLCK,
  LOCK_EX,
  LOCK_NB,
  LOCK_SH,
  LOCK_UN,
  O_RDONLY,
  O_RDWR,
  S_IFIFO,
} from "../constants.ts";
import { errnoOf } from "../driver.ts";

export function lockCases(bench: Bench): void {
  let mine = -1;
  let theirs = -1;

  async function openBoth(): Promise<void> {
    await bench.root.sharedFile("f", "0123456789");
    mine = await bench.root.open("f", O_RDWR);
    theirs = await bench.alice.open("f", O_RDWR);
  }

  test("a posix write lock keeps others from its bytes, and from no others", async () => {
    await openBoth();
    await bench.root.lock(mine, F_SETLK, F_WRLCK, 2, 3);
    await refuses("EAGAIN", bench.alice.lock(theirs, F_SETLK, F_WRLCK, 4, 1));
    await refuses("EAGAIN", bench.alice.lock(theirs, F_SETLK, F_RDLCK, 0, 0));
    await bench.alice.lock(theirs, F_SETLK, F_WRLCK, 0, 2);
    await bench.alice.lock(theirs, F_SETLK, F_WRLCK, 5, 0);
  });

  test("posix read locks stand beside each other", async () => {
    await openBoth();
    await bench.root.lock(mine, F_SETLK, F_RDLCK);
    await bench.alice.lock(theirs, F_SETLK, F_RDLCK);
    await refuses("EAGAIN", bench.alice.lock(theirs, F_SETLK, F_WRLCK));
  });

  test("F_GETLK names the holder", async () => {
    await openBoth();
    await bench.root.lock(mine, F_SETLK, F_WRLCK, 3, 4);
    const answer = await bench.alice.lock(theirs, F_GETLK, F_RDLCK, 0, 0);
    expect(answer).toEqual([String(F_WRLCK), "3", "4", String(bench.root.processId)]);
    const own = await bench.root.lock(mine, F_GETLK, F_WRLCK, 0, 0);
    expect(own[0]).toBe(String(F_UNLCK));
  });

  test("a waiting posix lock is given when the holder lets go", async () => {
    await openBoth();
    await bench.root.lock(mine, F_SETLK, F_WRLCK);
    let given = false;
    const waiting = bench.alice.lock(theirs, F_SETLKW, F_WRLCK).then(() => (given = true));
    await bench.root.lock(mine, F_SETLK, F_WRLCK);
    expect(given).toBe(false);
    await bench.root.lock(mine, F_SETLK, F_UNLCK);
    await waiting;
  });

  test("posix locks are split, merged and upgraded", async () => {
    await openBoth();
    await bench.root.lock(mine, F_SETLK, F_RDLCK, 0, 10);
    await bench.root.lock(mine, F_SETLK, F_WRLCK, 4, 2);
    await bench.root.lock(mine, F_SETLK, F_UNLCK, 8, 2);
    await bench.alice.lock(theirs, F_SETLK, F_RDLCK, 0, 4);
    await refuses("EAGAIN", bench.alice.lock(theirs, F_SETLK, F_RDLCK, 5, 1));
    await bench.alice.lock(theirs, F_SETLK, F_WRLCK, 8, 2);
  });

  test("closing any handle of a file drops the process's posix locks", async () => {
    await openBoth();
    await bench.root.lock(mine, F_SETLK, F_WRLCK);
    await bench.root.close(await bench.root.open("f", O_RDONLY));
    await bench.alice.lock(theirs, F_SETLK, F_WRLCK);
  });

  test("a posix write lock wants a handle that writes", async () => {
    await openBoth();
    const reader = await bench.root.open("f", O_RDONLY);
    await refuses("EBADF", bench.root.lock(reader, F_SETLK, F_WRLCK));
  });

  test("two processes waiting for each other: one gets EDEADLK", async () => {
    await openBoth();
    await bench.root.lock(mine, F_SETLK, F_WRLCK, 0, 1);
    await bench.alice.lock(theirs, F_SETLK, F_WRLCK, 1, 1);
    const answers = { root: "", alice: "" };
    const waiting = errnoOf(bench.alice.lock(theirs, F_SETLKW, F_WRLCK, 0, 1)).then((errno) => (answers.alice = errno));
    await bench.root.call("alarm", 20); // until alice waits, this would wait too; who waits second is told
    await eventually("one is told", 60_000, async () => {
      answers.root = await errnoOf(bench.root.lock(mine, F_SETLKW, F_WRLCK, 1, 1));
      return Object.values(answers).includes("EDEADLK");
    });
    await bench.root.call("alarm", 0);
    await bench.root.lock(mine, F_SETLK, F_UNLCK);
    await waiting;
    const possible = [
      { root: "EDEADLK", alice: "success" },
      { root: "EINTR", alice: "EDEADLK" },
    ];
    expect(possible).toContainEqual(answers);
  });

  test("an exclusive flock keeps others out until it is dropped", async () => {
    await openBoth();
    await bench.root.flock(mine, LOCK_EX);
    await refuses("EAGAIN", bench.alice.flock(theirs, LOCK_EX | LOCK_NB));
    await refuses("EAGAIN", bench.alice.flock(theirs, LOCK_SH | LOCK_NB));
    await bench.root.flock(mine, LOCK_UN);
    await bench.alice.flock(theirs, LOCK_EX | LOCK_NB);
  });

  test("shared flocks stand beside each other, and an exclusive one waits for the last", async () => {
    await openBoth();
    await bench.root.flock(mine, LOCK_SH);
    await bench.alice.flock(theirs, LOCK_SH);
    await bench.root.flock(mine, LOCK_UN);
    const waiting = bench.root.flock(mine, LOCK_EX);
    await bench.alice.flock(theirs, LOCK_UN);
    await waiting;
  });

  test("an flock belongs to the open file, not the process", async () => {
    await openBoth();
    const second = await bench.root.open("f", O_RDWR);
    await bench.root.flock(mine, LOCK_EX);
    await refuses("EAGAIN", bench.root.flock(second, LOCK_EX | LOCK_NB));
    await bench.root.close(mine);
    await bench.root.flock(second, LOCK_EX | LOCK_NB);
  });

  test("flock and posix locks do not know of each other", async () => {
    await openBoth();
    await bench.root.flock(mine, LOCK_EX);
    await bench.alice.lock(theirs, F_SETLK, F_WRLCK);
  });

  test("open-file-description locks stand against posix locks and each other", async () => {
    await openBoth();
    const second = await bench.root.open("f", O_RDWR);
    await bench.root.lock(mine, F_OFD_SETLK, F_WRLCK, 0, 5);
    await refuses("EAGAIN", bench.root.lock(second, F_OFD_SETLK, F_WRLCK, 0, 5));
    await refuses("EAGAIN", bench.alice.lock(theirs, F_SETLK, F_WRLCK, 4, 1));
    await bench.root.lock(second, F_OFD_SETLK, F_WRLCK, 5, 5);
  });

  test("locks work on files opened by other names, and on unlinked ones", async () => {
    await openBoth();
    await bench.root.link("f", "g");
    const other = await bench.alice.open("g", O_RDWR);
    await bench.root.unlink("f");
    await bench.root.unlink("g");
    await bench.root.lock(mine, F_SETLK, F_WRLCK);
    await refuses("EAGAIN", bench.alice.lock(other, F_SETLK, F_WRLCK));
  });

  test("a wait for a lock is interrupted by a signal: EINTR", async () => {
    await openBoth();
    await bench.root.lock(mine, F_SETLK, F_WRLCK);
    await bench.alice.call("alarm", 50);
    await refuses("EINTR", bench.alice.lock(theirs, F_SETLKW, F_WRLCK));
    await bench.root.flock(mine, LOCK_EX);
    await refuses("EINTR", bench.alice.flock(theirs, LOCK_EX));
  });

  test("a wait for a fifo's other end is interrupted by a signal: EINTR", async () => {
    await bench.root.mknod("fifo", S_IFIFO | 0o666);
    await bench.root.call("alarm", 50);
    await refuses("EINTR", bench.root.open("fifo", O_RDONLY));
  });

  test.each(["posix", "flock", "ofd"])("a counter under %s locks loses no step of three processes", async (kind) => {
    await bench.root.sharedFile("counter", Buffer.alloc(8));
    const actors = [bench.root, bench.alice, bench.bob];
    await Promise.all(actors.map((actor) => actor.call("increment", "counter", 200, kind)));
    expect((await bench.root.content("counter")).readBigUInt64LE()).toBe(600n);
  });
}
