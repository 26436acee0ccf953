/* dkim_key.c - private keys: made, read, and their public halves written for DNS.
 *
 * OpenSSL's decoders want more stack than a fiber has, so keys are made and read on a helper thread. */
#include "mail/authentic/dkim_key.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <stdlib.h>

#include "mail/authentic/dkim_internal.h"
#include "server/base/encode.h"
#include "server/base/memory.h"
#include "server/run/offload.h"

#define NEW_RSA_BITS    2048
#define PEM_SIZE_MAX    (64 * 1024)
#define STRING_SIZE_MAX 255 /* of one character string in a TXT record (RFC 1035, 3.3) */

struct opening {
    struct str text;               /* to be read ... */
    enum dkim_algorithm algorithm; /* ... or made */
    EVP_PKEY *pkey;
};

/* ---- private keys ------------------------------------------------------------------------------------ */

static void make_run(void *arg)
{
    struct opening *o = arg;

    o->pkey = o->algorithm == DKIM_RSA_SHA256 ? EVP_RSA_gen(NEW_RSA_BITS)
                                              : EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    ERR_clear_error();
}

/* No terminal is asked for a pass phrase. */
static int no_pass_phrase(char *buf, int size, int is_writing, void *unused)
{
    return -1;
}

static void read_run(void *arg)
{
    struct opening *o = arg;
    const unsigned char *der = (const unsigned char *)o->text.p;
    BIO *bio = BIO_new_mem_buf(o->text.p, (int)o->text.n);

    if (bio != NULL)
        o->pkey = PEM_read_bio_PrivateKey(bio, NULL, no_pass_phrase, NULL);
    BIO_free(bio);
    if (o->pkey == NULL)
        o->pkey = d2i_AutoPrivateKey(NULL, &der, (long)o->text.n);
    ERR_clear_error();
}

static struct dkim_key *wrap(EVP_PKEY *pkey, enum dkim_algorithm algorithm)
{
    struct dkim_key *key = memory_alloc(sizeof *key);

    *key = (struct dkim_key){.pkey = pkey, .algorithm = algorithm};
    return key;
}

struct dkim_key *dkim_key_make(enum dkim_algorithm algorithm, struct error *err)
{
    struct opening o = {.algorithm = algorithm};

    offload(make_run, &o);
    if (o.pkey == NULL)
        return fail_null(err, ERR_INTERNAL, "no key could be made");
    return wrap(o.pkey, algorithm);
}

static int judge(const EVP_PKEY *pkey, enum dkim_algorithm *algorithm, struct error *err)
{
    int bits = EVP_PKEY_get_bits(pkey);

    *algorithm = EVP_PKEY_is_a(pkey, "ED25519") ? DKIM_ED25519_SHA256 : DKIM_RSA_SHA256;
    if (*algorithm == DKIM_ED25519_SHA256)
        return 0;
    if (!EVP_PKEY_is_a(pkey, "RSA"))
        return fail(err, ERR_UNSUPPORTED, "the key is neither RSA nor Ed25519");
    if (bits < DKIM_RSA_BITS_MIN || bits > DKIM_RSA_BITS_MAX)
        return fail(err, ERR_UNSUPPORTED, "the key has %d bits; use one of %d to %d", bits,
                    NEW_RSA_BITS, DKIM_RSA_BITS_MAX);
    return 0;
}

struct dkim_key *dkim_key_new(struct str pem_or_der, struct error *err)
{
    struct opening o = {.text = pem_or_der};
    enum dkim_algorithm algorithm;

    if (pem_or_der.n > 0 && pem_or_der.n <= PEM_SIZE_MAX)
        offload(read_run, &o);
    if (o.pkey == NULL)
        return fail_null(err, ERR_SYNTAX,
                         "this is no private key in PEM or DER without a pass phrase");
    if (judge(o.pkey, &algorithm, err) < 0) {
        EVP_PKEY_free(o.pkey);
        return NULL;
    }
    return wrap(o.pkey, algorithm);
}

void dkim_key_free(struct dkim_key **key)
{
    if (*key == NULL)
        return;
    EVP_PKEY_free((*key)->pkey);
    free(*key);
    *key = NULL;
}

enum dkim_algorithm dkim_key_algorithm(const struct dkim_key *key)
{
    return key->algorithm;
}

unsigned dkim_key_bits(const struct dkim_key *key)
{
    return key->algorithm == DKIM_ED25519_SHA256 ? 256 : (unsigned)EVP_PKEY_get_bits(key->pkey);
}

const char *dkim_algorithm_name(enum dkim_algorithm algorithm)
{
    return algorithm == DKIM_RSA_SHA256 ? "rsa-sha256" : "ed25519-sha256";
}

bool dkim_algorithm_parse(struct str name, enum dkim_algorithm *out)
{
    *out = str_istarts(name, STR("ed")) ? DKIM_ED25519_SHA256 : DKIM_RSA_SHA256;
    return str_ieq(name, STR("rsa")) || str_ieq(name, STR("rsa-sha256")) ||
           str_ieq(name, STR("ed25519")) || str_ieq(name, STR("ed25519-sha256"));
}

struct pem_writing {
    const struct dkim_key *key;
    BIO *bio;
};

static void pem_run(void *arg)
{
    struct pem_writing *w = arg;

    PEM_write_bio_PKCS8PrivateKey(w->bio, w->key->pkey, NULL, NULL, 0, NULL, NULL);
    ERR_clear_error();
}

struct str dkim_key_pem(struct arena *a, const struct dkim_key *key)
{
    struct pem_writing w = {.key = key, .bio = BIO_new(BIO_s_mem())};
    struct str text;
    char *p;

    if (w.bio == NULL)
        memory_exhausted("dkim_key_pem", 0);
    offload(pem_run, &w);
    text.n = (size_t)BIO_get_mem_data(w.bio, &p);
    text = arena_str(a, str_of(p, text.n));
    BIO_free(w.bio);
    return text;
}

/* ---- public keys ---------------------------------------------------------------------------------------- */

struct public_half { /* SubjectPublicKeyInfo for RSA, 32 bytes for Ed25519 */
    unsigned char *p;
    size_t n;
};

struct public_writing {
    const struct dkim_key *key;
    struct public_half out;
};

static void public_run(void *arg)
{
    struct public_writing *w = arg;
    int size;

    if (w->key->algorithm == DKIM_RSA_SHA256) {
        size = i2d_PUBKEY(w->key->pkey, &w->out.p);
        w->out.n = size > 0 ? (size_t)size : 0;
    } else if (EVP_PKEY_get_raw_public_key(w->key->pkey, NULL, &w->out.n) == 1) {
        w->out.p = OPENSSL_malloc(w->out.n);
        EVP_PKEY_get_raw_public_key(w->key->pkey, w->out.p, &w->out.n);
    }
    ERR_clear_error();
}

struct str dkim_key_record(struct arena *a, const struct dkim_key *key)
{
    struct public_writing w = {.key = key};
    struct str record;
    struct buf out;

    offload(public_run, &w);
    buf_init(&out, DKIM_RECORD_SIZE_MAX);
    buf_addf(&out, "v=DKIM1; k=%s; p=", key->algorithm == DKIM_RSA_SHA256 ? "rsa" : "ed25519");
    base64_encode(&out, str_of((const char *)w.out.p, w.out.n));
    record = arena_str(a, buf_str(&out));
    buf_fini(&out);
    OPENSSL_free(w.out.p);
    return record;
}

struct str dkim_key_zone_line(struct arena *a, const struct dkim_key *key, struct str selector,
                              struct str domain)
{
    struct str rest = dkim_key_record(a, key), line;
    struct buf out;

    buf_init(&out, 2 * DKIM_RECORD_SIZE_MAX);
    buf_addf(&out, "%.*s._domainkey.%.*s. IN TXT (", STR_ARG(selector), STR_ARG(domain));
    for (; rest.n > 0; rest = str_from(rest, STRING_SIZE_MAX)) {
        struct str part = str_head(rest, STRING_SIZE_MAX);

        buf_addf(&out, " \"%.*s\"", STR_ARG(part));
    }
    buf_adds(&out, " )");
    line = arena_str(a, buf_str(&out));
    buf_fini(&out);
    return line;
}

bool dkim_key_matches_record(const struct dkim_key *key, struct str record)
{
    struct arena *a = arena_new();
    struct dkim_record published, ours;
    bool is_same;

    is_same = dkim_record_parse(a, record, &published, NULL) == 0 &&
              dkim_record_parse(a, dkim_key_record(a, key), &ours, NULL) == 0 &&
              !published.is_revoked && published.algorithm == ours.algorithm &&
              str_eq(published.modulus, ours.modulus) &&
              str_eq(published.exponent, ours.exponent) && str_eq(published.point, ours.point);
    arena_free(&a);
    return is_same;
}
