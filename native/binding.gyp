{
  "variables": { "blake3": "<!(node -p \"require('path').relative('.', require('path').dirname(require.resolve('@c4312/blake3-native/package.json')) + '/c')\")" },
  "target_defaults": {
    "cflags": ["-O3", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Wno-cast-function-type", "-std=gnu17", "-fvisibility=hidden"],
    "defines": ["NAPI_VERSION=9", "_GNU_SOURCE"]
  },
  "targets": [
    { "target_name": "tcfs_fuse", "sources": ["fuse/module.c"] },
    {
      "target_name": "tcfs_engine",
      "sources": ["engine/module.c"],
      "include_dirs": ["<(blake3)"],
      "libraries": ["-llz4"]
    }
  ]
}
