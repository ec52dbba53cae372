/** Nobody gets more rights to a restored file than its mode and ACL gave. */
import { fc, test } from "@fast-check/vitest";
import { expect, test as plain } from "vitest";
import type { Acl } from "../../../src/fs/acl.ts";
import { rightsOutside } from "../../../src/cli/restore-out/rights.ts";

const SAME = { isOwnerKept: true, isGroupKept: true, keepsSetId: false, lostAcl: undefined };
const MOVED = { ...SAME, isOwnerKept: false, isGroupKept: false };

const mode = fc.integer({ min: 0, max: 0o7777 });
const bits = fc.integer({ min: 0, max: 7 });

plain("modes that mean the same for everybody stay, others are narrowed", () => {
  expect(rightsOutside(0o644, MOVED)).toBe(0o644);
  expect(rightsOutside(0o640, MOVED)).toBe(0o600);
  expect(rightsOutside(0o664, MOVED)).toBe(0o644);
  expect(rightsOutside(0o604, MOVED)).toBe(0o600);
  expect(rightsOutside(0o4755, SAME)).toBe(0o755);
  expect(rightsOutside(0o4755, { ...SAME, keepsSetId: true })).toBe(0o4755);
  expect(rightsOutside(0o1777, SAME)).toBe(0o1777);
});

test.prop([mode])("a file that stays its owner's keeps its permissions", (bitsOfMode) => {
  expect(rightsOutside(bitsOfMode, { ...SAME, keepsSetId: true })).toBe(bitsOfMode);
});

test.prop([mode])("where the group is another, group and others get only what both had", (bitsOfMode) => {
  const rights = rightsOutside(bitsOfMode, MOVED);
  expect((rights >> 3) & 7 & ~((bitsOfMode >> 3) & bitsOfMode)).toBe(0);
  expect(rights & 7 & ~((bitsOfMode >> 3) & bitsOfMode)).toBe(0);
  expect(rights & 0o6000).toBe(0);
});

test.prop([bits, bits, bits, bits, bits])(
  "without its ACL nobody gets what it kept from him",
  (own, named, group, mask, other) => {
    const entry = (tag: number, permissions: number): Acl[number] => ({ tag, permissions, id: 0 });
    const lostAcl = [entry(1, own), entry(2, named), entry(4, group), entry(16, mask), entry(32, other)];
    const rights = rightsOutside((own << 6) | (mask << 3) | other, { ...SAME, lostAcl });
    expect((rights >> 3) & 7 & ~(group & mask)).toBe(0);
    // Whom the entry names may be in the group, or among the others.
    expect((rights >> 3) & 7 & ~(named & mask)).toBe(0);
    expect(rights & 7 & ~(named & mask)).toBe(0);
    expect(rights & 7 & ~other).toBe(0);
  },
);
