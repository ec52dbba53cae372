/** A policy as it is typed and told: `hourly=24,daily=7`. Pure. */
import { TcfsError } from "../../errors.ts";
import { MAX_POLICY_SNAPSHOTS, POLICY_UNITS, type PolicyClass, type PolicyUnit } from "../../format/policy-codec.ts";
import { nearNames } from "./near-names.ts";

const EXAMPLE = "hourly=24,daily=7,weekly=4,monthly=12";
const NO_POLICY_WORD = "none";
/** What else a period may be called by mistake. */
const ADVERB_OF: ReadonlyMap<string, PolicyUnit> = new Map([
  ["minute", "minutely"],
  ["hour", "hourly"],
  ["day", "daily"],
  ["week", "weekly"],
  ["month", "monthly"],
  ["year", "yearly"],
]);

/**
 * @param text - `unit=count` once or more, with commas between; or `none`.
 * @returns The classes, shortest periods first; none for `none`.
 * @throws TcfsError `TCFS_USAGE` that says what is wrong and what may have been meant.
 */
export function parsePolicy(text: string): PolicyClass[] {
  if (text.trim().toLowerCase() === NO_POLICY_WORD) return [];
  const parts = text.split(",").map((part) => part.trim());
  if (parts.every((part) => part === "")) throw usage(`the policy is empty: say ${EXAMPLE}, or ${NO_POLICY_WORD}`);
  const counts = new Map<PolicyUnit, number>();
  for (const part of parts) {
    const { unit, count } = parseClass(part);
    if (counts.has(unit)) throw usage(`the policy says ${unit} twice`);
    counts.set(unit, count);
  }
  const total = [...counts.values()].reduce((sum, count) => sum + count, 0);
  if (total > MAX_POLICY_SNAPSHOTS) {
    throw usage(`the policy keeps ${total} snapshots: all classes together may keep ${MAX_POLICY_SNAPSHOTS}`);
  }
  return POLICY_UNITS.flatMap((unit) => {
    const count = counts.get(unit);
    return count === undefined ? [] : [{ unit, count }];
  });
}

function parseClass(part: string): PolicyClass {
  if (part === "") throw usage(`the policy has a comma too many: say ${EXAMPLE}`);
  const [word = "", digits, ...more] = part.split("=").map((side) => side.trim());
  const unit = POLICY_UNITS.find((known) => known === word.toLowerCase());
  if (unit === undefined) throw usage(`“${word}” is no part of a policy: ${suggestion(word)}`);
  if (digits === undefined || digits === "") throw usage(`the policy does not say how many: ${unit}=N`);
  const count = more.length === 0 && /^\d{1,9}$/u.test(digits) ? Number(digits) : 0;
  if (count < 1 || count > MAX_POLICY_SNAPSHOTS) {
    const hint = /^0+$/u.test(digits) ? ` (to keep none, leave ${unit} out)` : "";
    throw usage(`“${part}”: the number must be 1 to ${MAX_POLICY_SNAPSHOTS}${hint}`);
  }
  return { unit, count };
}

function suggestion(word: string): string {
  if (word.toLowerCase() === NO_POLICY_WORD) return `${NO_POLICY_WORD} stands alone`;
  const near = nearNames(word, [...POLICY_UNITS, ...ADVERB_OF.keys()]).map((name) => ADVERB_OF.get(name) ?? name);
  return near.length > 0
    ? `did you mean ${[...new Set(near)].join(" or ")}?`
    : `it may have ${POLICY_UNITS.join(", ")}`;
}

/** As {@link parsePolicy} takes it; `none` without classes. */
export function formatPolicy(classes: readonly PolicyClass[]): string {
  return classes.length === 0 ? NO_POLICY_WORD : classes.map(({ unit, count }) => `${unit}=${count}`).join(",");
}

function usage(message: string): TcfsError {
  return new TcfsError("TCFS_USAGE", message);
}
