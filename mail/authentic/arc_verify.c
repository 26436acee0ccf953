/* arc_verify.c - does the chain hold? (RFC 8617, 5.2)
 *
 * The newest message signature is checked first: a message changed since its last set was added costs
 * one key and one digest. Then all seals and the older signatures go in one trip; the oldest that still
 * holds tells where the message was changed last. */
#include "mail/authentic/dkim_internal.h"
#include "server/base/date.h"

static const char *const result_names[] = {
    [ARC_NONE] = "none", [ARC_PASS] = "pass", [ARC_FAIL] = "fail"};

const char *arc_result_name(enum arc_result result)
{
    return result_names[result];
}

static void refuse(struct arc_verdict *out, struct str problem)
{
    out->result = ARC_FAIL;
    out->problem = problem;
}

static bool holds(struct arena *a, const struct dkim_claim *c, const char *what,
                  struct arc_verdict *out)
{
    if (c->told.result == DKIM_PASS)
        return true;
    refuse(out, arena_printf(a, "the %s of instance %u: %.*s", what, c->instance,
                             STR_ARG(c->told.problem)));
    out->is_temporary = c->told.result == DKIM_TEMPERROR;
    return false;
}

static bool newest_signature_holds(struct arena *a, struct dkim_body_digests *bodies,
                                   struct arc_chain *chain, struct arc_verdict *out)
{
    struct dkim_claim *newest = &chain->sets[chain->count - 1].message;

    dkim_claims_fetch_keys(a, &newest, 1);
    dkim_claims_check(bodies, &newest, 1);
    return holds(a, newest, "ARC-Message-Signature", out);
}

static void check_others(struct arena *a, struct dkim_body_digests *bodies, struct arc_chain *chain)
{
    struct dkim_claim **list = ARENA_ARRAY(a, 2 * chain->count, struct dkim_claim *);
    size_t n = 0;

    for (unsigned i = 0; i < chain->count; i++) {
        struct arc_set *set = &chain->sets[i];

        arc_seal_scope(a, chain, i + 1, &set->seal.covered);
        set->seal.covered.count--; /* the seal itself comes last, without its signature */
        list[n++] = &set->seal;
        list[n++] = &set->message;
    }
    dkim_claims_fetch_keys(a, list, n);
    dkim_claims_check(bodies, list, n);
}

static unsigned oldest_pass(const struct arc_chain *chain)
{
    for (unsigned i = chain->count; i > 0; i--)
        if (chain->sets[i - 1].message.told.result != DKIM_PASS)
            return i + 1;
    return 0;
}

static void judge(struct arena *a, const struct arc_chain *chain, struct arc_verdict *out)
{
    for (unsigned i = chain->count; i > 0; i--)
        if (!holds(a, &chain->sets[i - 1].seal, "ARC-Seal", out))
            return;
    out->result = ARC_PASS;
    out->oldest_pass = oldest_pass(chain);
    out->domains = ARENA_ARRAY(a, chain->count, struct str);
    for (unsigned i = 0; i < chain->count; i++)
        out->domains[i] = chain->sets[i].seal.told.domain;
    out->results = chain->sets[chain->count - 1].results_text;
    out->covers_author = chain->sets[chain->count - 1].message.covers_from;
}

void arc_verify(struct arena *a, struct str message, struct arc_verdict *out)
{
    struct dkim_body_digests bodies;
    struct arc_chain chain;
    struct dkim_message m;
    struct error err = {0};

    *out = (struct arc_verdict){0};
    if (dkim_message_read(a, message, &m, &err) < 0) {
        refuse(out, arena_str(a, str_c(err.text)));
        return;
    }
    arc_chain_read(a, &m, time_now_us() / 1000000, &chain);
    out->count = chain.highest;
    out->is_ended = chain.is_ended;
    if (!chain.has_fields)
        return;
    if (chain.problem.n > 0) {
        refuse(out, chain.problem);
        return;
    }
    dkim_body_digests_init(a, m.body, chain.count, &bodies);
    if (!newest_signature_holds(a, &bodies, &chain, out))
        return;
    check_others(a, &bodies, &chain);
    judge(a, &chain, out);
}
