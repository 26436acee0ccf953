/* arc_chain.c - the sets of a message's chain, and whether they make one (RFC 8617, 4.2 and 5.2, 1-3).
 *
 * Nothing is verified here. Reading goes on behind the first mistake, because who adds a set to a broken
 * chain still needs to know its highest instance. */
#include "mail/authentic/dkim_internal.h"

#define COMMENT_DEPTH_MAX 100

struct reader {
    struct arena *arena;
    const struct dkim_message *message;
    int64_t now_s;
    struct arc_chain *chain;
};

static void note(struct arc_chain *chain, struct str problem)
{
    if (chain->problem.n == 0)
        chain->problem = problem;
}

/* ---- one field ------------------------------------------------------------------------------------ */

/* White space and comments (CFWS of RFC 5322, 3.2.2). False when a comment does not end. */
static bool skip_cfws(struct str *s)
{
    unsigned depth = 0;

    for (; s->n > 0; *s = str_from(*s, 1)) {
        char c = s->p[0];

        if (c == '\\' && depth > 0)
            *s = str_from(*s, 1);
        else if (c == '(' && depth++ == COMMENT_DEPTH_MAX)
            return false;
        else if (c == ')' && depth > 0)
            depth--;
        else if (depth == 0 && c != '(' && c != ' ' && c != '\t' && c != '\r' && c != '\n')
            return true;
    }
    return depth == 0;
}

static bool skip_char(struct str *s, char c)
{
    if (!skip_cfws(s) || s->n == 0 || s->p[0] != c)
        return false;
    *s = str_from(*s, 1);
    return skip_cfws(s);
}

/* "i=1;" in front of the results (RFC 8617, 4.1.1), and what is behind it. */
static bool results_instance(struct str value, unsigned *out, struct str *rest)
{
    size_t digits = 0;
    struct str number;

    if (!skip_char(&value, 'i') || !skip_char(&value, '='))
        return false;
    while (digits < value.n && value.p[digits] >= '0' && value.p[digits] <= '9')
        digits++;
    number = str_head(value, digits);
    value = str_from(value, digits);
    if (!dkim_instance_parse(number, out) || !skip_char(&value, ';'))
        return false;
    *rest = value;
    return true;
}

static struct arc_set *set_of(struct reader *r, unsigned instance, const char *field_name)
{
    if (instance == 0) {
        note(r->chain,
             arena_printf(r->arena, "the instance (i=) of an %s is not to be read", field_name));
        return NULL;
    }
    if (instance > r->chain->highest)
        r->chain->highest = instance;
    return &r->chain->sets[instance - 1];
}

static void note_twice(struct reader *r, unsigned instance, const char *field_name)
{
    note(r->chain, arena_printf(r->arena, "there are two %s of instance %u", field_name, instance));
}

static void read_results(struct reader *r, const struct dkim_field *field)
{
    struct str text = STR_NULL;
    unsigned instance = 0;
    struct arc_set *set;

    if (!results_instance(field->value, &instance, &text))
        instance = 0;
    set = set_of(r, instance, "ARC-Authentication-Results");
    if (set == NULL)
        return;
    if (set->results != NULL)
        note_twice(r, instance, "ARC-Authentication-Results");
    set->results = field;
    set->results_text = text;
}

static void read_claim(struct reader *r, const struct dkim_field *field, enum dkim_kind kind,
                       const char *field_name)
{
    struct dkim_claim claim, *place;
    struct arc_set *set;

    dkim_claim_read(r->arena, r->message, field, kind, r->now_s, &claim);
    fiber_pause();
    set = set_of(r, claim.instance, field_name);
    if (set == NULL)
        return;
    place = kind == DKIM_KIND_ARC_SEAL ? &set->seal : &set->message;
    if (place->field != NULL)
        note_twice(r, claim.instance, field_name);
    *place = claim;
}

static bool read_field(struct reader *r, const struct dkim_field *field)
{
    if (!str_istarts(field->name, STR("ARC-")))
        return false;
    if (str_ieq(field->name, STR("ARC-Authentication-Results")))
        read_results(r, field);
    else if (str_ieq(field->name, STR("ARC-Message-Signature")))
        read_claim(r, field, DKIM_KIND_ARC_MESSAGE, "ARC-Message-Signature");
    else if (str_ieq(field->name, STR("ARC-Seal")))
        read_claim(r, field, DKIM_KIND_ARC_SEAL, "ARC-Seal");
    else
        return false;
    return true;
}

/* ---- the chain ------------------------------------------------------------------------------------- */

static void check_set(struct reader *r, unsigned instance)
{
    const struct arc_set *set = &r->chain->sets[instance - 1];
    struct str wanted = instance == 1 ? STR("none") : STR("pass");

    if (set->results == NULL || set->message.field == NULL || set->seal.field == NULL)
        note(r->chain, arena_printf(r->arena, "the set of instance %u is not complete", instance));
    else if (!str_eq(set->seal.chain_status, wanted))
        note(r->chain, arena_printf(r->arena, "the seal of instance %u does not say cv=%.*s",
                                    instance, STR_ARG(wanted)));
}

void arc_chain_read(struct arena *a, const struct dkim_message *m, int64_t now_s,
                    struct arc_chain *out)
{
    struct reader r = {.arena = a, .message = m, .now_s = now_s, .chain = out};
    unsigned fields = 0;

    *out = (struct arc_chain){0};
    out->sets = ARENA_ARRAY(a, ARC_SETS_MAX, struct arc_set);
    for (size_t i = 0; i < m->field_count && fields <= 3 * ARC_SETS_MAX; i++)
        fields += read_field(&r, &m->fields[i]);
    out->has_fields = fields > 0;
    if (fields > 3 * ARC_SETS_MAX)
        note(out, STR("there are more than 50 sets"));
    out->is_ended =
        out->highest > 0 && str_eq(out->sets[out->highest - 1].seal.chain_status, STR("fail"));
    if (out->is_ended)
        note(out, STR("the newest seal says that the chain had failed before (cv=fail)"));
    for (unsigned i = 1; i <= out->highest; i++)
        check_set(&r, i);
    if (out->problem.n == 0)
        out->count = out->highest;
}

void arc_seal_scope(struct arena *a, const struct arc_chain *chain, unsigned count,
                    struct dkim_selection *out)
{
    *out = (struct dkim_selection){.wholes = ARENA_ARRAY(a, 3 * count + 2, struct str)};
    for (unsigned i = 0; i < count; i++) {
        out->wholes[out->count++] = chain->sets[i].results->whole;
        out->wholes[out->count++] = chain->sets[i].message.field->whole;
        out->wholes[out->count++] = chain->sets[i].seal.field->whole;
    }
}
