import { fc, test } from "@fast-check/vitest";
import { describe, expect } from "vitest";
import { ByteWriter } from "../../src/bytes.ts";
import {
  MAX_POLICY_SNAPSHOTS,
  POLICY_UNITS,
  decodePolicy,
  encodePolicy,
  type PolicyRecord,
} from "../../src/format/policy-codec.ts";
import type { Epoch } from "../../src/ids.ts";
import { anyEpoch } from "./arbitrary-records.ts";

const inOrder = (units: readonly (typeof POLICY_UNITS)[number][]): (typeof POLICY_UNITS)[number][] =>
  POLICY_UNITS.filter((unit) => units.includes(unit));

const anyPolicy: fc.Arbitrary<PolicyRecord> = fc.record({
  classes: fc
    .tuple(fc.subarray([...POLICY_UNITS]), fc.integer({ min: 1, max: Math.floor(MAX_POLICY_SNAPSHOTS / 6) }))
    .map(([units, count]) => inOrder(units).map((unit) => ({ unit, count }))),
  automatic: fc.uniqueArray(anyEpoch, { maxLength: 20 }).chain((epochs) =>
    fc.tuple(
      ...epochs
        .toSorted((a, b) => a - b)
        .map((epoch) =>
          fc.record({
            epoch: fc.constant(epoch),
            units: fc.subarray([...POLICY_UNITS]).map(inOrder),
            awakeSeconds: fc.maxSafeNat(),
          }),
        ),
    ),
  ),
});

function encoded(policy: PolicyRecord, epoch = 7): Uint8Array {
  const writer = new ByteWriter();
  encodePolicy(writer, epoch as Epoch, policy);
  return new Uint8Array(writer.take());
}

describe("a policy record", () => {
  test.prop([anyPolicy])("comes back as it was", (policy) => {
    expect(decodePolicy(encoded(policy))).toEqual(policy);
  });

  test.prop([anyPolicy, fc.nat(), fc.integer({ min: 1, max: 255 })])(
    "with any byte changed is refused, or another record that would be written so",
    (policy, at, change) => {
      const bytes = encoded(policy);
      const index = at % bytes.length;
      bytes[index] = (bytes[index] as number) ^ change;
      let decoded;
      try {
        decoded = decodePolicy(bytes);
      } catch (error) {
        expect(error).toMatchObject({ code: "TCFS_CORRUPT" });
        return;
      }
      expect(encoded(decoded).subarray(4)).toEqual(bytes.subarray(4));
    },
  );

  test.prop([fc.uint8Array({ maxLength: 60 })])("of any bytes is refused, or one that would be written so", (bytes) => {
    let decoded;
    try {
      decoded = decodePolicy(bytes);
    } catch (error) {
      expect(error).toMatchObject({ code: "TCFS_CORRUPT" });
      return;
    }
    expect(encoded(decoded).subarray(4)).toEqual(bytes.subarray(4));
  });

  test.each([
    ["an unknown unit", "00 01 07 0100 0000"],
    ["unit 0", "00 01 00 0100 0000"],
    ["a class without snapshots", "00 01 01 0000 0000"],
    ["a unit twice", "00 02 02 0100 02 0100 0000"],
    ["units out of order", "00 02 03 0100 02 0100 0000"],
    ["more snapshots than half of what there can be", "00 02 01 ff0f 02 0100 0000"],
    ["an automatic snapshot of epoch 0", "00 00 0100 00000000 01 0000000000000000"],
    ["an unknown unit of one", "00 00 0100 01000000 40 0000000000000000"],
    ["snapshots out of order", "00 00 0200 02000000 01 0000000000000000 02000000 01 0000000000000000"],
    ["more automatic snapshots than there can be", "00 00 ff1f"],
    ["a byte too many", "00 00 0000 00"],
  ])("with %s is refused", (_, hex) => {
    const bytes = Buffer.from(`010000${hex}`.replaceAll(" ", ""), "hex");
    expect(() => decodePolicy(bytes)).toThrow(expect.objectContaining({ code: "TCFS_CORRUPT" }));
  });

  test("is what FORMAT.md's example says", () => {
    const policy: PolicyRecord = {
      classes: [
        { unit: "hourly", count: 24 },
        { unit: "daily", count: 7 },
      ],
      automatic: [{ epoch: 3 as Epoch, units: ["minutely", "hourly"], awakeSeconds: 3600 }],
    };
    expect(Buffer.from(encoded(policy, 4)).toString("hex")).toBe(
      "04000000" + "02" + "021800" + "030700" + "0100" + "03000000" + "03" + "100e000000000000",
    );
  });
});
