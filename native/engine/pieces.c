/* Walking bytes that lie in several pieces. */
#include "engine.h"

#include <string.h>

piece_cursor cursor_at_start(const byte_span *pieces, size_t piece_count) {
  return (piece_cursor){.pieces = pieces, .piece_count = piece_count};
}

byte_span cursor_peek(piece_cursor *cursor) {
  while (cursor->piece_index < cursor->piece_count) {
    byte_span piece = cursor->pieces[cursor->piece_index];
    if (cursor->offset < piece.length) {
      return (byte_span){piece.bytes + cursor->offset, piece.length - cursor->offset};
    }
    cursor->piece_index++;
    cursor->offset = 0;
  }
  return (byte_span){NULL, 0};
}

size_t cursor_advance(piece_cursor *cursor, size_t length) {
  size_t done = 0;
  while (done < length) {
    size_t step = cursor_peek(cursor).length;
    if (step == 0) break;
    if (step > length - done) step = length - done;
    cursor->offset += step;
    done += step;
  }
  return done;
}

const uint8_t *cursor_take(piece_cursor *cursor, size_t length, uint8_t *gather) {
  byte_span here = cursor_peek(cursor);
  if (here.length >= length) {
    cursor->offset += length;
    return here.bytes;
  }
  for (size_t done = 0; done < length;) {
    here = cursor_peek(cursor);
    if (here.length == 0) return NULL;
    size_t step = here.length < length - done ? here.length : length - done;
    memcpy(gather + done, here.bytes, step);
    cursor->offset += step;
    done += step;
  }
  return gather;
}

void store_u64_le(uint8_t *to, uint64_t value) {
  for (int i = 0; i < 8; i++) to[i] = (uint8_t)(value >> (8 * i));
}
