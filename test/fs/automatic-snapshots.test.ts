/** The policy on a real volume: what it takes and drops is on the disk, and survives whatever the process does not. */
import { fc, test as property } from "@fast-check/vitest";
import { describe, expect, test, vi } from "vitest";
import { copyLoan } from "../../src/borrowed-bytes.ts";
import { ROOT_INODE, type InodeNumber, type Name } from "../../src/ids.ts";
import { parsePolicy } from "../../src/fs/snapshots/policy-text.ts";
import { RecordReader } from "../../src/metadata/record-reader.ts";
import { TcfsError, isTcfsError } from "../../src/errors.ts";
import { SimulatedClock } from "../support/simulated-clock.ts";
import { DAY, HOUR, MINUTE, SECOND } from "./fixtures/policy-world.ts";
import { TestVault } from "./fixtures/test-vault.ts";

const caller = { uid: 0, gid: 0, pid: 1, onInterrupt: (): void => undefined };
const FILE = { mode: 0o100644, umask: 0, deviceNumber: 0 };

/** A mounted vault with one file, whose content says which change it is. */
class Mounted implements AsyncDisposable {
  readonly clock: SimulatedClock;
  readonly vault: TestVault;
  changes = 0;

  private constructor(vault: TestVault, clock: SimulatedClock) {
    this.vault = vault;
    this.clock = clock;
  }

  static async make(policy: string, { canFail = false } = {}): Promise<Mounted> {
    const clock = new SimulatedClock("2026-11-22T10:30:00Z");
    const mounted = new Mounted(await TestVault.create({ clock, canFail }), clock);
    mounted.keeper.start();
    await mounted.write("0");
    if (policy !== "") await mounted.automatic.setPolicy(parsePolicy(policy));
    return mounted;
  }

  get snapshots() {
    return this.vault.volume.snapshots;
  }

  get automatic() {
    return this.snapshots.automatic;
  }

  get keeper() {
    return this.automatic.keeper;
  }

  async write(text: string): Promise<void> {
    const { operations } = this.vault.volume;
    let file = await operations.lookup(ROOT_INODE, "f" as Name);
    file ??= await operations.makeNode(ROOT_INODE, "f" as Name, FILE, caller);
    await operations.setAttributes(file.ino, { lengthBytes: 0n }, caller);
    await operations.write(file.ino, 0n, Buffer.from(text), { clearSetId: false, sync: false }, caller);
    operations.forget(file.ino, 1);
  }

  async contentIn(snapshot: string): Promise<string> {
    const { operations } = this.vault.volume;
    let ino: InodeNumber = ROOT_INODE;
    for (const part of [".snapshots", snapshot, "f"]) {
      const found = await operations.lookup(ino, part as Name);
      if (found === undefined) throw new Error(`no ${part}`);
      operations.forget(found.ino, 1);
      ino = found.ino;
    }
    return Buffer.from(copyLoan(await operations.read(ino, 0n, 1 << 20, caller))).toString();
  }

  async pass(ms: number): Promise<void> {
    await this.clock.pass(ms, () => this.settle());
  }

  /** Time passes with a change, durable at once, every ten minutes. */
  async work(ms: number): Promise<void> {
    for (let left = ms; left > 0; left -= 10 * MINUTE) {
      await this.write(String(++this.changes));
      await this.vault.volume.syncAll();
      await this.pass(Math.min(left, 10 * MINUTE));
    }
  }

  async settle(): Promise<void> {
    await this.vault.volume.syncAll().catch(() => undefined);
    await this.keeper.idle();
    await this.snapshots.cleared();
  }

  async remount(): Promise<void> {
    await this.vault.reopen();
    this.clock.forgetTimers();
    this.keeper.start();
  }

  async crash(): Promise<void> {
    this.clock.forgetTimers();
    await this.vault.crash();
    this.keeper.start();
  }

  async listing(): Promise<string[]> {
    return (await this.snapshots.list()).map(({ name, classes }) => `${name} ${classes.join(",")}`.trim());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.clock.forgetTimers();
    await this.vault[Symbol.asyncDispose]();
  }
}

describe("automatic snapshots", () => {
  test("begin at once, have names that tell the time, and say as what they are kept", async () => {
    await using mounted = await Mounted.make("hourly=2,daily=2");
    expect(mounted.automatic.figures()).toEqual({
      policy: "hourly=2,daily=2",
      isDamaged: false,
      automaticCount: 1,
      surplusCount: 0,
      nextDueAt: "2026-11-22T11:00:00Z",
    });
    await mounted.work(4 * HOUR);
    expect(await mounted.listing()).toEqual([
      "auto-2026-11-22T10:30:00Z daily",
      "auto-2026-11-22T13:00:00Z hourly",
      "auto-2026-11-22T14:00:00Z hourly",
    ]);
    expect(await mounted.contentIn("auto-2026-11-22T10:30:00Z")).toBe("0");
    expect(await mounted.contentIn("auto-2026-11-22T13:00:00Z")).toBe("15");
    expect(mounted.vault.failures).toEqual([]);
  });

  test("never are the user's, whatever these are called", async () => {
    await using mounted = await Mounted.make("hourly=1");
    await mounted.work(30 * MINUTE - SECOND);
    await mounted.snapshots.take("auto-2026-11-22T12:00:00Z", "mine");
    await mounted.snapshots.take("auto-2020-01-01T00:00:00Z", "mine");
    await mounted.work(3 * HOUR);
    expect((await mounted.snapshots.list()).map(({ name, isAutomatic }) => [name, isAutomatic])).toEqual([
      ["auto-2026-11-22T12:00:00Z", false],
      ["auto-2020-01-01T00:00:00Z", false],
      ["auto-2026-11-22T13:00:00Z", true],
    ]);
    await mounted.snapshots.take("auto-2026-11-22T14:00:00Z", "mine");
    await mounted.work(MINUTE);
    expect(await mounted.listing()).toContain("auto-2026-11-22T14:00:00Z-2 hourly");
  });

  test("are not taken of what was only read", async () => {
    await using mounted = await Mounted.make("hourly=24");
    await mounted.pass(DAY + HOUR);
    const { operations } = mounted.vault.volume;
    const file = await operations.lookup(ROOT_INODE, "f" as Name);
    await operations.read(file?.ino as InodeNumber, 0n, 10, caller);
    await mounted.pass(2 * HOUR);
    expect(await mounted.listing()).toHaveLength(1);
    await mounted.write("changed");
    await mounted.pass(2 * HOUR);
    expect(await mounted.listing()).toHaveLength(2);
  });

  test("stay, and stay automatic, through remounts, restores and other policies", async () => {
    await using mounted = await Mounted.make("hourly=3");
    await mounted.work(2 * HOUR);
    const before = await mounted.listing();
    await mounted.remount();
    expect(await mounted.listing()).toEqual(before);
    expect(mounted.automatic.figures().policy).toBe("hourly=3");
    await mounted.snapshots.restore("auto-2026-11-22T11:00:00Z");
    await mounted.automatic.setPolicy([]);
    await mounted.work(2 * HOUR);
    expect((await mounted.listing()).slice(0, 3)).toEqual(before.map((line) => line.replace(" hourly", "")));
    expect(mounted.automatic.figures()).toMatchObject({ policy: null, automaticCount: 3, nextDueAt: null });
    const then = await mounted.automatic.setPolicy(parsePolicy("daily=1,hourly=1"));
    expect(then.surplusCount).toBe(1);
    const kept = (await mounted.snapshots.list()).filter(({ isAutomatic }) => isAutomatic);
    expect(kept.map(({ classes }) => classes)).toEqual([["daily"], ["hourly"]]);
    expect((await mounted.snapshots.list()).some(({ isSafety }) => isSafety)).toBe(true);
  });

  test("are dropped by the next mount, if the process was killed before it could", async () => {
    await using mounted = await Mounted.make("hourly=2");
    await mounted.work(90 * MINUTE);
    let tellKilled = (): void => undefined;
    const killed = new Promise<void>((resolve) => (tellKilled = resolve));
    vi.spyOn(mounted.automatic, "drop").mockImplementation(() => {
      tellKilled();
      return new Promise(() => undefined);
    });
    await mounted.write("more");
    await mounted.clock.pass(HOUR, () => Promise.race([mounted.settle(), killed]));
    await mounted.crash();
    expect(await mounted.listing()).toHaveLength(3);
    await mounted.pass(MINUTE);
    expect(await mounted.listing()).toEqual(["auto-2026-11-22T12:00:00Z hourly", "auto-2026-11-22T13:00:00Z hourly"]);
  });

  test("of a full disk are told of as failed, and taken when there is room", async () => {
    await using mounted = await Mounted.make("hourly=24", { canFail: true });
    mounted.clock.jump(29 * MINUTE);
    await mounted.pass(5 * MINUTE - 10 * SECOND);
    mounted.vault.disk.fail("writeDurable", "TCFS_STORE_FULL", Infinity);
    await mounted.write("2");
    await mounted.pass(15 * SECOND);
    expect(mounted.vault.policyFailures).toContainEqual(expect.objectContaining({ code: "TCFS_STORE_FULL" }));
    expect(await mounted.listing()).toHaveLength(1);
    mounted.vault.disk.heal();
    await mounted.pass(2 * MINUTE);
    const listing = await mounted.listing();
    expect(listing).toHaveLength(2);
    expect(await mounted.contentIn(listing[1]?.split(" ")[0] ?? "")).toBe("2");
    await mounted.crash();
    expect(await mounted.listing()).toEqual(listing);
  });

  test("are left alone while the policy cannot be read, until it is set anew", async () => {
    await using mounted = await Mounted.make("hourly=1");
    await mounted.work(2 * HOUR);
    const [name] = await mounted.listing();
    vi.spyOn(RecordReader.prototype, "policy").mockImplementationOnce(() => {
      throw new TcfsError("TCFS_CORRUPT", "made to be damaged");
    });
    await mounted.remount();
    expect(mounted.automatic.figures()).toMatchObject({ policy: null, isDamaged: true, automaticCount: 0 });
    await mounted.work(2 * HOUR);
    expect(await mounted.listing()).toEqual([name?.split(" ")[0]]);
    await mounted.automatic.setPolicy(parsePolicy("hourly=1"));
    await mounted.work(2 * HOUR);
    expect(await mounted.listing()).toEqual([name?.split(" ")[0], "auto-2026-11-22T16:00:00Z hourly"]);
  });
});

type Step =
  | { readonly do: "work" | "sleep" | "jump"; readonly minutes: number }
  | { readonly do: "remount" | "crash" | "mine" }
  | { readonly do: "forget"; readonly index: number };

const anyStep: fc.Arbitrary<Step> = fc.oneof(
  { weight: 5, arbitrary: fc.record({ do: fc.constant("work" as const), minutes: fc.integer({ min: 1, max: 90 }) }) },
  {
    weight: 1,
    arbitrary: fc.record({ do: fc.constant("sleep" as const), minutes: fc.integer({ min: 1, max: 3000 }) }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constant("jump" as const), minutes: fc.integer({ min: -9e5, max: 9e5 }) }),
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constantFrom("remount" as const, "crash" as const, "mine" as const) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("forget" as const), index: fc.nat(9) }) },
);

describe("random histories on a real volume", () => {
  property.prop([fc.array(anyStep, { minLength: 3, maxLength: 10 })], { numRuns: 8 })(
    "keep the newest, what the policy says and everything of the user's, each with its content",
    async (steps) => {
      await using mounted = await Mounted.make("hourly=3,daily=2");
      /** What is in each snapshot that was seen; none may change. */
      const contents = new Map<string, string>();
      const mine = new Set<string>();
      for (const step of steps) {
        if (step.do === "work") await mounted.work(step.minutes * MINUTE);
        else if (step.do === "sleep" || step.do === "jump") mounted.clock.jump(step.minutes * MINUTE);
        else if (step.do === "remount") await mounted.remount();
        else if (step.do === "crash") await mounted.crash();
        else if (step.do === "mine") {
          const name = `mine-${mine.size}`;
          await mounted.snapshots.take(name, "");
          mine.add(name);
        } else {
          const automatic = (await mounted.snapshots.list()).filter(({ isAutomatic }) => isAutomatic);
          const chosen = automatic[(step as { index: number }).index % Math.max(automatic.length, 1)];
          if (chosen !== undefined) await mounted.snapshots.forget([chosen.name], false);
        }
        await mounted.settle();
        const listed = await mounted.snapshots.list();
        for (const { name } of listed) {
          const content = await mounted.contentIn(name);
          expect(content).toBe(contents.get(name) ?? content);
          contents.set(name, content);
        }
        const automatic = listed.filter(({ isAutomatic }) => isAutomatic);
        expect(automatic.length).toBeLessThanOrEqual(3 + 2 + 1);
        expect(new Set(listed.filter(({ isAutomatic }) => !isAutomatic).map(({ name }) => name))).toEqual(mine);
        for (const { name, classes } of automatic.slice(0, -1)) expect([name, ...classes].length).toBeGreaterThan(1);
      }
      await mounted.crash();
      await mounted.work(20 * MINUTE);
      const newest = (await mounted.snapshots.list()).findLast(({ isAutomatic }) => isAutomatic);
      expect(newest).toBeDefined();
      // What was going on in a process that crashed finds everything closed.
      const failures = [...mounted.vault.failures, ...mounted.vault.policyFailures] as Error[];
      const isClosed = (error: unknown): boolean => isTcfsError(error, "TCFS_CLOSED");
      expect(failures.filter((error) => !isClosed(error) && !isClosed(error.cause))).toEqual([]);
    },
    120_000,
  );
});
