/* digest.h - HMAC-SHA256 and SHA-256 of whole values, for keys, proofs and fingerprints. */
#pragma once
#include <stdint.h>
#include "server/base/str.h"

#define DIGEST_SIZE 32

void sha256(struct str data, uint8_t out[DIGEST_SIZE]);
void hmac_sha256(struct str key, struct str data, uint8_t out[DIGEST_SIZE]);
/* Of several values, each with its length before it, so that no two lists read alike. */
void hmac_sha256_list(struct str key, const struct str *parts, size_t count, uint8_t out[DIGEST_SIZE]);

static inline struct str digest_str(const uint8_t digest[DIGEST_SIZE]) { return str_of((const char *)digest, DIGEST_SIZE); }
