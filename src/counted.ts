/** Numbers of things in sentences for people. Pure. */

/**
 * @param many - What several are called, where that is not `one` with an s behind it.
 * @returns `1 file`, `2 files`, `0 files`.
 */
export function counted(count: number, one: string, many = `${one}s`): string {
  return `${count} ${count === 1 ? one : many}`;
}
