import { userInfo } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { readSettings } from "../../src/cli/settings.ts";

describe("the default vault", () => {
  test.each([
    [{ TCFS_VAULT: "/v" }, "/v"],
    [{ TCFS_VAULT: "", HOME: "/home/a" }, "/home/a/.local/share/tcfs/default"],
    [{ XDG_DATA_HOME: "/data", HOME: "/home/a" }, "/data/tcfs/default"],
    [{ XDG_DATA_HOME: "relative", HOME: "/home/a" }, "/home/a/.local/share/tcfs/default"],
    [{ HOME: "" }, join(userInfo().homedir, ".local/share/tcfs/default")],
    [{ HOME: "relative" }, join(userInfo().homedir, ".local/share/tcfs/default")],
    [{}, join(userInfo().homedir, ".local/share/tcfs/default")],
  ])("of %j is %s", (environment, expected) => {
    expect(readSettings(environment).defaultVault).toBe(expected);
  });
});

describe("credentials in the environment", () => {
  test("are taken out of it, so that no program that a command starts is handed them", () => {
    const environment = { AWS_ACCESS_KEY_ID: "AKIA", AWS_SECRET_ACCESS_KEY: "x", AWS_SESSION_TOKEN: "y", HOME: "/h" };
    const { credentialSource } = readSettings(environment);
    expect(environment).toEqual({ HOME: "/h", AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED: "true" });
    expect(credentialSource.environment).toMatchObject({ AWS_SECRET_ACCESS_KEY: "x", AWS_SESSION_TOKEN: "y" });
  });
});

describe("the daemon's environment", () => {
  test("holds nothing but what it needs", () => {
    const environment = { PATH: "/bin", NODE_OPTIONS: "--inspect", TCFS_PASSWORD: "x", AWS_SECRET: "y", HOME: "/h" };
    expect(readSettings(environment).daemonEnvironment).toEqual({
      PATH: "/bin",
      HOME: "/h",
      AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED: "true",
    });
  });
});
