/** A store that remembers what was asked of it: what whoever runs it sees (docs/SECURITY.md §4). */
import type { ObjectStore } from "./object-store.ts";

/** The last requests that are kept, one by one. */
const MAX_TRACE = 500;

export interface SeenRequest {
  /** Milliseconds since 1970. */
  readonly atMs: number;
  readonly method: "GET" | "GET range" | "HEAD" | "PUT" | "DELETE" | "LIST";
  /** The first part of the object's name. */
  readonly kind: string;
  /** Of the body, sent or received; 0 where there is none. */
  readonly bytes: number;
}

export interface SeenTotal {
  readonly method: SeenRequest["method"];
  readonly kind: string;
  count: number;
  bytes: number;
}

export class RequestTrace {
  readonly #totals = new Map<string, SeenTotal>();
  readonly #last: SeenRequest[] = [];

  note(method: SeenRequest["method"], name: string, bytes: number): void {
    const [kind = ""] = name.split("/", 1);
    const key = `${method} ${kind}`;
    const total = this.#totals.get(key) ?? { method, kind, count: 0, bytes: 0 };
    total.count += 1;
    total.bytes += bytes;
    this.#totals.set(key, total);
    this.#last.push({ atMs: Date.now(), method, kind, bytes });
    if (this.#last.length > MAX_TRACE) this.#last.shift();
  }

  /** Copies. */
  report(): { readonly totals: SeenTotal[]; readonly last: SeenRequest[] } {
    return { totals: [...this.#totals.values()].map((total) => ({ ...total })), last: [...this.#last] };
  }
}

export function watchedStore(store: ObjectStore, trace: RequestTrace): ObjectStore {
  const put = async <T>(name: string, content: Uint8Array, sent: () => Promise<T>): Promise<T> => {
    trace.note("PUT", name, content.length);
    return sent();
  };
  return {
    place: store.place,
    get: async (name, options) => {
      const found = await store.get(name, options);
      trace.note("GET", name, found?.content.length ?? 0);
      return found;
    },
    getRange: async (name, range, signal) => {
      trace.note("GET range", name, range.lengthBytes);
      return store.getRange(name, range, signal);
    },
    getPart: async (name, range, signal) => {
      const found = await store.getPart(name, range, signal);
      trace.note("GET range", name, found?.content.length ?? 0);
      return found;
    },
    head: async (name, signal) => {
      trace.note("HEAD", name, 0);
      return store.head(name, signal);
    },
    put: (name, content, signal) => put(name, content, () => store.put(name, content, signal)),
    putIfAbsent: (name, content, signal) => put(name, content, () => store.putIfAbsent(name, content, signal)),
    putIfMatch: (name, content, version, signal) =>
      put(name, content, () => store.putIfMatch(name, content, version, signal)),
    delete: async (name, signal) => {
      trace.note("DELETE", name, 0);
      await store.delete(name, signal);
    },
    list: (prefix, signal) => {
      trace.note("LIST", prefix, 0);
      return store.list(prefix, signal);
    },
    close: () => store.close(),
  };
}
