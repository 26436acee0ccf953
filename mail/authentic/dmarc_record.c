/* dmarc_record.c - reads the text of a policy record, tag by tag.
 *
 * Which records can be applied at all is RFC 9989, 4.10.1: one whose p, sp or np says something unknown counts as
 * p=none when it names an address for reports, and as a mistake otherwise. */
#include "mail/authentic/dmarc_record.h"

#include <string.h>

#include "mail/mime/mailto.h"

#define RECORD_SIZE_MAX 16384

static const char *const policy_names[] = {"none", "quarantine", "reject"};

const char *dmarc_policy_name(enum dmarc_policy p)
{
    return policy_names[p];
}

/* ---- values ---------------------------------------------------------------------------------- */

static bool read_policy(struct str value, enum dmarc_policy *out)
{
    for (size_t i = 0; i < sizeof policy_names / sizeof policy_names[0]; i++) {
        if (str_ieq(value, str_c(policy_names[i]))) {
            *out = (enum dmarc_policy)i;
            return true;
        }
    }
    return false;
}

static bool is_failure_options(struct str value)
{
    struct str option;

    if (value.n == 0)
        return false;
    while (value.n > 0) {
        str_cut(value, ':', &option, &value);
        option = str_trim(option);
        if (option.n != 1 || strchr("01dsDS", option.p[0]) == NULL)
            return false;
    }
    return true;
}

/* "mailto:reports@example.org!10m" -> "reports@example.org". What follows "!" was a size limit (RFC 7489, 6.2). */
static bool read_mailto(struct arena *a, struct str uri, struct str *address)
{
    struct str limit;

    str_cut(uri, '!', &uri, &limit);
    return mailto_parse(a, uri, address);
}

static size_t read_uris(struct arena *a, struct str value, struct str *out)
{
    size_t count = 0;
    struct str uri;

    while (count < DMARC_URIS_MAX && value.n > 0) {
        str_cut(value, ',', &uri, &value);
        count += read_mailto(a, uri, &out[count]);
    }
    return count;
}

/* ---- tags ------------------------------------------------------------------------------------ */

/* What was read so far; each flag is a tag that was there. */
struct reading {
    struct arena *arena;
    struct dmarc_record *record;
    unsigned seen;         /* bits of tags[] */
    struct str bad_policy; /* the p, sp or np that says something unknown */
    bool has_t, is_pct_zero;
};

static void policy_tag(struct reading *r, struct str value, enum dmarc_policy *policy, bool *has)
{
    *has = read_policy(value, policy);
    if (!*has)
        r->bad_policy = value.n > 0 ? value : STR("empty");
}

static void tag_p(struct reading *r, struct str value)
{
    bool has;

    policy_tag(r, value, &r->record->p, &has);
}

static void tag_sp(struct reading *r, struct str value)
{
    policy_tag(r, value, &r->record->sp, &r->record->has_sp);
}

static void tag_np(struct reading *r, struct str value)
{
    policy_tag(r, value, &r->record->np, &r->record->has_np);
}

static void tag_adkim(struct reading *r, struct str value)
{
    r->record->adkim = str_ieq(value, STR("s")) ? DMARC_STRICT : DMARC_RELAXED;
}

static void tag_aspf(struct reading *r, struct str value)
{
    r->record->aspf = str_ieq(value, STR("s")) ? DMARC_STRICT : DMARC_RELAXED;
}

static void tag_fo(struct reading *r, struct str value)
{
    if (is_failure_options(value))
        r->record->fo = arena_lower(r->arena, value);
}

static void tag_psd(struct reading *r, struct str value)
{
    r->record->psd = str_ieq(value, STR("y"))   ? DMARC_PSD_YES
                     : str_ieq(value, STR("n")) ? DMARC_PSD_NO
                                                : DMARC_PSD_UNKNOWN;
}

static void tag_t(struct reading *r, struct str value)
{
    r->has_t = true;
    r->record->is_test = str_ieq(value, STR("y"));
}

static void tag_pct(struct reading *r, struct str value)
{
    uint32_t percent;

    r->is_pct_zero = str_to_u32(value, &percent) && percent == 0;
}

static void tag_rua(struct reading *r, struct str value)
{
    r->record->rua_count = read_uris(r->arena, value, r->record->rua);
}

static void tag_ruf(struct reading *r, struct str value)
{
    r->record->ruf_count = read_uris(r->arena, value, r->record->ruf);
}

static const struct {
    const char *name;
    void (*read)(struct reading *r, struct str value);
} tags[] = {
    {"p", tag_p},       {"sp", tag_sp},   {"np", tag_np},   {"adkim", tag_adkim},
    {"aspf", tag_aspf}, {"fo", tag_fo},   {"psd", tag_psd}, {"t", tag_t},
    {"pct", tag_pct},   {"rua", tag_rua}, {"ruf", tag_ruf},
};

static void read_tag(struct reading *r, struct str name, struct str value)
{
    for (unsigned i = 0; i < sizeof tags / sizeof tags[0]; i++) {
        if (!str_ieq(name, str_c(tags[i].name)) || (r->seen & 1u << i))
            continue;
        r->seen |= 1u << i;
        tags[i].read(r, value);
    }
}

/* Takes "name = value" off the front; false at the end. */
static bool next_tag(struct str *rest, struct str *name, struct str *value)
{
    struct str tag;

    if (rest->n == 0)
        return false;
    str_cut(*rest, ';', &tag, rest);
    str_cut(tag, '=', name, value);
    *name = str_trim(*name);
    *value = str_trim(*value);
    return true;
}

/* RFC 9989, 4.10.1, and what the policies that are not given follow from (4.7: sp, np). */
static void settle_policies(struct reading *r)
{
    struct dmarc_record *record = r->record;

    if (r->bad_policy.n > 0) {
        record->p = DMARC_POLICY_NONE;
        record->has_sp = record->has_np = false;
        if (record->rua_count == 0)
            record->problem =
                arena_printf(r->arena, "the DMARC record has an unknown policy \"%.*s\"",
                             (int)(r->bad_policy.n < 40 ? r->bad_policy.n : 40), r->bad_policy.p);
    }
    if (!record->has_sp)
        record->sp = record->p;
    if (!record->has_np)
        record->np = record->sp;
    if (!r->has_t && r->is_pct_zero)
        record->is_test = true;
}

bool dmarc_record_parse(struct arena *a, struct str text, struct dmarc_record *out)
{
    struct reading r = {.arena = a, .record = out};
    struct str rest = text, name, value;

    *out = (struct dmarc_record){.fo = STR("0")};
    /* The version's value alone is case-sensitive (RFC 9989, 4.8). */
    if (text.n > RECORD_SIZE_MAX || !next_tag(&rest, &name, &value) || !str_ieq(name, STR("v")) ||
        !str_eq(value, STR("DMARC1")))
        return false;
    while (next_tag(&rest, &name, &value))
        read_tag(&r, name, value);
    settle_policies(&r);
    return true;
}
