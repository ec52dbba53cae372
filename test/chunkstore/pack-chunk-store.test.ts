import { NodeDisk } from "../../src/platform/node-disk.ts";
import { testChunkStore } from "./chunk-store-contract.ts";
import { FaultyDisk } from "./faulty-disk.ts";

testChunkStore("native engine, machine's disk", () => ({ engine: "native" }));
testChunkStore("native engine, many small packs", () => ({ engine: "native", packBytes: 200_000, openPacks: 3 }));
testChunkStore("portable engine, disk without descriptors", () => ({
  engine: "portable",
  disk: new FaultyDisk(new NodeDisk()),
}));
