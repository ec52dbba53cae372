/** The policy of automatic snapshots through the command and a daemon; what it does later is in test/fs. */
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { eventually } from "../support/run.ts";
import { CommandLine } from "./fixtures.ts";

/** No hours or minutes: one that began during the test would have another snapshot taken. */
const POLICY = "daily=7,weekly=4,monthly=12";
const AUTOMATIC = /^auto-\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/u;

interface Figures {
  readonly name: string;
  readonly isAutomatic: boolean;
  readonly classes: readonly string[];
}

async function snapshotsOf(line: CommandLine): Promise<Figures[]> {
  return JSON.parse((await line.expect("OK", ["snapshots", "--json", ...line.unlock])).stdout) as Figures[];
}

async function statusOf(line: CommandLine): Promise<{ snapshotPolicy: { policy: string | null } }> {
  const { stdout } = await line.expect("OK", ["status", "--json", ...line.unlock]);
  return JSON.parse(stdout) as { snapshotPolicy: { policy: string | null } };
}

test("a policy is set on a mounted vault, takes its first snapshot at once, and survives a kill", async () => {
  await using line = await CommandLine.make();
  await line.mount();
  await writeFile(join(line.mountPoint, "file"), "then");
  const set = await line.expect("OK", ["snapshot", "--policy", ` weekly=4, daily=7,monthly=12`, ...line.unlock]);
  expect(set.stdout).toBe(`while the vault is mounted, automatic snapshots are kept as ${POLICY}\n`);
  process.kill(line.pid(), "SIGKILL");
  await line.daemonEnds(line.pid());
  await line.mount();
  const [name, ...others] = await readdir(join(line.mountPoint, ".snapshots"));
  expect([name, others]).toEqual([expect.stringMatching(AUTOMATIC), []]);
  expect(await readFile(join(line.mountPoint, ".snapshots", name ?? "", "file"), "utf8")).toBe("then");
  await line.expect("OK", ["snapshot", "mine", ...line.unlock]);
  expect(await snapshotsOf(line)).toMatchObject([
    { name, isAutomatic: true, classes: ["daily", "weekly", "monthly"] },
    { name: "mine", isAutomatic: false, classes: [] },
  ]);
  const told = (await line.expect("OK", ["snapshots", ...line.unlock])).stdout;
  expect(told).toMatch(
    /KEPT AS[^]*daily, weekly, monthly[^]*\npolicy: daily=7,.* 1 automatic snapshot, the next at \d/u,
  );
  expect((await line.expect("OK", ["status", ...line.unlock])).stdout).toContain(`\npolicy          ${POLICY}; 1 auto`);
  const end = async (): Promise<string> =>
    (await line.expect("OK", ["snapshot", "--policy", "none", ...line.unlock])).stdout;
  expect(await end()).toBe("no automatic snapshots are taken any more; those taken so far (1) stay until forgotten\n");
  await line.expect("OK", ["forget", name ?? "", ...line.unlock]);
  expect(await end()).toBe("no automatic snapshots are taken any more\n");
  expect((await statusOf(line)).snapshotPolicy.policy).toBeNull();
  await line.umount();
});

test("a policy of an unmounted vault begins with the next mount that may write", async () => {
  await using line = await CommandLine.make();
  await line.expect("OK", ["snapshot", "--policy", "minutely=2", ...line.unlock]);
  expect(await snapshotsOf(line)).toEqual([]);
  expect((await line.expect("OK", ["snapshots", ...line.unlock])).stdout).toBe(
    "there are no snapshots\npolicy: minutely=2; 0 automatic snapshots, the next is due if anything changes\n",
  );
  await line.mount("--read-only");
  await line.expect("NOT_PERMITTED", ["snapshot", "--policy", "hourly=1", ...line.unlock]);
  expect((await statusOf(line)).snapshotPolicy.policy).toBe("minutely=2");
  await line.umount();
  await line.mount();
  const list = (): Promise<string[]> => readdir(join(line.mountPoint, ".snapshots"));
  await eventually("the first is taken", 60_000, async () => (await list()).length === 1);
  expect(await snapshotsOf(line)).toMatchObject([{ isAutomatic: true, classes: ["minutely"] }]);
  await line.umount();
});

test("what cannot be a policy is refused before anything is asked for", async () => {
  await using line = await CommandLine.make({ isBare: true });
  const wrong = async (words: readonly string[], why: string): Promise<void> => {
    expect((await line.expect("USAGE", ["snapshot", ...words])).stderr).toContain(why);
  };
  await wrong(["--policy", "houly=24"], "did you mean hourly?");
  await wrong(["--policy", "daily"], "does not say how many");
  await wrong(["--policy", "daily=0"], "leave daily out");
  await wrong(["--policy"], "--policy needs a value: tcfs snapshot --help");
  await wrong(["--policy", ""], "the policy is empty");
  await wrong(["name", "--policy", "daily=7"], "--policy stands alone");
  await wrong(["--policy", "daily=7", "--policy", "houly=8"], "did you mean hourly?");
  await wrong([], "say how the snapshot is to be called");
});
