/** A few fixed seeds, in lock step with the model; ext4 proves the model right. */
import { testModel } from "./suite.ts";
import { ext4Subject, tcfsSubject } from "./subjects.ts";

const SEEDS = [1, 101, 201];
/** All histories take a fraction of it: the same ones are played on a busy machine too. */
const SECONDS = 300;

testModel({
  name: "ext4",
  openSubject: ext4Subject,
  seeds: SEEDS,
  historiesPerSeed: 6,
  longestHistory: 150,
  withPast: false,
  secondsPerSeed: SECONDS,
});

testModel({
  name: "tcfs",
  openSubject: tcfsSubject,
  seeds: SEEDS,
  historiesPerSeed: 6,
  longestHistory: 150,
  withPast: false,
  secondsPerSeed: SECONDS,
});

testModel({
  name: "tcfs with its past",
  openSubject: tcfsSubject,
  seeds: SEEDS,
  historiesPerSeed: 6,
  longestHistory: 150,
  withPast: true,
  secondsPerSeed: SECONDS,
});
