/* Reading a call's arguments from Node: each function throws and returns false when one is not what it must be. */
#ifndef TCFS_ARGUMENTS_H
#define TCFS_ARGUMENTS_H

#include "engine.h"

#include <node_api.h>

#define ARGUMENTS_MAX 10

typedef struct {
  uint32_t *values;
  size_t count;
} u32_span;

typedef struct {
  uint8_t *bytes;
  size_t length;
} output_span;

bool throw_bad_argument(napi_env env);
bool read_arguments(napi_env env, napi_callback_info info, size_t count, napi_value *values);
bool read_bytes(napi_env env, napi_value value, byte_span *to);
bool read_bytes_exactly(napi_env env, napi_value value, uint8_t *to, size_t length);
bool read_output(napi_env env, napi_value value, output_span *to);
bool read_u32s(napi_env env, napi_value value, u32_span *to);
bool read_u32(napi_env env, napi_value value, uint32_t *to);
/* A whole number in [0, 2^53). */
bool read_count(napi_env env, napi_value value, uint64_t *to);
bool read_flag(napi_env env, napi_value value, bool *to);
/* An array of Uint8Array; `pieces` is malloc'ed (NULL when there are none) and the caller's. */
bool read_pieces(napi_env env, napi_value value, byte_span **pieces, size_t *piece_count);
napi_value number_value(napi_env env, double number);

#endif
