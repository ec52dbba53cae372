/* Where a run of bytes is cut, and what its chunks are called: FastCDC and keyed BLAKE3 (FORMAT.md §4). */
#include "engine.h"

#include <blake3.h>
#include <openssl/crypto.h>
#include <string.h>

static const char GEAR_CONTEXT[] = "tcfs gear";

void chunker_init(chunker *to, const uint8_t gear_key[KEY_BYTES], const uint8_t id_key[KEY_BYTES]) {
  uint8_t table[256 * 8];
  blake3_hasher hasher;
  blake3_hasher_init_keyed(&hasher, gear_key);
  blake3_hasher_update(&hasher, GEAR_CONTEXT, sizeof GEAR_CONTEXT - 1);
  blake3_hasher_finalize(&hasher, table, sizeof table);
  for (size_t i = 0; i < 256; i++) {
    uint64_t value = 0;
    for (size_t byte = 8; byte-- > 0;) value = value << 8 | table[8 * i + byte];
    to->gear[i] = value;
  }
  OPENSSL_cleanse(table, sizeof table);
  OPENSSL_cleanse(&hasher, sizeof hasher);
  memcpy(to->id_key, id_key, KEY_BYTES);
}

void chunker_set_sizes(chunker *to, uint32_t min_bytes, uint32_t average_bytes, uint32_t max_bytes) {
  int bits = __builtin_ctz(average_bytes);
  to->min_bytes = min_bytes;
  to->average_bytes = average_bytes;
  to->max_bytes = max_bytes;
  to->strict_below = 1ull << (64 - (bits + 2));
  to->loose_below = 1ull << (64 - (bits - 2));
}

/* Roll over `length` bytes; returns how many up to and with the first that brings the hash below, or 0. */
static size_t scan(const uint64_t gear[256], const uint8_t *bytes, size_t length, uint64_t below, uint64_t *hash) {
  uint64_t h = *hash;
#pragma GCC unroll 8
  for (size_t i = 0; i < length; i++) {
    h = (h << 1) + gear[bytes[i]];
    if (__builtin_expect(h < below, 0)) return i + 1;
  }
  *hash = h;
  return 0;
}

/* Length of the chunk that starts at the cursor; 0 if there is no cut and the run goes on. */
static size_t next_cut(const chunker *by, piece_cursor cursor, bool is_final) {
  size_t length = cursor_advance(&cursor, by->min_bytes);
  size_t strict_end = by->average_bytes - 1;
  uint64_t hash = 0;
  while (length < by->max_bytes) {
    byte_span here = cursor_peek(&cursor);
    if (here.length == 0) return is_final ? length : 0;
    bool is_strict = length < strict_end;
    size_t room = (is_strict ? strict_end : by->max_bytes) - length;
    size_t step = here.length < room ? here.length : room;
    size_t found = scan(by->gear, here.bytes, step, is_strict ? by->strict_below : by->loose_below, &hash);
    if (found != 0) return length + found;
    cursor.offset += step;
    length += step;
  }
  return length;
}

static void name_chunk(const chunker *by, piece_cursor *cursor, size_t length, uint8_t id[ID_BYTES]) {
  blake3_hasher hasher;
  blake3_hasher_init_keyed(&hasher, by->id_key);
  while (length > 0) {
    byte_span here = cursor_peek(cursor);
    size_t step = here.length < length ? here.length : length;
    blake3_hasher_update(&hasher, here.bytes, step);
    cursor->offset += step;
    length -= step;
  }
  blake3_hasher_finalize(&hasher, id, ID_BYTES);
  OPENSSL_cleanse(&hasher, sizeof hasher);
}

size_t chunker_name(const chunker *by, piece_cursor cursor, bool is_final, uint8_t *ids, uint32_t *lengths,
                    size_t capacity) {
  size_t count = 0;
  while (count < capacity && cursor_peek(&cursor).length > 0) {
    size_t length = next_cut(by, cursor, is_final);
    if (length == 0) break;
    name_chunk(by, &cursor, length, ids + count * ID_BYTES);
    lengths[count++] = (uint32_t)length;
  }
  return count;
}
