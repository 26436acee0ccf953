/* authentic_report.c - a verdict in the words of aggregate reports (RFC 9990, 3.1). */
#include "mail/authentic/authentic.h"

static struct str yes_no(bool is_yes)
{
    return is_yes ? STR("y") : STR("n");
}

static struct str alignment_letter(enum dmarc_alignment mode)
{
    return mode == DMARC_STRICT ? STR("s") : STR("r");
}

static struct str pass_fail(bool is_pass)
{
    return is_pass ? STR("pass") : STR("fail");
}

static void tell_policy(const struct dmarc_verdict *d, struct dmarc_report *out)
{
    const struct dmarc_record *record = &d->record;

    *out = (struct dmarc_report){
        .domain = d->record_domain,
        .p = str_c(dmarc_policy_name(record->p)),
        .sp = str_c(dmarc_policy_name(record->sp)),
        .np = str_c(dmarc_policy_name(record->np)),
        .adkim = alignment_letter(record->adkim),
        .aspf = alignment_letter(record->aspf),
        .fo = record->fo,
        .testing = yes_no(record->is_test),
        .discovery_method = STR("treewalk"),
    };
}

/* Why less, or more, was done than is published (RFC 9990, 3.1.1.8). */
static void tell_reason(struct arena *a, const struct dmarc_verdict *d, enum dmarc_policy applied,
                        struct dmarc_report_record *out)
{
    struct str type = STR_NULL;

    if (d->result != DMARC_FAIL)
        return;
    if (applied != d->disposition)
        type = STR("local_policy");
    else if (d->record.is_test && d->disposition != d->policy)
        type = STR("policy_test_mode");
    if (type.n == 0)
        return;
    out->reasons = ARENA_NEW(a, struct dmarc_report_reason);
    out->reasons[0].type = type;
    out->reason_count = 1;
}

static void tell_results(struct arena *a, const struct authentic *v,
                         struct dmarc_report_record *out)
{
    out->spfs = ARENA_NEW(a, struct dmarc_report_spf);
    out->spfs[0] = (struct dmarc_report_spf){
        .domain = v->spf.domain,
        .scope = v->sender.n > 0 ? STR("mfrom") : STR("helo"),
        .result = str_c(spf_result_name(v->spf.result)),
    };
    out->spf_count = 1;
    out->dkims = ARENA_ARRAY(a, v->dkim.n + 1, struct dmarc_report_dkim);
    out->dkim_count = v->dkim.n;
    for (size_t i = 0; i < v->dkim.n; i++)
        out->dkims[i] = (struct dmarc_report_dkim){
            .domain = v->dkim.v[i].domain,
            .selector = v->dkim.v[i].selector,
            .result = str_c(dkim_result_name(v->dkim.v[i].result)),
        };
}

bool authentic_report(struct arena *a, const struct authentic *v, enum dmarc_policy applied,
                      struct dmarc_report *policy, struct dmarc_report_record *record)
{
    const struct dmarc_verdict *d = &v->dmarc;
    struct str local, domain;

    if ((d->result != DMARC_PASS && d->result != DMARC_FAIL) || d->record.rua_count == 0)
        return false;
    tell_policy(d, policy);
    *record = (struct dmarc_report_record){
        .source_ip = v->client,
        .count = 1,
        .disposition = d->result == DMARC_PASS ? STR("pass") : str_c(dmarc_policy_name(applied)),
        .dkim = pass_fail(d->is_dkim_aligned),
        .spf = pass_fail(d->is_spf_aligned),
        .header_from = d->from_domain,
    };
    if (str_rcut(v->sender, '@', &local, &domain))
        record->envelope_from = domain;
    tell_reason(a, d, applied, record);
    tell_results(a, v, record);
    return true;
}
