/**
 * A store whose credentials may change while it is open: when it refuses them, or the place that they come from has changed,
 * they are read again, and what was refused is asked once more.
 */
import { TcfsError, isTcfsError } from "../errors.ts";
import type { Clock } from "../platform/clock.ts";
import type { ByteRange, GetOptions, ObjectPart, ObjectStore, ObjectVersion, StoredObject } from "./object-store.ts";
import type { S3Credentials } from "./s3-store.ts";

/** Where credentials come from. */
export interface CredentialRenewal {
  /** @throws TcfsError if they are not to be had now. */
  read(): Promise<S3Credentials | undefined>;
  /** @returns Whether the place has changed since the last reading, as far as that is told without opening it. Never throws. */
  hasChanged(): Promise<boolean>;
}

export interface RenewingStoreOptions {
  /** Makes no request. */
  readonly open: (credentials: S3Credentials) => ObjectStore;
  /** Undefined: they could not be read yet. */
  readonly credentials: S3Credentials | undefined;
  readonly renewal: CredentialRenewal;
  readonly clock: Clock;
  /** For people, while there are no credentials. */
  readonly place: string;
}

/** To read may mean to compute Argon2, or to ask a program: not for each request of a store that says no. */
const RENEWAL_PAUSE_MS = 60_000;

/** One set of credentials, closed when it is out of use. */
interface Generation {
  readonly credentials: S3Credentials;
  readonly store: ObjectStore;
  callCount: number;
  isRetired: boolean;
}

export class RenewingStore implements ObjectStore {
  readonly #options: RenewingStoreOptions;
  #current: Generation | undefined;
  #renewing: Promise<void> | undefined;
  #readAtMs = Number.NEGATIVE_INFINITY;
  #checkedAtMs: number;
  /** Why the last reading gave nothing. */
  #failure: TcfsError | undefined;

  constructor(options: RenewingStoreOptions) {
    this.#options = options;
    this.#checkedAtMs = options.clock.monotonicMs();
    if (options.credentials !== undefined) this.#use(options.credentials);
  }

  get place(): string {
    return this.#current?.store.place ?? this.#options.place;
  }

  get(name: string, options: GetOptions): Promise<StoredObject | undefined> {
    return this.#call((store) => store.get(name, options));
  }

  getRange(name: string, range: ByteRange, signal?: AbortSignal): Promise<Uint8Array | undefined> {
    return this.#call((store) => store.getRange(name, range, signal));
  }

  getPart(name: string, range: ByteRange, signal?: AbortSignal): Promise<ObjectPart | undefined> {
    return this.#call((store) => store.getPart(name, range, signal));
  }

  head(name: string, signal?: AbortSignal): Promise<number | undefined> {
    return this.#call((store) => store.head(name, signal));
  }

  put(name: string, content: Uint8Array, signal?: AbortSignal): Promise<ObjectVersion> {
    return this.#call((store) => store.put(name, content, signal));
  }

  putIfAbsent(name: string, content: Uint8Array, signal?: AbortSignal): Promise<ObjectVersion> {
    return this.#call((store) => store.putIfAbsent(name, content, signal));
  }

  putIfMatch(name: string, content: Uint8Array, version: ObjectVersion, signal?: AbortSignal): Promise<ObjectVersion> {
    return this.#call((store) => store.putIfMatch(name, content, version, signal));
  }

  delete(name: string, signal?: AbortSignal): Promise<void> {
    return this.#call((store) => store.delete(name, signal));
  }

  async *list(prefix: string, signal?: AbortSignal): AsyncGenerator<string> {
    // The first page is what may be refused; its iterator goes on with the credentials that got it.
    const [iterator, first] = await this.#call(async (store) => {
      const opened = store.list(prefix, signal)[Symbol.asyncIterator]();
      return [opened, await opened.next()] as const;
    });
    for (let step = first; step.done !== true; step = await iterator.next()) yield step.value;
  }

  async close(): Promise<void> {
    const ending = this.#current;
    this.#current = undefined;
    await ending?.store.close();
  }

  async #call<T>(work: (store: ObjectStore) => Promise<T>): Promise<T> {
    await this.#lookForChange();
    const before = this.#current;
    if (before !== undefined) {
      try {
        return await withCall(before, work);
      } catch (error) {
        if (!isTcfsError(error, "TCFS_REMOTE_DENIED")) throw error;
        if (this.#current === before) await this.#renew(before.credentials);
        if (this.#current === before) throw this.#explained(error);
      }
    } else await this.#renew(undefined);
    if (this.#current === undefined) throw this.#explained(undefined);
    return await withCall(this.#current, work);
  }

  async #lookForChange(): Promise<void> {
    const { clock, renewal } = this.#options;
    if (this.#current === undefined || clock.monotonicMs() - this.#checkedAtMs < RENEWAL_PAUSE_MS) return;
    this.#checkedAtMs = clock.monotonicMs();
    if (await renewal.hasChanged()) await this.#renew(undefined);
  }

  /** Read again, unless that was just done. What fails is kept in `#failure`; the old ones are used on. */
  #renew(refused: S3Credentials | undefined): Promise<void> {
    this.#renewing ??= this.#readAgain(refused).finally(() => (this.#renewing = undefined));
    return this.#renewing;
  }

  async #readAgain(refused: S3Credentials | undefined): Promise<void> {
    const { clock, renewal } = this.#options;
    const isRecent = clock.monotonicMs() - this.#readAtMs < RENEWAL_PAUSE_MS;
    if (isRecent && !(await renewal.hasChanged())) return;
    this.#readAtMs = clock.monotonicMs();
    try {
      const credentials = await renewal.read();
      this.#failure = undefined;
      if (credentials === undefined || isSame(credentials, refused ?? this.#current?.credentials)) return;
      this.#use(credentials);
    } catch (error) {
      if (!(error instanceof TcfsError)) throw error;
      this.#failure = error;
    }
  }

  #use(credentials: S3Credentials): void {
    const store = this.#options.open(credentials);
    const before = this.#current;
    this.#current = { credentials, store, callCount: 0, isRetired: false };
    if (before !== undefined) retire(before);
  }

  #explained(denied: TcfsError | undefined): TcfsError {
    const why = denied?.message ?? `there are no credentials for ${this.place}`;
    const again = this.#failure === undefined ? "" : `; they could not be read again: ${this.#failure.message}`;
    return new TcfsError("TCFS_REMOTE_DENIED", `${why}${again}`, { cause: this.#failure ?? denied });
  }
}

async function withCall<T>(generation: Generation, work: (store: ObjectStore) => Promise<T>): Promise<T> {
  generation.callCount += 1;
  try {
    return await work(generation.store);
  } finally {
    generation.callCount -= 1;
    closeIfUnused(generation);
  }
}

function retire(generation: Generation): void {
  Object.assign(generation, { isRetired: true });
  closeIfUnused(generation);
}

function closeIfUnused({ store, isRetired, callCount }: Generation): void {
  if (isRetired && callCount === 0) void store.close();
}

function isSame(a: S3Credentials, b: S3Credentials | undefined): boolean {
  return b !== undefined && JSON.stringify(a) === JSON.stringify(b);
}
