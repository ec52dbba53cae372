/** Every operation that changes something, refused: what a tree that cannot be changed begins with. */
import { TcfsError } from "../../errors.ts";

export class ReadOnlyOperations {
  setAttributes(): never {
    return refuse();
  }

  makeNode(): never {
    return refuse();
  }

  makeDirectory(): never {
    return refuse();
  }

  makeSymlink(): never {
    return refuse();
  }

  link(): never {
    return refuse();
  }

  makeTemporaryFile(): never {
    return refuse();
  }

  unlink(): never {
    return refuse();
  }

  removeDirectory(): never {
    return refuse();
  }

  rename(): never {
    return refuse();
  }

  write(): never {
    return refuse();
  }

  allocate(): never {
    return refuse();
  }

  copyRange(): never {
    return refuse();
  }

  setXattr(): never {
    return refuse();
  }

  removeXattr(): never {
    return refuse();
  }

  forget(): void {
    // nothing is counted: what cannot change needs no orphans
  }

  flush(): void {
    // nothing was written
  }

  sync(): void {
    // it is durable, or it would not be there
  }

  syncAll(): void {
    // as sync
  }
}

/** @throws TcfsError `TCFS_READ_ONLY`, always. */
export function refuse(): never {
  throw new TcfsError("TCFS_READ_ONLY", "snapshots cannot be changed");
}
