/** The command line of `npm run bench`, and the sizes it stands for. */
import { parseArgs } from "node:util";
import { Failure } from "../lib/run.mjs";
import { ROWS } from "./rows.mjs";
import { KINDS } from "./systems.mjs";

export const USAGE = `npm run bench -- [options]
  --snapshots         what snapshots cost, instead: no other system takes part
  --store             what a SeaweedFS on this machine costs as the store, beside the bare SDK, likewise
  --unlock            what opening a vault takes by each kind of key slot, likewise
  --quick             small sizes, one round: a few minutes
  --systems a,b       of ${KINDS.map(({ name }) => name).join(", ")} (default: ext4, tcfs, gocryptfs)
  --rows a,b          rows or groups: ${[...new Set(ROWS.map(({ group }) => group))].join(", ")}
  --rounds N          alternating rounds (default 3; quick 1)
  --dir DIR           work in DIR instead of on a RAM disk
  --tree DIR          the source tree to unpack, search and commit
  --copy DIR          the tree to copy
  --no-record         leave docs/PERFORMANCE.md and docs/performance.json as they are`;

const MIB = 2 ** 20;

const FULL = {
  sizes: { seqMib: 1024, textMib: 256, randomCount: 16384, fsyncCount: 1000, smallCount: 10_000, transactions: 2000 },
  tree: { files: 20_000, bytes: 230 * MIB, largestBytes: MIB },
  copy: { files: 20_000, bytes: 500 * MIB, largestBytes: 4 * MIB },
  inodeCounts: [1000, 100_000, 1_000_000],
  store: { transferMib: 512, randomReads: 64, attachCounts: [10_000, 1_000_000], backlogMib: 10_240 },
  imageBytes: 8 * 2 ** 30,
  rounds: 3,
};

const QUICK = {
  sizes: { seqMib: 256, textMib: 64, randomCount: 4096, fsyncCount: 300, smallCount: 2000, transactions: 500 },
  tree: { files: 3000, bytes: 40 * MIB, largestBytes: MIB },
  copy: { files: 3000, bytes: 100 * MIB, largestBytes: 4 * MIB },
  inodeCounts: [1000, 100_000],
  store: { transferMib: 192, randomReads: 32, attachCounts: [10_000, 100_000], backlogMib: 1024 },
  imageBytes: 3 * 2 ** 30,
  rounds: 1,
};

/** @typedef {NonNullable<ReturnType<typeof readOptions>>} Options */

/** @returns What to measure; undefined if help was asked for. */
export function readOptions() {
  const { values } = parse();
  if (values.help === true) return undefined;
  const scale = values.quick === true ? QUICK : FULL;
  const rounds = values.rounds === undefined ? scale.rounds : Number(values.rounds);
  if (!Number.isInteger(rounds) || rounds < 1) throw new Failure("--rounds takes a whole number from 1");
  return {
    ...scale,
    rounds,
    isOfSnapshots: values.snapshots === true,
    isOfStore: values.store === true,
    isOfUnlock: values.unlock === true,
    kinds: chooseKinds(values.systems),
    groups: chooseGroups(values.rows),
    directory: values.dir,
    treeRoot: values.tree,
    copyRoot: values.copy,
    isRecorded: values["no-record"] !== true,
  };
}

function parse() {
  const text = /** @type {const} */ ({ type: "string" });
  const flag = /** @type {const} */ ({ type: "boolean" });
  try {
    return parseArgs({
      options: {
        quick: flag,
        snapshots: flag,
        store: flag,
        unlock: flag,
        systems: text,
        rows: text,
        rounds: text,
        dir: text,
        tree: text,
        copy: text,
        "no-record": flag,
        help: flag,
      },
    });
  } catch (error) {
    throw new Failure(`${error instanceof Error ? error.message : String(error)}\n${USAGE}`);
  }
}

/** @param {string} [list] */
function chooseKinds(list = "ext4,tcfs,gocryptfs") {
  return list.split(",").map((name) => {
    const kind = KINDS.find((candidate) => candidate.name === name);
    if (kind === undefined) throw new Failure(`no such system: ${name}\n${USAGE}`);
    return kind;
  });
}

/**
 * @param {string} [list]
 * @returns {ReadonlySet<string>} Groups of rows.
 */
function chooseGroups(list) {
  if (list === undefined) return new Set(ROWS.map(({ group }) => group));
  return new Set(
    list.split(",").map((name) => {
      const row = ROWS.find((candidate) => candidate.name === name || candidate.group === name);
      if (row === undefined) throw new Failure(`no such row: ${name}\n${USAGE}`);
      return row.group;
    }),
  );
}
