/**
 * Where a daemon's credentials come from: the place that it can read by itself, where there is one, and whoever hands it
 * others (`tcfs credentials renew`): the password of a database, say, is known to a person alone.
 */
import { TcfsError } from "../../errors.ts";
import type { CredentialRenewal } from "../../remote/renewing-store.ts";
import type { S3Credentials } from "../../remote/s3-store.ts";
import { type RenewalRequest, RenewedCredentials } from "../access/credentials.ts";

/** What a command hands over, as JSON in what it seals for the daemon. */
export interface Handing {
  readonly credentials: S3Credentials;
  readonly renewal: RenewalRequest | undefined;
}

export class HandedCredentials implements CredentialRenewal {
  #source: RenewedCredentials | undefined;
  /** Not yet taken. */
  #handed: S3Credentials | undefined;

  private constructor(source: RenewedCredentials | undefined) {
    this.#source = source;
  }

  /** @param request - How the daemon itself gets them again, if it can. */
  static async from(request: RenewalRequest | undefined): Promise<HandedCredentials> {
    return new HandedCredentials(request && (await RenewedCredentials.from(request)));
  }

  /** For the next request to the store that looks for others. @param content - As a command of ours wrote it. */
  async take(content: Uint8Array): Promise<void> {
    const { credentials, renewal } = JSON.parse(new TextDecoder().decode(content)) as Handing;
    this.#source = renewal && (await RenewedCredentials.from(renewal));
    this.#handed = credentials;
  }

  async read(): Promise<S3Credentials | undefined> {
    const handed = this.#handed;
    this.#handed = undefined;
    if (handed !== undefined) return handed;
    try {
      if (this.#source !== undefined) return await this.#source.read();
    } catch (error) {
      if (!(error instanceof TcfsError)) throw error;
      throw new TcfsError(error.code, `${error.message}; or: ${ADVICE}`, { cause: error });
    }
    throw new TcfsError("TCFS_REMOTE_DENIED", ADVICE);
  }

  async hasChanged(): Promise<boolean> {
    return this.#handed !== undefined || (await this.#source?.hasChanged()) === true;
  }
}

const ADVICE = "tcfs credentials renew hands the daemon other ones";
