/** New seeds each time, by the clock. */
import { randomInt } from "node:crypto";
import { testModel } from "./suite.ts";
import { tcfsSubject } from "./subjects.ts";

const seed = randomInt(2 ** 31);

testModel({
  name: "tcfs",
  openSubject: tcfsSubject,
  seeds: [seed],
  historiesPerSeed: 10_000,
  longestHistory: 400,
  withSnapshots: false,
  secondsPerSeed: 300,
});

testModel({
  name: "tcfs with snapshots",
  openSubject: tcfsSubject,
  seeds: [seed],
  historiesPerSeed: 10_000,
  longestHistory: 400,
  withSnapshots: true,
  secondsPerSeed: 300,
});
