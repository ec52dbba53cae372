/* Calls about metadata records and names, which borrow nothing beyond the call, but for sealChanges. */
#include "handles.h"
#include "jobs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/*
 * sealRecords(engine, output, recordCount, firstCounter): status. Staging holds recordCount pairs of u32
 * (key length, value length), then the keys; output holds room || value || room for each, and gets the records.
 */
napi_value call_seal_records(napi_env env, napi_callback_info info) {
  napi_value values[4];
  output_span output;
  uint32_t count;
  uint64_t counter;
  if (!read_arguments(env, info, 4, values) || !read_output(env, values[1], &output) ||
      !read_u32(env, values[2], &count) || !read_count(env, values[3], &counter)) {
    return NULL;
  }
  engine_handle *engine = read_engine(env, values[0]);
  if (engine == NULL) return NULL;
  size_t key_offset = (size_t)count * 8, offset = 0;
  bool is_sealed = key_offset <= engine->staging.length;
  for (uint32_t i = 0; i < count && is_sealed; i++) {
    uint32_t lengths[2];
    memcpy(lengths, engine->staging.bytes + (size_t)i * 8, sizeof lengths);
    size_t record = (size_t)lengths[1] + RECORD_OVERHEAD_BYTES;
    if (lengths[0] > engine->staging.length - key_offset || record > output.length - offset) {
      throw_bad_argument(env);
      return NULL;
    }
    byte_span key = {engine->staging.bytes + key_offset, lengths[0]};
    is_sealed = seal_record(&engine->records, key, counter + i, output.bytes + offset, record);
    key_offset += lengths[0];
    offset += record;
  }
  return number_value(env, is_sealed ? 0 : -1);
}

static engine_status run_sealing_changes(job *work) {
  bool is_sealed = seal_changes(work->records, work->first_counter, work->record_count, work->changes, work->output);
  return is_sealed ? STATUS_OK : EIO;
}

static bool read_changes(napi_env env, const napi_value *values, job *work) {
  output_span output;
  uint32_t count;
  const engine_handle *engine = read_engine(env, values[0]);
  if (engine == NULL || !read_bytes(env, values[1], &work->changes) || !read_output(env, values[2], &output) ||
      !read_u32(env, values[3], &count) || !read_count(env, values[4], &work->first_counter)) {
    return false;
  }
  if (output.length != work->changes.length + (size_t)count * RECORD_OVERHEAD_BYTES) return throw_bad_argument(env);
  work->records = record_cipher_copy(&engine->records);
  if (work->records == NULL) {
    napi_throw_error(env, NULL, "no memory for a key schedule");
    return false;
  }
  work->record_count = count;
  work->output = output.bytes;
  work->run = run_sealing_changes;
  return true;
}

/*
 * sealChanges(engine, changes, output, recordCount, firstCounter, onPool): status. Output is as long as the changes and
 * recordCount seals, and gets the changes with sealed values.
 */
napi_value call_seal_changes(napi_env env, napi_callback_info info) {
  return start_call(env, info, 6, read_changes);
}

/* unsealRecord(engine, keyLength, sealedLength): status. Staging holds key || sealed; the value is opened in it. */
napi_value call_unseal_record(napi_env env, napi_callback_info info) {
  napi_value values[3];
  uint32_t key_length, sealed_length;
  if (!read_arguments(env, info, 3, values) || !read_u32(env, values[1], &key_length) ||
      !read_u32(env, values[2], &sealed_length)) {
    return NULL;
  }
  engine_handle *engine = read_engine(env, values[0]);
  if (engine == NULL) return NULL;
  if ((size_t)key_length + sealed_length > engine->staging.length) {
    throw_bad_argument(env);
    return NULL;
  }
  byte_span key = {engine->staging.bytes, key_length};
  bool is_open = unseal_record(&engine->records, key, engine->staging.bytes + key_length, sealed_length);
  return number_value(env, is_open ? 0 : -1);
}

/* namePrf(engine, directory, name): the 16 bytes stand at the start of staging. */
napi_value call_name_prf(napi_env env, napi_callback_info info) {
  napi_value values[3];
  uint64_t directory;
  char name[1024];
  size_t length;
  if (!read_arguments(env, info, 3, values) || !read_count(env, values[1], &directory)) return NULL;
  engine_handle *engine = read_engine(env, values[0]);
  if (engine == NULL) return NULL;
  if (napi_get_value_string_latin1(env, values[2], name, sizeof name, &length) != napi_ok ||
      length >= sizeof name - 1 || engine->staging.length < NAME_PRF_BYTES) {
    throw_bad_argument(env);
    return NULL;
  }
  name_prf(engine->records.name_key, directory, (const uint8_t *)name, length, engine->staging.bytes);
  return NULL;
}
