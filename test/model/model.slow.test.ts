/** Long histories, by the clock. TCFS_MODEL_SEED and TCFS_MODEL_SECONDS try others, for longer. */
import { testModel } from "./suite.ts";
import { tcfsSubject } from "./subjects.ts";

const seed = 20_261_122;
const seconds = 120;

testModel({
  name: "tcfs",
  openSubject: tcfsSubject,
  seeds: [seed],
  historiesPerSeed: 10_000,
  longestHistory: 400,
  withPast: false,
  secondsPerSeed: seconds,
});

testModel({
  name: "tcfs with its past",
  openSubject: tcfsSubject,
  seeds: [seed],
  historiesPerSeed: 10_000,
  longestHistory: 400,
  withPast: true,
  secondsPerSeed: seconds,
});
