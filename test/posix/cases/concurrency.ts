/** Several processes at once. */
import { expect, test } from "vitest";
import type { Bench } from "../bench.ts";
import { O_CREAT, O_EXCL, O_RDWR, O_WRONLY, RENAME_EXCHANGE, RENAME_NOREPLACE } from "../constants.ts";
import { errnoOf, type Driver } from "../driver.ts";

export function concurrencyCases(bench: Bench): void {
  const everyone = (): readonly Driver[] => [bench.root, bench.root2, bench.alice, bench.bob];

  test("appends of four processes are all there, none torn", async () => {
    await bench.root.sharedFile("log");
    const record = (i: number): string => `${"abcd"[i]!.repeat(99)}\n`;
    await Promise.all(
      everyone().map((driver, i) => driver.call("append_many", "log", Buffer.from(record(i)).toString("hex"), 300)),
    );
    const lines = (await bench.root.textOf("log")).split("\n").slice(0, -1);
    expect(lines).toHaveLength(1200);
    for (let i = 0; i < 4; i++) expect(lines.filter((line) => `${line}\n` === record(i))).toHaveLength(300);
  });

  test("buffered readers see each asynchronous direct write once it is done", async () => {
    const lengthBytes = 640 * 1024;
    await bench.root.sharedFile("f", Buffer.alloc(lengthBytes));
    const readers = [bench.root2, bench.alice, bench.bob];
    const reads = Promise.all(readers.map((driver) => driver.call("read_for", "f", lengthBytes, 3000)));
    expect(await bench.root.call("aio_cycle", "f", lengthBytes, 500)).toEqual(["0"]);
    await reads;
  });

  test("O_EXCL has one winner", async () => {
    for (let round = 0; round < 30; round++) {
      const answers = await Promise.all(
        everyone().map((driver) => errnoOf(driver.open(`lock${round}`, O_CREAT | O_EXCL | O_RDWR))),
      );
      expect(answers.sort()).toEqual(["EEXIST", "EEXIST", "EEXIST", "success"]);
    }
  });

  test("mkdir, link and RENAME_NOREPLACE have one winner", async () => {
    for (let round = 0; round < 20; round++) {
      for (const [i, driver] of everyone().entries()) await driver.file(`own${i}`);
      const made = await Promise.all(everyone().map((driver) => errnoOf(driver.mkdir(`d${round}`))));
      const linked = await Promise.all(everyone().map((driver, i) => errnoOf(driver.link(`own${i}`, `l${round}`))));
      const renamed = await Promise.all(
        everyone().map((driver, i) => errnoOf(driver.rename(`own${i}`, `r${round}`, RENAME_NOREPLACE))),
      );
      for (const answers of [made, linked, renamed])
        expect(answers.filter((answer) => answer === "success")).toHaveLength(1);
    }
  });

  test("four processes make and remove 4,000 names in one directory", async () => {
    await Promise.all(everyone().map((driver, i) => driver.call("create_many", `p${i}-`, 0, 1000)));
    expect(await bench.root.list(".")).toHaveLength(4000);
    await Promise.all(everyone().map((driver, i) => driver.call("unlink_many", `p${i}-`, 0, 1000)));
    expect(await bench.root.list(".")).toEqual([]);
  });

  test("writers of different parts of a file do not disturb each other", async () => {
    await bench.root.sharedFile("f");
    const piece = 10_007;
    await Promise.all(
      everyone().map(async (driver, i) => {
        const fd = await driver.open("f", O_WRONLY);
        for (let turn = 0; turn < 25; turn++) await driver.pfill(fd, 0x61 + i, piece, (turn * 4 + i) * piece);
      }),
    );
    const content = await bench.root.content("f");
    expect(content).toHaveLength(100 * piece);
    for (let at = 0; at < content.length; at++) {
      if (content[at] !== 0x61 + (Math.floor(at / piece) % 4)) throw new Error(`wrong byte at ${at}`);
    }
  });

  test("exchanges in two directions lose no file", async () => {
    await bench.root.mkdir("x");
    await bench.root.mkdir("y");
    await bench.root.file("x/f", "one");
    await bench.root.file("y/f", "two");
    const turns = Array.from({ length: 40 });
    await Promise.all([
      (async () => {
        for (const _ of turns) await bench.root.rename("x/f", "y/f", RENAME_EXCHANGE);
      })(),
      (async () => {
        for (const _ of turns) await bench.root2.rename("y/f", "x/f", RENAME_EXCHANGE);
      })(),
    ]);
    expect([await bench.root.textOf("x/f"), await bench.root.textOf("y/f")].sort()).toEqual(["one", "two"]);
  });

  test("a file moved to and fro is found in one of its two places", async () => {
    await bench.root.mkdir("x");
    await bench.root.mkdir("y");
    await bench.root.file("x/f", "content");
    let isMoving = true;
    const moving = (async () => {
      for (let i = 0; i < 60; i++) await bench.root2.rename(i % 2 ? "y/f" : "x/f", i % 2 ? "x/f" : "y/f");
      isMoving = false;
    })();
    while (isMoving) {
      const found = await Promise.all([errnoOf(bench.root.stat("x/f")), errnoOf(bench.alice.stat("y/f"))]);
      for (const answer of found) expect(["success", "ENOENT"]).toContain(answer);
    }
    await moving;
    expect(await bench.root.textOf("x/f")).toBe("content");
  });

  test("truncating and appending processes leave whole records", async () => {
    await bench.root.sharedFile("log");
    const record = Buffer.from("r".repeat(63) + "\n").toString("hex");
    const appending = Promise.all(
      [bench.alice, bench.bob].map((driver) => driver.call("append_many", "log", record, 300)),
    );
    for (let i = 0; i < 20; i++) await bench.root.truncate("log", 0);
    await appending;
    const content = await bench.root.textOf("log");
    expect(
      content
        .replaceAll("\0", "")
        .split("\n")
        .every((line) => line === "" || line === "r".repeat(63)),
    ).toBe(true);
  });

  test("a file being removed and made again by others never shows a wrong content", async () => {
    let isGoing = true;
    const changing = (async () => {
      for (let i = 0; i < 50; i++) {
        await bench.root2.file("f.new", "x".repeat(1000 + i));
        await bench.root2.rename("f.new", "f");
        await bench.root2.unlink("f");
      }
      isGoing = false;
    })();
    while (isGoing) {
      const content = await bench.root.textOf("f").catch(() => "x".repeat(1000));
      expect(content.length).toBeGreaterThanOrEqual(1000);
    }
    await changing;
  });

  test("a tree is walked while it is built", async () => {
    const building = (async () => {
      for (let i = 0; i < 60; i++) {
        await bench.root2.mkdir(`d${i}`);
        await bench.root2.file(`d${i}/f`, String(i));
      }
    })();
    let done = false;
    void building.then(() => (done = true));
    while (!done) {
      for (const name of await bench.root.list(".")) await bench.root.list(name);
    }
    await building;
    expect(await bench.root.list(".")).toHaveLength(60);
  });
}
