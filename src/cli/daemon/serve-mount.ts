/**
 * The daemon's life: open the vault, mount, answer, and on every way to the end (a command, a signal, an unmount from
 * outside) flush before it goes. It never touches its own mount.
 */
import { existsSync } from "node:fs";
import type { SecretKey } from "../../crypto/secret-key.ts";
import { TcfsError, isTcfsError } from "../../errors.ts";
import type { KernelCaches } from "../../fs/snapshots/kernel-caches.ts";
import { mountFuse, unmountFuse } from "../../fuse/mount.ts";
import { FuseSession } from "../../fuse/session.ts";
import { readHeader } from "../../keys/header-file.ts";
import { verifyHeader } from "../../keys/keyring.ts";
import type { Logger } from "../../logger.ts";
import { systemClock } from "../../platform/clock.ts";
import { collectGarbage, trimFreeMemory } from "../../platform/free-memory.ts";
import { NodeDisk } from "../../platform/node-disk.ts";
import { answerCacheRequest } from "../control/cache-requests.ts";
import type { ControlRequest, RemountRequest } from "../control/control-protocol.ts";
import { serveControl } from "../control/control-server.ts";
import type { LaunchRequest } from "./launch-protocol.ts";
import { OpenVault } from "../../vault/open-vault.ts";
import { HandedCredentials } from "./handed-credentials.ts";
import { IdleMemory } from "./idle-memory.ts";
import { writePidFile } from "./pid-file.ts";
import { answerSnapshotRequest } from "../control/snapshot-requests.ts";
import type { DaemonFigures, VaultFigures } from "../../vault/status.ts";
import { answerVersionRequest } from "../control/version-requests.ts";

/** Looking on for so long before sleeping: measured, 1.3 to 2 times the creates and renames; costs nothing when idle. */
const SPIN_MICROSECONDS = 50;

/** There where the kernel has SELinux switched on. */
const SELINUX = "/sys/fs/selinux";

/** One writer, and every change comes through the kernel: it may believe its caches for as long as it likes. */
const CACHE_TIMEOUT_SECONDS = 24 * 60 * 60;
/**
 * How long a signal waits for programs to let go of a busy mount before their files answer ENOTCONN; and `umount --lazy`,
 * before it leaves them to themselves.
 */
const BUSY_GRACE_MS = 3000;
/** The kernel's first request comes with the mount; this long it may take on a machine that is short of everything. */
const NEGOTIATION_TIMEOUT_MS = 60_000;

export interface ServeOptions extends LaunchRequest {
  /** Borrowed until the vault is open. */
  readonly key: SecretKey;
  readonly log: Logger;
  /** Called once, when the mount answers. */
  readonly onReady: () => Promise<void>;
  /** Registers what to do if the command that started us ends while it still has a say. */
  readonly onStarterGone: (action: () => void) => void;
}

export interface DaemonStatus {
  readonly daemon: DaemonFigures;
  readonly figures: VaultFigures;
}

/** Resolves once the mount has ended and everything is on the disk. @throws TcfsError if it never came to be, or the last flush failed. */
export async function serveMount(options: ServeOptions): Promise<void> {
  const { vault: directory, options: mount, key, log } = options;
  const disk = new NodeDisk();
  const header = await readHeader(disk, directory);
  verifyHeader(header, key);
  const renewal = await HandedCredentials.from(options.renewal);
  await using vault = await OpenVault.open({
    directory,
    header,
    key,
    isReadOnly: mount.readOnly,
    isNew: false,
    accessTimes: mount.accessTimes,
    snapshotsShown: mount.snapshots,
    versionsShown: mount.versions,
    logger: log,
    credentials: options.credentials,
    renewal,
    isReplicated: true,
    freshness: { tpm: options.tpm, wish: mount.tpmFreshness, isOlderAccepted: mount.acceptOlder },
    storeWaitMs: mount.storeWaitSeconds === undefined ? undefined : mount.storeWaitSeconds * 1000,
  });
  key.wipe();
  await using _pidFile = await writePidFile(mount.pidFile);
  const served = await ServedMount.start(vault, options, renewal);
  await using _control = await served.serveControl();
  served.obeySignals();
  options.onStarterGone(() => {
    void served.end("the command that started it ended");
  });
  log.info("mounted", { pid: process.pid, readOnly: mount.readOnly, engine: vault.figures().engine });
  if (!mount.readOnly) vault.volume.snapshots.automatic.keeper.start();
  using _idleMemory = new IdleMemory({ clock: systemClock, processorMs, collectGarbage, trimFreeMemory });
  await options.onReady();
  await served.finish();
}

class ServedMount {
  readonly #vault: OpenVault;
  readonly #session: FuseSession;
  readonly #options: ServeOptions;
  readonly #credentials: HandedCredentials;
  readonly #mountedAt = new Date();
  readonly #collection = new AbortController();
  #ending: Promise<void> | undefined;
  #failure: Error | undefined;
  #settleClosed = (): void => undefined;
  readonly #closed = new Promise<void>((resolve) => {
    this.#settleClosed = resolve;
  });

  private constructor(vault: OpenVault, session: FuseSession, options: ServeOptions, credentials: HandedCredentials) {
    this.#vault = vault;
    this.#session = session;
    this.#options = options;
    this.#credentials = credentials;
  }

  /** @throws TcfsError why it cannot be mounted. */
  static async start(vault: OpenVault, options: ServeOptions, credentials: HandedCredentials): Promise<ServedMount> {
    const { mountPoint, options: mount, log } = options;
    const session = new FuseSession({
      operations:
        mount.snapshot === undefined ? vault.volume.operations : vault.volume.snapshotOperations(mount.snapshot),
      logger: log,
      options: {
        readOnly: mount.readOnly,
        synchronous: mount.synchronous,
        readsAnew: mount.accessTimes.mode === "strict",
        hasLabels: existsSync(SELINUX),
        entryTimeoutSeconds: CACHE_TIMEOUT_SECONDS,
        attributeTimeoutSeconds: CACHE_TIMEOUT_SECONDS,
        spinMicroseconds: SPIN_MICROSECONDS,
      },
    });
    vault.volume.kernel = kernelCaches(session, log);
    const fd = await mountFuse(mountPoint, {
      source: mount.fsName ?? options.vault,
      readOnly: mount.readOnly,
      allowOther: mount.allowOther,
      suid: mount.suid,
      dev: mount.dev,
      noExec: !mount.exec,
      noSymlinkFollow: !mount.followsSymlinks,
      accessTimes: mount.accessTimes,
      synchronous: mount.synchronous,
      maxReadBytes: mount.maxReadBytes,
      nonEmpty: mount.nonEmpty,
    });
    session.start(fd);
    const served = new ServedMount(vault, session, options, credentials);
    try {
      await served.#negotiated();
    } catch (error) {
      await served.end("the kernel and tcfs do not agree");
      throw error;
    }
    return served;
  }

  /** Listen on the control socket. If that fails, nothing stays mounted. */
  async serveControl(): Promise<AsyncDisposable> {
    try {
      return await serveControl(this.#options.vault, (request) => this.#handle(request));
    } catch (error) {
      await this.end("the control socket cannot be made");
      throw error;
    }
  }

  /**
   * Wait until the kernel has let go, then put everything on the disk and close the vault.
   * @throws what made the daemon end or the last flush fail.
   */
  async finish(): Promise<void> {
    await this.#session.end;
    this.#collection.abort();
    this.#options.log.info("unmounted");
    try {
      await this.#vault.close();
    } catch (error) {
      this.#failure ??= error instanceof Error ? error : new Error(String(error));
    }
    this.#settleClosed();
    if (this.#failure !== undefined) throw this.#failure;
    this.#options.log.info("closed");
  }

  async #handle(request: ControlRequest): Promise<unknown> {
    switch (request.operation) {
      case "status":
        return this.#status();
      case "sync":
        return this.#vault.volume.syncAll();
      case "wait":
        return this.#wait(request.timeoutMs);
      case "configureUploads":
        return this.#vault.configureUploads(request.change);
      case "storeRequests":
        return this.#vault.storeRequests();
      case "collect":
        return this.#vault.volume.collect(this.#collection.signal);
      case "check":
        return this.#vault.volume.check(this.#collection.signal);
      case "remount":
        return this.#remount(request);
      case "rotate":
        return this.#vault.rotate(Buffer.from(request.header, "base64"), Buffer.from(request.wrappedKey, "hex"));
      case "rotation":
        return { status: this.#vault.rotation.status(), report: this.#vault.rotation.report ?? null };
      case "credentials":
        return this.#takeCredentials(Buffer.from(request.sealed, "base64"));
      case "unmount":
        await this.#unmountPolitely(request.lazy);
        return this.#closedWithin(request.lazy ? BUSY_GRACE_MS : undefined);
      case "listVersions":
      case "restoreVersion":
      case "listTrash":
      case "restoreTrash":
      case "emptyTrash":
      case "versionPolicy":
        return answerVersionRequest(this.#vault.volume.versions, request);
      case "cacheFigures":
      case "cacheLimit":
      case "cacheClear":
      case "pin":
      case "unpin":
      case "listPins":
      case "warm":
        return answerCacheRequest(this.#vault.copies, request);
      default:
        return answerSnapshotRequest(this.#vault.volume.snapshots, request);
    }
  }

  async #takeCredentials(sealed: Uint8Array): Promise<void> {
    const content = this.#vault.unsealHandover(sealed);
    await this.#credentials.take(content).finally(() => content.fill(0));
    this.#options.log.info("other credentials for the store were handed over");
  }

  /** @throws TcfsError `TCFS_REMOTE_UNAVAILABLE` when time is up. */
  async #wait(timeoutMs: number | null): Promise<void> {
    const { signal } = this.#collection;
    if (timeoutMs === null) return this.#vault.waitForStore(signal);
    const timeout = AbortSignal.timeout(timeoutMs);
    try {
      await this.#vault.waitForStore(AbortSignal.any([signal, timeout]));
    } catch (error) {
      if (!timeout.aborted || !isTcfsError(error, "TCFS_CANCELLED")) throw error;
      const why = this.#vault.figures().store?.lastError;
      const message = `not everything is in the store yet${why === null || why === undefined ? "" : `: ${why}`}`;
      throw new TcfsError("TCFS_REMOTE_UNAVAILABLE", message);
    }
  }

  /** @returns Whether everything is closed; false when time is up. @throws what made the daemon end or the last flush fail. */
  async #closedWithin(timeoutMs: number | undefined): Promise<boolean> {
    const closed = this.#closed.then(() => true);
    const isClosed =
      timeoutMs === undefined
        ? await closed
        : await Promise.race([
            closed,
            new Promise<false>((resolve) => systemClock.after(timeoutMs, () => resolve(false))),
          ]);
    if (this.#failure !== undefined) throw this.#failure;
    return isClosed;
  }

  obeySignals(): void {
    for (const signal of ["SIGTERM", "SIGINT"] as const) {
      process.on(signal, () => void this.end(signal));
    }
    process.on("SIGHUP", () => undefined); // the terminal that it was started from is gone: no reason to end
    process.on("unhandledRejection", (reason) => {
      this.#options.log.error("a promise was rejected unheard", { error: reason });
    });
    process.on("uncaughtException", (error) => {
      this.#options.log.error("an exception was caught by nobody", { error });
      this.#failure ??= error;
      void this.end("an internal error");
    });
  }

  /** Flush, unmount, and if programs hold on to the mount, let them go on for a moment and no longer. Never rejects. */
  end(reason: string): Promise<void> {
    this.#ending ??= this.#end(reason);
    return this.#ending;
  }

  async #end(reason: string): Promise<void> {
    const { log } = this.#options;
    log.info("ending", { reason });
    this.#collection.abort();
    try {
      await this.#flush();
      await this.#unmount(false);
    } catch (error) {
      log.warn("a clean unmount is not possible", { error: String(error) });
      await this.#unmount(true).catch((failure: unknown) => {
        log.error("the mount point stays mounted until the next tcfs mount", { error: String(failure) });
      });
      const grace = new Promise<void>((resolve) => systemClock.after(BUSY_GRACE_MS, resolve));
      await Promise.race([this.#session.end, grace]);
    }
    await this.#session.close();
  }

  /**
   * Take over what the kernel's mount is about to be.
   * @throws TcfsError `TCFS_READ_ONLY` if writing is asked of a volume that was opened for reading.
   */
  async #remount({ readOnly, accessTimes, synchronous }: RemountRequest): Promise<void> {
    const { mountPoint, options } = this.#options;
    if (options.readOnly && !readOnly) {
      const message = `${mountPoint} was mounted read-only: to write, unmount it and mount it again`;
      throw new TcfsError("TCFS_READ_ONLY", message);
    }
    const { volume } = this.#vault;
    if (readOnly) {
      await volume.snapshots.automatic.keeper.stop();
      await volume.syncAll();
    } else {
      volume.snapshots.automatic.keeper.start();
    }
    volume.accessTimes = accessTimes;
    this.#session.synchronous = synchronous;
    this.#session.readsAnew = accessTimes.mode === "strict";
  }

  /** @throws TcfsError `TCFS_BUSY`, or what the flush threw; the mount goes on then. */
  async #unmountPolitely(lazy: boolean): Promise<void> {
    if (this.#ending !== undefined) return this.#ending;
    await this.#vault.volume.syncAll();
    await this.#unmount(lazy);
    this.#collection.abort();
  }

  /** Reported, and no reason to stay: what was flushed earlier is safe, and the close tries once more. */
  async #flush(): Promise<void> {
    await this.#vault.volume.syncAll().catch((error: unknown) => {
      this.#options.log.error("flushing failed", { error: String(error) });
    });
  }

  async #unmount(lazy: boolean): Promise<void> {
    try {
      await unmountFuse(this.#options.mountPoint, { lazy });
    } catch (error) {
      if (!isTcfsError(error, "TCFS_NOT_MOUNTED")) throw error;
    }
  }

  async #negotiated(): Promise<void> {
    const deadline = systemClock.monotonicMs() + NEGOTIATION_TIMEOUT_MS;
    while (this.#session.agreement === undefined) {
      if (systemClock.monotonicMs() > deadline) {
        throw new TcfsError("TCFS_BAD_MOUNT_POINT", "the kernel's FUSE does not answer, or is older than Linux 5.4");
      }
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
  }

  async #status(): Promise<DaemonStatus> {
    return {
      daemon: {
        mountPoint: this.#options.mountPoint,
        readOnly: this.#options.options.readOnly,
        pid: process.pid,
        daemonMemoryBytes: process.memoryUsage.rss(),
        mountedAt: this.#mountedAt.toISOString(),
        pendingRequests: this.#session.pendingCount,
      },
      figures: await this.#vault.allFigures(),
    };
  }
}

function processorMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

/** A kernel that could not be told goes on with what it has cached: that is logged, and nothing else can be done. */
function kernelCaches(session: FuseSession, log: Logger): KernelCaches {
  const logged = (told: Promise<void>, ino: number): Promise<void> =>
    told.catch((error: unknown) => {
      log.error("the kernel was not told of a change", { ino, error: String(error) });
    });
  return {
    forgetAttributes: (ino) => logged(session.invalidateAttributes(ino), ino),
    forgetInode: (ino) => logged(session.invalidateInode(ino), ino),
    forgetEntry: (parent, name) => logged(session.invalidateEntry(parent, name), parent),
  };
}
