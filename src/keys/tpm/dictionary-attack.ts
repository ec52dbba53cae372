/** The TPM's protection against guessing: how many wrong PINs it still takes, and when it takes more again. */
import { counted } from "../../counted.ts";
import type { TpmTools } from "./tpm-tools.ts";

export interface LockoutState {
  readonly failed: number;
  readonly most: number;
  /** One failure is forgotten after each of these. */
  readonly recoverySeconds: number;
}

/** For a sentence: tries left, or when the next one is. */
export async function pinTries(tpm: TpmTools): Promise<string> {
  const text = new TextDecoder().decode(await tpm.run("getcap", ["properties-variable"]));
  const state = parseLockout(text);
  return state === undefined ? "the TPM does not say how many tries are left" : describeTries(state);
}

/** @param text - What `tpm2_getcap properties-variable` prints. */
export function parseLockout(text: string): LockoutState | undefined {
  const value = (name: string): number =>
    Number.parseInt(new RegExp(`^TPM2_PT_${name}:\\s*0x([0-9a-f]+)$`, "imu").exec(text)?.[1] ?? "", 16);
  const state = {
    failed: value("LOCKOUT_COUNTER"),
    most: value("MAX_AUTH_FAIL"),
    recoverySeconds: value("LOCKOUT_INTERVAL"),
  };
  return Object.values(state).every(Number.isSafeInteger) ? state : undefined;
}

export function describeTries({ failed, most, recoverySeconds }: LockoutState): string {
  const left = Math.max(most - failed, 0);
  const again = describeSeconds(recoverySeconds);
  if (left > 0) return `${counted(left, "try is", "tries are")} left before the TPM locks`;
  if (recoverySeconds === 0) return "the TPM stays locked until it is started anew";
  return `one more try is possible in at most ${again}, and another after each ${again}, while the machine runs`;
}

function describeSeconds(seconds: number): string {
  if (seconds < 120) return counted(seconds, "second");
  const minutes = Math.ceil(seconds / 60);
  return minutes < 120 ? `${minutes} minutes` : `${Math.ceil(minutes / 60)} hours`;
}
