/** A store's URL: `file:///directory`, or `s3://bucket/prefix?endpoint=URL&region=NAME`. It holds no secret. */
import { isAbsolute, normalize } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { TcfsError } from "../errors.ts";

export interface DirectoryPlace {
  readonly kind: "directory";
  /** Absolute. */
  readonly path: string;
}

export interface S3Place {
  readonly kind: "s3";
  readonly bucket: string;
  /** Without slashes at its ends; may be empty. */
  readonly prefix: string;
  /** Undefined: Amazon's own. */
  readonly endpoint: string | undefined;
  readonly region: string;
}

export type StorePlace = DirectoryPlace | S3Place;

/** Parts of a place that are kept elsewhere than in its URL. */
export type PlaceOverrides = Partial<Pick<S3Place, "bucket" | "endpoint" | "region">>;

const DEFAULT_REGION = "us-east-1";
const BUCKET = /^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/u;
const PREFIX = /^(?:[A-Za-z0-9][A-Za-z0-9._-]*(?:\/[A-Za-z0-9][A-Za-z0-9._-]*)*)?$/u;
const MAX_URL_CHARACTERS = 1024;

/** @throws TcfsError `TCFS_USAGE` saying what is wrong with it. */
export function parseStoreUrl(text: string): StorePlace {
  let url: URL;
  try {
    url = new URL(text);
  } catch {
    throw refused(text, "it is no URL: a directory is written file:///path, a bucket s3://bucket/prefix");
  }
  if (text.length > MAX_URL_CHARACTERS) throw refused("", "it is too long");
  if (url.username !== "" || url.password !== "") throw refused("", "it must hold no credentials");
  if (url.hash !== "") throw refused(text, "it has a fragment");
  if (url.protocol === "file:") return parseDirectory(text, url);
  if (url.protocol === "s3:") return parseS3(text, url);
  throw refused(text, "it begins neither with file:/// nor with s3://");
}

/** @returns The one text of a place: parsing it gives the place again. */
export function formatStoreUrl(place: StorePlace): string {
  if (place.kind === "directory") return pathToFileURL(place.path).href;
  const query = new URLSearchParams();
  if (place.endpoint !== undefined) query.set("endpoint", place.endpoint);
  if (place.region !== DEFAULT_REGION) query.set("region", place.region);
  const path = place.prefix === "" ? "" : `/${place.prefix}`;
  return `s3://${place.bucket}${path}${query.size === 0 ? "" : `?${query.toString()}`}`;
}

/** @throws TcfsError `TCFS_USAGE` if an override is not one. */
export function overridePlace(place: S3Place, overrides: PlaceOverrides): S3Place {
  const { bucket, prefix, endpoint, region } = { ...place, ...overrides };
  if (!BUCKET.test(bucket)) throw refused("", "the bucket's name that is kept with the credentials is not one of S3");
  checkRegion(region);
  return { kind: "s3", bucket, prefix, endpoint: endpoint && parseEndpoint(endpoint), region };
}

function parseDirectory(text: string, url: URL): DirectoryPlace {
  // “file:vault” would be /vault.
  if (url.host !== "" || url.search !== "" || !/^file:\//iu.test(text))
    throw refused(text, "a directory is written file:///path");
  let path: string;
  try {
    path = normalize(fileURLToPath(url));
  } catch {
    throw refused(text, "a directory is written file:///path");
  }
  if (!isAbsolute(path) || path === "/") throw refused(text, "it names no directory of its own");
  return { kind: "directory", path: path.replace(/\/$/u, "") };
}

function parseS3(text: string, url: URL): S3Place {
  const prefix = url.pathname.replace(/^\/+|\/+$/gu, "");
  if (!BUCKET.test(url.hostname) || url.port !== "") throw refused(text, "the bucket's name is not one of S3");
  if (!PREFIX.test(prefix)) throw refused(text, "its prefix may have letters, digits, dots, hyphens and underscores");
  for (const name of url.searchParams.keys()) {
    if (name !== "endpoint" && name !== "region") throw refused("", `it has the parameter “${name}”`);
  }
  const endpoint = url.searchParams.get("endpoint") ?? undefined;
  const region = url.searchParams.get("region") ?? DEFAULT_REGION;
  checkRegion(region);
  return { kind: "s3", bucket: url.hostname, prefix, endpoint: endpoint && parseEndpoint(endpoint), region };
}

function checkRegion(region: string): void {
  if (!/^[a-z0-9-]{1,64}$/u.test(region)) throw refused("", "its region is not one");
}

function parseEndpoint(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const isPlain = url?.username === "" && url.password === "" && url.search === "" && url.hash === "";
  if (url === undefined || !isPlain || !["http:", "https:"].includes(url.protocol)) {
    throw refused("", "its endpoint must be http://host:port or https://host:port");
  }
  return url.href.replace(/\/$/u, "");
}

/** @param text - Empty where it may hold something that is not to be shown. */
function refused(text: string, why: string): TcfsError {
  return new TcfsError("TCFS_USAGE", `${text === "" ? "the store's URL" : text} cannot be used: ${why}`);
}
