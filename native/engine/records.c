/* Sealed metadata records and the PRF of names (FORMAT.md §6, §7). */
#include "engine.h"

#include <blake3.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

static const char SESSION_CONTEXT[] = "tcfs session";

/* Of a change: its key's length, and its value's, which says so where the record is deleted. */
#define KEY_LENGTH_BYTES 1u
#define VALUE_LENGTH_BYTES 4u
#define DELETED 0xffffffffu

static void session_key(const record_cipher *cipher, const uint8_t id[SESSION_ID_BYTES], uint8_t out[KEY_BYTES]) {
  blake3_hasher hasher;
  blake3_hasher_init_keyed(&hasher, cipher->parent_key);
  blake3_hasher_update(&hasher, SESSION_CONTEXT, sizeof SESSION_CONTEXT - 1);
  blake3_hasher_update(&hasher, id, SESSION_ID_BYTES);
  blake3_hasher_finalize(&hasher, out, KEY_BYTES);
  OPENSSL_cleanse(&hasher, sizeof hasher);
}

bool record_cipher_start(record_cipher *cipher) {
  uint8_t key[KEY_BYTES];
  session_key(cipher, cipher->session_id, key);
  cipher->seals = aead_new(key, true);
  OPENSSL_cleanse(key, sizeof key);
  return cipher->seals != NULL;
}

void record_cipher_wipe(record_cipher *cipher) {
  EVP_CIPHER_CTX_free(cipher->seals);
  for (size_t i = 0; i < SESSION_CACHE_SLOTS; i++) EVP_CIPHER_CTX_free(cipher->sessions[i].context);
  OPENSSL_cleanse(cipher, sizeof *cipher);
}

record_cipher *record_cipher_copy(const record_cipher *cipher) {
  record_cipher *copy = calloc(1, sizeof *copy);
  if (copy == NULL) return NULL;
  memcpy(copy->session_id, cipher->session_id, SESSION_ID_BYTES);
  memcpy(copy->aad_prefix, cipher->aad_prefix, cipher->aad_prefix_length);
  copy->aad_prefix_length = cipher->aad_prefix_length;
  copy->seals = aead_copy(cipher->seals);
  if (copy->seals != NULL) return copy;
  free(copy);
  return NULL;
}

/* The key schedule of a session, this or an earlier one; the least recently used slot makes room. */
static EVP_CIPHER_CTX *find_session(record_cipher *cipher, const uint8_t id[SESSION_ID_BYTES]) {
  uint64_t wanted;
  memcpy(&wanted, id, sizeof wanted);
  record_session *slot = &cipher->sessions[0];
  cipher->now++;
  for (size_t i = 0; i < SESSION_CACHE_SLOTS; i++) {
    record_session *session = &cipher->sessions[i];
    if (session->used_at != 0 && session->id == wanted) {
      session->used_at = cipher->now;
      return session->context;
    }
    if (session->used_at < slot->used_at) slot = session;
  }
  uint8_t key[KEY_BYTES];
  session_key(cipher, id, key);
  slot->used_at = 0;
  if (slot->context == NULL) slot->context = EVP_CIPHER_CTX_new();
  bool is_keyed = slot->context != NULL && aead_rekey(slot->context, key, false);
  OPENSSL_cleanse(key, sizeof key);
  if (!is_keyed) return NULL;
  slot->id = wanted;
  slot->used_at = cipher->now;
  return slot->context;
}

/* The prefix and the record's key are given to GCM one after another: no copy is made. */
static bool add_key(EVP_CIPHER_CTX *context, byte_span key) {
  int written;
  return EVP_CipherUpdate(context, NULL, &written, key.bytes, (int)key.length) == 1;
}

static void record_nonce(uint8_t nonce[NONCE_BYTES], const uint8_t counter[COUNTER_BYTES]) {
  memset(nonce, 0, NONCE_BYTES);
  memcpy(nonce, counter, COUNTER_BYTES);
}

bool seal_record(record_cipher *cipher, byte_span key, uint64_t counter, uint8_t *record, size_t length) {
  uint8_t nonce[NONCE_BYTES];
  uint8_t wide[8];
  size_t plain_length = length - RECORD_OVERHEAD_BYTES;
  store_u64_le(wide, counter);
  memcpy(record, cipher->session_id, SESSION_ID_BYTES);
  memcpy(record + SESSION_ID_BYTES, wide, COUNTER_BYTES);
  record_nonce(nonce, wide);
  uint8_t *body = record + RECORD_HEADER_BYTES;
  return aead_start_seal(cipher->seals, nonce, (byte_span){cipher->aad_prefix, cipher->aad_prefix_length}) &&
         add_key(cipher->seals, key) && aead_seal_part(cipher->seals, body, plain_length, body) &&
         aead_finish_seal(cipher->seals, body + plain_length);
}

static void store_u32_le(uint8_t *to, uint32_t value) {
  for (int i = 0; i < 4; i++) to[i] = (uint8_t)(value >> (8 * i));
}

static uint32_t load_u32_le(const uint8_t *from) {
  return (uint32_t)from[0] | (uint32_t)from[1] << 8 | (uint32_t)from[2] << 16 | (uint32_t)from[3] << 24;
}

bool seal_changes(record_cipher *cipher, uint64_t counter, size_t count, byte_span changes, uint8_t *to) {
  const uint8_t *from = changes.bytes, *end = changes.bytes + changes.length;
  size_t sealed = 0;
  while (from < end) {
    byte_span key = {from + KEY_LENGTH_BYTES, from[0]};
    size_t head = KEY_LENGTH_BYTES + key.length + VALUE_LENGTH_BYTES;
    if ((size_t)(end - from) < head) return false;
    uint32_t length = load_u32_le(from + head - VALUE_LENGTH_BYTES);
    memcpy(to, from, head);
    from += head;
    to += head;
    if (length == DELETED) continue;
    if ((size_t)(end - from) < length || sealed == count) return false;
    size_t record = (size_t)length + RECORD_OVERHEAD_BYTES;
    store_u32_le(to - VALUE_LENGTH_BYTES, (uint32_t)record);
    memcpy(to + RECORD_HEADER_BYTES, from, length);
    if (!seal_record(cipher, key, counter + sealed, to, record)) return false;
    sealed++;
    from += length;
    to += record;
  }
  return sealed == count;
}

bool unseal_record(record_cipher *cipher, byte_span key, uint8_t *record, size_t length) {
  uint8_t nonce[NONCE_BYTES];
  if (length < RECORD_OVERHEAD_BYTES) return false;
  EVP_CIPHER_CTX *context = find_session(cipher, record);
  if (context == NULL) return false;
  size_t plain_length = length - RECORD_OVERHEAD_BYTES;
  uint8_t *body = record + RECORD_HEADER_BYTES;
  record_nonce(nonce, record + SESSION_ID_BYTES);
  return aead_start_unseal(context, nonce, (byte_span){cipher->aad_prefix, cipher->aad_prefix_length}) &&
         add_key(context, key) && aead_unseal_part(context, body, plain_length, body) &&
         aead_finish_unseal(context, body + plain_length);
}

void name_prf(const uint8_t key[KEY_BYTES], uint64_t directory, const uint8_t *name, size_t name_length,
              uint8_t out[NAME_PRF_BYTES]) {
  uint8_t prefix[8];
  blake3_hasher hasher;
  for (int i = 0; i < 8; i++) prefix[i] = (uint8_t)(directory >> (56 - 8 * i));
  blake3_hasher_init_keyed(&hasher, key);
  blake3_hasher_update(&hasher, prefix, sizeof prefix);
  blake3_hasher_update(&hasher, name, name_length);
  blake3_hasher_finalize(&hasher, out, NAME_PRF_BYTES);
  OPENSSL_cleanse(hasher.key, sizeof hasher.key);
  OPENSSL_cleanse(&hasher.chunk, sizeof hasher.chunk);
}
