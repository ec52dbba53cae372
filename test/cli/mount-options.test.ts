import { describe, expect, test } from "vitest";
import { isTcfsError } from "../../src/errors.ts";
import { parseHelperArguments } from "../../src/cli/mounts/mount-helper.ts";
import { DEFAULT_MOUNT_OPTIONS, optionsInEffect, parseMountOptions } from "../../src/cli/mounts/mount-options.ts";

function expectUsage(action: () => unknown, words: RegExp): void {
  try {
    action();
  } catch (error) {
    expect(isTcfsError(error, "TCFS_USAGE"), String(error)).toBe(true);
    expect(String(error)).toMatch(words);
    return;
  }
  expect.unreachable("not refused");
}

describe("mount options", () => {
  test("change what they name, the last one winning", () => {
    expect(parseMountOptions(["ro,noatime,suid,dev", "rw,allow_other,noexec"])).toEqual({
      ...DEFAULT_MOUNT_OPTIONS,
      readOnly: false,
      accessTimes: { mode: "none", ofDirectories: true },
      suid: true,
      dev: true,
      allowOther: true,
      exec: false,
    });
  });

  test("that fstab, mount(8) and other FUSE filesystems give are taken without effect", () => {
    const list = "defaults,noauto,user=ann,users,_netdev,nofail,x-systemd.automount,X-mount.mkdir,default_permissions";
    expect(parseMountOptions([list, "auto,user,relatime,diratime,lazytime,async,subtype=x,,"])).toEqual(
      DEFAULT_MOUNT_OPTIONS,
    );
  });

  test("say which access times are kept, what is synchronous and how much one read asks for", () => {
    expect(parseMountOptions(["strictatime,nodiratime,dirsync,max_read=8192,nosymfollow"])).toEqual({
      ...DEFAULT_MOUNT_OPTIONS,
      accessTimes: { mode: "strict", ofDirectories: false },
      synchronous: "names",
      maxReadBytes: 8192,
      followsSymlinks: false,
    });
    expect(parseMountOptions(["strictatime,nodiratime,sync", "relatime,diratime,async"])).toEqual(
      DEFAULT_MOUNT_OPTIONS,
    );
  });

  test("that the mount table shows are taken when a mount is changed, and only then", () => {
    const table = "ro,nosuid,nodev,relatime,user_id=0,group_id=0,default_permissions";
    const options = { ...DEFAULT_MOUNT_OPTIONS, readOnly: true, isRemount: true };
    expect(parseMountOptions([`${table},remount`])).toEqual(options);
    expectUsage(() => parseMountOptions([table]), /user_id/u);
  });

  test("in effect are what the mount table shows and the kernel's defaults", () => {
    const shown = ["rw", "user_id=0", "sync", "ro", "nosuid", "nodev", "noexec", "relatime"];
    expect(optionsInEffect(shown)).toEqual({
      ...DEFAULT_MOUNT_OPTIONS,
      readOnly: true,
      exec: false,
      synchronous: "everything",
    });
    const strict = { mode: "strict", ofDirectories: true };
    expect(optionsInEffect(["rw"])).toEqual({ ...DEFAULT_MOUNT_OPTIONS, suid: true, dev: true, accessTimes: strict });
  });

  test.each(["uid=1000", "gid=1000", "umask=022", "fmask=1", "dmask=1", "allow_root", "auto_unmount"])(
    "refuse %s and say what to do instead",
    (option) => {
      expectUsage(() => parseMountOptions([option]), /is not supported: .*(use|chmod)/u);
    },
  );

  test.each(["max_read=1k", "max_read=100", "max_read", "max_read=99999999999999999999"])("refuse %s", (option) => {
    expectUsage(() => parseMountOptions([option]), /max_read/u);
  });

  test("carry values, in which a comma is escaped", () => {
    const options = parseMountOptions(["fsname=a\\,b=c,passphrase_file=/k/p,recovery_file=/k/r,pid_file=/run/p"]);
    expect(options).toMatchObject({ fsName: "a,b=c", passphraseFile: "/k/p", recoveryFile: "/k/r", pidFile: "/run/p" });
  });

  test.each(["bogus", "ro=1", "sync=1", "__proto__", "constructor=1", "toString"])("refuse %s by name", (option) => {
    expectUsage(() => parseMountOptions([option]), new RegExp(option, "u"));
  });

  test("refuse a value that is missing", () => {
    expectUsage(() => parseMountOptions(["fsname"]), /needs a value/u);
    expectUsage(() => parseMountOptions(["pid_file="]), /needs a value/u);
  });
});

describe("the words that mount(8) gives its helper", () => {
  test("are understood in any order, joined or not", () => {
    const expected = {
      vault: "/v",
      mountPoint: "/m",
      optionLists: ["ro,noauto", "ro"],
      isFake: false,
      isVerbose: true,
    };
    expect(parseHelperArguments(["/v", "/m", "-svr", "-o", "ro,noauto", "-t", "fuse.tcfs"])).toEqual(expected);
    expect(parseHelperArguments(["-oro,noauto", "-rnv", "/v", "-tfuse.tcfs", "/m"])).toEqual(expected);
    expect(parseHelperArguments(["/v", "/m", "-f"]).isFake).toBe(true);
  });

  test.each([[["/v"]], [["/v", "/m", "/x"]], [["/v", "/m", "-q"]], [["/v", "/m", "-o"]]])(
    "are refused as %j",
    (words) => {
      expectUsage(() => parseHelperArguments(words), /mount\.tcfs takes|flag/u);
    },
  );
});
