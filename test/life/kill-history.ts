/**
 * What a vault may hold after its daemon was killed: the states that followed one another since the last that is known to
 * be durable. One client, so they are in a row; what was being asked for when the daemon went may have been done or not.
 */

/** Files by name. */
export type Tree = ReadonlyMap<string, string>;

export interface State {
  readonly tree: Tree;
  /** Trees by the snapshot's name. */
  readonly snapshots: ReadonlyMap<string, Tree>;
  /** Safety snapshots that an interrupted restore may have taken, whose names it did not tell: the state before it. */
  readonly unnamed: readonly Tree[];
}

export class KillHistory {
  #states: State[] = [{ tree: new Map(), snapshots: new Map(), unnamed: [] }];

  get now(): State {
    return this.#states.at(-1) as State;
  }

  /** Something is about to be asked for. @param outcomes - Every state that it may leave, in order. */
  begin(...outcomes: readonly State[]): void {
    this.#states.push(...outcomes);
  }

  /** It was acknowledged. @param isDurable - Nothing before it can be the state after a kill any more. */
  acknowledge(outcome: State, isDurable: boolean): void {
    while (this.#states.length > 1 && this.now !== outcome) this.#states.pop();
    if (this.now !== outcome) this.#states = [outcome];
    if (isDurable) this.#states = [outcome];
  }

  /**
   * The daemon was killed, and this is what the next one found.
   * @returns Whether it may be; then it is where the history goes on.
   */
  recover(found: Omit<State, "unnamed">): boolean {
    const possible = this.#states.some((state) => isPossible(state, found));
    this.#states = [{ ...found, unnamed: [] }];
    return possible;
  }

  /** For the message of a failure. */
  describe(): string {
    return this.#states.map(describe).join("\n");
  }
}

export function describe({ tree, snapshots }: Omit<State, "unnamed">): string {
  const told = (files: Tree): string =>
    [...files]
      .sort(([left], [right]) => (left < right ? -1 : 1))
      .map(([name, content]) => `${name}=${content.split(" ")[0]}`)
      .join(" ");
  return `{${told(tree)}} ${[...snapshots].map(([name, files]) => `${name}{${told(files)}}`).join(" ")}`;
}

function isPossible(state: State, found: Omit<State, "unnamed">): boolean {
  if (!isSame(state.tree, found.tree)) return false;
  const extra = [...found.snapshots].filter(([name]) => !state.snapshots.has(name));
  const isExpected = [...state.snapshots].every(([name, tree]) => {
    const there = found.snapshots.get(name);
    return there !== undefined && isSame(tree, there);
  });
  if (!isExpected || extra.length !== state.unnamed.length) return false;
  return extra.every(([name, tree], index) => {
    return name.startsWith("before-") && isSame(tree, state.unnamed[index] as Tree);
  });
}

function isSame(left: Tree, right: Tree): boolean {
  return left.size === right.size && [...left].every(([name, content]) => right.get(name) === content);
}
