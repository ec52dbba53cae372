/** Recovery words as they are shown to a person. */

/** Six numbered rows of four. */
export function formatWordTable(words: string): string {
  const cells = words.split(" ").map((word, index) => `${String(index + 1).padStart(4)}. ${word.padEnd(10)}`);
  const rows = Array.from({ length: 6 }, (_row, at) =>
    cells
      .slice(at * 4, at * 4 + 4)
      .join("")
      .trimEnd(),
  );
  return rows.join("\n");
}
