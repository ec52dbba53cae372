/** The certificate by which a TPM's maker vouches for its endorsement key: read, and checked against authorities that a person names. */
import { X509Certificate } from "node:crypto";
import { TcfsError } from "../../errors.ts";

/** Authorities between a TPM and its root. */
const MAX_CHAIN = 8;
const PEM = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/gu;

/** @param content - As NV memory has it: DER, padded by some makers. @throws TcfsError `TCFS_NOT_ATTESTED` */
export function parseCertificate(content: Uint8Array): X509Certificate {
  try {
    return new X509Certificate(content.subarray(0, derLength(content)));
  } catch (cause) {
    throw new TcfsError("TCFS_NOT_ATTESTED", "the certificate in the TPM is damaged", { cause });
  }
}

/** @param text - PEM, one certificate after another. @throws TcfsError `TCFS_USAGE` if there is none, or one is damaged. */
export function parseAuthorities(text: string): X509Certificate[] {
  try {
    const found = text.match(PEM)?.map((one) => new X509Certificate(one)) ?? [];
    if (found.length > 0) return found;
  } catch (cause) {
    throw new TcfsError("TCFS_USAGE", "a certificate in the file of authorities (--ca) is damaged", { cause });
  }
  throw new TcfsError("TCFS_USAGE", "the file of authorities (--ca) has no certificate in PEM");
}

/**
 * @param authorities - Roots, which are believed because they sign themselves, and what stands between.
 * @param now - Milliseconds since 1970.
 * @throws TcfsError `TCFS_NOT_ATTESTED` if no chain leads to a root.
 */
export function verifyCertificate(
  certificate: X509Certificate,
  authorities: readonly X509Certificate[],
  now: number,
): void {
  let current = certificate;
  for (let length = 0; length <= MAX_CHAIN; length++) {
    requireValid(current, now);
    if (length > 0 && isSignedBy(current, current)) return;
    const issuer = authorities.find((authority) => authority.ca && isSignedBy(current, authority));
    if (issuer === undefined) break;
    current = issuer;
  }
  const who = current.issuer.replaceAll("\n", ", ");
  const message = `the TPM's certificate leads to “${who}”, which is not among the authorities that were named`;
  throw new TcfsError("TCFS_NOT_ATTESTED", message);
}

function isSignedBy(certificate: X509Certificate, issuer: X509Certificate): boolean {
  return certificate.checkIssued(issuer) && certificate.verify(issuer.publicKey);
}

function requireValid({ validFrom, validTo, subject }: X509Certificate, now: number): void {
  if (Date.parse(validFrom) <= now && now <= Date.parse(validTo)) return;
  const period = `valid from ${validFrom} to ${validTo}`;
  throw new TcfsError("TCFS_NOT_ATTESTED", `the certificate of “${subject.replaceAll("\n", ", ")}” is ${period}`);
}

/** @returns Of the DER object that `content` begins with; all of it where that is none. */
function derLength(content: Uint8Array): number {
  const [tag, form = 0] = content;
  const lengthBytes = form & 0x7f;
  if (tag !== 0x30 || form < 0x80 || lengthBytes > 3) return content.length;
  const length = content.subarray(2, 2 + lengthBytes).reduce((sum, byte) => sum * 256 + byte, 0);
  return 2 + lengthBytes + length;
}
