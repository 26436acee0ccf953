/* dkim_signature.c - reading a signature field: DKIM-Signature (RFC 6376, 3.5 and 6.1.1), and its
 * kin ARC-Message-Signature and ARC-Seal (RFC 8617, 4.1).
 *
 * Syntax alone leaves "neutral" (RFC 8601, 2.7.1); what reads well and cannot hold is "permerror". */
#include <string.h>

#include "mail/authentic/dkim_internal.h"
#include "server/base/encode.h"

#define DIGITS_MAX    18  /* of l=, t= and x=: fits 64 bits */
#define DOMAIN_MAX    253 /* of d= and s= in bytes */
#define B_START       8
#define SIGNATURE_MAX (4 * DKIM_SIGNATURE_SIZE_MAX) /* that it is too large is told by its key */

struct reader {
    struct arena *arena;
    const struct tag_list *tags;
    struct dkim_claim *claim;
};

void dkim_claim_end(struct dkim_claim *c, enum dkim_result result, struct str problem)
{
    c->told.result = result;
    c->told.problem = problem;
}

static bool refuse(struct reader *r, enum dkim_result result, struct str problem)
{
    dkim_claim_end(r->claim, result, problem);
    return false;
}

static bool malformed(struct reader *r, const char *tag)
{
    return refuse(r, DKIM_NEUTRAL, arena_printf(r->arena, "the tag %s= is malformed", tag));
}

/* A tag that must be there. */
static bool need(struct reader *r, const char *name, struct str *value)
{
    const struct tag *tag = tag_list_find(r->tags, str_c(name));

    if (tag == NULL)
        return refuse(r, DKIM_PERMERROR, arena_printf(r->arena, "the tag %s= is missing", name));
    *value = tag->value;
    return true;
}

/* A number that may be absent. */
static bool read_number(struct reader *r, const char *name, bool *is_there, uint64_t *out)
{
    const struct tag *tag = tag_list_find(r->tags, str_c(name));

    *is_there = tag != NULL;
    if (tag == NULL)
        return true;
    if (tag->value.n > DIGITS_MAX || !str_to_u64(tag->value, out))
        return malformed(r, name);
    return true;
}

static bool read_base64(struct reader *r, const char *name, size_t size_max, struct str *out)
{
    struct str value;
    struct buf decoded;

    if (!need(r, name, &value))
        return false;
    value = tag_value_compact(r->arena, value);
    if (r->claim->told.b_start.n == 0 && strcmp(name, "b") == 0)
        r->claim->told.b_start = str_head(value, B_START);
    buf_init(&decoded, size_max + 4); /* the decoder asks for more room than it needs */
    if (base64_decode(&decoded, value) && decoded.n <= size_max)
        *out = arena_str(r->arena, buf_str(&decoded));
    buf_fini(&decoded);
    return out->n > 0 ? true : malformed(r, name);
}

/* ---- names ------------------------------------------------------------------------------------- */

/* Letters, digits, hyphens and underscores, and UTF-8 (RFC 8616), between dots. */
static bool is_domain(struct str s)
{
    struct str label;

    if (s.n == 0 || s.n > DOMAIN_MAX)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)ascii_lower(s.p[i]);

        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' ||
              c == '.' || c >= 128))
            return false;
    }
    while (tag_value_next(&s, '.', &label))
        if (label.n == 0)
            return false;
    return true;
}

static bool read_domain(struct reader *r, const char *name, struct str *out)
{
    struct str value;

    if (!need(r, name, &value))
        return false;
    if (!is_domain(value))
        return malformed(r, name);
    *out = arena_lower(r->arena, value);
    return true;
}

static bool is_within(struct str domain, struct str parent)
{
    return str_ieq(domain, parent) ||
           (domain.n > parent.n + 1 && domain.p[domain.n - parent.n - 1] == '.' &&
            str_iends(domain, parent));
}

/* i=: of d= or of a domain below it (RFC 6376, 3.5). */
static bool read_identity(struct reader *r)
{
    struct dkim_signature *told = &r->claim->told;
    const struct tag *tag = tag_list_find(r->tags, STR("i"));
    ptrdiff_t at;

    if (tag == NULL) {
        told->identity = arena_printf(r->arena, "@%.*s", STR_ARG(told->domain));
        return true;
    }
    at = str_rindex(tag->value, '@');
    if (at < 0)
        return malformed(r, "i");
    told->identity = tag_value_compact(r->arena, tag->value);
    if (!is_within(str_from(tag->value, (size_t)at + 1), told->domain))
        return refuse(r, DKIM_PERMERROR, STR("the domain of i= is not within that of d="));
    return true;
}

/* ---- what was done ------------------------------------------------------------------------------ */

bool dkim_instance_parse(struct str value, unsigned *out)
{
    uint32_t number;

    if (value.n < 1 || value.n > 2 || !str_to_u32(value, &number) || number < 1 ||
        number > ARC_SETS_MAX)
        return false;
    *out = number;
    return true;
}

static bool read_algorithm(struct reader *r)
{
    struct str value;

    if (!need(r, "a", &value))
        return false;
    r->claim->told.algorithm = value;
    if (str_eq(value, STR("rsa-sha256")))
        r->claim->algorithm = DKIM_RSA_SHA256;
    else if (str_eq(value, STR("ed25519-sha256")))
        r->claim->algorithm = DKIM_ED25519_SHA256;
    else if (str_eq(value, STR("rsa-sha1")))
        return refuse(r, DKIM_PERMERROR, STR("rsa-sha1 proves nothing any more (RFC 8301)"));
    else
        return refuse(r, DKIM_PERMERROR, STR("the algorithm of a= is not known"));
    return true;
}

static bool canonical_of(struct str word, enum dkim_canonical *out)
{
    *out = str_eq(word, STR("relaxed")) ? DKIM_RELAXED : DKIM_SIMPLE;
    return *out == DKIM_RELAXED || str_eq(word, STR("simple"));
}

static bool read_canonical(struct reader *r)
{
    const struct tag *tag = tag_list_find(r->tags, STR("c"));
    struct str header, body;

    /* RFC 8617, 4.1.3. For message signatures it names no default; sealers that leave c= out mean relaxed. */
    if (r->claim->kind != DKIM_KIND_SIGNATURE)
        r->claim->header_canonical = r->claim->body_canonical = DKIM_RELAXED;
    if (tag == NULL || r->claim->kind == DKIM_KIND_ARC_SEAL)
        return true;
    if (!str_cut(tag->value, '/', &header, &body))
        body = STR("simple");
    if (!canonical_of(header, &r->claim->header_canonical) ||
        !canonical_of(body, &r->claim->body_canonical))
        return refuse(r, DKIM_PERMERROR, STR("the canonicalization of c= is not known"));
    return true;
}

static bool read_body(struct reader *r)
{
    struct dkim_claim *c = r->claim;

    if (!read_base64(r, "bh", DKIM_DIGEST_SIZE, &c->body_digest) ||
        !read_number(r, "l", &c->told.has_length, &c->length))
        return false;
    return c->body_digest.n == DKIM_DIGEST_SIZE ? true : malformed(r, "bh");
}

static bool read_times(struct reader *r, int64_t now_s)
{
    bool has_made, has_expiry;
    uint64_t made, expiry;

    if (!read_number(r, "t", &has_made, &made) || !read_number(r, "x", &has_expiry, &expiry))
        return false;
    if (has_made && has_expiry && expiry <= made)
        return refuse(r, DKIM_PERMERROR, STR("it expired before it was made (x= and t=)"));
    if (has_expiry && now_s >= 0 && expiry < (uint64_t)now_s)
        return refuse(r, DKIM_POLICY, STR("the signature has expired (x=)"));
    return true;
}

static bool read_covered(struct reader *r, const struct dkim_message *m)
{
    struct dkim_claim *c = r->claim;
    struct error err = {0};
    struct str names;

    if (!need(r, "h", &names))
        return false;
    c->covers_from = tag_value_has(names, ':', STR("From"));
    if (c->kind == DKIM_KIND_SIGNATURE && !c->covers_from)
        return refuse(r, DKIM_PERMERROR, STR("the signature does not cover From"));
    if (c->kind == DKIM_KIND_ARC_MESSAGE && tag_value_has(names, ':', STR("ARC-Seal")))
        return refuse(r, DKIM_PERMERROR, STR("h= names ARC-Seal (RFC 8617, 4.1.2)"));
    if (dkim_select(r->arena, m, names, c->field, &c->covered, &err) < 0)
        return refuse(r, DKIM_PERMERROR, arena_str(r->arena, str_c(err.text)));
    if (c->covered.doubled.n > 0)
        return refuse(r, DKIM_POLICY,
                      arena_printf(r->arena, "there is another %.*s than the one that it covers",
                                   STR_ARG(c->covered.doubled)));
    return true;
}

/* The field with nothing between "b=" and what follows. */
static struct str without_signature(struct arena *a, struct str whole, struct str raw_b)
{
    size_t before = (size_t)(raw_b.p - whole.p), behind = before + raw_b.n;
    char *p = arena_alloc(a, whole.n + 1);

    memcpy(p, whole.p, before);
    memcpy(p + before, whole.p + behind, whole.n - behind);
    return str_of(p, whole.n - raw_b.n);
}

/* ---- the kinds ----------------------------------------------------------------------------------- */

static bool read_common(struct reader *r)
{
    struct dkim_claim *c = r->claim;

    if (!read_domain(r, "d", &c->told.domain) || !read_domain(r, "s", &c->told.selector) ||
        !read_base64(r, "b", SIGNATURE_MAX, &c->signature))
        return false;
    c->bare = without_signature(r->arena, c->field->whole, tag_list_find(r->tags, STR("b"))->raw);
    return read_canonical(r);
}

static void read_signature(struct reader *r, const struct dkim_message *m, int64_t now_s)
{
    const struct tag *query = tag_list_find(r->tags, STR("q"));
    struct str version;

    if (!need(r, "v", &version))
        return;
    if (!str_eq(version, STR("1"))) {
        refuse(r, DKIM_PERMERROR, STR("the version of v= is not known"));
        return;
    }
    /* Whose it is comes first: reports want to name even who signs with what nobody accepts. */
    if (!read_common(r) || !read_identity(r) || !read_algorithm(r) || !read_body(r) ||
        !read_times(r, now_s) || !read_covered(r, m))
        return;
    if (query != NULL && !tag_value_has(query->value, ':', STR("dns/txt")))
        refuse(r, DKIM_PERMERROR, STR("its key is not to be had from DNS (q=)"));
}

static bool read_instance(struct reader *r)
{
    struct str value;

    if (!need(r, "i", &value))
        return false;
    return dkim_instance_parse(value, &r->claim->instance) ? true : malformed(r, "i");
}

static void read_arc_message(struct reader *r, const struct dkim_message *m, int64_t now_s)
{
    if (read_instance(r) && read_common(r) && read_algorithm(r) && read_body(r) &&
        read_times(r, now_s))
        read_covered(r, m);
}

static void read_arc_seal(struct reader *r, int64_t now_s)
{
    if (!read_instance(r) || !need(r, "cv", &r->claim->chain_status) || !read_common(r) ||
        !read_algorithm(r))
        return;
    if (tag_list_find(r->tags, STR("h")) != NULL)
        refuse(r, DKIM_PERMERROR, STR("the seal has a tag h= (RFC 8617, 4.1.3)"));
    else
        read_times(r, now_s);
}

void dkim_claim_read(struct arena *a, const struct dkim_message *m, const struct dkim_field *field,
                     enum dkim_kind kind, int64_t now_s, struct dkim_claim *out)
{
    struct tag_list tags;
    struct reader r = {.arena = a, .tags = &tags, .claim = out};
    struct error err = {0};

    *out = (struct dkim_claim){.field = field, .kind = kind};
    if (tag_list_parse(a, field->value, &tags, &err) < 0) {
        dkim_claim_end(out, DKIM_NEUTRAL, arena_str(a, str_c(err.text)));
        return;
    }
    if (kind == DKIM_KIND_SIGNATURE)
        read_signature(&r, m, now_s);
    else if (kind == DKIM_KIND_ARC_MESSAGE)
        read_arc_message(&r, m, now_s);
    else
        read_arc_seal(&r, now_s);
}
