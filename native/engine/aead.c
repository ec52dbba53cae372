/*
 * AES-256-GCM through OpenSSL's EVP interface; the symbols are those of the node binary itself. A context carries
 * its key; each message sets only the nonce. EVP lengths are int: no part here is longer than a record or frame.
 */
#include "engine.h"

#include <limits.h>
#include <pthread.h>

static EVP_CIPHER *gcm;
static pthread_once_t gcm_once = PTHREAD_ONCE_INIT;

/* Fetched once for the process and never freed: implicit fetching costs more than sealing a record. */
static void fetch_gcm(void) {
  gcm = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
}

bool aead_setup(void) {
  pthread_once(&gcm_once, fetch_gcm);
  return gcm != NULL;
}

bool aead_rekey(EVP_CIPHER_CTX *context, const uint8_t key[KEY_BYTES], bool seals) {
  return EVP_CipherInit_ex2(context, gcm, key, NULL, seals ? 1 : 0, NULL) == 1;
}

EVP_CIPHER_CTX *aead_new(const uint8_t key[KEY_BYTES], bool seals) {
  EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
  if (context != NULL && aead_rekey(context, key, seals)) return context;
  EVP_CIPHER_CTX_free(context);
  return NULL;
}

EVP_CIPHER_CTX *aead_copy(const EVP_CIPHER_CTX *context) {
  EVP_CIPHER_CTX *copy = EVP_CIPHER_CTX_new();
  if (copy != NULL && EVP_CIPHER_CTX_copy(copy, context) == 1) return copy;
  EVP_CIPHER_CTX_free(copy);
  return NULL;
}

bool aead_start_seal(EVP_CIPHER_CTX *context, const uint8_t nonce[NONCE_BYTES], byte_span aad) {
  int written;
  return aad.length <= INT_MAX && EVP_EncryptInit_ex2(context, NULL, NULL, nonce, NULL) == 1 &&
         EVP_EncryptUpdate(context, NULL, &written, aad.bytes, (int)aad.length) == 1;
}

bool aead_start_unseal(EVP_CIPHER_CTX *context, const uint8_t nonce[NONCE_BYTES], byte_span aad) {
  int written;
  return aad.length <= INT_MAX && EVP_DecryptInit_ex2(context, NULL, NULL, nonce, NULL) == 1 &&
         EVP_DecryptUpdate(context, NULL, &written, aad.bytes, (int)aad.length) == 1;
}

bool aead_seal_part(EVP_CIPHER_CTX *context, const uint8_t *from, size_t length, uint8_t *to) {
  int written;
  return length <= INT_MAX && EVP_EncryptUpdate(context, to, &written, from, (int)length) == 1;
}

bool aead_unseal_part(EVP_CIPHER_CTX *context, const uint8_t *from, size_t length, uint8_t *to) {
  int written;
  return length <= INT_MAX && EVP_DecryptUpdate(context, to, &written, from, (int)length) == 1;
}

bool aead_finish_seal(EVP_CIPHER_CTX *context, uint8_t tag[TAG_BYTES]) {
  uint8_t none[TAG_BYTES];
  int written;
  return EVP_EncryptFinal_ex(context, none, &written) == 1 &&
         EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, TAG_BYTES, tag) == 1;
}

bool aead_finish_unseal(EVP_CIPHER_CTX *context, const uint8_t tag[TAG_BYTES]) {
  uint8_t none[TAG_BYTES];
  int written;
  return EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, TAG_BYTES, (void *)tag) == 1 &&
         EVP_DecryptFinal_ex(context, none, &written) == 1;
}
