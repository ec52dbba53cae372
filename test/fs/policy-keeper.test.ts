/** When automatic snapshots are taken and dropped, under clocks that behave and clocks that do not. */
import { fc, test as property } from "@fast-check/vitest";
import { describe, expect, test } from "vitest";
import { POLICY_UNITS, type PolicyUnit } from "../../src/format/policy-codec.ts";
import { DAY, HOUR, MINUTE, PolicyWorld, SECOND, type Kill } from "./fixtures/policy-world.ts";

const ALL_FROM_HOURS = "hourly,daily,weekly,monthly,yearly";

describe("with a clock that goes as it should", () => {
  test("the first is taken soon after the mount, then one as each period begins", async () => {
    const world = new PolicyWorld("hourly=3,daily=2");
    await world.work(5 * SECOND);
    expect(world.listing).toEqual([`2026-11-22T10:30 minutely,${ALL_FROM_HOURS}`]);
    await world.work(2 * HOUR);
    expect(world.listing.slice(1)).toEqual(["2026-11-22T11:00 minutely,hourly", "2026-11-22T12:00 minutely,hourly"]);
  });

  test("each class keeps as many as it says: the first of each of its periods", async () => {
    const world = new PolicyWorld("hourly=3,daily=2,weekly=2", "2026-11-20T22:30:00Z");
    await world.work(4 * DAY);
    expect(world.listing).toEqual([
      // Friday's, the first of all, and Monday's begin a week.
      `2026-11-20T22:30 minutely,${ALL_FROM_HOURS}`,
      "2026-11-23T00:00 minutely,hourly,daily,weekly",
      "2026-11-24T00:00 minutely,hourly,daily",
      "2026-11-24T20:00 minutely,hourly",
      "2026-11-24T21:00 minutely,hourly",
      "2026-11-24T22:00 minutely,hourly",
    ]);
  });

  test("months and years begin on the calendar", async () => {
    const world = new PolicyWorld("monthly=12,yearly=3", "2026-11-22T10:30:00Z");
    for (let day = 0; day < 120; day++) {
      await world.work(10 * MINUTE);
      world.clock.jump(DAY - 10 * MINUTE);
    }
    expect(world.listing.map((line) => line.slice(0, 7))).toEqual([
      "2026-11",
      "2026-12",
      "2027-01",
      "2027-02",
      "2027-03",
    ]);
    expect(world.listing[2]).toContain("yearly");
  });

  test("minutes are possible too", async () => {
    const world = new PolicyWorld("minutely=5", "2026-11-22T10:30:10Z");
    await world.work(10 * MINUTE);
    expect(world.listing.map((line) => line.slice(11, 16))).toEqual(["10:36", "10:37", "10:38", "10:39", "10:40"]);
  });

  test("nothing is taken where nothing changed, and no timer is left running", async () => {
    const world = new PolicyWorld("hourly=24");
    await world.work(MINUTE);
    await world.idle(3 * HOUR);
    expect(world.listing).toHaveLength(1);
    expect(world.clock.timerCount).toBe(0);
  });

  test("what changes after a rest is taken when the period is over, not in the middle of its being changed", async () => {
    const world = new PolicyWorld("hourly=24");
    await world.work(MINUTE);
    await world.idle(4 * HOUR + 6 * MINUTE); // 14:37
    await world.work(5 * MINUTE);
    expect(world.listing).toHaveLength(1);
    await world.idle(2 * HOUR);
    expect(world.listing[1]).toBe("2026-11-22T15:00 minutely,hourly");
    expect(world.clock.timerCount).toBe(0);
  });

  test("waking from sleep, or mounting again, catches up with one", async () => {
    const world = new PolicyWorld("hourly=24,daily=7");
    await world.work(10 * MINUTE);
    world.clock.jump(50 * HOUR);
    await world.work(6 * MINUTE);
    expect(world.listing.slice(1)).toEqual(["2026-11-24T12:40 minutely,hourly,daily,weekly"]);
    world.change();
    await world.restart(3 * DAY);
    await world.idle(MINUTE);
    expect(world.listing.slice(2)).toEqual(["2026-11-27T12:46 minutely,hourly,daily"]);
  });

  test("no commit makes it look at its snapshots while a timer is set, or without a policy", async () => {
    const world = new PolicyWorld("none");
    await world.work(2 * HOUR);
    expect([world.listing, world.clock.timerCount]).toEqual([[], 0]);
  });
});

describe("with a clock that jumps", () => {
  test("years ahead and back cost one of each class, and no pause", async () => {
    const world = new PolicyWorld("hourly=24,daily=7,monthly=12");
    await world.work(30 * HOUR);
    const before = world.listing;
    world.clock.jump(3650 * DAY);
    await world.work(10 * MINUTE);
    expect(world.listing.filter((line) => !before.includes(line))).toHaveLength(1);
    expect(before.filter((line) => !world.listing.includes(line)).length).toBeLessThanOrEqual(1);
    world.clock.jump(-3650 * DAY);
    await world.work(3 * HOUR);
    // One once the clock is believed, and then one an hour.
    expect(world.listing.slice(-4).map((line) => line.slice(0, 16))).toEqual([
      "2036-11-20T16:35",
      "2026-11-23T17:00",
      "2026-11-23T18:00",
      "2026-11-23T19:00",
    ]);
    await world.work(DAY);
    expect(world.listing.at(-20)).toBe("2026-11-24T00:00 minutely,hourly,daily");
  });

  test("a moment in another year, as before a server sets the clock, changes nothing", async () => {
    const world = new PolicyWorld("hourly=24,daily=7,monthly=12");
    await world.work(HOUR);
    const before = world.listing;
    for (let boot = 0; boot < 6; boot++) {
      await world.restart();
      const { wallMs } = world.clock;
      world.clock.setWall("1970-01-01T00:00:20Z");
      await world.work(2 * MINUTE);
      world.clock.setWall(new Date(wallMs + 2 * MINUTE).toISOString());
      await world.work(5 * MINUTE);
    }
    const taken = world.listing.filter((line) => !before.includes(line));
    expect(taken).toEqual([expect.stringMatching(/^2026-11-22T12:0\d minutely,hourly$/u)]);
  });

  test("a clock that starts in 1970 each time does not stop the days", async () => {
    const world = new PolicyWorld("hourly=5,daily=4", "1970-01-01T00:00:00Z");
    for (let boot = 0; boot < 20; boot++) {
      world.clock.setWall("1970-01-01T00:00:00Z");
      await world.restart();
      await world.work(9 * HOUR);
    }
    expect(world.keptAs("daily")).toBe(4);
    expect(world.keptAs("hourly")).toBe(5);
  });

  test("an hour back and forth at each start takes no more than one more each time", async () => {
    const world = new PolicyWorld("hourly=24,daily=7");
    await world.work(HOUR);
    const before = world.takenUnits.length;
    for (let boot = 0; boot < 10; boot++) {
      await world.restart();
      world.clock.jump(boot % 2 === 0 ? -HOUR : HOUR);
      await world.work(12 * MINUTE);
    }
    expect(world.takenUnits.length - before).toBeLessThanOrEqual(12);
    expect(world.takenUnits.slice(before).filter((units) => units.includes("daily"))).toEqual([]);
  });
});

describe("when something goes wrong", () => {
  test.each<Kill>(["before take", "after take", "before drop", "after drop"])(
    "a kill %s is made good",
    async (kill) => {
      const world = new PolicyWorld("hourly=2");
      await world.work(3 * HOUR);
      world.kill = kill;
      await world.work(2 * HOUR);
      expect(world.isKilled).toBe(true);
      await world.restart();
      await world.work(2 * MINUTE);
      expect(world.listing).toHaveLength(2);
      expect(world.surplus).toEqual([]);
    },
  );

  test("a failing snapshot is tried again, more and more rarely, and then goes on", async () => {
    const world = new PolicyWorld("hourly=24");
    world.isFull = true;
    await world.work(5 * HOUR);
    expect(world.tries).toBeGreaterThan(5);
    expect(world.tries).toBeLessThanOrEqual(10);
    world.isFull = false;
    await world.work(2 * HOUR);
    expect(world.failures.at(-1)).toBeUndefined();
    expect(world.listing.length).toBeGreaterThanOrEqual(2);
  });

  test("nothing is taken while stopped, and it goes on where it was", async () => {
    const world = new PolicyWorld("hourly=24");
    await world.work(MINUTE);
    await world.keeper.stop();
    await world.work(3 * HOUR);
    expect([world.listing.length, world.clock.timerCount]).toEqual([1, 0]);
    world.keeper.start();
    await world.work(MINUTE);
    expect(world.listing).toHaveLength(2);
    await world.keeper.close();
    world.keeper.start();
    expect(world.clock.timerCount).toBe(0);
  });

  test("another policy holds at once, and none drops nothing", async () => {
    const world = new PolicyWorld("hourly=24");
    await world.work(10 * HOUR);
    expect(world.listing).toHaveLength(11);
    world.classes = [];
    await world.keeper.policyChanged();
    expect(world.listing).toHaveLength(11);
    world.classes = [{ unit: "hourly", count: 3 }];
    await world.keeper.policyChanged();
    expect(world.listing).toHaveLength(3);
  });
});

/* Random histories. */

const SHORTEST_SECONDS: Record<PolicyUnit, number> = {
  minutely: 60,
  hourly: 3600,
  daily: 86_400,
  weekly: 7 * 86_400,
  monthly: 28 * 86_400,
  yearly: 365 * 86_400,
};
const LONGEST_SECONDS: Record<PolicyUnit, number> = {
  ...SHORTEST_SECONDS,
  monthly: 31 * 86_400,
  yearly: 366 * 86_400,
};
/** What a timer may be late, and what a start takes. */
const SLACK_SECONDS = 300 + 5;
/** Between two changes. */
const WORK_MS = 5 * MINUTE;

type Step =
  | { readonly do: "work" | "idle" | "sleep" | "pause"; readonly ms: number }
  | { readonly do: "jump"; readonly ms: number }
  | { readonly do: "kill"; readonly kill: Kill }
  | { readonly do: "forget"; readonly index: number };

const minutes = (max: number): fc.Arbitrary<number> => fc.integer({ min: 1, max }).map((count) => count * MINUTE);
const anyStep: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ do: fc.constant("work" as const), ms: minutes(300) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("idle" as const), ms: minutes(300) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("sleep" as const), ms: minutes(3000) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("pause" as const), ms: minutes(3000) }) },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant("jump" as const),
      ms: fc.oneof(fc.integer({ min: -2 * HOUR, max: 2 * HOUR }), fc.integer({ min: -4000 * DAY, max: 4000 * DAY })),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant("kill" as const),
      kill: fc.constantFrom<Kill>("before take", "after take", "before drop", "after drop"),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("forget" as const), index: fc.nat(50) }) },
);

/** What has really happened, which no clock of the vault tells. */
class Truth {
  readonly world: PolicyWorld;
  /** Seconds that passed, asleep and unmounted ones too. */
  seconds = 0;
  /** Jumps and starts. */
  breaks = 1;
  /** For each unit, seconds of work in this session since its last first. */
  readonly #without = new Map<PolicyUnit, number>();

  constructor(world: PolicyWorld) {
    this.world = world;
  }

  breakOff(): void {
    this.breaks++;
    this.#without.clear();
  }

  async work(ms: number): Promise<void> {
    const { world } = this;
    for (let left = ms; left > 0 && !world.isKilled; left -= WORK_MS) {
      const before = world.takenUnits.length;
      await world.work(WORK_MS, WORK_MS);
      this.seconds += WORK_MS / SECOND;
      const begun = new Set(world.takenUnits.slice(before).flat());
      for (const { unit } of world.classes) {
        const without = begun.has(unit) ? 0 : (this.#without.get(unit) ?? 0) + WORK_MS / SECOND;
        this.#without.set(unit, without);
        expect(without, `${unit} is not left out`).toBeLessThanOrEqual(
          LONGEST_SECONDS[unit] * 1.25 + SLACK_SECONDS + WORK_MS / SECOND,
        );
      }
    }
  }

  check(newestTaken: number | undefined): void {
    const { world } = this;
    if (newestTaken !== undefined) expect(world.automatic.at(-1)?.epoch, "the newest is there").toBe(newestTaken);
    const total = world.classes.reduce((sum, { count }) => sum + count, 0);
    expect(world.automatic.length, "never more than the policy says, and the newest").toBeLessThanOrEqual(total + 2);
    for (const unit of POLICY_UNITS) {
      const firsts = world.takenUnits.filter((units) => units.includes(unit)).length;
      const possible = this.seconds / SHORTEST_SECONDS[unit] + 2 * this.breaks + 1;
      expect(firsts, `${unit}: no more than periods that passed, and two for each jump`).toBeLessThanOrEqual(possible);
    }
  }
}

describe("random histories", () => {
  property.prop([
    fc.constantFrom(
      "hourly=4,daily=3",
      "minutely=10,hourly=3",
      "daily=2,weekly=2,monthly=2",
      "hourly=24,daily=7,weekly=4,monthly=12",
    ),
    fc.array(anyStep, { minLength: 1, maxLength: 20 }),
  ])(
    "keep the newest, keep what the policy promises for time that really passed, and no more",
    async (policy, steps) => {
      const world = new PolicyWorld(policy);
      const truth = new Truth(world);
      let forgotten = new Set<number>();
      for (const step of steps) {
        switch (step.do) {
          case "work":
            await truth.work(step.ms);
            break;
          case "idle":
            await world.idle(step.ms);
            truth.seconds += step.ms / 1000;
            truth.breakOff();
            truth.breaks--;
            break;
          case "sleep":
            world.clock.jump(step.ms);
            truth.seconds += step.ms / 1000;
            break;
          case "pause":
            await world.restart(step.ms);
            truth.seconds += step.ms / 1000;
            truth.breakOff();
            break;
          case "jump":
            world.clock.jump(step.ms);
            truth.breaks++;
            break;
          case "kill":
            world.kill = step.kill;
            break;
          case "forget":
            if (world.automatic.length === 0) break;
            forgotten = new Set([...forgotten, world.automatic[step.index % world.automatic.length]?.epoch ?? 0]);
            world.forget(step.index);
            break;
        }
        if (world.isKilled) {
          await world.restart();
          truth.breakOff();
        }
        const newest = world.takenUnits.length;
        truth.check(newest === 0 || forgotten.has(newest) ? undefined : newest);
      }
      // In the end all is tidy, and each class has what there was of it.
      world.kill = undefined;
      await world.restart();
      await world.work(2 * MINUTE);
      expect(world.surplus).toEqual([]);
      if (forgotten.size > 0) return;
      for (const { unit, count } of world.classes) {
        const firsts = world.takenUnits.filter((units) => units.includes(unit)).length;
        expect(world.keptAs(unit)).toBe(Math.min(count, firsts));
      }
    },
  );
});
