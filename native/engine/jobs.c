/* One call of the engine, run in place or on libuv's pool. */
#include "jobs.h"

#include "arguments.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>

job *job_new(void) {
  return calloc(1, sizeof(job));
}

void job_free(job *work) {
  free(work->pieces);
  EVP_CIPHER_CTX_free(work->cipher.context);
  if (work->by != NULL) {
    OPENSSL_cleanse(work->by, sizeof *work->by);
    free(work->by);
  }
  if (work->records != NULL) {
    record_cipher_wipe(work->records);
    free(work->records);
  }
  free(work);
}

engine_status run_naming(job *work) {
  const byte_span *pieces = work->pieces;
  uint8_t *ids = work->ids;
  uint32_t *lengths = work->id_lengths;
  for (size_t i = 0; i < work->input_count; i++) {
    size_t total = 0;
    for (size_t piece = 0; piece < work->piece_counts[i]; piece++) total += pieces[piece].length;
    piece_cursor cursor = cursor_at_start(pieces, work->piece_counts[i]);
    size_t count = chunker_name(work->by, cursor, work->finals[i] != 0, ids, lengths, total / work->by->min_bytes + 1);
    work->chunk_counts[i] = (uint32_t)count;
    pieces += work->piece_counts[i];
    ids += count * ID_BYTES;
    lengths += count;
  }
  return STATUS_OK;
}

engine_status run_sealing(job *work) {
  frame_scratch *scratch = frame_scratch_new();
  const byte_span *pieces = work->pieces;
  uint8_t *output = work->output;
  uint32_t *stored = work->stored;
  uint64_t frame = work->first_frame;
  if (scratch == NULL) return ENOMEM;
  for (size_t i = 0; i < work->input_count; i++) {
    size_t length = work->chunk_lengths[i];
    size_t frames = (length + FRAME_BYTES - 1) / FRAME_BYTES;
    piece_cursor cursor = cursor_at_start(pieces, work->piece_counts[i]);
    size_t written = seal_chunk(&work->cipher, scratch, &cursor, length, frame, output, stored);
    if (written == 0 && length > 0) {
      frame_scratch_free(scratch);
      return EIO;
    }
    pieces += work->piece_counts[i];
    output += written;
    stored += frames;
    frame += frames;
  }
  frame_scratch_free(scratch);
  return STATUS_OK;
}

static engine_status unseal_from(job *work, const uint8_t *sealed) {
  frame_scratch *scratch = frame_scratch_new();
  if (scratch == NULL) return ENOMEM;
  engine_status status = unseal_run(&work->cipher, scratch, &work->opened, sealed, work->output);
  frame_scratch_free(scratch);
  return status;
}

engine_status run_unsealing(job *work) {
  return unseal_from(work, work->sealed);
}

engine_status run_reading(job *work) {
  uint8_t *sealed = malloc(work->sealed_bytes + 1);
  if (sealed == NULL) return ENOMEM;
  engine_status status = STATUS_OK;
  for (size_t done = 0; done < work->sealed_bytes && status == STATUS_OK;) {
    ssize_t got = pread(work->fd, sealed + done, work->sealed_bytes - done, work->offset + (off_t)done);
    if (got > 0) done += (size_t)got;
    else if (got == 0) status = STATUS_CORRUPT(0);
    else if (errno != EINTR) status = errno;
  }
  if (status == STATUS_OK) status = unseal_from(work, sealed);
  free(sealed);
  return status;
}

engine_status run_reading_cached(job *work) {
  uint8_t *sealed = malloc(work->sealed_bytes + 1);
  if (sealed == NULL) return ENOMEM;
  struct iovec into = {sealed, work->sealed_bytes};
  ssize_t got = preadv2(work->fd, &into, 1, work->offset, RWF_NOWAIT);
  engine_status status = got == (ssize_t)work->sealed_bytes ? unseal_from(work, sealed) : EAGAIN;
  free(sealed);
  return status;
}

static void execute(napi_env env, void *data) {
  job *work = data;
  work->status = work->run(work);
}

/* On the JS thread. In an environment that is being torn down these calls fail; only the memory matters then. */
static void complete(napi_env env, napi_status status, void *data) {
  job *work = data;
  if (status != napi_ok) work->status = ECANCELED;
  napi_value result = number_value(env, (double)work->status);
  if (result != NULL) napi_resolve_deferred(env, work->deferred, result);
  napi_delete_reference(env, work->pinned);
  napi_delete_async_work(env, work->work);
  job_free(work);
}

static bool pin(napi_env env, job *work, const napi_value *arguments, size_t count) {
  napi_value held;
  if (napi_create_array_with_length(env, count, &held) != napi_ok) return false;
  for (size_t i = 0; i < count; i++) {
    if (napi_set_element(env, held, (uint32_t)i, arguments[i]) != napi_ok) return false;
  }
  return napi_create_reference(env, held, 1, &work->pinned) == napi_ok;
}

napi_value job_start(napi_env env, job *work, bool on_pool, const napi_value *arguments, size_t count) {
  if (!on_pool) {
    engine_status status = work->run(work);
    job_free(work);
    return number_value(env, (double)status);
  }
  napi_value promise, name;
  bool is_queued = pin(env, work, arguments, count) &&
                   napi_create_promise(env, &work->deferred, &promise) == napi_ok &&
                   napi_create_string_latin1(env, "tcfs_engine", NAPI_AUTO_LENGTH, &name) == napi_ok &&
                   napi_create_async_work(env, NULL, name, execute, complete, work, &work->work) == napi_ok &&
                   napi_queue_async_work(env, work->work) == napi_ok;
  if (is_queued) return promise;
  if (work->work != NULL) napi_delete_async_work(env, work->work);
  if (work->pinned != NULL) napi_delete_reference(env, work->pinned);
  job_free(work);
  napi_throw_error(env, NULL, "the native engine cannot queue work");
  return NULL;
}

napi_value start_call(napi_env env, napi_callback_info info, size_t count, job_reader read) {
  napi_value values[ARGUMENTS_MAX];
  bool on_pool;
  if (!read_arguments(env, info, count, values) || !read_flag(env, values[count - 1], &on_pool)) return NULL;
  job *work = job_new();
  if (work == NULL) {
    napi_throw_error(env, NULL, "no memory for a job");
    return NULL;
  }
  if (read(env, values, work)) return job_start(env, work, on_pool, values, count - 1);
  job_free(work);
  return NULL;
}
