/* dkim_crypto.c - digests and signatures, on a helper thread.
 *
 * An RSA verification takes some 30 µs and a signature 600, which is too long for a loop that
 * others wait for, and a body may have megabytes. One trip to the helper does a whole message. */
#include <assert.h>
#include <openssl/err.h>
#include <openssl/rsa.h>
#include <string.h>

#include "mail/authentic/dkim_internal.h"
#include "server/run/offload.h"

/* ---- digests ------------------------------------------------------------------------------------------ */

struct hashing {
    EVP_MD_CTX *context;
    uint64_t left; /* bytes that still count (l=) */
    uint64_t size;
};

static void hash_piece(void *to, struct str piece)
{
    struct hashing *h = to;
    size_t n = piece.n < h->left ? piece.n : (size_t)h->left;

    if (n > 0)
        EVP_DigestUpdate(h->context, piece.p, n);
    h->left -= n;
    h->size += piece.n;
}

static void hashing_begin(struct hashing *h, struct dkim_sink *sink, uint64_t length)
{
    *h = (struct hashing){.context = EVP_MD_CTX_new(), .left = length};
    EVP_DigestInit_ex(h->context, EVP_sha256(), NULL);
    dkim_sink_init(sink, hash_piece, h);
}

static void hashing_end(struct hashing *h, struct dkim_sink *sink, uint8_t *digest)
{
    dkim_sink_flush(sink);
    EVP_DigestFinal_ex(h->context, digest, NULL);
    EVP_MD_CTX_free(h->context);
}

static void hash_body(struct str body, struct dkim_body_digest *out)
{
    struct dkim_sink sink;
    struct hashing h;

    hashing_begin(&h, &sink, out->has_length ? out->length : UINT64_MAX);
    dkim_canonical_body(out->canonical, body, &sink);
    hashing_end(&h, &sink, out->digest);
    out->size = h.size;
}

static void hash_header(enum dkim_canonical c, const struct dkim_selection *covered,
                        struct str bare, uint8_t *digest)
{
    struct dkim_sink sink;
    struct hashing h;

    hashing_begin(&h, &sink, UINT64_MAX);
    for (size_t i = 0; i < covered->count; i++)
        dkim_canonical_field(c, covered->wholes[i], true, &sink);
    dkim_canonical_field(c, bare, false, &sink);
    hashing_end(&h, &sink, digest);
}

void dkim_body_digests_init(struct arena *a, struct str body, size_t room,
                            struct dkim_body_digests *out)
{
    *out = (struct dkim_body_digests){
        .body = body, .v = ARENA_ARRAY(a, room, struct dkim_body_digest), .room = room};
}

const struct dkim_body_digest *dkim_body_digest(struct dkim_body_digests *d, enum dkim_canonical c,
                                                bool has_length, uint64_t length)
{
    struct dkim_body_digest *made;

    for (size_t i = 0; i < d->n; i++)
        if (d->v[i].canonical == c && d->v[i].has_length == has_length &&
            (!has_length || d->v[i].length == length))
            return &d->v[i];
    assert(d->n < d->room);
    made = &d->v[d->n++];
    *made = (struct dkim_body_digest){.canonical = c, .has_length = has_length, .length = length};
    hash_body(d->body, made);
    return made;
}

/* ---- verifying ---------------------------------------------------------------------------------------- */

static bool verify_rsa(EVP_PKEY *key, struct str signature, const uint8_t *digest)
{
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new(key, NULL);
    bool holds = context != NULL && EVP_PKEY_verify_init(context) == 1 &&
                 EVP_PKEY_CTX_set_rsa_padding(context, RSA_PKCS1_PADDING) == 1 &&
                 EVP_PKEY_CTX_set_signature_md(context, EVP_sha256()) == 1 &&
                 EVP_PKEY_verify(context, (const unsigned char *)signature.p, signature.n, digest,
                                 DKIM_DIGEST_SIZE) == 1;

    EVP_PKEY_CTX_free(context);
    return holds;
}

/* RFC 8463, 3: Ed25519 signs the digest. */
static bool verify_ed25519(EVP_PKEY *key, struct str signature, const uint8_t *digest)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    bool holds = context != NULL && EVP_DigestVerifyInit(context, NULL, NULL, NULL, key) == 1 &&
                 EVP_DigestVerify(context, (const unsigned char *)signature.p, signature.n, digest,
                                  DKIM_DIGEST_SIZE) == 1;

    EVP_MD_CTX_free(context);
    return holds;
}

static bool signature_holds(const struct dkim_claim *c)
{
    uint8_t digest[DKIM_DIGEST_SIZE];
    EVP_PKEY *key = dkim_record_open(&c->key);
    bool holds;

    if (key == NULL)
        return false;
    hash_header(c->header_canonical, &c->covered, c->bare, digest);
    holds = c->algorithm == DKIM_RSA_SHA256 ? verify_rsa(key, c->signature, digest)
                                            : verify_ed25519(key, c->signature, digest);
    EVP_PKEY_free(key);
    ERR_clear_error();
    return holds;
}

/* A key that is only being tested condemns nobody (RFC 6376, 3.6.1, t=y). */
static void condemn(struct dkim_claim *c, struct str problem)
{
    dkim_claim_end(c, c->told.is_testing ? DKIM_NEUTRAL : DKIM_FAIL, problem);
}

static bool body_holds(struct dkim_body_digests *bodies, struct dkim_claim *c)
{
    const struct dkim_body_digest *body;

    if (c->kind == DKIM_KIND_ARC_SEAL)
        return true;
    body = dkim_body_digest(bodies, c->body_canonical, c->told.has_length, c->length);
    if (c->told.has_length && c->length > body->size) {
        dkim_claim_end(c, DKIM_PERMERROR, STR("l= is more than the body has"));
        return false;
    }
    if (c->told.has_length)
        c->told.unsigned_size = body->size - c->length;
    if (memcmp(body->digest, c->body_digest.p, DKIM_DIGEST_SIZE) == 0)
        return true;
    condemn(c, STR("the body was changed (its digest differs)"));
    return false;
}

static void check(struct dkim_body_digests *bodies, struct dkim_claim *c)
{
    if (!body_holds(bodies, c))
        return;
    if (signature_holds(c))
        dkim_claim_end(c, DKIM_PASS, STR_NULL);
    else
        condemn(c, STR("the signature does not match the header"));
}

struct checking {
    struct dkim_body_digests *bodies;
    struct dkim_claim **v;
    size_t count;
};

static void check_run(void *arg)
{
    struct checking *checking = arg;

    for (size_t i = 0; i < checking->count; i++)
        if (dkim_claim_is_open(checking->v[i]))
            check(checking->bodies, checking->v[i]);
}

void dkim_claims_check(struct dkim_body_digests *bodies, struct dkim_claim **v, size_t count)
{
    struct checking checking = {.bodies = bodies, .v = v, .count = count};
    size_t open = 0;

    for (size_t i = 0; i < count; i++)
        open += dkim_claim_is_open(v[i]);
    if (open > 0)
        offload(check_run, &checking);
}

/* ---- signing ------------------------------------------------------------------------------------------- */

static bool sign_rsa(struct dkim_signing *s, const uint8_t *digest)
{
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new(s->key->pkey, NULL);
    bool is_done =
        context != NULL && EVP_PKEY_sign_init(context) == 1 &&
        EVP_PKEY_CTX_set_rsa_padding(context, RSA_PKCS1_PADDING) == 1 &&
        EVP_PKEY_CTX_set_signature_md(context, EVP_sha256()) == 1 &&
        EVP_PKEY_sign(context, s->signature, &s->signature_size, digest, DKIM_DIGEST_SIZE) == 1;

    EVP_PKEY_CTX_free(context);
    return is_done;
}

static bool sign_ed25519(struct dkim_signing *s, const uint8_t *digest)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    bool is_done =
        context != NULL && EVP_DigestSignInit(context, NULL, NULL, NULL, s->key->pkey) == 1 &&
        EVP_DigestSign(context, s->signature, &s->signature_size, digest, DKIM_DIGEST_SIZE) == 1;

    EVP_MD_CTX_free(context);
    return is_done;
}

static void sign(struct dkim_signing *s)
{
    uint8_t digest[DKIM_DIGEST_SIZE];
    bool is_done;

    hash_header(DKIM_RELAXED, s->covered, s->bare, digest);
    s->signature_size = sizeof s->signature;
    is_done = s->key->algorithm == DKIM_RSA_SHA256 ? sign_rsa(s, digest) : sign_ed25519(s, digest);
    if (!is_done)
        s->signature_size = 0;
    ERR_clear_error();
}

struct signings {
    struct dkim_signing *v;
    size_t count;
};

static void sign_run(void *arg)
{
    struct signings *all = arg;

    for (size_t i = 0; i < all->count; i++)
        sign(&all->v[i]);
}

void dkim_sign_all(struct dkim_signing *v, size_t count)
{
    struct signings all = {.v = v, .count = count};

    offload(sign_run, &all);
}

struct body_hashing {
    struct str body;
    struct dkim_body_digest *out;
};

static void body_run(void *arg)
{
    struct body_hashing *hashing = arg;

    hash_body(hashing->body, hashing->out);
}

/* Small bodies are not worth the trip. */
void dkim_body_digest_make(struct str body, struct dkim_body_digest *out)
{
    struct body_hashing hashing = {.body = body, .out = out};

    *out = (struct dkim_body_digest){.canonical = DKIM_RELAXED};
    if (body.n > 256 * 1024)
        offload(body_run, &hashing);
    else
        hash_body(body, out);
}
