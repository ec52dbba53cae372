import { describe, expect, it } from "vitest";
import { aclWithMode, decodeAcl, encodeAcl, inheritAcl, isMinimalAcl, modeFromAcl } from "../../src/fs/acl.ts";

const entry = (
  tag: number,
  permissions: number,
  id = 0xffffffff,
): { tag: number; permissions: number; id: number } => ({
  tag,
  permissions,
  id,
});
const MINIMAL = [entry(1, 6), entry(4, 4), entry(32, 0)];
const NAMED = [entry(1, 7), entry(2, 6, 1000), entry(4, 5), entry(16, 7), entry(32, 1)];

describe("POSIX ACLs", () => {
  it("decodes what it encodes", () => {
    expect(decodeAcl(encodeAcl(NAMED))).toEqual(NAMED);
  });

  it.each([
    ["empty bytes", new Uint8Array(0)],
    ["an unknown version", new Uint8Array([3, 0, 0, 0])],
    ["half an entry", encodeAcl(MINIMAL).subarray(0, 9)],
    ["no owner entry", encodeAcl(MINIMAL.slice(1))],
    ["named entries without a mask", encodeAcl(NAMED.filter((one) => one.tag !== 16))],
    ["an unknown tag", encodeAcl([...MINIMAL, entry(64, 1)])],
    ["permissions beyond rwx", encodeAcl([entry(1, 8), entry(4, 4), entry(32, 0)])],
  ])("refuses %s", (_title, value) => {
    expect(() => decodeAcl(value)).toThrow(expect.objectContaining({ code: "TCFS_INVALID" }) as Error);
  });

  it("takes the mode's group bits from the mask where there is one", () => {
    expect(modeFromAcl(NAMED, 0o100000)).toBe(0o100771);
    expect(modeFromAcl(MINIMAL, 0o104777)).toBe(0o104640);
  });

  it("chmod changes owner, mask and other, not the group entry behind a mask", () => {
    const acl = aclWithMode(NAMED, 0o640);
    expect(acl.map((one) => one.permissions)).toEqual([6, 6, 5, 4, 0]);
    expect(aclWithMode(MINIMAL, 0o751).map((one) => one.permissions)).toEqual([7, 5, 1]);
  });

  it("inheritance takes away what the mode asked for does not have", () => {
    const { mode, access } = inheritAcl(NAMED, 0o100640);
    expect(mode).toBe(0o100640);
    expect(access.map((one) => one.permissions)).toEqual([6, 6, 5, 4, 0]);
    expect(isMinimalAcl(access)).toBe(false);
    expect(isMinimalAcl(inheritAcl(MINIMAL, 0o100777).access)).toBe(true);
  });
});
