/** The control socket's language: one JSON object per line, each way. Whoever may open the socket may say all of it. */
import { z } from "zod";
import { ERRNO_OF, TcfsError } from "../../errors.ts";
import type { TcfsErrorCode } from "../../errors.ts";
import { uploadChangeSchema } from "../../replica/upload-settings.ts";
import { HANDOVER_BYTES } from "../../keys/key-handover.ts";
import { CACHE_REQUESTS } from "./cache-protocol.ts";
import { SNAPSHOT_REQUESTS } from "./snapshot-protocol.ts";
import { VERSION_REQUESTS } from "./version-protocol.ts";

/** Longest line that is read; a longer one ends the connection. */
export const MAX_REQUEST_BYTES = 64 * 1024;

/** Longest reply that a command reads: a list of very many changes. */
export const MAX_REPLY_BYTES = 256 * 1024 * 1024;

const remountSchema = z.strictObject({
  operation: z.literal("remount"),
  readOnly: z.boolean(),
  accessTimes: z.strictObject({ mode: z.enum(["relative", "strict", "none"]), ofDirectories: z.boolean() }),
  synchronous: z.enum(["nothing", "names", "everything"]),
});

/** Answered at once, by every daemon that runs: in an older one by saying that it does not know this. */
const helloSchema = z.strictObject({ operation: z.literal("hello") });

const requestSchema = z.discriminatedUnion("operation", [
  helloSchema,
  remountSchema,
  z.strictObject({ operation: z.literal("status") }),
  z.strictObject({ operation: z.literal("sync") }),
  z.strictObject({ operation: z.literal("wait"), timeoutMs: z.int().min(0).nullable() }),
  z.strictObject({ operation: z.literal("configureUploads"), change: uploadChangeSchema }),
  z.strictObject({ operation: z.literal("storeRequests") }),
  z.strictObject({ operation: z.literal("collect") }),
  z.strictObject({ operation: z.literal("check") }),
  z.strictObject({ operation: z.literal("unmount"), lazy: z.boolean() }),
  z.strictObject({
    operation: z.literal("rotate"),
    header: z.base64().max(MAX_REQUEST_BYTES),
    wrappedKey: z.hex().length(2 * HANDOVER_BYTES),
  }),
  z.strictObject({ operation: z.literal("rotation") }),
  z.strictObject({ operation: z.literal("credentials"), sealed: z.base64().max(MAX_REQUEST_BYTES) }),
  ...SNAPSHOT_REQUESTS,
  ...VERSION_REQUESTS,
  ...CACHE_REQUESTS,
]);

export type RemountRequest = z.infer<typeof remountSchema>;
export type AnyRequest = z.infer<typeof requestSchema>;
export type ControlRequest = Exclude<AnyRequest, z.infer<typeof helloSchema>>;

export type ControlReply =
  | { readonly ok: true; readonly result: unknown }
  | { readonly ok: false; readonly code: TcfsErrorCode | undefined; readonly message: string };

/** @throws TcfsError `TCFS_USAGE` if the line is no request. */
export function parseRequest(line: string): AnyRequest {
  try {
    return requestSchema.parse(JSON.parse(line));
  } catch (cause) {
    throw new TcfsError("TCFS_USAGE", "this is no request that the daemon knows", { cause });
  }
}

/** @returns The reply that tells of a failure; what is a bug has no code. */
export function failureReply(error: unknown): ControlReply {
  const message = error instanceof Error ? error.message : String(error);
  return { ok: false, code: error instanceof TcfsError ? error.code : undefined, message };
}

/**
 * The result in a reply that our own daemon sent.
 * @throws TcfsError as the daemon did; Error for what is a bug there.
 */
export function readReply(line: string): unknown {
  const reply = JSON.parse(line) as ControlReply;
  if (reply.ok) return reply.result;
  if (reply.code !== undefined && Object.hasOwn(ERRNO_OF, reply.code)) throw new TcfsError(reply.code, reply.message);
  throw new Error(`the daemon failed: ${reply.message}`);
}
