/* smtp_verdict.c - strangers' mail is checked, and what the author's domain asks for is done.
 *
 * The checks are mail/authentic's; here is what follows from them: taken, put into Junk, put off, or refused. SPF or
 * DKIM alone refuse nothing, for forwarders and mailing lists break them; only DMARC says what an owner wants. */
#include "mail/smtp/smtp_verdict.h"

#include "mail/authentic/auth_results.h"
#include "mail/mime/address_path.h"
#include "mail/mime/header.h"
#include "mail/store/report_address.h"
#include "mail/store/report_store.h"
#include "server/run/config.h"
#include "server/run/metrics.h"

#define COPY_BLOCK         ((size_t)1 << 20) /* others run in between */
#define SIGNATURES_TOLD    4                 /* in the log and the trace */
#define DOMAIN_TOLD_SIZE   60
#define EVIDENCE_TOLD_SIZE 30 /* of a domain beside the author's: the answer is one line */

/* ---- fields that claim to be ours ------------------------------------------------------------------ */

static bool is_forged(const struct header_field *f)
{
    if (str_ieq(f->name, STR("X-Virus-Status"))) /* what smtp_scan.c says, and nobody before it */
        return *config.clamav != '\0';
    return str_ieq(f->name, STR("Authentication-Results")) &&
           auth_results_is_ours(f->value, str_c(config.hostname));
}

/* Bytes of forged fields, and where the header ends. */
static size_t forged_size(struct str message, struct str *body)
{
    struct header_field field;
    size_t size = 0;

    *body = message;
    while (header_next(body, &field)) {
        if (is_forged(&field)) {
            size += field.whole.n;
            metric_inc(METRIC_forged_results_removed);
        }
        fiber_pause();
    }
    return size;
}

static char *add_text(char *to, struct str s)
{
    while (s.n > 0) {
        struct str block = str_head(s, COPY_BLOCK);

        memcpy(to, block.p, block.n);
        to += block.n;
        s = str_from(s, block.n);
        fiber_pause();
    }
    return to;
}

/* The message is copied only when there is something to take out: texts of the verdict are slices of what came. */
static void remove_forged(struct smtp_session *s, struct str message, size_t room_size,
                          struct smtp_verdict *out)
{
    struct str body, rest = message;
    size_t size = forged_size(message, &body);
    struct header_field field;
    char *copy, *at;

    out->message = message;
    out->room_size = room_size;
    if (size == 0)
        return;
    copy = arena_alloc(s->tx_arena, room_size + message.n - size + 1);
    at = copy + room_size;
    while (header_next(&rest, &field)) {
        if (!is_forged(&field))
            at = add_text(at, field.whole);
        fiber_pause();
    }
    add_text(at, body);
    out->message = str_of(copy + room_size, message.n - size);
    log_info(&s->log, "forged_results_removed", KV("id", s->tx.trace_text), KV("size", size));
}

/* ---- what to do ------------------------------------------------------------------------------------ */

enum action { TAKE, JUNK, DEFER, REFUSE };

struct decision {
    enum action action;
    struct str sealer; /* who is believed although DMARC failed; empty: nobody */
};

static bool is_trusted_sealer(struct str domain)
{
    struct str rest = str_c(config.arc_trusted_sealers), name;

    while (str_next_token(&rest, ',', &name))
        if (!str_empty(domain) && str_ieq(str_trim(name), domain))
            return true;
    return false;
}

static bool says_dmarc_failed(struct arena *a, struct str results)
{
    struct auth_results seen;

    if (auth_results_parse(a, results, &seen, NULL) < 0)
        return false;
    for (size_t i = 0; i < seen.n; i++)
        if (str_eq(seen.v[i].method, STR("dmarc")) && str_eq(seen.v[i].result, STR("fail")))
            return true;
    return false;
}

/* The newest seal vouches for what came before it; without trust in it the chain means nothing (RFC 8617, 9.2). A sealer
 * that saw DMARC fail itself vouches only where those before it are trusted too: anybody can begin a chain. A sealer that
 * did not sign From says nothing of who wrote. */
static struct str trusted_sealer(struct arena *a, const struct arc_verdict *arc)
{
    unsigned trusted = 0;

    if (arc->result != ARC_PASS || !arc->covers_author)
        return STR_NULL;
    while (trusted < arc->count && is_trusted_sealer(arc->domains[arc->count - 1 - trusted]))
        trusted++;
    if (trusted == 0)
        return STR_NULL;
    if (says_dmarc_failed(a, arc->results) && (trusted < arc->count || arc->count == 1))
        return STR_NULL;
    return arc->domains[arc->count - 1];
}

static struct decision decide(struct arena *a, const struct authentic *v)
{
    struct decision d = {.action = TAKE};

    if (v->dmarc.result == DMARC_TEMPERROR && v->dmarc.at_stake != DMARC_POLICY_NONE &&
        config.dmarc_defer)
        d.action = DEFER;
    else if (v->dmarc.disposition == DMARC_POLICY_QUARANTINE && !v->has_too_many_authors)
        d.action = JUNK;
    else if (v->dmarc.disposition == DMARC_POLICY_REJECT || v->has_too_many_authors)
        d.action = config.dmarc_enforce ? REFUSE : JUNK;
    else if (v->has_unknowable_author)
        d.action = JUNK;
    if (d.action == TAKE)
        return d;
    d.sealer = trusted_sealer(a, &v->arc);
    if (!str_empty(d.sealer))
        d.action = TAKE;
    return d;
}

static void count(const struct authentic *v, const struct decision *d)
{
    if (v->dmarc.result == DMARC_PASS)
        metric_inc(METRIC_dmarc_passed);
    if (v->dmarc.result == DMARC_FAIL)
        metric_inc(METRIC_dmarc_failed);
    if (!str_empty(d->sealer))
        metric_inc(METRIC_dmarc_overridden);
    if (d->action == JUNK)
        metric_inc(METRIC_dmarc_junked);
    if (d->action == DEFER)
        metric_inc(METRIC_dmarc_deferred);
    if (d->action == REFUSE)
        metric_inc(METRIC_dmarc_refused);
}

/* ---- telling the owner of the domain ------------------------------------------------------------------ */

/* RFC 8617, 7.2.2: local policy, because of a chain. */
static void tell_sealer(struct arena *a, const struct authentic *v, struct str sealer,
                        struct dmarc_report_record *record)
{
    if (str_empty(sealer) || record->reason_count == 0)
        return;
    record->reasons[0].comment =
        arena_printf(a, "arc=pass as[%u].d=%.*s", v->arc.count, STR_ARG(sealer));
}

/* Two servers that report of each other's reports would never stop. */
static bool is_a_report(struct smtp_session *s, const struct authentic *v)
{
    struct str local, domain;

    for (size_t i = 0; i < s->tx.rcpt_count; i++) {
        address_path_split(s->tx_arena, s->tx.rcpts[i].path, &local, &domain);
        if (!report_address_has_no_people(local))
            return false;
    }
    return v->dmarc.result == DMARC_PASS;
}

static void report(struct smtp_session *s, const struct authentic *v, const struct decision *d)
{
    static const enum dmarc_policy applied[] = {[TAKE] = DMARC_POLICY_NONE,
                                                [JUNK] = DMARC_POLICY_QUARANTINE,
                                                [DEFER] = DMARC_POLICY_NONE,
                                                [REFUSE] = DMARC_POLICY_REJECT};
    struct dmarc_report policy;
    struct dmarc_report_record record;
    struct arena *a = s->tx_arena;

    if (is_a_report(s, v) || !authentic_report(a, v, applied[d->action], &policy, &record))
        return;
    tell_sealer(a, v, d->sealer, &record);
    report_store_add_dmarc(&policy, v->dmarc.record.rua, v->dmarc.record.rua_count, &record);
}

/* ---- telling people ------------------------------------------------------------------------------------ */

static bool is_domain_char(char c)
{
    return (c >= '0' && c <= '9') || (ascii_lower(c) >= 'a' && ascii_lower(c) <= 'z') || c == '-' ||
           c == '.' || c == '_';
}

/* As much of a domain as an answer has room for; nothing in it can end the line. */
static struct str domain_told(struct arena *a, struct str domain, size_t size_max)
{
    struct str out = arena_str(a, str_head(domain, size_max));
    char *p = (char *)out.p;

    for (size_t i = 0; i < out.n; i++)
        if (!is_domain_char(p[i]))
            p[i] = '?';
    return out;
}

static void add_result(struct buf *b, struct arena *a, const char *name, const char *result,
                       struct str domain)
{
    struct str told = domain_told(a, domain, DOMAIN_TOLD_SIZE);

    buf_addf(b, "%s%s=%s", b->n > 0 ? " " : "", name, result);
    if (!str_empty(told))
        buf_addf(b, " (%.*s)", STR_ARG(told));
}

static void add_signatures(struct buf *b, struct arena *a, const struct dkim_verdict *dkim)
{
    if (dkim->n == 0)
        add_result(b, a, "dkim", "none", STR_NULL);
    for (size_t i = 0; i < dkim->n && i < SIGNATURES_TOLD; i++)
        add_result(b, a, "dkim", dkim_result_name(dkim->v[i].result), dkim->v[i].domain);
    if (dkim->n > SIGNATURES_TOLD)
        buf_addf(b, " (and %zu more)", dkim->n - SIGNATURES_TOLD);
}

/* "spf=pass (example.net) dkim=fail (example.org) dmarc=fail (example.org), refused" */
static struct str summary(struct arena *a, const struct authentic *v, const struct decision *d)
{
    static const char *const words[] = {
        [TAKE] = "", [JUNK] = ", to Junk", [DEFER] = ", put off", [REFUSE] = ", refused"};
    struct buf b;
    struct str text;

    buf_init(&b, 2048);
    add_result(&b, a, "spf", spf_result_name(v->spf.result), v->spf.domain);
    add_signatures(&b, a, &v->dkim);
    if (v->arc.result != ARC_NONE)
        add_result(&b, a, "arc", arc_result_name(v->arc.result),
                   v->arc.result == ARC_PASS ? v->arc.domains[v->arc.count - 1] : STR_NULL);
    add_result(&b, a, "dmarc", dmarc_result_name(v->dmarc.result), v->from_domain);
    if (v->dmarc.result == DMARC_FAIL)
        buf_addf(&b, " p=%s", dmarc_policy_name(v->dmarc.policy));
    buf_adds(&b, words[d->action]);
    if (!str_empty(d->sealer))
        buf_adds(&b, ", taken for its sealer is trusted");
    text = arena_str(a, buf_str(&b));
    buf_fini(&b);
    return text;
}

/* "SPF pass for list.example", for that did not help. */
static struct str spf_evidence(struct arena *a, const struct authentic *v)
{
    struct str domain = domain_told(a, v->spf.domain, EVIDENCE_TOLD_SIZE);

    return arena_printf(a, "SPF %s%s%.*s", spf_result_name(v->spf.result),
                        str_empty(domain) ? "" : " for ", STR_ARG(domain));
}

static struct str dkim_evidence(struct arena *a, const struct dkim_verdict *dkim)
{
    const struct dkim_signature *best = dkim->v;
    struct str domain;

    if (dkim->n == 0)
        return STR("no DKIM signature");
    for (size_t i = 1; i < dkim->n && best->result != DKIM_PASS; i++)
        if (dkim->v[i].result == DKIM_PASS)
            best = &dkim->v[i];
    domain = domain_told(a, best->domain, EVIDENCE_TOLD_SIZE);
    return arena_printf(a, "DKIM %s%s%.*s", dkim_result_name(best->result),
                        str_empty(domain) ? "" : " for ", STR_ARG(domain));
}

/* The codes are RFC 7372's; of DNS that fails, RFC 3463's. */
static int say(struct smtp_session *s, struct str message, int code, const char *enhanced,
               struct str text)
{
    smtp_trace_refused(s, message, text);
    smtp_reply(s, code, enhanced, "%.*s", STR_ARG(text));
    return 1;
}

static int refuse(struct smtp_session *s, const struct authentic *v, struct str message)
{
    struct arena *a = s->tx_arena;
    struct str domain = domain_told(a, v->dmarc.from_domain, DOMAIN_TOLD_SIZE);
    struct str spf = spf_evidence(a, v), dkim = dkim_evidence(a, &v->dkim);

    if (v->has_too_many_authors)
        return say(s, message, 550, "5.7.26",
                   arena_printf(a,
                                "the message has authors of more than %d domains in From, so that "
                                "nobody can tell who wrote it; name one",
                                AUTHENTIC_FROM_DOMAINS_MAX));
    return say(s, message, 550, "5.7.26",
               arena_printf(a,
                            "%.*s wants mail refused that is not shown to be its own (DMARC): "
                            "%.*s, %.*s; send through its servers or sign with its key",
                            STR_ARG(domain), STR_ARG(spf), STR_ARG(dkim)));
}

static int defer(struct smtp_session *s, const struct authentic *v, struct str message)
{
    struct str domain = domain_told(s->tx_arena, v->from_domain, DOMAIN_TOLD_SIZE);

    return say(s, message, 451, v->spf.result == SPF_TEMPERROR ? "4.7.24" : "4.4.3",
               arena_printf(s->tx_arena,
                            "DNS cannot say now whether this message is from %.*s (DMARC), try "
                            "again later",
                            STR_ARG(domain)));
}

/* ---- the verdict --------------------------------------------------------------------------------------- */

static bool is_stranger(const struct smtp_session *s)
{
    return s->role == SMTP_MX && !s->is_exempt && !s->is_logged_in;
}

static void check(struct smtp_session *s, struct str message, struct smtp_verdict *out)
{
    struct authentic_query q = {.client = conn_peer(s->conn),
                                .helo = s->helo,
                                .sender = s->tx.sender,
                                .receiver = str_c(config.hostname),
                                .message = message};

    authentic_check(s->tx_arena, &q, &out->checked);
    out->is_checked = true;
    out->results = authentic_payload(s->tx_arena, &out->checked, STR_NULL);
    out->field = authentic_field(s->tx_arena, str_c(config.hostname), &out->checked, STR_NULL);
}

static int follow(struct smtp_session *s, struct smtp_verdict *out, struct str message)
{
    const struct authentic *v = &out->checked;
    struct decision d = decide(s->tx_arena, v);
    struct str text = summary(s->tx_arena, v, &d);

    count(v, &d);
    report(s, v, &d);
    log_info(&s->log, "message_checked", KV("id", s->tx.trace_text), KV("from", s->tx.sender),
             KV("results", text));
    trace_event(s->tx.trace_id, TRACE_VERDICT, STR_NULL, text);
    out->is_junk = d.action == JUNK;
    if (d.action == REFUSE)
        return refuse(s, v, message);
    return d.action == DEFER ? defer(s, v, message) : 0;
}

int smtp_verdict_make(struct smtp_session *s, struct str message, size_t room_size,
                      struct smtp_verdict *out)
{
    *out = (struct smtp_verdict){.message = message, .room_size = room_size};
    if (config.mail_authentication && is_stranger(s)) {
        check(s, message, out);
        if (follow(s, out, message) != 0)
            return 1;
    }
    if (s->role != SMTP_LMTP) /* who speaks LMTP is one of us, and may have used our name */
        remove_forged(s, message, room_size, out);
    return 0;
}
