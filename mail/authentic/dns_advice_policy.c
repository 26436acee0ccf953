/* dns_advice_policy.c - what a domain says of its mail: DKIM keys, DMARC, MTA-STS, reports about TLS. */
#include "mail/authentic/dkim_key.h"
#include "mail/authentic/dkim_ring.h"
#include "mail/authentic/dmarc.h"
#include "mail/authentic/dns_advice_internal.h"
#include "mail/report/tls_report.h"

/* ---- DKIM ---------------------------------------------------------------------------------- */

static void describe_key(struct advice_check *c, struct advice *v, const struct dkim_key_row *row)
{
    struct dkim_key *key = dkim_key_new(row->pem, NULL);

    if (key == NULL)
        return;
    v->wanted = dkim_key_record(c->a, key);
    v->zone = dkim_key_zone_line(c->a, key, row->selector, row->domain);
    dkim_key_free(&key);
}

static void judge_key(struct advice *v, const struct dkim_key_row *row)
{
    bool is_active = row->state == DKIM_KEY_ACTIVE;
    struct str remark = is_active ? STR("mail is signed with this key, and nobody can check it")
                        : row->state == DKIM_KEY_NEW
                            ? STR("the next key: it takes over when its record is there")
                            : STR("an old key: mail that it signed may still be under way");

    if (!str_empty(v->found))
        advice_different(v, is_active, remark);
    else
        advice_missing(v, is_active, remark);
}

static PARKS void check_key(struct advice_check *c, const struct dkim_key_row *row)
{
    struct str name =
        arena_printf(c->a, "%.*s._domainkey.%.*s", STR_ARG(row->selector), STR_ARG(row->domain));
    struct advice *v = advice_add(c, "DKIM", name);
    bool is_urgent = row->state == DKIM_KEY_ACTIVE, is_published;
    struct error err = {0};
    struct str *texts;
    size_t count;

    describe_key(c, v, row);
    if (!advice_texts(c, v, STR(""), is_urgent, &texts, &count))
        return;
    if (dkim_ring_look(c->a, row, &is_published, &err) < 0)
        advice_unanswered(c, v, is_urgent, &err);
    else if (!is_published)
        judge_key(v, row);
    else if (row->state == DKIM_KEY_NEW)
        v->remark = STR("published: it takes over within the hour");
}

PARKS void advice_dkim(struct advice_check *c)
{
    bool has_active = false;

    for (size_t i = 0; i < c->key_count; i++) {
        has_active = has_active || c->keys[i].state == DKIM_KEY_ACTIVE;
        check_key(c, &c->keys[i]);
    }
    if (!has_active)
        advice_missing(
            advice_add(c, "DKIM", arena_printf(c->a, "_domainkey.%.*s", STR_ARG(c->domain))), true,
            STR("no key signs this domain's mail: \"merpati dkim show\" makes the first ones, "
                "\"merpati dkim "
                "activate\" takes another"));
}

/* ---- DMARC --------------------------------------------------------------------------------- */

static PARKS void judge_report_addresses(struct advice_check *c, struct advice *v,
                                         const struct dmarc_verdict *verdict)
{
    const struct dmarc_record *r = &verdict->record;
    struct error err = {0};

    for (size_t i = 0; i < r->rua_count && v->state == ADVICE_OK; i++) {
        struct str *agreed, local, elsewhere;
        size_t count;

        if (dmarc_report_addresses(c->a, verdict->record_domain, &r->rua[i], 1, &agreed, &count,
                                   &err) < 0) {
            advice_unanswered(c, v, false, &err);
        } else if (count == 0) {
            str_rcut(r->rua[i], '@', &local, &elsewhere);
            advice_different(
                v, true,
                arena_printf(
                    c->a,
                    "reports to %.*s are not sent, for %.*s does not agree to them: there must be "
                    "%.*s._report._dmarc.%.*s. IN TXT \"v=DMARC1\"",
                    STR_ARG(r->rua[i]), STR_ARG(elsewhere), STR_ARG(verdict->record_domain),
                    STR_ARG(elsewhere)));
        }
    }
}

static void remark_dmarc(struct advice_check *c, struct advice *v,
                         const struct dmarc_verdict *verdict)
{
    if (!str_ieq(verdict->record_domain, c->domain)) {
        v->remark = arena_printf(c->a, "it is %.*s that says so for this domain",
                                 STR_ARG(verdict->record_domain));
        v->zone = STR("");
    } else if (verdict->record.rua_count == 0) {
        v->remark = STR("no address for reports (rua): you do not learn who sends in your name");
    } else if (verdict->policy == DMARC_POLICY_NONE || verdict->record.is_test) {
        v->remark =
            STR("only reports are asked for; forgeries are refused with p=quarantine or p=reject");
    }
}

static PARKS void judge_dmarc(struct advice_check *c, struct advice *v,
                              const struct dmarc_verdict *verdict)
{
    switch (verdict->result) {
    case DMARC_TEMPERROR:
        v->state = ADVICE_UNANSWERED;
        v->is_urgent = true;
        v->remark = verdict->problem;
        break;
    case DMARC_PERMERROR:
        advice_different(v, true,
                         arena_printf(c->a, "nobody can use it: %.*s", STR_ARG(verdict->problem)));
        break;
    case DMARC_NONE:
        if (str_empty(v->found))
            advice_missing(v, true,
                           STR("Gmail and Outlook want one from everybody who sends much"));
        else
            advice_different(v, true, STR("there must be one record, and it must be readable"));
        break;
    default:
        remark_dmarc(c, v, verdict);
        judge_report_addresses(c, v, verdict);
    }
}

PARKS void advice_dmarc(struct advice_check *c)
{
    struct str name = arena_printf(c->a, "_dmarc.%.*s", STR_ARG(c->domain)), *texts;
    struct advice *v = advice_add(c, "DMARC", name);
    struct spf_answer spf = {.result = SPF_NONE};
    struct dkim_verdict dkim = {0};
    struct dmarc_verdict verdict;
    size_t count;

    v->wanted = arena_printf(c->a, "v=DMARC1; p=none; rua=mailto:%.*s@%.*s",
                             STR_ARG(c->facts->dmarc_reports), STR_ARG(c->domain));
    v->zone = advice_txt_line(c->a, name, v->wanted);
    if (!advice_texts(c, v, STR("v=DMARC1"), true, &texts, &count))
        return;
    if (count > 1) {
        advice_different(v, true, STR("several records count as none: leave one"));
        return;
    }
    dmarc_check(c->a, c->domain, &spf, &dkim, &verdict);
    if (count == 1)
        v->zone = advice_txt_line(c->a, name, texts[0]);
    judge_dmarc(c, v, &verdict);
    if (v->state == ADVICE_DIFFERENT)
        v->zone = advice_txt_line(c->a, name, v->wanted);
}

/* ---- MTA-STS ------------------------------------------------------------------------------- */

/* The web server that has the policy. */
static PARKS void check_policy_host(struct advice_check *c, bool is_announced)
{
    struct str host = arena_printf(c->a, "mta-sts.%.*s", STR_ARG(c->domain)), text;
    struct advice *v = advice_add(c, "MTA-STS policy", host);
    struct sockaddr_storage *addresses;
    struct dns_answer answer;
    struct error err = {0};
    size_t count;

    v->wanted = arena_printf(c->a, "%.*s.", STR_ARG(c->facts->hostname));
    v->zone = advice_line(c->a, host, "CNAME", v->wanted);
    if (dns_lookup_addresses(c->a, host, &addresses, &count, &answer, &err) < 0) {
        advice_unanswered(c, v, false, &err);
        return;
    }
    v->found = advice_addresses_text(c->a, addresses, count);
    if (count == 0)
        advice_missing(v, is_announced,
                       STR("senders get the policy there, by HTTPS from this server"));
    else if (!is_announced)
        return;
    else if (sts_fetch_policy(c->a, c->domain, &text, &err) != STS_FETCHED)
        advice_different(v, true,
                         arena_printf(c->a, "senders cannot get the policy: %s", err.text));
    else if (!str_eq(text, c->facts->sts_policy))
        advice_different(v, true,
                         STR("another policy than ours is answered there: does the name lead to "
                             "this server, and has "
                             "it been started with the same settings?"));
}

static void judge_sts_record(struct advice_check *c, struct advice *v, const struct str *texts,
                             size_t count)
{
    struct str id;

    if (count == 0)
        advice_missing(v, false, STR("with it senders insist on TLS with this server's true name"));
    else if (count > 1)
        advice_different(v, true, STR("several records count as none (RFC 8461, 3.1): leave one"));
    else if (!sts_record_parse(texts[0], &id))
        advice_different(v, true, STR("it is malformed"));
    else if (!str_eq(id, c->facts->sts_id))
        advice_different(v, true,
                         STR("its id is not that of our policy: senders that have an older one do "
                             "not notice that it changed"));
}

/* Without a policy of ours there is nothing to announce. What is announced then is looked at all the same. */
PARKS void advice_sts(struct advice_check *c)
{
    struct str name = arena_printf(c->a, "_mta-sts.%.*s", STR_ARG(c->domain)), *texts;
    struct advice *v = ARENA_NEW(c->a, struct advice), *kept;
    size_t count;

    v->name = name;
    v->wanted = arena_printf(c->a, "v=STSv1; id=%.*s", STR_ARG(c->facts->sts_id));
    v->zone = advice_txt_line(c->a, name, v->wanted);
    if (advice_texts(c, v, STR("v=STSv1"), false, &texts, &count)) {
        if (count == 0 && c->facts->sts_mode == STS_MODE_NONE)
            return;
        judge_sts_record(c, v, texts, count);
    }
    if (v->state == ADVICE_OK && c->facts->sts_mode == STS_MODE_TESTING)
        v->remark =
            STR("failures are only reported; when reports show none, set mta_sts_mode to enforce");
    kept = advice_add(c, "MTA-STS", name);
    v->subject = kept->subject;
    *kept = *v;
    check_policy_host(c, count > 0);
}

/* ---- reports about TLS --------------------------------------------------------------------- */

PARKS void advice_tls_reports(struct advice_check *c)
{
    struct str name = arena_printf(c->a, "_smtp._tls.%.*s", STR_ARG(c->domain)), *texts;
    struct advice *v = advice_add(c, "TLS-RPT", name);
    struct tls_report_uris uris;
    size_t count;

    v->wanted = arena_printf(c->a, "v=TLSRPTv1; rua=mailto:%.*s@%.*s",
                             STR_ARG(c->facts->tls_reports), STR_ARG(c->domain));
    v->zone = advice_txt_line(c->a, name, v->wanted);
    if (!advice_texts(c, v, STR("v=TLSRPTv1"), false, &texts, &count))
        return;
    if (count == 0)
        advice_missing(v, false,
                       STR("with it others report each day whether TLS with this server works"));
    else if (count > 1)
        advice_different(v, true, STR("several records count as none (RFC 8460, 3): leave one"));
    else if (!tls_report_record_parse(texts[0], &uris))
        advice_different(v, true, STR("it names no address that reports can go to"));
    else
        v->zone = advice_txt_line(c->a, name, texts[0]);
}
