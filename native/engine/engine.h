/*
 * What the files of the sealing engine share. The bytes are FORMAT.md §4 to §6. Nothing here knows of Node;
 * module.c alone does. No function keeps a pointer it is given, except where its comment says so.
 */
#ifndef TCFS_ENGINE_H
#define TCFS_ENGINE_H

#include <openssl/evp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define FRAME_BYTES 65536u
#define FRAME_HEADER_BYTES 4u
#define TAG_BYTES 16u
#define NONCE_BYTES 12u
#define KEY_BYTES 32u
#define ID_BYTES 32u
#define NAME_PRF_BYTES 16u
#define FRAME_OVERHEAD_BYTES (FRAME_HEADER_BYTES + TAG_BYTES)
#define STORED_FRAME_MAX_BYTES (FRAME_BYTES + FRAME_OVERHEAD_BYTES)
#define AAD_MAX_BYTES 64u
#define SESSION_ID_BYTES 8u
#define COUNTER_BYTES 6u
#define RECORD_HEADER_BYTES (SESSION_ID_BYTES + COUNTER_BYTES)
#define RECORD_OVERHEAD_BYTES (RECORD_HEADER_BYTES + TAG_BYTES)

/* Outcome of a call: 0, or -(1 + index) of what did not verify, or a positive errno. */
typedef int64_t engine_status;
#define STATUS_OK ((engine_status)0)
#define STATUS_CORRUPT(index) (-1 - (engine_status)(index))

typedef struct {
  const uint8_t *bytes;
  size_t length;
} byte_span;

/* A place in a run of pieces. The pieces must outlive it. */
typedef struct {
  const byte_span *pieces;
  size_t piece_count;
  size_t piece_index;
  size_t offset;
} piece_cursor;

/* ---- pieces.c ---- */
piece_cursor cursor_at_start(const byte_span *pieces, size_t piece_count);
/* The contiguous bytes at the cursor; empty only at the end. Steps over empty pieces. */
byte_span cursor_peek(piece_cursor *cursor);
/* Move on by up to `length` bytes; returns how many there were. */
size_t cursor_advance(piece_cursor *cursor, size_t length);
/* `length` bytes in one place: in the piece itself, or copied to `gather`. NULL if there are fewer. */
const uint8_t *cursor_take(piece_cursor *cursor, size_t length, uint8_t *gather);
void store_u64_le(uint8_t *to, uint64_t value);

/* ---- chunker.c (FORMAT.md §4) ---- */
typedef struct {
  uint64_t gear[256];
  uint64_t strict_below;
  uint64_t loose_below;
  uint32_t min_bytes;
  uint32_t average_bytes;
  uint32_t max_bytes;
  uint8_t id_key[KEY_BYTES];
} chunker;

void chunker_init(chunker *to, const uint8_t gear_key[KEY_BYTES], const uint8_t id_key[KEY_BYTES]);
void chunker_set_sizes(chunker *to, uint32_t min_bytes, uint32_t average_bytes, uint32_t max_bytes);
/*
 * Cut one run of bytes and name its chunks. Writes up to `capacity` ids and lengths, returns how many chunks;
 * a run of n bytes has at most n / min_bytes + 1.
 */
size_t chunker_name(const chunker *by, piece_cursor cursor, bool is_final, uint8_t *ids, uint32_t *lengths,
                    size_t capacity);

/* ---- aead.c: AES-256-GCM by the OpenSSL inside Node ---- */
bool aead_setup(void);
EVP_CIPHER_CTX *aead_new(const uint8_t key[KEY_BYTES], bool seals);
bool aead_rekey(EVP_CIPHER_CTX *context, const uint8_t key[KEY_BYTES], bool seals);
EVP_CIPHER_CTX *aead_copy(const EVP_CIPHER_CTX *context);
bool aead_start_seal(EVP_CIPHER_CTX *context, const uint8_t nonce[NONCE_BYTES], byte_span aad);
bool aead_start_unseal(EVP_CIPHER_CTX *context, const uint8_t nonce[NONCE_BYTES], byte_span aad);
bool aead_seal_part(EVP_CIPHER_CTX *context, const uint8_t *from, size_t length, uint8_t *to);
bool aead_unseal_part(EVP_CIPHER_CTX *context, const uint8_t *from, size_t length, uint8_t *to);
bool aead_finish_seal(EVP_CIPHER_CTX *context, uint8_t tag[TAG_BYTES]);
bool aead_finish_unseal(EVP_CIPHER_CTX *context, const uint8_t tag[TAG_BYTES]);

/* ---- frames.c (FORMAT.md §4) ---- */
typedef struct {
  EVP_CIPHER_CTX *context;
  uint8_t aad[AAD_MAX_BYTES];
  size_t aad_length;
} frame_cipher;

/* Working memory of one call; 150 KiB. */
typedef struct frame_scratch frame_scratch;
frame_scratch *frame_scratch_new(void);
void frame_scratch_free(frame_scratch *scratch);

/*
 * Seal one chunk as frames into `to`, which holds at least length + frames × FRAME_OVERHEAD_BYTES. Writes the
 * stored length of each frame; returns the bytes written, or 0 on failure (an empty chunk also gives 0).
 */
size_t seal_chunk(const frame_cipher *cipher, frame_scratch *scratch, piece_cursor *cursor, size_t length,
                  uint64_t first_frame, uint8_t *to, uint32_t *stored);

typedef struct {
  uint64_t first_frame;
  const uint32_t *stored;
  size_t frame_count;
  size_t length;
  /* Where each frame goes, as long as the frame; NULL: one after another. */
  const byte_span *places;
} frame_run;

/* Open a run; `sealed` holds the sum of `stored`, `to` (unless there are places) `run->length` bytes. */
engine_status unseal_run(const frame_cipher *cipher, frame_scratch *scratch, const frame_run *run,
                         const uint8_t *sealed, uint8_t *to);

/* ---- records.c (FORMAT.md §6) ---- */
#define SESSION_CACHE_SLOTS 64

typedef struct {
  EVP_CIPHER_CTX *context;
  uint64_t id;
  uint64_t used_at;
} record_session;

typedef struct {
  uint8_t parent_key[KEY_BYTES];
  uint8_t name_key[KEY_BYTES];
  uint8_t session_id[SESSION_ID_BYTES];
  uint8_t aad_prefix[AAD_MAX_BYTES];
  size_t aad_prefix_length;
  EVP_CIPHER_CTX *seals;
  record_session sessions[SESSION_CACHE_SLOTS];
  uint64_t now;
} record_cipher;

/* Keys, session id and AAD prefix are set; derive this session's key. */
bool record_cipher_start(record_cipher *cipher);
void record_cipher_wipe(record_cipher *cipher);
/* One that seals as this session, on another thread; NULL without memory. To be wiped and freed. */
record_cipher *record_cipher_copy(const record_cipher *cipher);
/* Seal in place: `record` is header room || plaintext || tag room. */
bool seal_record(record_cipher *cipher, byte_span key, uint64_t counter, uint8_t *record, size_t length);
/*
 * Seal the values of encoded changes (FORMAT.md §7.14), `count` of them; deletions stay as they are. `to` has room for
 * exactly the changes and so many seals. False, with `to` undefined, where the changes are not whole or not so many.
 */
bool seal_changes(record_cipher *cipher, uint64_t counter, size_t count, byte_span changes, uint8_t *to);
/* Open in place: the plaintext stands RECORD_HEADER_BYTES into `record` afterwards. */
bool unseal_record(record_cipher *cipher, byte_span key, uint8_t *record, size_t length);
/* PRF(directory, name) of FORMAT.md §7. */
void name_prf(const uint8_t key[KEY_BYTES], uint64_t directory, const uint8_t *name, size_t name_length,
              uint8_t out[NAME_PRF_BYTES]);

#endif
