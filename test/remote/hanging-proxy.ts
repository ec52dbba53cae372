/** Stands in front of a real server, and can have everything hang there: connections stay open, and nothing is answered. */
import { type Server, type Socket, connect, createServer } from "node:net";
import type { AddressInfo } from "node:net";

export class HangingProxy implements AsyncDisposable {
  readonly #target: URL;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #isHanging = false;
  #swallowedBytes = 0;

  private constructor(target: URL) {
    this.#target = target;
    this.#server = createServer((client) => {
      this.#serve(client);
    });
  }

  /** @param endpoint - Of the real server. */
  static async start(endpoint: string): Promise<HangingProxy> {
    const proxy = new HangingProxy(new URL(endpoint));
    await new Promise<void>((resolve) => proxy.#server.listen(0, "127.0.0.1", resolve));
    return proxy;
  }

  get endpoint(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** What was asked for while it hung, in bytes. */
  get swallowedBytes(): number {
    return this.#swallowedBytes;
  }

  /** From now on nothing passes, either way. */
  hang(): void {
    this.#isHanging = true;
  }

  /** New connections pass; those that hung are cut. */
  resume(): void {
    this.#isHanging = false;
    for (const socket of this.#sockets) socket.destroy();
  }

  #serve(client: Socket): void {
    const upstream = connect(Number(this.#target.port), this.#target.hostname);
    for (const [from, to] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      this.#sockets.add(from);
      from.on("data", (bytes) => {
        if (!this.#isHanging) to.write(bytes);
        else if (from === client) this.#swallowedBytes += bytes.length;
      });
      from.on("error", () => undefined); // told by its close
      from.on("close", () => {
        this.#sockets.delete(from);
        to.destroy();
      });
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise<void>((resolve) => {
      this.#server.close(() => {
        resolve();
      });
    });
  }
}
