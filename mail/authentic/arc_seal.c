/* arc_seal.c - adding a set to the chain (RFC 8617, 5.1). */
#include "mail/authentic/dkim_internal.h"

struct sealing {
    struct arena *arena;
    struct dkim_message message;
    struct arc_chain chain;
    const struct dkim_signer *signer;
    struct str lead; /* "i=2" */
    int64_t now_s;
};

static int sign_field(struct sealing *s, struct str bare, const struct dkim_selection *covered,
                      struct str *field, struct error *err)
{
    struct dkim_signing *signing = ARENA_NEW(s->arena, struct dkim_signing);

    *signing = (struct dkim_signing){.key = s->signer->key, .covered = covered, .bare = bare};
    dkim_sign_all(signing, 1);
    return dkim_field_end(s->arena, signing, field, err);
}

static int sign_message(struct sealing *s, struct str names, struct str *field, struct error *err)
{
    struct dkim_selection covered;
    struct dkim_body_digest body;

    if (dkim_select(s->arena, &s->message, names, NULL, &covered, err) < 0)
        return -1;
    dkim_body_digest_make(s->message.body, &body);
    return sign_field(s,
                      dkim_field_begin(s->arena, STR("ARC-Message-Signature"), s->lead, s->signer,
                                       names, body.digest, s->now_s),
                      &covered, field, err);
}

/* A chain that failed is sealed as if the new set were the only one (RFC 8617, 5.1.2). */
static int seal(struct sealing *s, enum arc_result status, struct str results, struct str signature,
                struct str *field, struct error *err)
{
    struct str lead =
        arena_printf(s->arena, "%.*s; cv=%s", STR_ARG(s->lead), arc_result_name(status));
    struct dkim_selection covered;

    arc_seal_scope(s->arena, &s->chain, status == ARC_PASS ? s->chain.count : 0, &covered);
    covered.wholes[covered.count++] = results;
    covered.wholes[covered.count++] = signature;
    return sign_field(
        s, dkim_field_begin(s->arena, STR("ARC-Seal"), lead, s->signer, STR_NULL, NULL, s->now_s),
        &covered, field, err);
}

static int make_set(struct sealing *s, const struct arc_verdict *verdict, struct str names,
                    struct str results, struct str *fields, struct error *err)
{
    struct str signature, chain_seal;

    if (sign_message(s, names, &signature, err) < 0 ||
        seal(s, verdict->result, results, signature, &chain_seal, err) < 0)
        return -1;
    *fields = arena_printf(s->arena, "%.*s%.*s%.*s", STR_ARG(chain_seal), STR_ARG(signature),
                           STR_ARG(results));
    return 0;
}

int arc_seal_names(struct arena *a, struct str message, const struct dkim_signer *signer,
                   const struct arc_verdict *verdict, struct str authserv_id, struct str results,
                   struct str names, int64_t now_s, struct str *fields, struct error *err)
{
    struct sealing s = {.arena = a, .signer = signer, .now_s = now_s};
    struct str payload = str_trim(results);

    *fields = STR("");
    if (dkim_message_read(a, message, &s.message, err) < 0)
        return -1;
    arc_chain_read(a, &s.message, now_s, &s.chain);
    if (s.chain.is_ended || s.chain.highest >= ARC_SETS_MAX || verdict->is_temporary)
        return 0;
    if (verdict->result == ARC_PASS && s.chain.count == 0)
        return fail(err, ERR_INTERNAL, "the chain that passed is not that of this message");
    if (names.n == 0)
        names = dkim_names_to_sign(a, &s.message, true);
    s.lead = arena_printf(a, "i=%u", s.chain.highest + 1);
    payload = payload.n == 0 ? STR("none") : payload;
    payload = arena_printf(a, "ARC-Authentication-Results: %.*s; %.*s;\r\n\t%.*s\r\n",
                           STR_ARG(s.lead), STR_ARG(authserv_id), STR_ARG(payload));
    return make_set(&s, verdict, names, payload, fields, err);
}

int arc_seal(struct arena *a, struct str message, const struct dkim_signer *signer,
             const struct arc_verdict *verdict, struct str authserv_id, struct str results,
             int64_t now_s, struct str *fields, struct error *err)
{
    return arc_seal_names(a, message, signer, verdict, authserv_id, results, STR_NULL, now_s,
                          fields, err);
}
