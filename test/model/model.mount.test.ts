/** A few fixed seeds, in lock step with the model; ext4 proves the model right. */
import { testModel } from "./suite.ts";
import { ext4Subject, tcfsSubject } from "./subjects.ts";

const SEEDS = [1, 101, 201];

testModel({
  name: "ext4",
  openSubject: ext4Subject,
  seeds: SEEDS,
  historiesPerSeed: 6,
  longestHistory: 150,
  withSnapshots: false,
  secondsPerSeed: 15,
});

testModel({
  name: "tcfs",
  openSubject: tcfsSubject,
  seeds: SEEDS,
  historiesPerSeed: 6,
  longestHistory: 150,
  withSnapshots: false,
  secondsPerSeed: 30,
});

testModel({
  name: "tcfs with snapshots",
  openSubject: tcfsSubject,
  seeds: SEEDS,
  historiesPerSeed: 6,
  longestHistory: 150,
  withSnapshots: true,
  secondsPerSeed: 30,
});
