/* report_store_due.c - reports of days that are over: claimed, filled from what was collected, and ended.
 *
 * A report that goes by mail ends in the transaction that queues the mail (outbound_ends): nobody gets it twice, and
 * none is lost. What goes elsewhere is ended before it is sent: a report that arrives twice would be worse than one
 * that is lost, for it might be counted twice. */
#include "mail/store/report_store_internal.h"
#include "server/base/encode.h"
#include "server/pg/notify.h"
#include "server/pg/pg.h"
#include "server/run/config.h"
#include "sql_queries.h"

#define CLAIM_S         3600
#define ATTEMPTS_MAX    20
#define REPORT_ROWS_MAX 10000 /* of one report that we send; the most frequent ones are told */
#define RESULTS_MAX     20

struct str report_kind_name(enum report_kind kind)
{
    static const char *const names[] = {"dmarc", "tls", "feedback"};

    return str_c(names[kind]);
}

/* ---- claims ---------------------------------------------------------------------------------- */

static void read_claim(struct arena *a, const struct pg_rows *rows, struct report_claim *out)
{
    out->kind = str_eq(pg_get_str(rows, 0, "kind"), STR("dmarc")) ? REPORT_DMARC : REPORT_TLS;
    out->day = pg_get_i32(rows, 0, "day");
    out->domain = arena_str(a, pg_get_str(rows, 0, "domain"));
    out->policy = arena_str(a, pg_get_str(rows, 0, "policy"));
    out->rua_count = pg_text_array_at(a, rows, 0, pg_column(rows, "rua"), &out->rua);
    for (size_t i = 0; i < out->rua_count; i++)
        out->rua[i] = arena_str(a, out->rua[i]);
}

static struct str seed(void)
{
    return str_c(config.hostname);
}

static int32_t spread_s(void)
{
    return (int32_t)(config.report_spread / 1000);
}

PARKS int report_store_claim(struct arena *a, struct report_claim *out, struct error *err)
{
    int64_t claim = (int64_t)(random_u64() >> 1);
    struct pg_rows rows = {0};
    int rc;

    *out = (struct report_claim){.claim = claim};
    if (pg_run(pg_pool(), &sql_report_claim,
               PG_ARGS(pg_i32(report_today()), pg_i64(claim), pg_i32(CLAIM_S), pg_i32(ATTEMPTS_MAX),
                       pg_text(seed()), pg_i32(spread_s())),
               &rows, err) < 0)
        return -1;
    rc = rows.count > 0;
    if (rc == 1)
        read_claim(a, &rows, out);
    pg_rows_free(&rows);
    return rc;
}

size_t report_end_args(const struct report_claim *c, const struct sql_query **query,
                       struct pg_arg args[REPORT_END_PARAMS])
{
    *query = &sql_report_end;
    args[0] = pg_text(report_kind_name(c->kind));
    args[1] = pg_i32(c->day);
    args[2] = pg_text(c->domain);
    args[3] = pg_i64(c->claim);
    args[4] = pg_text(c->note);
    return REPORT_END_PARAMS;
}

PARKS int report_store_end(const struct report_claim *c, struct error *err)
{
    const struct sql_query *query;
    struct pg_arg args[REPORT_END_PARAMS];
    size_t count = report_end_args(c, &query, args);

    return pg_run(pg_pool(), query, (struct pg_args){args, count}, NULL, err);
}

PARKS int report_store_put_back(const struct report_claim *c, struct error *err)
{
    return pg_run(pg_pool(), &sql_report_put_back,
                  PG_ARGS(pg_text(report_kind_name(c->kind)), pg_i32(c->day), pg_text(c->domain),
                          pg_i64(c->claim), pg_text(c->note)),
                  NULL, err);
}

/* ---- for the administrator -------------------------------------------------------------------- */

PARKS int report_store_ask(struct str domain, int64_t *count, struct error *err)
{
    struct pg_rows rows = {0};

    if (pg_run(pg_pool(), &sql_report_ask, PG_ARGS(pg_i32(report_today()), pg_text(domain)), &rows,
               err) < 0)
        return -1;
    *count = (int64_t)rows.count;
    pg_rows_free(&rows);
    bus_publish(REPORT_TOPIC);
    return 0;
}

static void read_due(struct arena *a, const struct pg_rows *rows, size_t i, struct report_due *out)
{
    out->kind = arena_str(a, pg_get_str(rows, i, "kind"));
    out->domain = arena_str(a, pg_get_str(rows, i, "domain"));
    out->note = arena_str(a, pg_get_str(rows, i, "note"));
    out->day_us = (int64_t)pg_get_i32(rows, i, "day") * 86400 * 1000000;
    out->due_us = pg_get_time_us(rows, i, "due_at");
    out->sent_us = pg_is_null(rows, i, "sent_at") ? 0 : pg_get_time_us(rows, i, "sent_at");
    out->attempts = pg_get_i32(rows, i, "attempts");
    out->rua_count = pg_text_array_at(a, rows, i, pg_column(rows, "rua"), &out->rua);
    for (size_t k = 0; k < out->rua_count; k++)
        out->rua[k] = arena_str(a, out->rua[k]);
}

PARKS int report_store_list_due(struct arena *a, struct str kind, struct str domain,
                                struct report_due **out, size_t *count, struct error *err)
{
    struct pg_rows rows = {0};

    if (pg_run(pg_pool(), &sql_report_due_list,
               PG_ARGS(pg_text(seed()), pg_i32(spread_s()), pg_text(kind), pg_text(domain),
                       pg_i32(REPORT_LIST_MAX)),
               &rows, err) < 0)
        return -1;
    *count = rows.count;
    *out = ARENA_ARRAY(a, rows.count + 1, struct report_due);
    for (size_t i = 0; i < rows.count; i++)
        read_due(a, &rows, i, &(*out)[i]);
    pg_rows_free(&rows);
    return 0;
}

/* ---- DMARC ----------------------------------------------------------------------------------- */

/* What was empty is "-" in the store's lines. */
static struct str unword(struct arena *a, struct str word)
{
    return str_eq(word, STR("-")) ? STR("") : arena_str(a, word);
}

/* "p=reject sp=- ..." */
static void fill_policy(struct arena *a, struct str policy, struct dmarc_report *out)
{
    const struct {
        const char *name;
        struct str *to;
    } words[] = {
        {"p", &out->p},       {"sp", &out->sp}, {"np", &out->np},          {"adkim", &out->adkim},
        {"aspf", &out->aspf}, {"fo", &out->fo}, {"testing", &out->testing}};
    struct str pair, name, value;

    while (str_next_token(&policy, ' ', &pair)) {
        str_cut(pair, '=', &name, &value);
        for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
            if (str_eq(name, str_c(words[i].name)))
                *words[i].to = unword(a, value);
    }
}

/* "dkim DOMAIN SELECTOR RESULT" or "spf DOMAIN SCOPE RESULT" */
static void fill_result(struct arena *a, struct str line, struct dmarc_report_record *r)
{
    struct str w[4] = {STR_NULL};

    for (size_t i = 0; i < 4; i++)
        if (!str_next_token(&line, ' ', &w[i]))
            return;
    if (str_eq(w[0], STR("dkim")) && r->dkim_count < RESULTS_MAX)
        r->dkims[r->dkim_count++] = (struct dmarc_report_dkim){
            .domain = unword(a, w[1]), .selector = unword(a, w[2]), .result = unword(a, w[3])};
    if (str_eq(w[0], STR("spf")) && r->spf_count < RESULTS_MAX)
        r->spfs[r->spf_count++] = (struct dmarc_report_spf){
            .domain = unword(a, w[1]), .scope = unword(a, w[2]), .result = unword(a, w[3])};
}

static void fill_record(struct arena *a, const struct pg_rows *rows, size_t i,
                        struct dmarc_report_record *r)
{
    struct str results = pg_get_str(rows, i, "results"), line;
    struct str reason = arena_str(a, pg_get_str(rows, i, "reason"));

    r->source_ip = arena_str(a, pg_get_str(rows, i, "source_ip"));
    r->disposition = arena_str(a, pg_get_str(rows, i, "disposition"));
    r->dkim = arena_str(a, pg_get_str(rows, i, "dkim"));
    r->spf = arena_str(a, pg_get_str(rows, i, "spf"));
    r->header_from = arena_str(a, pg_get_str(rows, i, "header_from"));
    r->envelope_from = arena_str(a, pg_get_str(rows, i, "envelope_from"));
    r->count = (uint64_t)pg_get_i64(rows, i, "count");
    r->dkims = ARENA_ARRAY(a, RESULTS_MAX, struct dmarc_report_dkim);
    r->spfs = ARENA_ARRAY(a, RESULTS_MAX, struct dmarc_report_spf);
    while (str_next_token(&results, '\n', &line))
        fill_result(a, line, r);
    if (reason.n == 0)
        return;
    r->reasons = ARENA_NEW(a, struct dmarc_report_reason);
    str_cut(reason, ' ', &r->reasons[0].type, &r->reasons[0].comment);
    r->reason_count = 1;
}

PARKS int report_store_fill_dmarc(struct arena *a, const struct report_claim *c,
                                  struct dmarc_report *out, struct error *err)
{
    struct pg_rows rows = {0};

    *out = (struct dmarc_report){.domain = c->domain,
                                 .discovery_method = STR("treewalk"),
                                 .begin_s = (int64_t)c->day * 86400,
                                 .end_s = (int64_t)c->day * 86400 + 86399};
    if (pg_run(pg_pool(), &sql_report_dmarc_rows,
               PG_ARGS(pg_i32(c->day), pg_text(c->domain), pg_i32(REPORT_ROWS_MAX)), &rows,
               err) < 0)
        return -1;
    fill_policy(a, c->policy, out);
    out->records = ARENA_ARRAY(a, rows.count + 1, struct dmarc_report_record);
    out->record_count = rows.count;
    for (size_t i = 0; i < rows.count; i++) {
        fill_record(a, &rows, i, &out->records[i]);
        fiber_pause();
    }
    pg_rows_free(&rows);
    return 0;
}

/* ---- TLS ------------------------------------------------------------------------------------- */

static size_t split_lines(struct arena *a, struct str text, struct str **out)
{
    struct str rest = text, line;
    size_t count = 0;

    while (str_next_token(&rest, '\n', &line))
        count++;
    *out = ARENA_ARRAY(a, count + 1, struct str);
    count = 0;
    while (str_next_token(&text, '\n', &line))
        (*out)[count++] = arena_str(a, line);
    return count;
}

static bool is_same_policy(const struct pg_rows *rows, size_t i, size_t k)
{
    static const char *const columns[] = {"policy_type", "policy_domain", "policy_strings",
                                          "mx_hosts"};

    for (size_t c = 0; c < sizeof columns / sizeof columns[0]; c++)
        if (!str_eq(pg_get_str(rows, i, columns[c]), pg_get_str(rows, k, columns[c])))
            return false;
    return true;
}

/* The rows of one policy lie together. */
static void begin_policy(struct arena *a, const struct pg_rows *rows, size_t i,
                         struct tls_report_policy *p)
{
    size_t end = i + 1;

    while (end < rows->count && is_same_policy(rows, i, end))
        end++;
    p->type = arena_str(a, pg_get_str(rows, i, "policy_type"));
    p->domain = arena_str(a, pg_get_str(rows, i, "policy_domain"));
    p->string_count = split_lines(a, pg_get_str(rows, i, "policy_strings"), &p->strings);
    p->mx_host_count = split_lines(a, pg_get_str(rows, i, "mx_hosts"), &p->mx_hosts);
    p->failures = ARENA_ARRAY(a, end - i, struct tls_report_failure);
}

/* A row without a result type tells of sessions that were secured. */
static void add_sessions(struct arena *a, const struct pg_rows *rows, size_t i,
                         struct tls_report_policy *p)
{
    uint64_t count = (uint64_t)pg_get_i64(rows, i, "count");
    struct str result_type = arena_str(a, pg_get_str(rows, i, "result_type"));

    if (result_type.n == 0) {
        p->successful_session_count += count;
        return;
    }
    p->failed_session_count += count;
    p->failures[p->failure_count++] = (struct tls_report_failure){
        .result_type = result_type,
        .sending_mta_ip = arena_str(a, pg_get_str(rows, i, "sending_ip")),
        .receiving_mx_hostname = arena_str(a, pg_get_str(rows, i, "mx_hostname")),
        .receiving_ip = arena_str(a, pg_get_str(rows, i, "receiving_ip")),
        .failure_reason_code = arena_str(a, pg_get_str(rows, i, "reason")),
        .failed_session_count = count,
    };
}

static size_t count_policies(const struct pg_rows *rows)
{
    size_t count = 0;

    for (size_t i = 0; i < rows->count; i++)
        count += i == 0 || !is_same_policy(rows, i - 1, i);
    return count;
}

PARKS int report_store_fill_tls(struct arena *a, const struct report_claim *c,
                                struct tls_report *out, struct error *err)
{
    struct pg_rows rows = {0};

    *out = (struct tls_report){.start_us = (int64_t)c->day * 86400 * 1000000,
                               .end_us = ((int64_t)c->day * 86400 + 86399) * 1000000};
    if (pg_run(pg_pool(), &sql_report_tls_rows,
               PG_ARGS(pg_i32(c->day), pg_text(c->domain), pg_i32(REPORT_ROWS_MAX)), &rows,
               err) < 0)
        return -1;
    out->policies = ARENA_ARRAY(a, count_policies(&rows) + 1, struct tls_report_policy);
    for (size_t i = 0; i < rows.count; i++) {
        if (i == 0 || !is_same_policy(&rows, i - 1, i))
            begin_policy(a, &rows, i, &out->policies[out->policy_count++]);
        add_sessions(a, &rows, i, &out->policies[out->policy_count - 1]);
        fiber_pause();
    }
    pg_rows_free(&rows);
    return 0;
}
