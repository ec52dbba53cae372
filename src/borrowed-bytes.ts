/** Bytes lent to a reader. */
import type { MaybePromise } from "./maybe-promise.ts";

/** Read-only pieces in order, the borrower's until `release`, to be called once. */
export interface BorrowedBytes {
  readonly pieces: readonly Uint8Array[];
  readonly release: () => void;
}

const KEEP = (): void => undefined;

/** Memory that is nobody's to use again. */
export function lend(pieces: readonly Uint8Array[]): BorrowedBytes {
  return { pieces, release: KEEP };
}

/** Several loans as one, in order. */
export function joinLoans(loans: readonly BorrowedBytes[]): BorrowedBytes {
  const [only] = loans;
  if (loans.length === 1 && only !== undefined) return only;
  return {
    pieces: loans.flatMap(({ pieces }) => pieces),
    release: () => {
      for (const loan of loans) loan.release();
    },
  };
}

/** Wait for all. @throws The first failure, once everything else is given back. */
export async function settleLoans(loans: readonly MaybePromise<BorrowedBytes>[]): Promise<BorrowedBytes[]> {
  const outcomes = await Promise.allSettled(loans.map((loan) => Promise.resolve(loan)));
  const lent = outcomes.flatMap((outcome) => (outcome.status === "fulfilled" ? outcome.value : []));
  const failed = outcomes.find((outcome) => outcome.status === "rejected");
  if (failed === undefined) return lent;
  for (const { release } of lent) release();
  throw failed.reason;
}

/** @returns Fresh memory; the loan is over. */
export function copyLoan({ pieces, release }: BorrowedBytes): Uint8Array {
  const copy = new Uint8Array(Buffer.concat(pieces));
  release();
  return copy;
}
