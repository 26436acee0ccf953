/* dkim_key_record.c - the public key as DNS publishes it (RFC 6376, 3.6.1; RFC 8463, 4).
 *
 * The two numbers of an RSA key are cut out of its DER here: their sizes are judged before any
 * arithmetic, and OpenSSL's general decoder costs several times the verification. */
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/param_build.h>
#include <string.h>

#include "mail/authentic/dkim_internal.h"
#include "server/base/encode.h"

#define DER_INTEGER    0x02
#define DER_BIT_STRING 0x03
#define DER_SEQUENCE   0x30
#define EXPONENT_BITS  64 /* larger ones are never seen and make verifying slow */
#define POINT_SIZE     32

/* ---- DER ------------------------------------------------------------------------------------------ */

/* Takes one element of the tag off the front. */
static bool take_der(struct str *rest, unsigned char tag, struct str *content)
{
    const unsigned char *p = (const unsigned char *)rest->p;
    size_t size, head = 2;

    if (rest->n < 2 || p[0] != tag)
        return false;
    size = p[1];
    if (size >= 0x80) {
        size_t bytes = size & 0x7f;

        if (bytes < 1 || bytes > 2 || rest->n < head + bytes)
            return false;
        for (size = 0; bytes > 0; bytes--)
            size = size << 8 | p[head++];
    }
    if (size > rest->n - head)
        return false;
    *content = str_of(rest->p + head, size);
    *rest = str_from(*rest, head + size);
    return true;
}

static bool take_number(struct str *rest, struct str *out)
{
    if (!take_der(rest, DER_INTEGER, out) || out->n == 0 || (unsigned char)out->p[0] >= 0x80)
        return false;
    while (out->n > 0 && out->p[0] == 0)
        *out = str_from(*out, 1);
    return out->n > 0;
}

static bool take_pair(struct str der, struct str *modulus, struct str *exponent)
{
    struct str sequence;

    return take_der(&der, DER_SEQUENCE, &sequence) && take_number(&sequence, modulus) &&
           take_number(&sequence, exponent);
}

bool dkim_rsa_numbers(struct str der, struct str *modulus, struct str *exponent)
{
    /* AlgorithmIdentifier of rsaEncryption, with or without its NULL */
    static const char oid[] = "\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01";
    struct str outer = der, info, algorithm, bits;

    if (take_pair(der, modulus, exponent))
        return true;
    return take_der(&outer, DER_SEQUENCE, &info) && take_der(&info, DER_SEQUENCE, &algorithm) &&
           str_starts(algorithm, str_of(oid, sizeof oid - 1)) &&
           take_der(&info, DER_BIT_STRING, &bits) && bits.n > 0 && bits.p[0] == 0 &&
           take_pair(str_from(bits, 1), modulus, exponent);
}

unsigned dkim_number_bits(struct str n)
{
    unsigned bits = (unsigned)(n.n * 8);

    if (n.n > 0)
        bits -= (unsigned)__builtin_clz((unsigned char)n.p[0]) - 24;
    return bits;
}

/* ---- the record ------------------------------------------------------------------------------------- */

static int read_rsa(struct dkim_record *out, struct str der, struct error *err)
{
    if (!dkim_rsa_numbers(der, &out->modulus, &out->exponent))
        return fail(err, ERR_SYNTAX, "p= of the key record is no RSA key");
    out->bits = dkim_number_bits(out->modulus);
    if (out->bits < DKIM_RSA_BITS_MIN || out->bits > DKIM_RSA_BITS_MAX)
        return fail(err, ERR_UNSUPPORTED, "the key has %u bits; only %d to %d are accepted",
                    out->bits, DKIM_RSA_BITS_MIN, DKIM_RSA_BITS_MAX);
    if (dkim_number_bits(out->exponent) > EXPONENT_BITS)
        return fail(err, ERR_UNSUPPORTED, "the key's exponent is larger than %d bits",
                    EXPONENT_BITS);
    return 0;
}

static int read_ed25519(struct dkim_record *out, struct str raw, struct error *err)
{
    out->point = raw;
    out->bits = POINT_SIZE * 8;
    return raw.n == POINT_SIZE ? 0
                               : fail(err, ERR_SYNTAX, "p= of the key record is no Ed25519 key");
}

static int read_key(struct arena *a, struct dkim_record *out, struct str value, struct error *err)
{
    struct buf decoded;
    struct str der = STR_NULL;

    value = tag_value_compact(a, value);
    out->is_revoked = value.n == 0;
    if (out->is_revoked)
        return 0;
    buf_init(&decoded, DKIM_RECORD_SIZE_MAX);
    if (base64_decode(&decoded, value) && buf_ok(&decoded))
        der = arena_str(a, buf_str(&decoded));
    buf_fini(&decoded);
    if (der.n == 0)
        return fail(err, ERR_SYNTAX, "p= of the key record is not base64");
    return out->algorithm == DKIM_RSA_SHA256 ? read_rsa(out, der, err)
                                             : read_ed25519(out, der, err);
}

static int check_use(const struct tag_list *tags, struct dkim_record *out, struct error *err)
{
    const struct tag *hashes = tag_list_find(tags, STR("h"));
    const struct tag *services = tag_list_find(tags, STR("s"));
    struct str flags = tag_list_value(tags, STR("t")), type = tag_list_value(tags, STR("k"));

    out->is_testing = tag_value_has(flags, ':', STR("y"));
    out->is_strict = tag_value_has(flags, ':', STR("s"));
    out->algorithm = str_eq(type, STR("ed25519")) ? DKIM_ED25519_SHA256 : DKIM_RSA_SHA256;
    if (tag_list_find(tags, STR("k")) != NULL && out->algorithm == DKIM_RSA_SHA256 &&
        !str_eq(type, STR("rsa")))
        return fail(err, ERR_UNSUPPORTED, "the key's type (k=) is not known");
    if (hashes != NULL && !tag_value_has(hashes->value, ':', STR("sha256")))
        return fail(err, ERR_UNSUPPORTED, "the key is not for SHA-256 (h=)");
    if (services != NULL && !tag_value_has(services->value, ':', STR("*")) &&
        !tag_value_has(services->value, ':', STR("email")))
        return fail(err, ERR_UNSUPPORTED, "the key is not for mail (s=)");
    return 0;
}

int dkim_record_parse(struct arena *a, struct str text, struct dkim_record *out, struct error *err)
{
    struct tag_list tags;
    const struct tag *version, *key;

    *out = (struct dkim_record){0};
    if (text.n > DKIM_RECORD_SIZE_MAX)
        return fail(err, ERR_SYNTAX, "the key record is larger than %d bytes",
                    DKIM_RECORD_SIZE_MAX);
    if (tag_list_parse(a, text, &tags, err) < 0)
        return -1;
    version = tag_list_find(&tags, STR("v"));
    if (version != NULL && (version != tags.v || !str_eq(version->value, STR("DKIM1"))))
        return fail(err, ERR_SYNTAX, "the key record is of another version (v=)");
    key = tag_list_find(&tags, STR("p"));
    if (key == NULL)
        return fail(err, ERR_SYNTAX, "the key record has no key (p=)");
    if (check_use(&tags, out, err) < 0)
        return -1;
    return read_key(a, out, key->value, err);
}

/* ---- for OpenSSL --------------------------------------------------------------------------------------- */

static EVP_PKEY *open_rsa(BIGNUM *modulus, BIGNUM *exponent)
{
    OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_id(EVP_PKEY_RSA, NULL);
    OSSL_PARAM *params = NULL;
    EVP_PKEY *key = NULL;

    if (build != NULL && context != NULL &&
        OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_N, modulus) == 1 &&
        OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_E, exponent) == 1 &&
        (params = OSSL_PARAM_BLD_to_param(build)) != NULL && EVP_PKEY_fromdata_init(context) == 1)
        EVP_PKEY_fromdata(context, &key, EVP_PKEY_PUBLIC_KEY, params);
    OSSL_PARAM_free(params);
    EVP_PKEY_CTX_free(context);
    OSSL_PARAM_BLD_free(build);
    return key;
}

EVP_PKEY *dkim_record_open(const struct dkim_record *r)
{
    BIGNUM *modulus, *exponent;
    EVP_PKEY *key = NULL;

    if (r->algorithm == DKIM_ED25519_SHA256)
        return EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL,
                                           (const unsigned char *)r->point.p, r->point.n);
    modulus = BN_bin2bn((const unsigned char *)r->modulus.p, (int)r->modulus.n, NULL);
    exponent = BN_bin2bn((const unsigned char *)r->exponent.p, (int)r->exponent.n, NULL);
    if (modulus != NULL && exponent != NULL)
        key = open_rsa(modulus, exponent);
    BN_free(modulus);
    BN_free(exponent);
    ERR_clear_error();
    return key;
}
