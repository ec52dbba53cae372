/* One call of the engine: its borrowed input, and the thread it runs on. */
#ifndef TCFS_JOBS_H
#define TCFS_JOBS_H

#include "engine.h"

#include <node_api.h>

typedef struct job job;

struct job {
  /* Does the work; may run on a pool thread; must not touch Node. */
  engine_status (*run)(job *);
  engine_status status;
  napi_async_work work;
  napi_deferred deferred;
  /* Keeps everything borrowed from Node alive while the job runs elsewhere. */
  napi_ref pinned;

  byte_span *pieces;
  size_t piece_count;
  /* Pieces of each input, in order. */
  const uint32_t *piece_counts;
  size_t input_count;

  /* naming */
  chunker *by;
  const uint8_t *finals;
  uint8_t *ids;
  uint32_t *id_lengths;
  uint32_t *chunk_counts;

  /* sealing and unsealing: the job's own copy of the key schedule */
  frame_cipher cipher;
  const uint32_t *chunk_lengths;
  uint64_t first_frame;
  uint32_t *stored;
  uint8_t *output;
  frame_run opened;
  const uint8_t *sealed;

  /* sealing changes: the job's own key schedule */
  record_cipher *records;
  byte_span changes;
  size_t record_count;
  uint64_t first_counter;

  /* reading */
  int fd;
  off_t offset;
  size_t sealed_bytes;
};

job *job_new(void);
void job_free(job *work);

engine_status run_naming(job *work);
engine_status run_sealing(job *work);
engine_status run_unsealing(job *work);
engine_status run_reading(job *work);
/* As run_reading, but only what the page cache holds: EAGAIN when that is not all of it. */
engine_status run_reading_cached(job *work);

/*
 * Run the job here (a number comes back) or on the pool (a promise of that number), then free it.
 * `arguments` are the call's: what the job borrows is among them.
 */
napi_value job_start(napi_env env, job *work, bool on_pool, const napi_value *arguments, size_t count);

/* Reads a call's arguments into a job that borrows them. Throws and returns false when one is not what it must be. */
typedef bool (*job_reader)(napi_env env, const napi_value *values, job *work);

/* A call whose last argument tells whether to run on the pool; all before it may be borrowed. */
napi_value start_call(napi_env env, napi_callback_info info, size_t count, job_reader read);

#endif
