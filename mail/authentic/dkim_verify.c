/* dkim_verify.c - the signatures of one message: read, keys fetched, checked, told.
 *
 * Only the first DKIM_SIGNATURES_MAX are looked at: those were made last, by who is nearest. What a
 * message costs is bounded by that, by the sizes of dkim_internal.h, and by two passes over the body,
 * one for each canonicalization. */
#include "mail/authentic/dkim_internal.h"
#include "server/base/date.h"

static const char *const result_names[] = {
    [DKIM_NONE] = "none",           [DKIM_PASS] = "pass",       [DKIM_FAIL] = "fail",
    [DKIM_POLICY] = "policy",       [DKIM_NEUTRAL] = "neutral", [DKIM_TEMPERROR] = "temperror",
    [DKIM_PERMERROR] = "permerror",
};

const char *dkim_result_name(enum dkim_result result)
{
    return result_names[result];
}

static size_t read_claims(struct arena *a, const struct dkim_message *m, struct dkim_claim *claims)
{
    int64_t now_s = time_now_us() / 1000000;
    size_t n = 0;

    for (size_t i = 0; i < m->field_count && n < DKIM_SIGNATURES_MAX; i++)
        if (str_ieq(m->fields[i].name, STR("DKIM-Signature"))) {
            dkim_claim_read(a, m, &m->fields[i], DKIM_KIND_SIGNATURE, now_s, &claims[n++]);
            fiber_pause();
        }
    return n;
}

/* A header that is too large to be read is told as one signature that cannot be judged. */
static void tell_unreadable(struct arena *a, const struct error *err, struct dkim_verdict *out)
{
    out->v = ARENA_NEW(a, struct dkim_signature);
    out->v[0].result = DKIM_PERMERROR;
    out->v[0].problem = arena_str(a, str_c(err->text));
    out->n = 1;
}

void dkim_verify(struct arena *a, struct str message, struct dkim_verdict *out)
{
    struct dkim_claim *claims, *list[DKIM_SIGNATURES_MAX];
    struct dkim_body_digests bodies;
    struct dkim_message m;
    struct error err = {0};

    *out = (struct dkim_verdict){0};
    if (dkim_message_read(a, message, &m, &err) < 0) {
        tell_unreadable(a, &err, out);
        return;
    }
    if (dkim_message_lowest(a, &m, STR("DKIM-Signature")) == 0)
        return;
    claims = ARENA_ARRAY(a, DKIM_SIGNATURES_MAX, struct dkim_claim);
    out->n = read_claims(a, &m, claims);
    for (size_t i = 0; i < out->n; i++)
        list[i] = &claims[i];
    dkim_claims_fetch_keys(a, list, out->n);
    dkim_body_digests_init(a, m.body, out->n, &bodies);
    dkim_claims_check(&bodies, list, out->n);
    out->v = ARENA_ARRAY(a, out->n, struct dkim_signature);
    for (size_t i = 0; i < out->n; i++)
        out->v[i] = claims[i].told;
}
