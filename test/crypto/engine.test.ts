import { describe, expect, test } from "vitest";
import { openEngine } from "../../src/crypto/open-engine.ts";
import { testEngine } from "./engine-contract.ts";
import { testAgreement } from "./engines-agree.ts";
import { engineOptions } from "./fixtures.ts";
import { testRecords } from "./record-contract.ts";

testEngine("native");
testEngine("portable");
testRecords("native");
testRecords("portable");
testAgreement("native", "portable");
testAgreement("portable", "native");

describe("openEngine", () => {
  test("takes the native engine where it loads", () => {
    const engine = openEngine(engineOptions());
    expect(engine.kind).toBe("native");
    engine.close();
  });
});
