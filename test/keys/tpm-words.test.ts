/** What is said of a TPM and to it: PCR selections, response codes, tries left. */
import { describe, expect, test } from "vitest";
import { describeTries, parseLockout } from "../../src/keys/tpm/dictionary-attack.ts";
import { changedPcrs, formatPcrSelection, parsePcrSelection } from "../../src/keys/tpm/pcr-selection.ts";
import { responseCode, toolError } from "../../src/keys/tpm/response-code.ts";

describe("PCRs to bind to", () => {
  test.each([
    ["sha256:7", "sha256:7"],
    ["SHA256:11,0,7,7", "sha256:0,7,11"],
    ["sha384:23", "sha384:23"],
  ])("are read from %s", (text, canonical) => {
    expect(formatPcrSelection(parsePcrSelection(text))).toBe(canonical);
  });

  test.each([
    "",
    "7",
    "sha256",
    "sha256:",
    "sha1:7",
    "sha256:24",
    "sha256:-1",
    "sha256:7,",
    "sha256:7:8",
    "sha256:0x7",
  ])("are not read from %j", (text) => {
    expect(() => parsePcrSelection(text)).toThrow(/PCR/u);
  });

  test("that have changed are named", () => {
    const selection = { pcrBank: "sha256", pcrs: [0, 7, 11] } as const;
    const [a, b, c] = [1, 2, 3].map((byte) => new Uint8Array(32).fill(byte)) as [Uint8Array, Uint8Array, Uint8Array];
    expect(changedPcrs(selection, [a, b, c], [a, b, c])).toBeUndefined();
    expect(changedPcrs(selection, [a, b, c], [b, b, a])).toBe("sha256:0,11");
  });
});

describe("a tool that failed", () => {
  const told = (errorOutput: string) => ({ tool: "x", errorOutput, isMissing: false, isTimedOut: false });
  const line = (code: string) =>
    `WARNING:esys: Received TPM Error\nERROR: Esys_X(${code}) - tpm: reason\nERROR: Unable`;

  test.each([
    ["0x99D", "TCFS_TPM_CHANGED"],
    ["0x98E", "TCFS_WRONG_KEY"],
    ["0x921", "TCFS_TPM_LOCKED"],
    ["0x1DF", "TCFS_TPM_FOREIGN"],
    ["0x18B", "TCFS_TPM_FOREIGN"],
    ["0x902", "TCFS_TPM"],
    ["0x101", "TCFS_TPM"],
  ])("with %s means %s", (code, error) => {
    expect(responseCode(line(code))).toBe(Number(code));
    expect(toolError(told(line(code))).code).toBe(error);
  });

  test("without a code is told in its own words, or as having none", () => {
    expect(toolError(told("ERROR: it is raining\n")).message).toBe("the TPM failed at tpm2_x: it is raining");
    expect(toolError(told("")).message).toContain("it gave no reason");
  });

  test("for want of the tool, of time or of a TPM is told so", () => {
    expect(toolError({ ...told(""), isMissing: true }).message).toContain("not installed");
    expect(toolError({ ...told(""), isTimedOut: true }).message).toContain("did not answer in time");
    expect(toolError(told('ERROR: Could not load tcti, got: "x"')).code).toBe("TCFS_NO_TPM");
  });
});

describe("tries left", () => {
  const printed = "TPM2_PT_LOCKOUT_COUNTER: 0x2\nTPM2_PT_MAX_AUTH_FAIL: 0x20\nTPM2_PT_LOCKOUT_INTERVAL: 0x1C20\n";

  test("are read from what the TPM says", () => {
    expect(parseLockout(printed)).toEqual({ failed: 2, most: 32, recoverySeconds: 7200 });
    expect(parseLockout("nothing of the kind")).toBeUndefined();
  });

  test("are told, or when there are some again", () => {
    const state = { failed: 31, most: 32, recoverySeconds: 7200 };
    expect(describeTries(state)).toBe("1 try is left before the TPM locks");
    expect(describeTries({ ...state, failed: 2 })).toBe("30 tries are left before the TPM locks");
    expect(describeTries({ ...state, failed: 32 })).toMatch(/^one more try is possible in at most 2 hours/u);
    expect(describeTries({ ...state, failed: 40, recoverySeconds: 90 })).toContain("90 seconds");
    expect(describeTries({ ...state, failed: 32, recoverySeconds: 0 })).toContain("until it is started anew");
  });
});
