/**
 * When an automatic snapshot is due, what it is the first of, and which ones have had their time (docs/design/past.md,
 * Automatic snapshots, says why this stands any clock). Pure: order and two clocks in, decisions out.
 */
import { POLICY_UNITS, type AutomaticSnapshot, type PolicyClass, type PolicyUnit } from "../../format/policy-codec.ts";
import type { Epoch } from "../../ids.ts";

/** An automatic snapshot that there is. */
export interface KeptSnapshot extends AutomaticSnapshot {
  /** What the wall clock said. */
  readonly wallSeconds: number;
}

/** What the clocks say. */
export interface Moment {
  /** Seconds since 1970; may be anything. */
  readonly wallSeconds: number;
  /** Grows while the vault is mounted and the machine is awake, and never else. */
  readonly awakeSeconds: number;
  /** Of these, so many with a wall clock that stands behind the newest automatic snapshot, without a break. */
  readonly behindSeconds: number;
}

const HOUR = 3600;
const DAY = 24 * HOUR;
/** The longest that a period can be. */
const LENGTH_SECONDS: Readonly<Record<PolicyUnit, number>> = {
  minutely: 60,
  hourly: HOUR,
  daily: DAY,
  weekly: 7 * DAY,
  monthly: 31 * DAY,
  yearly: 366 * DAY,
};

/**
 * Time awake stands in for a wall clock that does not go on: after so many periods, so that a clock that was set back a
 * little does not have two snapshots taken where one was due.
 */
const AWAKE_PERIODS = 1.25;
/** A clock that went back is believed after so long, or after the policy's shortest period. */
const BELIEVED_SECONDS = 600;
/** 1970-01-01 was a Thursday; weeks begin on Monday. */
const DAYS_BEFORE_MONDAY = 3;
/** What a Date holds; clocks beyond stand still there. */
const LAST_SECOND = 8.64e12;

/**
 * Whose first it would be: of a period that the wall clock has entered since the newest one, or that must have begun,
 * so much time awake has passed since the last that was one.
 * @param automatic - Oldest first by order, whatever their times.
 */
export function unitsBegun(moment: Moment, automatic: readonly KeptSnapshot[]): PolicyUnit[] {
  return POLICY_UNITS.filter((unit) => secondsLeft(unit, moment, automatic) <= 0);
}

/** @returns Seconds until a snapshot is due, by either clock; 0 or less: now. Infinite without a policy. */
export function secondsUntilDue(
  classes: readonly PolicyClass[],
  moment: Moment,
  automatic: readonly KeptSnapshot[],
): number {
  const waits = classes.map(({ unit }) => secondsLeft(unit, moment, automatic));
  const shortest = classes[0];
  if (shortest !== undefined && isBehind(moment, automatic)) {
    waits.push(Math.min(BELIEVED_SECONDS, LENGTH_SECONDS[shortest.unit]) - moment.behindSeconds);
  }
  return Math.min(...waits);
}

/** Whether the wall clock says that it is earlier than when the newest one was taken. */
export function isBehind({ wallSeconds }: Pick<Moment, "wallSeconds">, automatic: readonly KeptSnapshot[]): boolean {
  const newest = automatic.at(-1);
  return newest !== undefined && wallSeconds < newest.wallSeconds;
}

function secondsLeft(unit: PolicyUnit, moment: Moment, automatic: readonly KeptSnapshot[]): number {
  const newest = automatic.at(-1);
  const oldest = automatic[0];
  if (newest === undefined || oldest === undefined) return 0;
  const lastFirst = automatic.findLast(({ units }) => units.includes(unit)) ?? oldest;
  const byAwake = lastFirst.awakeSeconds + AWAKE_PERIODS * LENGTH_SECONDS[unit] - moment.awakeSeconds;
  return Math.min(byAwake, startOfNext(unit, newest.wallSeconds) - moment.wallSeconds);
}

/** When the period after the one of `seconds` begins: in UTC, on the calendar. */
function startOfNext(unit: PolicyUnit, seconds: number): number {
  const known = Math.min(Math.max(seconds, -LAST_SECOND), LAST_SECOND);
  switch (unit) {
    case "minutely":
    case "hourly":
    case "daily":
      return (Math.floor(known / LENGTH_SECONDS[unit]) + 1) * LENGTH_SECONDS[unit];
    case "weekly": {
      const week = Math.floor((Math.floor(known / DAY) + DAYS_BEFORE_MONDAY) / 7);
      return ((week + 1) * 7 - DAYS_BEFORE_MONDAY) * DAY;
    }
    case "monthly":
    case "yearly": {
      const date = new Date(known * 1000);
      const next = unit === "monthly" ? monthAfter(date) : monthAfter(date, 12 - date.getUTCMonth());
      return Number.isNaN(next) ? Infinity : next;
    }
  }
}

/** The start of the month that follows after so many, in seconds. `Date.UTC` would take years below 100 for others. */
function monthAfter(date: Date, months = 1): number {
  const start = new Date(date);
  start.setUTCHours(0, 0, 0, 0);
  start.setUTCMonth(date.getUTCMonth() + months, 1);
  return start.getTime() / 1000;
}

/** In which classes each one is kept, by order alone: the newest `count` firsts of each. */
export function keptIn(
  classes: readonly PolicyClass[],
  automatic: readonly AutomaticSnapshot[],
): ReadonlyMap<Epoch, readonly PolicyUnit[]> {
  const kept = new Map<Epoch, PolicyUnit[]>(automatic.map(({ epoch }) => [epoch, []]));
  for (const { unit, count } of classes) {
    const firsts = automatic.filter(({ units }) => units.includes(unit));
    for (const { epoch } of firsts.slice(-count)) kept.get(epoch)?.push(unit);
  }
  return kept;
}

/** @returns Those to be dropped: in no class, and not the newest. None without a policy. */
export function surplus(classes: readonly PolicyClass[], automatic: readonly AutomaticSnapshot[]): Epoch[] {
  if (classes.length === 0) return [];
  const kept = keptIn(classes, automatic);
  return automatic.slice(0, -1).flatMap(({ epoch }) => (kept.get(epoch)?.length === 0 ? [epoch] : []));
}
