/* digest.c - OpenSSL's one-shot digests. They fail only without memory, which ends the process. */
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>

#include "server/base/buf.h"
#include "server/base/memory.h"
#include "server/directory/digest.h"

void sha256(struct str data, uint8_t out[DIGEST_SIZE])
{
    SHA256((const unsigned char *)data.p, data.n, out);
}

void hmac_sha256(struct str key, struct str data, uint8_t out[DIGEST_SIZE])
{
    if (HMAC(EVP_sha256(), key.p, (int)key.n, (const unsigned char *)data.p, data.n, out, NULL) ==
        NULL)
        memory_exhausted("hmac_sha256", data.n);
}

void hmac_sha256_list(struct str key, const struct str *parts, size_t count,
                      uint8_t out[DIGEST_SIZE])
{
    struct buf joined;

    buf_init(&joined, SIZE_MAX / 2);
    for (size_t i = 0; i < count; i++) {
        uint64_t n = parts[i].n;
        buf_add_bytes(&joined, &n, sizeof n);
        buf_add(&joined, parts[i]);
    }
    hmac_sha256(key, buf_str(&joined), out);
    OPENSSL_cleanse(joined.p, joined.n); /* parts may be passwords */
    buf_fini(&joined);
}
