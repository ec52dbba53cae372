import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  type Device,
  type DeviceList,
  NO_DEVICES,
  checkDeviceName,
  deviceNameOf,
  findDevice,
  formatDevices,
  mergeDevices,
  parseDevices,
  pickDevice,
  withDevice,
} from "../../src/keys/devices/device-list.ts";
import { toHex } from "../../src/bytes.ts";
import { noise } from "../crypto/fixtures.ts";

const code = (name: string): unknown => expect.objectContaining({ code: name });
const AT = "2026-11-22T10:00:00.000Z";
const device = (name: string, revoked: Device["revoked"] = null): Device => ({
  id: noise(`id ${name}`, 16),
  name,
  publicKey: noise(`key ${name}`, 32),
  enrolledAt: AT,
  tpm: null,
  revoked,
});
const REVOKED = { at: AT, number: 7, headHash: noise("head", 32) };
const list = (revision: number, ...devices: Device[]): DeviceList => ({ revision, devices });
const says = ({ devices }: DeviceList): string[] =>
  devices.map(({ id, revoked }) => `${toHex(id)} ${String(revoked !== null)}`).sort();

describe("a list of devices", () => {
  test("comes back as it was", () => {
    const tpm = {
      endorsementKey: noise("ek", 294),
      public: noise("ak", 90),
      certificate: { sha256: noise("certificate", 32), issuer: "CN=a maker" },
      pcrBank: "sha256" as const,
      pcrs: [0, 7],
      pcrDigests: [noise("0", 32), noise("7", 32)],
      attestedAt: AT,
    };
    const one = list(3, device("a"), device("b", REVOKED), { ...device("ü ✓"), tpm });
    expect(parseDevices(formatDevices(one))).toEqual(one);
  });

  test("is refused with a member too many, a name that is none, a device twice, or none at all", () => {
    const text = (value: unknown): Uint8Array => new TextEncoder().encode(JSON.stringify(value));
    const good = JSON.parse(new TextDecoder().decode(formatDevices(list(1, device("a"))))) as {
      devices: Record<string, unknown>[];
    };
    const [only] = good.devices;
    for (const bad of [
      { ...good, more: 1 },
      { ...good, revision: 0 },
      { ...good, devices: [] },
      { ...good, devices: [only, only] },
      { ...good, devices: [{ ...only, name: "" }] },
      { ...good, devices: [{ ...only, name: "a\nb" }] },
      { ...good, devices: [{ ...only, publicKey: "00" }] },
      { ...good, devices: [{ ...only, trusted: true }] },
      { ...good, devices: [{ ...only, tpm: {} }] },
    ])
      expect(() => parseDevices(text(bad)), JSON.stringify(bad)).toThrow(code("TCFS_CORRUPT"));
    expect(() => parseDevices(Uint8Array.of(0xff))).toThrow(code("TCFS_CORRUPT"));
  });

  test("loses no device and no revocation when two are merged, in either order, and then both agree", () => {
    const names = fc.uniqueArray(fc.constantFrom("a", "b", "c", "d", "e"));
    const arbitrary = fc
      .record({ revision: fc.integer({ min: 1, max: 4 }), names, revoked: names })
      .filter(({ names: some }) => some.length > 0)
      .map((one) => list(one.revision, ...one.names.map((n) => device(n, one.revoked.includes(n) ? REVOKED : null))));
    fc.assert(
      fc.property(arbitrary, arbitrary, (left, right) => {
        const merged = mergeDevices(left, right);
        expect(says(mergeDevices(right, left))).toEqual(says(merged));
        for (const one of [left, right]) {
          for (const { id, revoked } of one.devices) {
            const found = findDevice(merged, id);
            expect(found).toBeDefined();
            if (revoked !== null) expect(found?.revoked).not.toBeNull();
          }
          expect(merged.revision).toBeGreaterThanOrEqual(one.revision);
          // It is a later one than whatever it differs from, so that everybody takes it over.
          if (says(one).join() !== says(merged).join()) expect(merged.revision).toBeGreaterThan(one.revision);
          expect(mergeDevices(one, merged)).toBe(merged);
        }
      }),
    );
    const one = list(1, device("a"));
    expect(mergeDevices(one, NO_DEVICES)).toBe(one);
    expect(mergeDevices(NO_DEVICES, one)).toBe(one);
  });

  test("with another key for a device that is known is refused", () => {
    const forged = list(9, { ...device("a"), publicKey: noise("forged", 32) });
    expect(() => mergeDevices(list(1, device("a")), forged)).toThrow(code("TCFS_REMOTE_DIVERGED"));
  });

  test("takes so many and no more, and each once", () => {
    let all = list(1, device("0"));
    for (let index = 1; index < 64; index++) all = withDevice(all, device(String(index)));
    expect(all).toMatchObject({ revision: 64 });
    expect(() => withDevice(all, device("64"))).toThrow(code("TCFS_USAGE"));
    expect(withDevice(all, device("5", REVOKED)).devices[5]?.revoked).toEqual(REVOKED);
  });

  test("finds a device by its name or the beginning of its id, and asks where it is not one", () => {
    const all = list(1, device("laptop"), device("desk"), { ...device("other"), name: "desk" });
    expect(pickDevice(all, "laptop").name).toBe("laptop");
    expect(pickDevice(all, toHex(noise("id other", 16)).slice(0, 10)).id).toEqual(noise("id other", 16));
    for (const word of ["desk", "nobody", ""]) expect(() => pickDevice(all, word)).toThrow(code("TCFS_USAGE"));
  });

  test("has names of one line", () => {
    expect(checkDeviceName("laptop")).toBe("laptop");
    for (const name of ["", "a\tb", "x".repeat(65)]) expect(() => checkDeviceName(name)).toThrow(code("TCFS_USAGE"));
    expect(deviceNameOf("host\n")).toBe("host");
    expect(deviceNameOf("")).toBe("unnamed");
  });
});
