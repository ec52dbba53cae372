/* Sealed frames: LZ4 and AES-256-GCM over 64 KiB of a chunk, and the way back (FORMAT.md §4). */
#include "engine.h"

#include <lz4.h>
#include <stdlib.h>
#include <string.h>

enum { KIND_RAW = 0, KIND_LZ4 = 1 };

/* Not tried below: LZ4 itself copies inputs this short. */
#define COMPRESS_MIN_BYTES 32u
/* What incompressible data speeds LZ4 up by, frame after frame of one chunk, and up to where. */
#define ACCELERATION_FACTOR 8
#define ACCELERATION_MAX 64

struct frame_scratch {
  void *lz4_state;
  uint8_t gather[FRAME_BYTES];
  uint8_t packed[FRAME_HEADER_BYTES + FRAME_BYTES];
};

frame_scratch *frame_scratch_new(void) {
  frame_scratch *scratch = malloc(sizeof *scratch + (size_t)LZ4_sizeofState() + 16);
  if (scratch != NULL) scratch->lz4_state = (void *)(((uintptr_t)(scratch + 1) + 15) & ~(uintptr_t)15);
  return scratch;
}

void frame_scratch_free(frame_scratch *scratch) {
  free(scratch);
}

static void frame_nonce(uint8_t nonce[NONCE_BYTES], uint64_t frame_number) {
  memset(nonce, 0, NONCE_BYTES);
  store_u64_le(nonce, frame_number);
}

static void store_header(uint8_t header[FRAME_HEADER_BYTES], size_t length, int kind) {
  header[0] = (uint8_t)length;
  header[1] = (uint8_t)(length >> 8);
  header[2] = (uint8_t)(length >> 16);
  header[3] = (uint8_t)kind;
}

/* LZ4 payload length in scratch->packed after the header, or 0 when it does not save a sixteenth. */
static size_t compress_frame(frame_scratch *scratch, const uint8_t *plain, size_t length, int *acceleration) {
  if (length < COMPRESS_MIN_BYTES) return 0;
  int limit = (int)(length - length / 16);
  int written = LZ4_compress_fast_extState(scratch->lz4_state, (const char *)plain,
                                           (char *)scratch->packed + FRAME_HEADER_BYTES, (int)length, limit,
                                           *acceleration);
  if (written > 0) {
    *acceleration = 1;
    return (size_t)written;
  }
  if (*acceleration < ACCELERATION_MAX) *acceleration *= ACCELERATION_FACTOR;
  return 0;
}

/* Stored length, or 0 on failure. */
static size_t seal_frame(const frame_cipher *cipher, frame_scratch *scratch, const uint8_t *plain, size_t length,
                         uint64_t frame_number, uint8_t *to, int *acceleration) {
  uint8_t nonce[NONCE_BYTES];
  EVP_CIPHER_CTX *context = cipher->context;
  frame_nonce(nonce, frame_number);
  size_t packed = compress_frame(scratch, plain, length, acceleration);
  size_t payload = packed > 0 ? packed : length;
  store_header(scratch->packed, length, packed > 0 ? KIND_LZ4 : KIND_RAW);
  bool is_sealed = aead_start_seal(context, nonce, (byte_span){cipher->aad, cipher->aad_length});
  if (packed > 0) {
    is_sealed = is_sealed && aead_seal_part(context, scratch->packed, FRAME_HEADER_BYTES + payload, to);
  } else {
    is_sealed = is_sealed && aead_seal_part(context, scratch->packed, FRAME_HEADER_BYTES, to) &&
                aead_seal_part(context, plain, payload, to + FRAME_HEADER_BYTES);
  }
  is_sealed = is_sealed && aead_finish_seal(context, to + FRAME_HEADER_BYTES + payload);
  return is_sealed ? payload + FRAME_OVERHEAD_BYTES : 0;
}

size_t seal_chunk(const frame_cipher *cipher, frame_scratch *scratch, piece_cursor *cursor, size_t length,
                  uint64_t first_frame, uint8_t *to, uint32_t *stored) {
  size_t written = 0;
  int acceleration = 1;
  for (size_t frame = 0; length > 0; frame++) {
    size_t step = length < FRAME_BYTES ? length : FRAME_BYTES;
    const uint8_t *plain = cursor_take(cursor, step, scratch->gather);
    if (plain == NULL) return 0;
    size_t sealed = seal_frame(cipher, scratch, plain, step, first_frame + frame, to + written, &acceleration);
    if (sealed == 0) return 0;
    stored[frame] = (uint32_t)sealed;
    written += sealed;
    length -= step;
  }
  return written;
}

static bool unseal_frame(const frame_cipher *cipher, frame_scratch *scratch, uint64_t frame_number,
                         const uint8_t *sealed, size_t stored, uint8_t *to, size_t length) {
  uint8_t nonce[NONCE_BYTES];
  uint8_t header[FRAME_HEADER_BYTES];
  EVP_CIPHER_CTX *context = cipher->context;
  if (stored <= FRAME_OVERHEAD_BYTES || stored > STORED_FRAME_MAX_BYTES) return false;
  size_t payload = stored - FRAME_OVERHEAD_BYTES;
  frame_nonce(nonce, frame_number);
  if (!aead_start_unseal(context, nonce, (byte_span){cipher->aad, cipher->aad_length})) return false;
  if (!aead_unseal_part(context, sealed, FRAME_HEADER_BYTES, header)) return false;
  /* Not yet authentic, but a wrong header is a failure in any case, and a right one bounds all that follows. */
  size_t plain_length = header[0] | (size_t)header[1] << 8 | (size_t)header[2] << 16;
  bool is_lz4 = header[3] == KIND_LZ4;
  if (plain_length != length || header[3] > KIND_LZ4) return false;
  if (is_lz4 ? payload >= length : payload != length) return false;
  uint8_t *opened = is_lz4 ? scratch->packed : to;
  if (!aead_unseal_part(context, sealed + FRAME_HEADER_BYTES, payload, opened)) return false;
  if (!aead_finish_unseal(context, sealed + FRAME_HEADER_BYTES + payload)) return false;
  if (!is_lz4) return true;
  return LZ4_decompress_safe((const char *)opened, (char *)to, (int)payload, (int)length) == (int)length;
}

engine_status unseal_run(const frame_cipher *cipher, frame_scratch *scratch, const frame_run *run,
                         const uint8_t *sealed, uint8_t *to) {
  size_t left = run->length;
  for (size_t i = 0; i < run->frame_count; i++) {
    size_t step = left < FRAME_BYTES ? left : FRAME_BYTES;
    uint8_t *place = run->places == NULL ? to + i * FRAME_BYTES : (uint8_t *)run->places[i].bytes;
    if (!unseal_frame(cipher, scratch, run->first_frame + i, sealed, run->stored[i], place, step)) {
      return STATUS_CORRUPT(i);
    }
    sealed += run->stored[i];
    left -= step;
  }
  return STATUS_OK;
}
