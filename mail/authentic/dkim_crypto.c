/* dkim_crypto.c - digests and signatures, on a helper thread.
 *
 * An RSA verification takes some 30 µs and a signature 600, which is too long for a loop that
 * others wait for, and a body may have megabytes. One trip to the helper does a whole message. */
#include <assert.h>
#include <openssl/err.h>
#include <openssl/rsa.h>
#include <stdlib.h>
#include <string.h>

#include "mail/authentic/dkim_internal.h"
#include "server/run/offload.h"

/* ---- headers ------------------------------------------------------------------------------------------ */

static EVP_MD_CTX *digest_new(void)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();

    EVP_DigestInit_ex(context, EVP_sha256(), NULL);
    return context;
}

static void digest_end(EVP_MD_CTX *context, uint8_t *digest)
{
    EVP_DigestFinal_ex(context, digest, NULL);
    EVP_MD_CTX_free(context);
}

static void hash_piece(void *to, struct str piece)
{
    EVP_DigestUpdate(to, piece.p, piece.n);
}

static void hash_header(enum dkim_canonical c, const struct dkim_selection *covered,
                        struct str bare, uint8_t *digest)
{
    EVP_MD_CTX *context = digest_new();
    struct dkim_sink sink;

    dkim_sink_init(&sink, hash_piece, context);
    for (size_t i = 0; i < covered->count; i++)
        dkim_canonical_field(c, covered->wholes[i], true, &sink);
    dkim_canonical_field(c, bare, false, &sink);
    dkim_sink_flush(&sink);
    digest_end(context, digest);
}

/* ---- bodies ------------------------------------------------------------------------------------------- */

/* One pass makes the digests of all lengths (l=), the shortest first. */
struct body_pass {
    EVP_MD_CTX *context;
    uint64_t size; /* of what came so far */
    struct dkim_body_digest **next, **end;
};

static void take_digest(struct body_pass *pass)
{
    EVP_MD_CTX *copy = EVP_MD_CTX_new();

    EVP_MD_CTX_copy_ex(copy, pass->context);
    digest_end(copy, (*pass->next++)->digest);
}

static void hash_body_piece(void *to, struct str piece)
{
    struct body_pass *pass = to;

    while (pass->next < pass->end && (*pass->next)->length - pass->size <= piece.n) {
        size_t n = (size_t)((*pass->next)->length - pass->size);

        EVP_DigestUpdate(pass->context, piece.p, n);
        pass->size += n;
        piece = str_from(piece, n);
        take_digest(pass);
    }
    if (pass->next < pass->end)
        EVP_DigestUpdate(pass->context, piece.p, piece.n);
    pass->size += piece.n;
}

static void hash_body(struct str body, enum dkim_canonical c, struct dkim_body_digest **v,
                      size_t count)
{
    struct body_pass pass = {.context = digest_new(), .next = v, .end = v + count};
    struct dkim_sink sink;

    dkim_sink_init(&sink, hash_body_piece, &pass);
    dkim_canonical_body(c, body, &sink);
    dkim_sink_flush(&sink);
    while (pass.next < pass.end)
        take_digest(&pass);
    EVP_MD_CTX_free(pass.context);
    for (size_t i = 0; i < count; i++) {
        v[i]->size = pass.size;
        v[i]->is_made = true;
    }
}

void dkim_body_digests_init(struct arena *a, struct str body, size_t room,
                            struct dkim_body_digests *out)
{
    *out = (struct dkim_body_digests){.body = body,
                                      .v = ARENA_ARRAY(a, room, struct dkim_body_digest),
                                      .waiting = ARENA_ARRAY(a, room, struct dkim_body_digest *),
                                      .room = room};
}

static struct dkim_body_digest *find_digest(struct dkim_body_digests *d, const struct dkim_claim *c)
{
    uint64_t length = c->told.has_length ? c->length : UINT64_MAX;

    for (size_t i = 0; i < d->n; i++)
        if (d->v[i].canonical == c->body_canonical && d->v[i].length == length)
            return &d->v[i];
    assert(d->n < d->room);
    d->v[d->n] = (struct dkim_body_digest){.canonical = c->body_canonical, .length = length};
    return &d->v[d->n++];
}

static int compare_lengths(const void *a, const void *b)
{
    uint64_t one = (*(struct dkim_body_digest *const *)a)->length;
    uint64_t other = (*(struct dkim_body_digest *const *)b)->length;

    return (one > other) - (one < other);
}

/* Those of one canonicalization that are still to be made. */
static void make_digests(struct dkim_body_digests *d, enum dkim_canonical c)
{
    size_t count = 0;

    for (size_t i = 0; i < d->n; i++)
        if (d->v[i].canonical == c && !d->v[i].is_made)
            d->waiting[count++] = &d->v[i];
    if (count == 0)
        return;
    qsort(d->waiting, count, sizeof *d->waiting, compare_lengths);
    hash_body(d->body, c, d->waiting, count);
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
    body = find_digest(bodies, c);
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
    if (!signature_holds(c))
        condemn(c, STR("the signature does not match the header"));
    else if (c->told.unsigned_size > 0)
        dkim_claim_end(c, DKIM_POLICY,
                       STR("it does not cover the end of the body (l=), which may be anybody's"));
    else
        dkim_claim_end(c, DKIM_PASS, STR_NULL);
}

struct checking {
    struct dkim_body_digests *bodies;
    struct dkim_claim **v;
    size_t count;
};

static bool has_body(const struct dkim_claim *c)
{
    return dkim_claim_is_open(c) && c->kind != DKIM_KIND_ARC_SEAL;
}

static void check_run(void *arg)
{
    struct checking *checking = arg;

    for (size_t i = 0; i < checking->count; i++)
        if (has_body(checking->v[i]))
            find_digest(checking->bodies, checking->v[i]);
    make_digests(checking->bodies, DKIM_SIMPLE);
    make_digests(checking->bodies, DKIM_RELAXED);
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

    hash_body(hashing->body, DKIM_RELAXED, &hashing->out, 1);
}

/* Small bodies are not worth the trip. */
void dkim_body_digest_make(struct str body, struct dkim_body_digest *out)
{
    struct body_hashing hashing = {.body = body, .out = out};

    *out = (struct dkim_body_digest){.canonical = DKIM_RELAXED, .length = UINT64_MAX};
    if (body.n > 256 * 1024)
        offload(body_run, &hashing);
    else
        body_run(&hashing);
}
