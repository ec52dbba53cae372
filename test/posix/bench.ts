/** What every case of the POSIX suite works with: three actors in a fresh directory of the target. */
import { copyFile, chmod } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "vitest";
import { Cleanup } from "../support/cleanup.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";
import { compileDriver, Driver, errnoOf } from "./driver.ts";

/** In what targets may rightly differ. */
export interface Traits {
  /** Largest length of a file. */
  readonly maximumFileBytes: bigint;
  /** The error of a write beyond that; at 2^63 the kernel itself finds the offset out of range. */
  readonly beyondMaximum: "EFBIG" | "EINVAL";
  /** Largest xattr value that fits. */
  readonly maximumXattrBytes: number;
  /** The error of one more byte than that. */
  readonly xattrOverflow: "ENOSPC" | "E2BIG";
  /** Seconds that a time can hold, both ends included. */
  readonly timeRange: readonly [bigint, bigint];
}

export interface Target extends AsyncDisposable {
  /** A directory on the filesystem under test, owned by root and open to all. */
  readonly directory: string;
  readonly traits: Traits;
}

export const ALICE = { uid: 4001, gid: 4001, extraGid: 4100 };
export const BOB = { uid: 4002, gid: 4002 };

export class Bench {
  readonly #cleanup = new Cleanup();
  #target: Target | undefined;
  #caseCount = 0;
  #program = "";
  #drivers: readonly Driver[] = [];
  /** The case's own directory, 0777; every actor's working directory. */
  directory = "";

  async open(openTarget: () => Promise<Target>): Promise<void> {
    const tools = this.#cleanup.use(await temporaryDirectory("posix"));
    this.#program = await compileDriver(tools.path);
    this.#target = this.#cleanup.use(await openTarget());
    this.#drivers = [1, 2, 3, 4].map(() => this.#cleanup.use(new Driver(this.#program)));
    await this.alice.become(ALICE.uid, ALICE.gid, [ALICE.extraGid]);
    await this.bob.become(BOB.uid, BOB.gid, []);
  }

  async close(): Promise<void> {
    await this.#cleanup[Symbol.asyncDispose]();
  }

  /** Called before each case. */
  async nextCase(): Promise<void> {
    this.directory = join(this.target.directory, `case-${this.#caseCount++}`);
    await this.root.reset(this.target.directory);
    await this.root.mkdir(this.directory);
    await this.root.chmod(this.directory, 0o777);
    for (const driver of this.#drivers) await driver.reset(this.directory);
  }

  get target(): Target {
    return this.#target!;
  }
  get traits(): Traits {
    return this.target.traits;
  }
  /** Has every capability. */
  get root(): Driver {
    return this.#drivers[0]!;
  }
  /** A second process of root's. */
  get root2(): Driver {
    return this.#drivers[1]!;
  }
  /** {@link ALICE}: an ordinary user with one supplementary group. */
  get alice(): Driver {
    return this.#drivers[2]!;
  }
  /** {@link BOB}: another ordinary user. */
  get bob(): Driver {
    return this.#drivers[3]!;
  }

  path(name: string): string {
    return join(this.directory, name);
  }

  /** The driver program itself, as an executable in the case's directory. */
  async program(name: string, mode = 0o755): Promise<void> {
    await copyFile(this.#program, this.path(name));
    await chmod(this.path(name), mode);
  }
}

/** The call must fail with this errno. */
export async function refuses(errno: string, call: Promise<unknown>): Promise<void> {
  expect(await errnoOf(call)).toBe(errno);
}

export const permissionBits = (mode: number): number => mode & 0o7777;
