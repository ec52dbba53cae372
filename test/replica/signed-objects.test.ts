/** What devices sign, and what is refused: unknown, revoked, altered, moved (FORMAT.md §11.6). */
import { describe, expect, test } from "vitest";
import { ObjectSealer } from "../../src/crypto/object-seal.ts";
import { SigningKey } from "../../src/crypto/signing-key.ts";
import { type Manifest, type Root, encodeManifest, encodeRoot } from "../../src/format/replica-codec.ts";
import type { DeviceIdentity } from "../../src/keys/devices/device-book.ts";
import type { Device, DeviceList } from "../../src/keys/devices/device-list.ts";
import { systemRandom } from "../../src/platform/random.ts";
import { DirectoryStore } from "../../src/remote/directory-store.ts";
import { pushDevices, readRemoteDevices } from "../../src/replica/remote-devices.ts";
import { readRoot } from "../../src/replica/remote-root.ts";
import { openManifest, openRoot, sealSigned } from "../../src/replica/signed-objects.ts";
import { firstEpoch, noise } from "../crypto/fixtures.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

const AT = "2026-11-22T10:00:00.000Z";
const sealer = new ObjectSealer(firstEpoch(noise("store", 32)), noise("vault", 16), systemRandom);
const code = (name: string): Error => expect.objectContaining({ code: name }) as Error;

const identity = (name: string): DeviceIdentity => ({
  id: noise(`id ${name}`, 16),
  key: new SigningKey(noise(`seed ${name}`, 32)),
});
const entry = (name: string, revoked: Device["revoked"] = null): Device => {
  const { id, key } = identity(name);
  return { id, name, publicKey: key.publicKey, enrolledAt: AT, tpm: null, revoked };
};
const listOf = (...devices: Device[]): DeviceList => ({ revision: 1, devices });

const root = (writer: string, number = 7, headHash = noise("head", 32)): Root => ({
  number,
  headKind: "checkpoint",
  headHash,
  checkpoint: number,
  deviceId: identity(writer).id,
  time: { seconds: 0, nanoseconds: 0 },
  commit: 1,
  headerRevision: 1,
  devicesRevision: 1,
  kept: [],
});
const manifest = (writer: string, number = 7): Manifest => ({
  number,
  deviceId: identity(writer).id,
  previousHash: new Uint8Array(32),
  time: { seconds: 0, nanoseconds: 0 },
  commit: 1,
  lost: [],
  stream: { kind: "inline", content: new Uint8Array(3) },
});
const ROOT_PLACE = { kind: "root", number: 0 } as const;
const rootObject = (one: Root, signer: string): Uint8Array =>
  sealSigned(sealer, identity(signer), ROOT_PLACE, encodeRoot(one));
const PLACE = { kind: "commit", number: 7 } as const;
const manifestObject = (one: Manifest, signer: string): Uint8Array =>
  sealSigned(sealer, identity(signer), PLACE, encodeManifest(one));

describe("a signed root or manifest", () => {
  test("opens if a device of the list wrote it, among others", () => {
    const devices = listOf(entry("b"), entry("a"));
    expect(openRoot(sealer, devices, rootObject(root("a"), "a"))).toEqual(root("a"));
    expect(openManifest(sealer, devices, PLACE, manifestObject(manifest("a"), "a"))).toEqual(manifest("a"));
  });

  test("is refused if nobody knows the device, though it has the vault key", () => {
    const object = rootObject(root("stranger"), "stranger");
    expect(() => openRoot(sealer, listOf(entry("a")), object)).toThrow(code("TCFS_DEVICE_UNKNOWN"));
    const step = manifestObject(manifest("stranger"), "stranger");
    expect(() => openManifest(sealer, listOf(entry("a")), PLACE, step)).toThrow(code("TCFS_DEVICE_UNKNOWN"));
  });

  test("is refused if another device signed it, or the signature is for another step or kind", () => {
    const devices = listOf(entry("a"), entry("b"));
    expect(() => openRoot(sealer, devices, rootObject(root("a"), "b"))).toThrow(code("TCFS_BAD_SIGNATURE"));
    // Sealed under the right place by who has the vault key, with a signature that was made for another.
    const fields = encodeManifest(manifest("a"));
    for (const [kind, number] of [
      ["commit", 6],
      ["checkpoint", 7],
    ] as const) {
      const signature = identity("a").key.sign(sealer.signable(kind, number, fields));
      const moved = sealer.seal("commit", 7, Buffer.concat([fields, signature]));
      expect(() => openManifest(sealer, devices, PLACE, moved)).toThrow(code("TCFS_BAD_SIGNATURE"));
    }
    const other = new ObjectSealer(firstEpoch(noise("store", 32)), noise("another vault", 16), systemRandom);
    const foreign = identity("a").key.sign(other.signable("commit", 7, fields));
    const brought = sealer.seal("commit", 7, Buffer.concat([fields, foreign]));
    expect(() => openManifest(sealer, devices, PLACE, brought)).toThrow(code("TCFS_BAD_SIGNATURE"));
  });

  test("is refused with any bit of the fields or the signature changed, and without a signature", () => {
    const devices = listOf(entry("a"));
    const fields = encodeRoot(root("a"));
    const good = Buffer.concat([fields, identity("a").key.sign(sealer.signable("root", 0, fields))]);
    for (let at = 0; at < good.length; at++) {
      const altered = Uint8Array.from(good);
      altered[at] = (altered[at] ?? 0) ^ 1;
      expect(() => openRoot(sealer, devices, sealer.seal("root", 0, altered)), String(at)).toThrow();
    }
    expect(() => openRoot(sealer, devices, sealer.seal("root", 0, fields))).toThrow();
    expect(() => openRoot(sealer, devices, sealer.seal("root", 0, good.subarray(0, 63)))).toThrow(code("TCFS_CORRUPT"));
  });

  test("of a revoked device stays if it was there then, and is refused later, or if it is another of that step", () => {
    const devices = listOf(entry("a", { at: AT, number: 7, headHash: noise("head", 32) }));
    expect(openRoot(sealer, devices, rootObject(root("a"), "a")).number).toBe(7);
    for (const later of [root("a", 8), root("a", 6), root("a", 7, noise("another head", 32))]) {
      expect(() => openRoot(sealer, devices, rootObject(later, "a"))).toThrow(code("TCFS_DEVICE_REVOKED"));
    }
    expect(openManifest(sealer, devices, PLACE, manifestObject(manifest("a"), "a")).number).toBe(7);
    const before = listOf(entry("a", { at: AT, number: 6, headHash: noise("head", 32) }));
    const step = manifestObject(manifest("a"), "a");
    expect(() => openManifest(sealer, before, PLACE, step)).toThrow(code("TCFS_DEVICE_REVOKED"));
  });
});

describe("a store's list of devices", () => {
  test("takes the changes of all, and is refused where it is older than the root's", async () => {
    await using temporary = await temporaryDirectory("devices");
    const store = await DirectoryStore.open(temporary.path, { create: true });
    const ours = listOf(entry("a"));
    expect(await pushDevices(store, sealer, ours)).toEqual(ours);
    await store.putIfAbsent("root", rootObject(root("a"), "a"));
    expect((await readRoot(store, sealer))?.devices).toEqual(ours);
    const older = await store.get("devices", { maxBytes: 1_000_000 });

    // Two that do not know of each other.
    const left = { revision: 2, devices: [entry("a"), entry("b")] };
    const right = { revision: 2, devices: [entry("a"), entry("c")] };
    await pushDevices(store, sealer, left);
    const both = await pushDevices(store, sealer, right);
    expect(both.revision).toBe(3);
    expect(both.devices.map(({ name }) => name).sort()).toEqual(["a", "b", "c"]);
    expect((await readRemoteDevices(store, sealer)).list).toEqual(both);

    await store.put("root", rootObject({ ...root("a"), devicesRevision: 3 }, "a"));
    await store.put("devices", older!.content);
    await expect(readRoot(store, sealer)).rejects.toThrow(code("TCFS_REMOTE_DIVERGED"));
    await store.delete("devices");
    await expect(readRoot(store, sealer)).rejects.toThrow(code("TCFS_DEVICE_UNKNOWN"));
    await store.put("devices", noise("garbage", 300));
    await expect(readRoot(store, sealer)).rejects.toThrow(code("TCFS_CORRUPT"));
  });
});
