/* report_store_received.c - reports of others: one row for the report, one for each of its lines.
 *
 * They come from anybody, so every text is cut and repaired before it is stored. Lines are written in
 * portions within one transaction; a report is there whole or not at all. */
#include "mail/mime/header.h"
#include "mail/store/report_store_internal.h"
#include "server/base/buf.h"
#include "server/pg/pg.h"
#include "server/run/config.h"
#include "server/run/offload.h"
#include "sql_queries.h"

#define NAME_SIZE_MAX   320
#define DETAIL_SIZE_MAX 2000
#define ROWS_MAX        50000
#define PORTION         1000
#define SHOWN_ROWS_MAX  50000
#define DAYS_KEPT       10 /* however many come */

/* ---- lines ----------------------------------------------------------------------------------- */

/* Of one report, as it is stored. */
struct lines {
    struct arena *arena;
    struct str *fields; /* five with U+001F between them */
    int64_t *counts;
    size_t n, room;
    int64_t passed, failed;
};

static void lines_init(struct lines *l, struct arena *a, size_t room)
{
    *l = (struct lines){.arena = a, .room = room < ROWS_MAX ? room : ROWS_MAX};
    l->fields = ARENA_ARRAY(a, l->room + 1, struct str);
    l->counts = ARENA_ARRAY(a, l->room + 1, int64_t);
}

static int64_t sum(int64_t a, int64_t b)
{
    return a > INT64_MAX - b ? INT64_MAX : a + b;
}

static struct str name(struct lines *l, struct str s)
{
    return report_clean(l->arena, s, NAME_SIZE_MAX);
}

static void lines_add(struct lines *l, struct str source, struct str subject, struct str outcome,
                      bool is_pass, uint64_t count, struct str detail)
{
    int64_t number = (int64_t)(count & INT64_MAX);

    if (l->n == l->room)
        return;
    l->passed = is_pass ? sum(l->passed, number) : l->passed;
    l->failed = is_pass ? l->failed : sum(l->failed, number);
    l->counts[l->n] = number;
    l->fields[l->n++] = arena_printf(l->arena, "%.*s\x1f%.*s\x1f%.*s\x1f%s\x1f%.*s",
                                     STR_ARG(name(l, source)), STR_ARG(name(l, subject)),
                                     STR_ARG(name(l, outcome)), is_pass ? "pass" : "fail",
                                     STR_ARG(report_clean(l->arena, detail, DETAIL_SIZE_MAX)));
}

/* ---- storing --------------------------------------------------------------------------------- */

struct head {
    enum report_kind kind;
    struct str organization, external_id, domain, policy;
    int64_t begin_us, end_us;
};

static int write_lines(struct pg *tx, int64_t report_id, const struct lines *l, struct error *err)
{
    for (size_t at = 0; at < l->n; at += PORTION) {
        size_t n = l->n - at < PORTION ? l->n - at : PORTION;

        if (pg_run(tx, &sql_report_received_rows_add,
                   PG_ARGS(pg_i64(report_id), pg_i32((int32_t)at), pg_text_array(l->fields + at, n),
                           pg_i64_array(l->counts + at, n)),
                   NULL, err) < 0)
            return -1;
    }
    return 0;
}

static int32_t row_count(const struct lines *l)
{
    return l->n == 0 ? 1 : (int32_t)l->n;
}

/* Anybody can send reports under any name: neither one nor all of them push out within a day what others said for months. */
static int check_room(struct pg *tx, const struct head *h, struct lines *l, struct error *err)
{
    struct str organization = name(l, h->organization);
    struct pg_rows rows = {0};
    int64_t of_source, of_all;

    if (pg_run(tx, &sql_report_received_today, PG_ARGS(pg_text(organization)), &rows, err) < 0)
        return -1;
    of_source = pg_get_i64(&rows, 0, "of_source") + row_count(l);
    of_all = pg_get_i64(&rows, 0, "of_all") + row_count(l);
    pg_rows_free(&rows);
    if (of_source > config.report_rows_source)
        return fail(err, ERR_LIMIT, "too many reports from %.*s within a day",
                    STR_ARG(organization));
    if (of_all > config.report_rows_max / DAYS_KEPT)
        return fail(err, ERR_LIMIT, "too many reports within a day");
    return 0;
}

/* 1: written, 0: there before, -1. */
static int write_report(struct pg *tx, const struct head *h, struct lines *l, struct error *err)
{
    struct pg_rows rows = {0};
    int rc;

    if (check_room(tx, h, l, err) < 0)
        return -1;
    if (pg_run(tx, &sql_report_received_add,
               PG_ARGS(pg_text(report_kind_name(h->kind)), pg_text(name(l, h->organization)),
                       pg_text(name(l, h->external_id)), pg_text(name(l, h->domain)),
                       pg_time_us(h->begin_us), pg_time_us(h->end_us), pg_text(name(l, h->policy)),
                       pg_i64(l->passed), pg_i64(l->failed), pg_i32(row_count(l))),
               &rows, err) < 0)
        return -1;
    rc = rows.count > 0;
    if (rc == 1 && write_lines(tx, pg_get_i64(&rows, 0, "report_id"), l, err) < 0)
        rc = -1;
    pg_rows_free(&rows);
    return rc;
}

static int store_report(const struct head *h, struct lines *l, struct error *err)
{
    struct pg *tx = pg_begin(err);
    int rc = tx == NULL ? -1 : write_report(tx, h, l, err);

    if (rc < 1) {
        pg_rollback(&tx);
        return rc;
    }
    return pg_commit(&tx, err) < 0 ? -1 : 1;
}

/* ---- DMARC ----------------------------------------------------------------------------------- */

/* "envelope-from=example.org; spf=pass example.org; dkim=fail example.org s=s1; forwarded" */
static struct str dmarc_detail(struct arena *a, const struct dmarc_report_record *r)
{
    struct buf text;
    struct str detail;

    buf_init(&text, DETAIL_SIZE_MAX);
    buf_adds(&text, "envelope-from=");
    buf_add(&text, r->envelope_from);
    for (size_t i = 0; i < r->spf_count; i++)
        buf_addf(&text, "; spf=%.*s %.*s", STR_ARG(r->spfs[i].result), STR_ARG(r->spfs[i].domain));
    for (size_t i = 0; i < r->dkim_count; i++)
        buf_addf(&text, "; dkim=%.*s %.*s s=%.*s", STR_ARG(r->dkims[i].result),
                 STR_ARG(r->dkims[i].domain), STR_ARG(r->dkims[i].selector));
    for (size_t i = 0; i < r->reason_count; i++)
        buf_addf(&text, "; %.*s %.*s", STR_ARG(r->reasons[i].type), STR_ARG(r->reasons[i].comment));
    detail = arena_str(a, buf_str(&text));
    buf_fini(&text);
    return detail;
}

/* Times that PostgreSQL can hold; nonsense becomes 1970. */
static int64_t seconds_us(int64_t seconds)
{
    const int64_t year_9999_s = INT64_C(253402300799);

    return seconds >= 0 && seconds <= year_9999_s ? seconds * 1000000 : 0;
}

static struct str dmarc_policy_text(struct arena *a, const struct dmarc_report *r)
{
    return arena_printf(a, "p=%.*s sp=%.*s np=%.*s adkim=%.*s aspf=%.*s testing=%.*s",
                        STR_ARG(r->p), STR_ARG(r->sp), STR_ARG(r->np), STR_ARG(r->adkim),
                        STR_ARG(r->aspf), STR_ARG(r->testing));
}

PARKS int report_store_keep_dmarc(const struct dmarc_report *r, struct error *err)
{
    struct arena *a = arena_new();
    struct head h = {REPORT_DMARC,
                     r->org_name,
                     r->report_id,
                     r->domain,
                     dmarc_policy_text(a, r),
                     seconds_us(r->begin_s),
                     seconds_us(r->end_s)};
    struct lines l;
    int rc;

    lines_init(&l, a, r->record_count);
    for (size_t i = 0; i < r->record_count; i++) {
        const struct dmarc_report_record *record = &r->records[i];
        bool is_pass = str_eq(record->dkim, STR("pass")) || str_eq(record->spf, STR("pass"));

        lines_add(&l, record->source_ip, record->header_from, record->disposition, is_pass,
                  record->count, dmarc_detail(a, record));
        fiber_pause();
    }
    rc = store_report(&h, &l, err);
    arena_free(&a);
    return rc;
}

/* ---- TLS ------------------------------------------------------------------------------------- */

static void add_failure(struct lines *l, const struct tls_report_failure *f)
{
    struct str ip = f->receiving_ip.n > 0 ? f->receiving_ip : f->receiving_mx_hostname;

    lines_add(l, ip, f->receiving_mx_hostname, f->result_type, false, f->failed_session_count,
              arena_printf(l->arena, "from=%.*s reason=%.*s %.*s", STR_ARG(f->sending_mta_ip),
                           STR_ARG(f->failure_reason_code),
                           STR_ARG(str_head(f->additional_information, NAME_SIZE_MAX))));
}

/* Sums of the policies are what counts; details need not add up to them. */
static void add_policy(struct lines *l, const struct tls_report_policy *p, int64_t *passed,
                       int64_t *failed)
{
    *passed = sum(*passed, (int64_t)(p->successful_session_count & INT64_MAX));
    *failed = sum(*failed, (int64_t)(p->failed_session_count & INT64_MAX));
    lines_add(l, STR(""), p->domain, p->type, true, p->successful_session_count, STR("secured"));
    for (size_t i = 0; i < p->failure_count; i++)
        add_failure(l, &p->failures[i]);
}

static struct str tls_domain(const struct tls_report *r)
{
    for (size_t i = 0; i < r->policy_count; i++)
        if (r->policies[i].domain.n > 0)
            return r->policies[i].domain;
    return STR("");
}

PARKS int report_store_keep_tls(const struct tls_report *r, struct error *err)
{
    struct arena *a = arena_new();
    struct head h = {REPORT_TLS,
                     r->organization_name,
                     r->report_id,
                     tls_domain(r),
                     r->policy_count > 0 ? r->policies[0].type : STR(""),
                     r->start_us,
                     r->end_us};
    int64_t passed = 0, failed = 0;
    size_t room = r->policy_count;
    struct lines l;
    int rc;

    for (size_t i = 0; i < r->policy_count; i++)
        room += r->policies[i].failure_count;
    lines_init(&l, a, room);
    for (size_t i = 0; i < r->policy_count; i++) {
        add_policy(&l, &r->policies[i], &passed, &failed);
        fiber_pause();
    }
    l.passed = passed;
    l.failed = failed;
    rc = store_report(&h, &l, err);
    arena_free(&a);
    return rc;
}

/* ---- feedback -------------------------------------------------------------------------------- */

static struct str feedback_detail(struct arena *a, const struct feedback_report *r)
{
    return arena_printf(a, "mail-from=%.*s envid=%.*s failure=%.*s result=%.*s agent=%.*s",
                        STR_ARG(r->original_mail_from), STR_ARG(r->original_envelope_id),
                        STR_ARG(r->auth_failure), STR_ARG(r->delivery_result),
                        STR_ARG(str_head(r->user_agent, NAME_SIZE_MAX)));
}

PARKS int report_store_keep_feedback(const struct feedback_report *r, struct str message_id,
                                     struct error *err)
{
    struct arena *a = arena_new();
    struct str domain = r->reported_domain.n > 0 ? r->reported_domain.v[0] : STR("");
    struct head h = {REPORT_FEEDBACK,
                     r->reporting_mta.n > 0 ? r->reporting_mta : r->user_agent,
                     message_id,
                     domain,
                     r->feedback_type,
                     seconds_us(r->arrival_s),
                     seconds_us(r->arrival_s)};
    bool is_good = str_eq(r->feedback_type, STR("not-spam"));
    struct lines l;
    int rc;

    lines_init(&l, a, 1);
    lines_add(&l, r->source_ip, r->original_rcpt_to.n > 0 ? r->original_rcpt_to.v[0] : domain,
              r->feedback_type, is_good, r->incidents, feedback_detail(a, r));
    rc = store_report(&h, &l, err);
    arena_free(&a);
    return rc;
}

/* ---- whatever it is -------------------------------------------------------------------------- */

/* What the helper thread works on: the message is only read, and the arena is nobody else's. */
struct looking {
    struct arena *arena;
    struct str message;
    struct str message_id;
    enum report_kind kind;
    struct dmarc_report dmarc;
    struct tls_report tls;
    struct feedback_report feedback;
    int rc;
    struct error err;
};

/* A DMARC failure report encloses the message that failed, so feedback comes first. The error told is that of the format
 * that was there and broken, rather than "there is none". */
static void look(void *arg)
{
    struct looking *l = arg;
    struct error tls = {0}, dmarc = {0};
    struct header_field field;

    if (header_find(l->message, STR("Message-ID"), &field))
        l->message_id = header_unfold(l->arena, field.value);
    l->kind = REPORT_FEEDBACK;
    l->rc = feedback_report_parse(l->arena, l->message, &l->feedback, &l->err);
    if (l->rc == 0 || l->err.kind != ERR_NOT_FOUND)
        return;
    l->kind = REPORT_DMARC;
    l->rc = dmarc_report_from_message(l->arena, l->message, &l->dmarc, &dmarc);
    if (l->rc < 0) {
        l->kind = REPORT_TLS;
        l->rc = tls_report_from_message(l->arena, l->message, &l->tls, &tls);
    }
    l->err = dmarc.kind == ERR_NOT_FOUND ? tls : dmarc;
}

static int keep(const struct looking *l, struct error *err)
{
    switch (l->kind) {
    case REPORT_DMARC:
        return report_store_keep_dmarc(&l->dmarc, err);
    case REPORT_TLS:
        return report_store_keep_tls(&l->tls, err);
    case REPORT_FEEDBACK:
        break;
    }
    return report_store_keep_feedback(&l->feedback, l->message_id, err);
}

PARKS int report_store_keep_message(struct str message, struct error *err)
{
    struct arena *a = arena_new();
    struct looking *l = ARENA_NEW(a, struct looking);
    int rc;

    l->arena = a;
    l->message = message;
    offload(look, l);
    rc = l->rc < 0 ? fail(err, l->err.kind, "%s", l->err.text) : keep(l, err);
    arena_free(&a);
    return rc;
}

/* ---- showing --------------------------------------------------------------------------------- */

static void read_head(struct arena *a, const struct pg_rows *rows, size_t i,
                      struct report_received *out)
{
    out->report_id = pg_get_i64(rows, i, "report_id");
    out->kind = arena_str(a, pg_get_str(rows, i, "kind"));
    out->organization = arena_str(a, pg_get_str(rows, i, "organization"));
    out->external_id = arena_str(a, pg_get_str(rows, i, "external_id"));
    out->domain = arena_str(a, pg_get_str(rows, i, "domain"));
    out->policy = arena_str(a, pg_get_str(rows, i, "policy"));
    out->received_us = pg_get_time_us(rows, i, "received_at");
    out->begin_us = pg_get_time_us(rows, i, "begin_at");
    out->end_us = pg_get_time_us(rows, i, "end_at");
    out->passed = pg_get_i64(rows, i, "passed");
    out->failed = pg_get_i64(rows, i, "failed");
}

PARKS int report_store_list(struct arena *a, struct str kind, struct str domain,
                            struct report_received **out, size_t *count, struct error *err)
{
    struct pg_rows rows = {0};

    if (pg_run(pg_pool(), &sql_report_received_list,
               PG_ARGS(pg_text(kind), pg_text(domain), pg_i32(REPORT_LIST_MAX)), &rows, err) < 0)
        return -1;
    *count = rows.count;
    *out = ARENA_ARRAY(a, rows.count + 1, struct report_received);
    for (size_t i = 0; i < rows.count; i++)
        read_head(a, &rows, i, &(*out)[i]);
    pg_rows_free(&rows);
    return 0;
}

static void read_row(struct arena *a, const struct pg_rows *rows, size_t i,
                     struct report_received_row *out)
{
    out->source = arena_str(a, pg_get_str(rows, i, "source"));
    out->subject = arena_str(a, pg_get_str(rows, i, "subject"));
    out->outcome = arena_str(a, pg_get_str(rows, i, "outcome"));
    out->detail = arena_str(a, pg_get_str(rows, i, "detail"));
    out->is_pass = pg_get_bool(rows, i, "is_pass");
    out->count = pg_get_i64(rows, i, "count");
}

PARKS int report_store_show(struct arena *a, int64_t report_id, struct report_received *out,
                            struct report_received_row **rows_out, size_t *row_count,
                            struct error *err)
{
    struct pg_call calls[] = {
        {&sql_report_received_show, PG_ARGS(pg_i64(report_id))},
        {&sql_report_received_rows, PG_ARGS(pg_i64(report_id), pg_i32(SHOWN_ROWS_MAX))},
    };
    struct pg_rows rows[2] = {{0}};
    struct error own = {0};

    if (pg_run_batch(pg_pool(), calls, 2, rows, &own) < 0)
        return own.kind == ERR_NOT_FOUND
                   ? fail(err, own.kind, "there is no report %lld: see \"merpati report list\"",
                          (long long)report_id)
                   : fail(err, own.kind, "%s", own.text);
    read_head(a, &rows[0], 0, out);
    *row_count = rows[1].count;
    *rows_out = ARENA_ARRAY(a, rows[1].count + 1, struct report_received_row);
    for (size_t i = 0; i < rows[1].count; i++)
        read_row(a, &rows[1], i, &(*rows_out)[i]);
    pg_rows_free(&rows[0]);
    pg_rows_free(&rows[1]);
    return 0;
}

static void read_source(struct arena *a, const struct pg_rows *rows, size_t i,
                        struct report_source *out)
{
    out->kind = arena_str(a, pg_get_str(rows, i, "kind"));
    out->domain = arena_str(a, pg_get_str(rows, i, "domain"));
    out->source = arena_str(a, pg_get_str(rows, i, "source"));
    out->subject = arena_str(a, pg_get_str(rows, i, "subject"));
    out->outcome = arena_str(a, pg_get_str(rows, i, "outcome"));
    out->detail = arena_str(a, pg_get_str(rows, i, "detail"));
    out->passed = pg_get_i64(rows, i, "passed");
    out->failed = pg_get_i64(rows, i, "failed");
    out->reporters = pg_get_i64(rows, i, "reporters");
    out->last_us = pg_get_time_us(rows, i, "last_at");
}

PARKS int report_store_sources(struct arena *a, struct str kind, struct str domain,
                               int64_t since_us, struct report_source **out, size_t *count,
                               struct error *err)
{
    struct pg_rows rows = {0};

    if (pg_run(
            pg_pool(), &sql_report_sources,
            PG_ARGS(pg_text(kind), pg_text(domain), pg_time_us(since_us), pg_i32(REPORT_LIST_MAX)),
            &rows, err) < 0)
        return -1;
    *count = rows.count;
    *out = ARENA_ARRAY(a, rows.count + 1, struct report_source);
    for (size_t i = 0; i < rows.count; i++)
        read_source(a, &rows, i, &(*out)[i]);
    pg_rows_free(&rows);
    return 0;
}
