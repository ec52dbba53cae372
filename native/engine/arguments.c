/* Reading a call's arguments from Node. */
#include "arguments.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

bool throw_bad_argument(napi_env env) {
  napi_throw_range_error(env, NULL, "bad argument to the native engine");
  return false;
}

bool read_arguments(napi_env env, napi_callback_info info, size_t count, napi_value *values) {
  size_t given = count;
  if (napi_get_cb_info(env, info, &given, values, NULL, NULL) == napi_ok && given == count) return true;
  return throw_bad_argument(env);
}

static bool read_typed(napi_env env, napi_value value, napi_typedarray_type wanted, void **data, size_t *length) {
  napi_typedarray_type type;
  napi_status status = napi_get_typedarray_info(env, value, &type, length, data, NULL, NULL);
  if (status == napi_ok && type == wanted) return true;
  return throw_bad_argument(env);
}

bool read_bytes(napi_env env, napi_value value, byte_span *to) {
  void *data;
  if (!read_typed(env, value, napi_uint8_array, &data, &to->length)) return false;
  to->bytes = data;
  return true;
}

bool read_bytes_exactly(napi_env env, napi_value value, uint8_t *to, size_t length) {
  byte_span span;
  if (!read_bytes(env, value, &span)) return false;
  if (span.length != length) return throw_bad_argument(env);
  memcpy(to, span.bytes, length);
  return true;
}

bool read_output(napi_env env, napi_value value, output_span *to) {
  void *data;
  if (!read_typed(env, value, napi_uint8_array, &data, &to->length)) return false;
  to->bytes = data;
  return true;
}

bool read_u32s(napi_env env, napi_value value, u32_span *to) {
  void *data;
  if (!read_typed(env, value, napi_uint32_array, &data, &to->count)) return false;
  to->values = data;
  return true;
}

bool read_u32(napi_env env, napi_value value, uint32_t *to) {
  if (napi_get_value_uint32(env, value, to) == napi_ok) return true;
  return throw_bad_argument(env);
}

bool read_count(napi_env env, napi_value value, uint64_t *to) {
  double number;
  if (napi_get_value_double(env, value, &number) != napi_ok) return throw_bad_argument(env);
  if (!(number >= 0 && number < 9007199254740992.0) || number != floor(number)) return throw_bad_argument(env);
  *to = (uint64_t)number;
  return true;
}

bool read_flag(napi_env env, napi_value value, bool *to) {
  if (napi_get_value_bool(env, value, to) == napi_ok) return true;
  return throw_bad_argument(env);
}

bool read_pieces(napi_env env, napi_value value, byte_span **pieces, size_t *piece_count) {
  uint32_t count;
  *pieces = NULL;
  *piece_count = 0;
  if (napi_get_array_length(env, value, &count) != napi_ok) return throw_bad_argument(env);
  byte_span *spans = malloc(sizeof *spans * ((size_t)count + 1));
  if (spans == NULL) return throw_bad_argument(env);
  for (uint32_t i = 0; i < count; i++) {
    napi_value element;
    if (napi_get_element(env, value, i, &element) != napi_ok || !read_bytes(env, element, &spans[i])) {
      free(spans);
      return throw_bad_argument(env);
    }
  }
  *pieces = spans;
  *piece_count = count;
  return true;
}

napi_value number_value(napi_env env, double number) {
  napi_value value;
  return napi_create_double(env, number, &value) == napi_ok ? value : NULL;
}
