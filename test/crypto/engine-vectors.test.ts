/** The committed vectors of scripts/make-engine-vectors.mjs, which knows FORMAT.md and nothing of src/. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import type { SealingEngine } from "../../src/crypto/engine.ts";
import { openEngine } from "../../src/crypto/open-engine.ts";
import { PackKeyWrapper } from "../../src/crypto/pack-key.ts";
import { deriveSubkeys } from "../../src/crypto/subkeys.ts";
import type { InodeNumber, Name, PackId } from "../../src/ids.ts";
import { systemRandom } from "../../src/platform/random.ts";
import { engineOptions, expectSameBytes, firstEpoch, noise } from "./fixtures.ts";

const DIRECTORY = join(import.meta.dirname, "..", "vectors", "engine");
const CORRUPT = expect.objectContaining({ code: "TCFS_CORRUPT" }) as Error;

class Vector {
  readonly #fields: ReadonlyMap<string, string>;
  readonly lines: readonly string[];

  constructor(text: string) {
    const [head, body] = text.split("\n\n") as [string, string];
    this.#fields = new Map(head.split("\n").map((line) => line.split(": ") as [string, string]));
    this.lines = body.split("\n").filter((line) => line !== "");
  }

  text(name: string): string {
    const value = this.#fields.get(name);
    if (value === undefined) throw new Error(`the vector has no ${name}`);
    return value;
  }

  number(name: string): number {
    return Number(this.text(name));
  }

  bytes(name: string): Uint8Array {
    return Uint8Array.from(Buffer.from(this.text(name), "hex"));
  }

  /** The body, where it is hexadecimal. */
  body(): Uint8Array {
    return Uint8Array.from(Buffer.from(this.lines.join(""), "hex"));
  }

  data(): Uint8Array {
    const runs = this.text("data")
      .split(" + ")
      .map((run) => {
        const words = run.split(" ");
        const lengthBytes = Number(words.at(-1));
        if (words[0] === "noise") return noise(words[1]!, lengthBytes);
        if (words[0] === "zeros") return Buffer.alloc(lengthBytes);
        return Buffer.alloc(lengthBytes, "the quick brown fox jumps over the lazy dog\n");
      });
    return Uint8Array.from(Buffer.concat(runs));
  }
}

function vectors(kind: string): [string, Vector][] {
  const all = readdirSync(DIRECTORY).map((file): [string, Vector] => [
    `${file} (expect: ${/^expect: (.*)$/m.exec(readFileSync(join(DIRECTORY, file), "utf8"))![1]!})`,
    new Vector(readFileSync(join(DIRECTORY, file), "utf8")),
  ]);
  return all.filter(([, vector]) => vector.text("kind") === kind);
}

function vaultEngine(kind: SealingEngine["kind"], vector: Vector, chunking = engineOptions().chunking): SealingEngine {
  const vaultId = vector.bytes("vault-id");
  const subkeys = deriveSubkeys(vector.bytes("vault-key"), vaultId);
  return openEngine({ ...engineOptions(), vaultId, subkeys, chunking }, kind);
}

describe("vectors of keys", () => {
  test.each(vectors("subkeys"))("%s", (_file, vector) => {
    const keys = deriveSubkeys(vector.bytes("vault-key"), vector.bytes("vault-id"));
    const found = Object.entries({ ...keys, "chunk-id": keys.chunkId }).map(
      ([label, key]) => `${label} ${Buffer.from(key).toString("hex")}`,
    );
    for (const line of vector.lines) expect(found).toContain(line);
    expect(vector.lines).toHaveLength(6);
  });

  test.each(vectors("pack-key"))("%s", (_file, vector) => {
    const vaultId = vector.bytes("vault-id");
    const { packs } = deriveSubkeys(vector.bytes("vault-key"), vaultId);
    const wrapper = new PackKeyWrapper(firstEpoch(packs), vaultId, systemRandom);
    const unwrap = () =>
      wrapper.unwrap(vector.bytes("pack-id") as PackId, [{ keyEpoch: 1, wrappedKey: vector.body() }]);
    if (vector.text("expect") === "ok") expect(unwrap()).toEqual(vector.bytes("pack-key"));
    else expect(unwrap).toThrow(CORRUPT);
  });
});

describe.each(["native", "portable"] as const)("vectors, %s engine", (kind) => {
  test.each(vectors("chunks"))("%s", async (_file, vector) => {
    const [minBytes, averageBytes, maxBytes] = ["min", "average", "max"].map((name) => vector.number(name));
    const chunking = { minBytes: minBytes!, averageBytes: averageBytes!, maxBytes: maxBytes! };
    const engine = vaultEngine(kind, vector, chunking);
    const [named] = await engine.nameChunks([{ pieces: [vector.data()], isFinal: true }]);
    expect(named!.map((chunk) => `${chunk.lengthBytes} ${Buffer.from(chunk.id).toString("hex")}`)).toEqual(
      vector.lines,
    );
    engine.close();
  });

  test.each(vectors("frames"))("%s", async (_file, vector) => {
    const engine = openEngine({ ...engineOptions(), vaultId: vector.bytes("vault-id") }, kind);
    const cipher = engine.packCipher(vector.bytes("pack-id") as PackId, vector.bytes("pack-key"), 1);
    const plain = vector.data();
    const storedFrameBytes = Uint32Array.from(vector.text("stored").split(","), Number);
    const run = { firstFrame: vector.number("first-frame"), storedFrameBytes, lengthBytes: plain.length };
    const output = new Uint8Array(plain.length);
    const opening = cipher.unseal(run, vector.body(), output);
    if (vector.text("expect") === "ok") {
      await opening;
      expectSameBytes(output, plain);
    } else {
      await expect(opening).rejects.toEqual(CORRUPT);
    }
    engine.close();
  });

  test.each(vectors("record"))("%s", (_file, vector) => {
    const engine = vaultEngine(kind, vector);
    const unseal = () => engine.records.unseal(vector.bytes("record-key"), vector.body());
    if (vector.text("expect") === "ok") expect(unseal()).toEqual(vector.bytes("value"));
    else expect(unseal).toThrow(CORRUPT);
    engine.close();
  });

  test.each(vectors("names"))("%s", (_file, vector) => {
    const engine = vaultEngine(kind, vector);
    for (const line of vector.lines) {
      const [ino, name, value] = line.split(" ") as [string, string, string];
      const text = Buffer.from(name, "hex").toString("latin1") as Name;
      expect(Buffer.from(engine.namePrf(Number(ino) as InodeNumber, text)).toString("hex")).toBe(value);
    }
    engine.close();
  });
});
