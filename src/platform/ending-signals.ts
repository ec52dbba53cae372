/** Clean up when a signal ends the process: a terminal without echo and secrets in scratch files must not stay behind. */

/** Those that end a process which does not say otherwise, and that a user or a system sends. */
const ENDING_SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"] as const;

/**
 * Clean up before a signal ends the process, as it would have without this.
 * @param cleanUp - Runs to its end at once; more than once if more than one signal comes.
 * @returns Ends the watch.
 */
export function onEndingSignal(cleanUp: () => void): () => void {
  const ends = ENDING_SIGNALS.map((signal) => {
    const listener = (): void => {
      cleanUp();
      process.removeListener(signal, listener);
      process.kill(process.pid, signal);
    };
    process.on(signal, listener);
    return () => process.removeListener(signal, listener);
  });
  return () => {
    for (const end of ends) end();
  };
}
