/* What Node holds of the engine: keys in native memory, behind externals. */
#ifndef TCFS_HANDLES_H
#define TCFS_HANDLES_H

#include "arguments.h"

#define ENGINE_MAGIC 0x74634531u
#define PACK_MAGIC 0x74635031u

typedef struct {
  uint32_t magic;
  bool is_open;
  chunker by;
  record_cipher records;
  /* Memory shared with JavaScript: small arguments and results go through it without allocation. */
  napi_ref staging_ref;
  output_span staging;
} engine_handle;

typedef struct {
  uint32_t magic;
  bool is_open;
  frame_cipher seals;
  EVP_CIPHER_CTX *unseals;
} pack_handle;

/* The open engine that an external holds; throws and returns NULL when it is none. */
engine_handle *read_engine(napi_env env, napi_value value);

/* ---- record-calls.c ---- */
napi_value call_seal_records(napi_env env, napi_callback_info info);
napi_value call_seal_changes(napi_env env, napi_callback_info info);
napi_value call_unseal_record(napi_env env, napi_callback_info info);
napi_value call_name_prf(napi_env env, napi_callback_info info);

#endif
