/*
 * The sealing engine as Node sees it: handles in, bytes and status numbers out, no policy.
 * src/crypto/binding.ts is the one file that calls it and documents each function.
 */
#include "arguments.h"
#include "handles.h"
#include "jobs.h"

#include <sys/mman.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

#define FRAME_NUMBER_END (1ull << 32)

static void engine_wipe(engine_handle *engine) {
  if (!engine->is_open) return;
  engine->is_open = false;
  OPENSSL_cleanse(&engine->by, sizeof engine->by);
  record_cipher_wipe(&engine->records);
  OPENSSL_cleanse(engine->staging.bytes, engine->staging.length);
}

static void pack_wipe(pack_handle *pack) {
  if (!pack->is_open) return;
  pack->is_open = false;
  EVP_CIPHER_CTX_free(pack->seals.context);
  EVP_CIPHER_CTX_free(pack->unseals);
  pack->seals.context = NULL;
  pack->unseals = NULL;
}

static void engine_finalize(napi_env env, void *data, void *hint) {
  engine_handle *engine = data;
  engine_wipe(engine);
  napi_delete_reference(env, engine->staging_ref);
  free(engine);
}

static void pack_finalize(napi_env env, void *data, void *hint) {
  pack_wipe(data);
  free(data);
}

engine_handle *read_engine(napi_env env, napi_value value) {
  void *data = NULL;
  napi_status status = napi_get_value_external(env, value, &data);
  engine_handle *engine = data;
  if (status == napi_ok && engine->magic == ENGINE_MAGIC && engine->is_open) return engine;
  throw_bad_argument(env);
  return NULL;
}

static pack_handle *read_pack(napi_env env, napi_value value) {
  void *data = NULL;
  napi_status status = napi_get_value_external(env, value, &data);
  pack_handle *pack = data;
  if (status == napi_ok && pack->magic == PACK_MAGIC && pack->is_open) return pack;
  throw_bad_argument(env);
  return NULL;
}

static bool read_staging(napi_env env, napi_value value, engine_handle *engine) {
  return read_output(env, value, &engine->staging) &&
         napi_create_reference(env, value, 1, &engine->staging_ref) == napi_ok;
}

static bool read_sizes(napi_env env, const napi_value *values, chunker *by) {
  uint32_t min_bytes, average_bytes, max_bytes;
  if (!read_u32(env, values[0], &min_bytes) || !read_u32(env, values[1], &average_bytes) ||
      !read_u32(env, values[2], &max_bytes)) {
    return false;
  }
  bool is_power = average_bytes >= 16 && (average_bytes & (average_bytes - 1)) == 0;
  if (!is_power || min_bytes == 0 || min_bytes >= average_bytes || average_bytes >= max_bytes) {
    return throw_bad_argument(env);
  }
  chunker_set_sizes(by, min_bytes, average_bytes, max_bytes);
  return true;
}

/* openEngine(keys, sessionId, recordAadPrefix, staging, minBytes, averageBytes, maxBytes): engine */
static napi_value open_engine(napi_env env, napi_callback_info info) {
  napi_value values[7], external;
  uint8_t keys[4 * KEY_BYTES];
  byte_span prefix;
  if (!read_arguments(env, info, 7, values)) return NULL;
  engine_handle *engine = calloc(1, sizeof *engine);
  if (engine == NULL) return NULL;
  mlock(engine, sizeof *engine); // its keys stay out of swap, as far as RLIMIT_MEMLOCK allows
  engine->magic = ENGINE_MAGIC;
  record_cipher *records = &engine->records;
  bool is_read = read_bytes_exactly(env, values[0], keys, sizeof keys) &&
                 read_bytes_exactly(env, values[1], records->session_id, SESSION_ID_BYTES) &&
                 read_bytes(env, values[2], &prefix) && read_sizes(env, values + 4, &engine->by) &&
                 read_staging(env, values[3], engine);
  if (is_read && prefix.length <= AAD_MAX_BYTES) {
    memcpy(records->aad_prefix, prefix.bytes, prefix.length);
    records->aad_prefix_length = prefix.length;
    chunker_init(&engine->by, keys + KEY_BYTES, keys);
    memcpy(records->parent_key, keys + 2 * KEY_BYTES, KEY_BYTES);
    memcpy(records->name_key, keys + 3 * KEY_BYTES, KEY_BYTES);
    engine->is_open = true;
    is_read = record_cipher_start(records);
  }
  OPENSSL_cleanse(keys, sizeof keys);
  if (is_read && engine->is_open &&
      napi_create_external(env, engine, engine_finalize, NULL, &external) == napi_ok) {
    return external;
  }
  engine_wipe(engine);
  if (engine->staging_ref != NULL) napi_delete_reference(env, engine->staging_ref);
  free(engine);
  throw_bad_argument(env);
  return NULL;
}

/* closeEngine(engine): wipe its keys. Jobs under way hold their own copies until they end. */
static napi_value close_engine(napi_env env, napi_callback_info info) {
  napi_value values[1];
  if (!read_arguments(env, info, 1, values)) return NULL;
  engine_handle *engine = read_engine(env, values[0]);
  if (engine != NULL) engine_wipe(engine);
  return NULL;
}

/* setStaging(engine, staging): replace the shared memory by a larger one. */
static napi_value set_staging(napi_env env, napi_callback_info info) {
  napi_value values[2];
  if (!read_arguments(env, info, 2, values)) return NULL;
  engine_handle *engine = read_engine(env, values[0]);
  if (engine == NULL) return NULL;
  output_span before = engine->staging;
  napi_ref before_ref = engine->staging_ref;
  if (!read_staging(env, values[1], engine)) {
    engine->staging = before;
    engine->staging_ref = before_ref;
    throw_bad_argument(env);
    return NULL;
  }
  OPENSSL_cleanse(before.bytes, before.length);
  napi_delete_reference(env, before_ref);
  return NULL;
}

/* openPack(key, aad): pack */
static napi_value open_pack(napi_env env, napi_callback_info info) {
  napi_value values[2], external;
  uint8_t key[KEY_BYTES];
  byte_span aad;
  if (!read_arguments(env, info, 2, values) || !read_bytes(env, values[1], &aad)) return NULL;
  if (aad.length > AAD_MAX_BYTES || !read_bytes_exactly(env, values[0], key, sizeof key)) {
    throw_bad_argument(env);
    return NULL;
  }
  pack_handle *pack = calloc(1, sizeof *pack);
  if (pack != NULL) {
    pack->magic = PACK_MAGIC;
    pack->is_open = true;
    pack->seals.context = aead_new(key, true);
    pack->unseals = aead_new(key, false);
    memcpy(pack->seals.aad, aad.bytes, aad.length);
    pack->seals.aad_length = aad.length;
  }
  OPENSSL_cleanse(key, sizeof key);
  if (pack != NULL && pack->seals.context != NULL && pack->unseals != NULL &&
      napi_create_external(env, pack, pack_finalize, NULL, &external) == napi_ok) {
    return external;
  }
  if (pack != NULL) pack_wipe(pack);
  free(pack);
  napi_throw_error(env, NULL, "no memory for a pack's key");
  return NULL;
}

/* closePack(pack): wipe its key. Jobs under way hold their own copies until they end. */
static napi_value close_pack(napi_env env, napi_callback_info info) {
  napi_value values[1];
  if (!read_arguments(env, info, 1, values)) return NULL;
  pack_handle *pack = read_pack(env, values[0]);
  if (pack != NULL) pack_wipe(pack);
  return NULL;
}

/* The pieces and how many belong to each input: arguments `at` and `at + 1`. */
static bool read_inputs(napi_env env, const napi_value *at, job *work) {
  u32_span counts;
  if (!read_pieces(env, at[0], &work->pieces, &work->piece_count) || !read_u32s(env, at[1], &counts)) return false;
  size_t sum = 0;
  for (size_t i = 0; i < counts.count; i++) sum += counts.values[i];
  if (sum != work->piece_count) return throw_bad_argument(env);
  work->piece_counts = counts.values;
  work->input_count = counts.count;
  return true;
}

static size_t input_bytes(const job *work, size_t first_piece, size_t input) {
  size_t total = 0;
  for (size_t i = 0; i < work->piece_counts[input]; i++) total += work->pieces[first_piece + i].length;
  return total;
}

static bool read_naming(napi_env env, const napi_value *values, job *work) {
  const engine_handle *engine = read_engine(env, values[0]);
  if (engine == NULL) return false;
  byte_span finals;
  output_span ids;
  u32_span lengths, counts;
  if (!read_inputs(env, values + 1, work) || !read_bytes(env, values[3], &finals) ||
      !read_output(env, values[4], &ids) || !read_u32s(env, values[5], &lengths) ||
      !read_u32s(env, values[6], &counts)) {
    return false;
  }
  size_t most = 0, piece = 0;
  for (size_t i = 0; i < work->input_count; i++) {
    most += input_bytes(work, piece, i) / engine->by.min_bytes + 1;
    piece += work->piece_counts[i];
  }
  bool fits = finals.length == work->input_count && counts.count == work->input_count && lengths.count >= most &&
              ids.length / ID_BYTES >= most;
  if (!fits) return throw_bad_argument(env);
  work->by = malloc(sizeof *work->by);
  if (work->by == NULL) return throw_bad_argument(env);
  memcpy(work->by, &engine->by, sizeof *work->by);
  work->finals = finals.bytes;
  work->ids = ids.bytes;
  work->id_lengths = lengths.values;
  work->chunk_counts = counts.values;
  work->run = run_naming;
  return true;
}

/* nameChunks(engine, pieces, pieceCounts, finals, ids, lengths, chunkCounts, onPool): status */
static napi_value name_chunks(napi_env env, napi_callback_info info) {
  return start_call(env, info, 8, read_naming);
}

static bool take_cipher(napi_env env, const pack_handle *pack, bool seals, job *work) {
  work->cipher = pack->seals;
  work->cipher.context = aead_copy(seals ? pack->seals.context : pack->unseals);
  if (work->cipher.context != NULL) return true;
  napi_throw_error(env, NULL, "no memory for a key schedule");
  return false;
}

static bool read_sealing(napi_env env, const napi_value *values, job *work) {
  const pack_handle *pack = read_pack(env, values[0]);
  if (pack == NULL) return false;
  u32_span lengths, stored;
  output_span output;
  if (!read_inputs(env, values + 1, work) || !read_u32s(env, values[3], &lengths) ||
      !read_count(env, values[4], &work->first_frame) || !read_output(env, values[5], &output) ||
      !read_u32s(env, values[6], &stored) || !take_cipher(env, pack, true, work)) {
    return false;
  }
  if (lengths.count != work->input_count) return throw_bad_argument(env);
  size_t frames = 0, bytes = 0, piece = 0;
  for (size_t i = 0; i < work->input_count; i++) {
    if (input_bytes(work, piece, i) != lengths.values[i]) return throw_bad_argument(env);
    frames += ((size_t)lengths.values[i] + FRAME_BYTES - 1) / FRAME_BYTES;
    bytes += lengths.values[i];
    piece += work->piece_counts[i];
  }
  bool fits = stored.count >= frames && output.length >= bytes + frames * FRAME_OVERHEAD_BYTES &&
              work->first_frame + frames <= FRAME_NUMBER_END;
  if (!fits) return throw_bad_argument(env);
  work->chunk_lengths = lengths.values;
  work->output = output.bytes;
  work->stored = stored.values;
  work->run = run_sealing;
  return true;
}

/* seal(pack, pieces, pieceCounts, chunkLengths, firstFrame, output, storedFrameBytes, onPool): status */
static napi_value seal(napi_env env, napi_callback_info info) {
  return start_call(env, info, 8, read_sealing);
}

/* (…, firstFrame, storedFrameBytes): arguments `at` and `at + 1`. */
static bool read_run(napi_env env, const napi_value *at, const pack_handle *pack, job *work) {
  u32_span stored;
  frame_run *run = &work->opened;
  if (!read_count(env, at[0], &run->first_frame) || !read_u32s(env, at[1], &stored) ||
      !take_cipher(env, pack, false, work)) {
    return false;
  }
  for (size_t i = 0; i < stored.count; i++) {
    if (stored.values[i] > STORED_FRAME_MAX_BYTES) return throw_bad_argument(env);
    work->sealed_bytes += stored.values[i];
  }
  run->stored = stored.values;
  run->frame_count = stored.count;
  return true;
}

/* After read_run: all its frames go to one place. */
static bool read_place(napi_env env, napi_value value, job *work) {
  output_span output;
  if (!read_output(env, value, &output)) return false;
  if (work->opened.frame_count != (output.length + FRAME_BYTES - 1) / FRAME_BYTES) return throw_bad_argument(env);
  work->opened.length = output.length;
  work->output = output.bytes;
  return true;
}

/* After read_run: each of its frames has a place of its own, all but the last a whole frame long. */
static bool read_places(napi_env env, napi_value value, job *work) {
  frame_run *run = &work->opened;
  if (!read_pieces(env, value, &work->pieces, &work->piece_count)) return false;
  if (work->piece_count != run->frame_count) return throw_bad_argument(env);
  for (size_t i = 0; i < work->piece_count; i++) {
    size_t length = work->pieces[i].length;
    if (length > FRAME_BYTES || (length < FRAME_BYTES && i + 1 < work->piece_count)) return throw_bad_argument(env);
    run->length += length;
  }
  run->places = work->pieces;
  return true;
}

static bool read_unsealing(napi_env env, const napi_value *values, job *work) {
  byte_span sealed;
  const pack_handle *pack = read_pack(env, values[0]);
  if (pack == NULL || !read_bytes(env, values[4], &sealed) || !read_run(env, values + 1, pack, work) ||
      !read_place(env, values[3], work)) {
    return false;
  }
  if (work->sealed_bytes != sealed.length) return throw_bad_argument(env);
  work->sealed = sealed.bytes;
  work->run = run_unsealing;
  return true;
}

/* unseal(pack, firstFrame, storedFrameBytes, output, sealed, onPool): status */
static napi_value unseal(napi_env env, napi_callback_info info) {
  return start_call(env, info, 6, read_unsealing);
}

enum { READ_CACHED = 0, READ_WAITING = 1, READ_ON_POOL = 2 };

/* readFrames(pack, firstFrame, storedFrameBytes, places, fd, fileOffset, where): status */
static napi_value read_frames(napi_env env, napi_callback_info info) {
  napi_value values[7];
  uint32_t fd, where;
  uint64_t offset;
  if (!read_arguments(env, info, 7, values) || !read_u32(env, values[4], &fd) ||
      !read_count(env, values[5], &offset) || !read_u32(env, values[6], &where)) {
    return NULL;
  }
  const pack_handle *pack = read_pack(env, values[0]);
  job *work = pack == NULL ? NULL : job_new();
  if (work == NULL) return NULL;
  if (read_run(env, values + 1, pack, work) && read_places(env, values[3], work)) {
    work->fd = (int)fd;
    work->offset = (off_t)offset;
    work->run = where == READ_CACHED ? run_reading_cached : run_reading;
    return job_start(env, work, where == READ_ON_POOL, values, 4);
  }
  job_free(work);
  return NULL;
}

NAPI_MODULE_INIT() {
  static const struct {
    const char *name;
    napi_callback call;
  } FUNCTIONS[] = {
      {"openEngine", open_engine},
      {"closeEngine", close_engine},
      {"setStaging", set_staging},
      {"openPack", open_pack},
      {"closePack", close_pack},
      {"nameChunks", name_chunks},
      {"seal", seal},
      {"unseal", unseal},
      {"readFrames", read_frames},
      {"sealRecords", call_seal_records},
      {"sealChanges", call_seal_changes},
      {"unsealRecord", call_unseal_record},
      {"namePrf", call_name_prf},
  };
  if (!aead_setup()) {
    napi_throw_error(env, NULL, "Node's OpenSSL has no AES-256-GCM");
    return NULL;
  }
  for (size_t i = 0; i < sizeof FUNCTIONS / sizeof FUNCTIONS[0]; i++) {
    napi_value function;
    if (napi_create_function(env, FUNCTIONS[i].name, NAPI_AUTO_LENGTH, FUNCTIONS[i].call, NULL, &function) != napi_ok ||
        napi_set_named_property(env, exports, FUNCTIONS[i].name, function) != napi_ok) {
      return NULL;
    }
  }
  return exports;
}
