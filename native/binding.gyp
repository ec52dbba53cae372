{
  "variables": { "blake3": "<!(node -p \"require('path').relative('.', require('path').dirname(require.resolve('@c4312/blake3-native/package.json')) + '/c')\")" },
  "target_defaults": {
    "cflags": ["-O3", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Wno-cast-function-type", "-std=gnu17", "-fvisibility=hidden"],
    "defines": ["NAPI_VERSION=9", "_GNU_SOURCE"]
  },
  "targets": [
    { "target_name": "tcfs_fuse", "sources": ["fuse/module.c"] },
    { "target_name": "tcfs_host", "sources": ["host/module.c"] },
    {
      "target_name": "tcfs_engine",
      "sources": [
        "engine/module.c",
        "engine/arguments.c",
        "engine/jobs.c",
        "engine/pieces.c",
        "engine/chunker.c",
        "engine/aead.c",
        "engine/frames.c",
        "engine/records.c",
        "engine/record-calls.c",
        "<(blake3)/blake3.c",
        "<(blake3)/blake3_dispatch.c",
        "<(blake3)/blake3_portable.c"
      ],
      "include_dirs": ["<(blake3)"],
      "libraries": ["-llz4"],
      "ldflags": ["-Wl,-z,now"],
      "conditions": [
        ["target_arch=='x64'", {
          "sources": [
            "<(blake3)/blake3_sse2_x86-64_unix.S",
            "<(blake3)/blake3_sse41_x86-64_unix.S",
            "<(blake3)/blake3_avx2_x86-64_unix.S",
            "<(blake3)/blake3_avx512_x86-64_unix.S"
          ]
        }],
        ["target_arch=='arm64'", { "sources": ["<(blake3)/blake3_neon.c"] }]
      ]
    }
  ]
}
