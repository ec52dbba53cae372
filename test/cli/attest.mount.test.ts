/** A device whose TPM vouches for it, as its user sees it: enrolled, attested again, refused when it is another machine. */
import { cp, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { SoftwareTpm, swtpmIsMissing } from "../support/swtpm.ts";
import { CommandLine } from "./fixtures.ts";

describe.skipIf(swtpmIsMissing !== undefined)("tcfs device", () => {
  test("enrolls by a TPM with its maker's certificate, attests it again, and says what does not fit", async () => {
    await using line = await CommandLine.make();
    const { tpm: made, authorities } = await SoftwareTpm.makeCertified();
    await using tpm = made;
    await using other = await SoftwareTpm.make();
    const ca = join(line.directory, "ca.pem");
    await writeFile(ca, authorities);
    const words = ["--recovery-file", join(line.directory, "words")]; // no Argon2: there are many commands
    const unlock = ["--vault", line.vault, ...words];
    const here = [...unlock, "--tcti", tpm.tcti];

    const unproved = await line.expect("NOT_ATTESTED", ["device", "attest", ...here]);
    expect(unproved.stderr).toMatch(/no TPM vouches for this device: tcfs device enroll/u);
    const plain = await line.expect("OK", ["device", "enroll", ...unlock, "--no-tpm", "--name", "desk"]);
    expect(plain.stdout).toMatch(/^desk \(.{8}\) is enrolled: not attested: no TPM vouches for it\.\n$/u);
    await line.expect("USAGE", ["device", "enroll", ...here, "--no-tpm", "--ca", ca]);
    await line.expect("USAGE", ["device", "enroll", ...here, "--name", "a\nb"]);
    await line.expect("USAGE", ["device", "enroll", ...here, "--ca", join(line.directory, "nowhere")]);

    const enrolled = await line.expect("OK", ["device", "enroll", ...here, "--ca", ca]);
    expect(enrolled.stdout).toMatch(
      /^desk .* is enrolled: attested at 20.* by its TPM, certified by CN=swtpm-localca, with PCRs sha256:7 as at/u,
    );
    await line.expect("OK", ["device", "attest", ...here]);
    const [row] = JSON.parse((await line.expect("OK", ["device", "list", "--json", ...unlock])).stdout) as {
      tpm: unknown;
    }[];
    expect(row).toMatchObject({ name: "desk", tpm: { certifiedBy: "CN=swtpm-localca" } });

    // The directory on another machine, with its passphrase.
    const copy = join(line.directory, "copy");
    await cp(line.vault, copy, { recursive: true });
    const there = ["--vault", copy, ...words, "--tcti", other.tcti];
    const foreign = await line.expect("TPM_FOREIGN", ["device", "attest", ...there]);
    expect(foreign.stderr).toMatch(/another machine's, or was cleared/u);
    const uncertified = await line.expect("NOT_ATTESTED", ["device", "enroll", ...there, "--ca", ca]);
    expect(uncertified.stderr).toMatch(/has no certificate to check: enrol without --ca/u);
    expect((await line.expect("OK", ["device", "enroll", ...there])).stdout).toMatch(/certificate was not checked/u);

    await tpm.extend(7);
    const changed = await line.expect("TPM_CHANGED", ["device", "attest", ...here]);
    expect(changed.stderr).toMatch(/the TPM is the right one, and PCR sha256:7 is not what it was at the enrolment/u);
    await line.expect("OK", ["device", "enroll", ...here, "--ca", ca]);
    await line.expect("OK", ["device", "attest", ...here]);
    await tpm.stop();
    await line.expect("NO_TPM", ["device", "attest", ...here]);
  });
});
