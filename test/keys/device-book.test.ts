/** Who a copy of the vault is, when several ask at once. */
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { ObjectSealer } from "../../src/crypto/object-seal.ts";
import { isSignedBy } from "../../src/crypto/signing-key.ts";
import { DeviceBook } from "../../src/keys/devices/device-book.ts";
import { findDevice } from "../../src/keys/devices/device-list.ts";
import { NodeDisk } from "../../src/platform/node-disk.ts";
import { systemClock } from "../../src/platform/clock.ts";
import { systemRandom } from "../../src/platform/random.ts";
import { VAULT_ID, firstEpoch, noise } from "../crypto/fixtures.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

test("processes that open a directory without an identity at once get one and the same, which the list names", async () => {
  await using directory = await temporaryDirectory("devices");
  const sealer = new ObjectSealer(firstEpoch(noise("store", 32)), VAULT_ID, systemRandom);
  const options = { disk: new NodeDisk(), directory: directory.path, sealer };
  const fresh = { random: systemRandom, clock: systemClock, name: "desk", id: noise("device", 16) };
  const books = await Promise.all([1, 2, 3].map(() => DeviceBook.open(options, fresh)));
  books.push(await DeviceBook.open(options, fresh));
  const message = noise("message", 10);
  for (const { identity } of books) {
    for (const { list } of books) {
      const listed = findDevice(list, identity.id)?.publicKey ?? new Uint8Array();
      expect(isSignedBy(listed, message, identity.key.sign(message))).toBe(true);
    }
  }
});

test("a list that is gone from the disk for a while leaves out nobody who was known", async () => {
  await using directory = await temporaryDirectory("devices");
  const sealer = new ObjectSealer(firstEpoch(noise("store", 32)), VAULT_ID, systemRandom);
  const options = { disk: new NodeDisk(), directory: directory.path, sealer };
  const fresh = { random: systemRandom, clock: systemClock, name: "desk", id: noise("device", 16) };
  const book = await DeviceBook.open(options, fresh);
  const { list } = book;
  await rm(join(directory.path, "devices"));
  expect(await book.reread()).toBe(list);
});
