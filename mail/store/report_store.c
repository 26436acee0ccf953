/* report_store.c - what is to be reported: counted in memory, written in batches.
 *
 * Rows of the same fate are one entry with a count; the entry's text is the row's key in the database, too. A
 * batch that could not be written now goes back and is tried again; one that PostgreSQL refuses is
 * dropped, since it would be refused for ever. */
#include "mail/store/report_store.h"

#include <stdlib.h>
#include <string.h>

#include "mail/store/report_store_internal.h"
#include "server/base/buf.h"
#include "server/base/date.h"
#include "server/base/log.h"
#include "server/base/map.h"
#include "server/base/memory.h"
#include "server/base/utf8.h"
#include "server/pg/pg.h"
#include "server/run/channel.h"
#include "server/run/config.h"
#include "server/run/loop.h"
#include "server/run/metrics.h"
#include "sql_queries.h"

#define ENTRIES_MAX       20000
#define ENTRY_SIZE_MAX    8192
#define BATCH_COUNT       500
#define FLUSH_INTERVAL_MS 10000
#define FORGET_INTERVAL_S 3600
#define FIELD_SIZE_MAX    320
#define LINES_SIZE_MAX    2000
#define DUE_DAYS_MAX      4 /* a report that could not be sent for so long is given up */

/* ---- entries --------------------------------------------------------------------------------- */

struct entry {
    enum report_kind kind;
    int32_t day;
    struct str domain, policy, rua, fields; /* behind the struct, in one piece */
    int64_t count;
};

static struct {
    struct map *entries;
    struct fiber *fiber;
    struct wait_queue stopped;
    bool is_flushing;
} store;

int32_t report_today(void)
{
    return (int32_t)(time_now_us() / 1000000 / 86400);
}

struct str report_clean(struct arena *a, struct str s, size_t size_max)
{
    struct buf text;
    struct str clean;

    buf_init(&text, 3 * size_max);
    utf8_add_repaired(&text, str_head(s, size_max));
    for (size_t i = 0; i < text.n; i++)
        if ((unsigned char)text.p[i] < ' ' && text.p[i] != '\n')
            text.p[i] = ' ';
    clean = arena_str(a, buf_str(&text));
    buf_fini(&text);
    return clean;
}

/* A key and its entry in one piece of memory: "kind day domain US fields". */
static struct entry *entry_new(enum report_kind kind, struct str domain, struct str policy,
                               struct str rua, struct str fields)
{
    const struct str parts[] = {domain, policy, rua, fields};
    struct entry *e = memory_alloc(sizeof *e + domain.n + policy.n + rua.n + fields.n + 1);
    struct str *to[] = {&e->domain, &e->policy, &e->rua, &e->fields};
    char *p = (char *)(e + 1);

    e->kind = kind;
    e->day = report_today();
    for (size_t i = 0; i < 4; i++) {
        if (parts[i].n > 0)
            memcpy(p, parts[i].p, parts[i].n);
        *to[i] = str_of(p, parts[i].n);
        p += parts[i].n;
    }
    return e;
}

static void lose(int64_t count)
{
    metric_add(METRIC_report_rows_lost, count);
}

/* Takes the entry: it is counted to one that is there, kept, or dropped. */
static void add_entry(struct entry *e)
{
    struct arena *a = arena_new();
    struct str key = arena_printf(a, "%d %d %.*s\x1f%.*s", (int)e->kind, e->day, STR_ARG(e->domain),
                                  STR_ARG(e->fields));
    struct entry *there;

    if (store.entries == NULL)
        store.entries = map_new();
    there = map_get(store.entries, key);
    if (there != NULL) {
        there->count += e->count;
        free(e);
    } else if (map_count(store.entries) < ENTRIES_MAX) {
        map_put(store.entries, key, e);
    } else {
        lose(e->count);
        free(e);
    }
    arena_free(&a);
}

static void collect(enum report_kind kind, struct str domain, struct str policy, struct str rua,
                    struct buf *fields, int64_t count)
{
    struct entry *e;

    if (!buf_ok(fields)) {
        lose(count);
        return;
    }
    e = entry_new(kind, domain, policy, rua, buf_str(fields));
    e->count = count;
    add_entry(e);
}

/* ---- what is collected ----------------------------------------------------------------------- */

/* Fields have U+001F between them, and none inside. */
static void add_field(struct arena *a, struct buf *out, struct str s, size_t size_max)
{
    if (out->n > 0)
        buf_addc(out, '\x1f');
    buf_add(out, report_clean(a, s, size_max));
}

/* A word of a line: without spaces, "-" when there is none. */
static struct str word(struct arena *a, struct str s)
{
    struct str clean = report_clean(a, s, FIELD_SIZE_MAX);
    char *p = (char *)clean.p;

    for (size_t i = 0; i < clean.n; i++)
        if (p[i] == ' ' || p[i] == '\n')
            p[i] = '_';
    return clean.n > 0 ? clean : STR("-");
}

/* Lines that are cut off would be half a result: those that do not fit are left out. */
static struct str results_text(struct arena *a, const struct dmarc_report_record *r)
{
    struct str text = STR("");

    for (size_t i = 0; i < r->spf_count && text.n < LINES_SIZE_MAX / 2; i++)
        text = arena_printf(a, "%.*sspf %.*s %.*s %.*s\n", STR_ARG(text),
                            STR_ARG(word(a, r->spfs[i].domain)), STR_ARG(word(a, r->spfs[i].scope)),
                            STR_ARG(word(a, r->spfs[i].result)));
    for (size_t i = 0; i < r->dkim_count; i++) {
        struct str line = arena_printf(
            a, "dkim %.*s %.*s %.*s\n", STR_ARG(word(a, r->dkims[i].domain)),
            STR_ARG(word(a, r->dkims[i].selector)), STR_ARG(word(a, r->dkims[i].result)));

        if (text.n + line.n <= LINES_SIZE_MAX)
            text = arena_printf(a, "%.*s%.*s", STR_ARG(text), STR_ARG(line));
    }
    return text;
}

static struct str policy_text(struct arena *a, const struct dmarc_report *p)
{
    return arena_printf(a, "p=%.*s sp=%.*s np=%.*s adkim=%.*s aspf=%.*s fo=%.*s testing=%.*s",
                        STR_ARG(word(a, p->p)), STR_ARG(word(a, p->sp)), STR_ARG(word(a, p->np)),
                        STR_ARG(word(a, p->adkim)), STR_ARG(word(a, p->aspf)),
                        STR_ARG(word(a, p->fo)), STR_ARG(word(a, p->testing)));
}

static struct str rua_text(struct arena *a, const struct str *rua, size_t count)
{
    struct str text = STR("");

    for (size_t i = 0; i < count && text.n < LINES_SIZE_MAX; i++)
        text = arena_printf(a, "%.*s%s%.*s", STR_ARG(text), i > 0 ? "\n" : "",
                            STR_ARG(word(a, rua[i])));
    return text;
}

/* "local_policy", or "local_policy arc=pass ..." with its comment. */
static struct str reason_text(struct arena *a, const struct dmarc_report_record *r)
{
    const struct dmarc_report_reason *reason = r->reasons;

    if (r->reason_count == 0)
        return STR("");
    return arena_printf(a, "%.*s%s%.*s", STR_ARG(reason->type), reason->comment.n > 0 ? " " : "",
                        STR_ARG(reason->comment));
}

void report_store_add_dmarc(const struct dmarc_report *policy, const struct str *rua,
                            size_t rua_count, const struct dmarc_report_record *r)
{
    struct arena *a;
    struct buf fields;

    if (!config.report_dmarc || rua_count == 0 || policy->domain.n == 0)
        return;
    a = arena_new();
    buf_init(&fields, ENTRY_SIZE_MAX);
    add_field(a, &fields, r->source_ip, FIELD_SIZE_MAX);
    add_field(a, &fields, r->disposition, FIELD_SIZE_MAX);
    add_field(a, &fields, r->dkim, FIELD_SIZE_MAX);
    add_field(a, &fields, r->spf, FIELD_SIZE_MAX);
    add_field(a, &fields, r->header_from, FIELD_SIZE_MAX);
    add_field(a, &fields, r->envelope_from, FIELD_SIZE_MAX);
    add_field(a, &fields, reason_text(a, r), FIELD_SIZE_MAX);
    add_field(a, &fields, results_text(a, r), LINES_SIZE_MAX);
    collect(REPORT_DMARC, report_clean(a, policy->domain, FIELD_SIZE_MAX), policy_text(a, policy),
            rua_text(a, rua, rua_count), &fields, r->count > 0 ? (int64_t)r->count : 1);
    buf_fini(&fields);
    arena_free(&a);
}

void report_store_add_tls(const struct report_tls_session *s)
{
    struct arena *a;
    struct buf fields;

    if (!config.report_tls)
        return;
    a = arena_new();
    buf_init(&fields, ENTRY_SIZE_MAX);
    add_field(a, &fields, s->policy_type, FIELD_SIZE_MAX);
    add_field(a, &fields, s->policy_domain, FIELD_SIZE_MAX);
    add_field(a, &fields, s->policy_strings, LINES_SIZE_MAX);
    add_field(a, &fields, s->mx_hosts, LINES_SIZE_MAX);
    add_field(a, &fields, s->result_type, FIELD_SIZE_MAX);
    add_field(a, &fields, s->sending_ip, FIELD_SIZE_MAX);
    add_field(a, &fields, s->mx_hostname, FIELD_SIZE_MAX);
    add_field(a, &fields, s->receiving_ip, FIELD_SIZE_MAX);
    add_field(a, &fields, s->reason, FIELD_SIZE_MAX);
    collect(REPORT_TLS, report_clean(a, s->domain, FIELD_SIZE_MAX), STR(""), STR(""), &fields, 1);
    buf_fini(&fields);
    arena_free(&a);
}

/* ---- writing --------------------------------------------------------------------------------- */

/* Entries of one kind as columns. */
struct columns {
    int32_t *days;
    struct str *domains, *fields;
    int64_t *counts;
    size_t n;
};

static void columns_init(struct columns *c, struct arena *a, size_t count)
{
    *c = (struct columns){ARENA_ARRAY(a, count, int32_t), ARENA_ARRAY(a, count, struct str),
                          ARENA_ARRAY(a, count, struct str), ARENA_ARRAY(a, count, int64_t), 0};
}

static void columns_add(struct columns *c, const struct entry *e)
{
    c->days[c->n] = e->day;
    c->domains[c->n] = e->domain;
    c->fields[c->n] = e->fields;
    c->counts[c->n++] = e->count;
}

#define CALLS_MAX 5

/* Statements that only write. */
static int run_and_forget(const struct pg_call *calls, size_t count, struct error *err)
{
    struct pg_rows rows[CALLS_MAX] = {{0}};
    int rc = pg_run_batch(pg_pool(), calls, count, rows, err);

    for (size_t i = 0; i < count; i++)
        pg_rows_free(&rows[i]);
    return rc;
}

static int write_batch(struct arena *a, struct entry *const *v, size_t count, struct error *err)
{
    struct str *kinds = ARENA_ARRAY(a, count, struct str);
    struct str *policies = ARENA_ARRAY(a, count, struct str);
    struct str *ruas = ARENA_ARRAY(a, count, struct str);
    struct columns all, dmarc, tls;

    columns_init(&all, a, count);
    columns_init(&dmarc, a, count);
    columns_init(&tls, a, count);
    for (size_t i = 0; i < count; i++) {
        kinds[i] = report_kind_name(v[i]->kind);
        policies[i] = v[i]->policy;
        ruas[i] = v[i]->rua;
        columns_add(&all, v[i]);
        columns_add(v[i]->kind == REPORT_DMARC ? &dmarc : &tls, v[i]);
    }
    struct pg_call calls[] = {
        {&sql_report_due_add, PG_ARGS(pg_text_array(kinds, count), pg_i32_array(all.days, count),
                                      pg_text_array(all.domains, count),
                                      pg_text_array(policies, count), pg_text_array(ruas, count))},
        {&sql_report_dmarc_rows_add,
         PG_ARGS(pg_i32_array(dmarc.days, dmarc.n), pg_text_array(dmarc.domains, dmarc.n),
                 pg_text_array(dmarc.fields, dmarc.n), pg_i64_array(dmarc.counts, dmarc.n))},
        {&sql_report_tls_rows_add,
         PG_ARGS(pg_i32_array(tls.days, tls.n), pg_text_array(tls.domains, tls.n),
                 pg_text_array(tls.fields, tls.n), pg_i64_array(tls.counts, tls.n))},
    };
    return run_and_forget(calls, 3, err);
}

/* Empties the map: the entries in the arena's array. */
static struct entry **take_entries(struct arena *a, size_t *count)
{
    struct entry **v = ARENA_ARRAY(a, map_count(store.entries) + 1, struct entry *);
    struct str key;
    void *value;
    size_t at = 0;

    *count = 0;
    while (map_each(store.entries, &at, &key, &value))
        v[(*count)++] = value;
    map_free(&store.entries);
    return v;
}

static bool is_worth_another_try(const struct error *err)
{
    return err->kind == ERR_TRY_LATER || err->kind == ERR_TIMED_OUT || err->kind == ERR_CANCELLED;
}

static void put_back(struct entry **v, size_t count)
{
    for (size_t i = 0; i < count; i++)
        add_entry(v[i]);
}

static void drop(struct entry **v, size_t count, bool is_lost)
{
    for (size_t i = 0; i < count; i++) {
        if (is_lost)
            lose(v[i]->count);
        free(v[i]);
    }
}

static void drop_all(void)
{
    struct arena *a = arena_new();
    size_t count;
    struct entry **v = take_entries(a, &count);

    drop(v, count, true);
    arena_free(&a);
}

static int write_all(struct arena *a, struct entry **v, size_t count, struct error *err)
{
    for (size_t done = 0; done < count; done += BATCH_COUNT) {
        size_t n = count - done < BATCH_COUNT ? count - done : BATCH_COUNT;
        struct error own = {0};
        int rc = write_batch(a, v + done, n, &own);

        if (rc < 0 && is_worth_another_try(&own)) {
            put_back(v + done, count - done);
            return fail(err, own.kind, "%s", own.text);
        }
        if (rc < 0)
            log_warn(NULL, "report_rows_refused", KV("count", (uint64_t)n), KV_ERR(&own));
        drop(v + done, n, rc < 0);
    }
    return 0;
}

PARKS int report_store_flush(struct error *err)
{
    struct arena *a;
    struct entry **v;
    size_t count;
    int rc;

    if (store.entries == NULL || store.is_flushing)
        return 0;
    store.is_flushing = true;
    a = arena_new();
    v = take_entries(a, &count);
    rc = write_all(a, v, count, err);
    arena_free(&a);
    store.is_flushing = false;
    return rc;
}

/* ---- forgetting ------------------------------------------------------------------------------ */

int report_store_forget(struct error *err)
{
    int32_t before = report_today() - DUE_DAYS_MAX;
    int64_t received_before = time_now_us() - config.report_retention * 1000;
    struct pg_call calls[] = {
        {&sql_report_forget_dmarc, PG_ARGS(pg_i32(before))},
        {&sql_report_forget_tls, PG_ARGS(pg_i32(before))},
        {&sql_report_forget_due, PG_ARGS(pg_i32(before))},
        {&sql_report_received_forget, PG_ARGS(pg_time_us(received_before))},
        {&sql_report_received_trim, PG_ARGS(pg_i64(config.report_rows_max))},
    };

    return run_and_forget(calls, 5, err);
}

/* Once an hour on one worker of all hosts. */
static void forget_when_due(void)
{
    struct pg_rows rows = {0};
    struct error err = {0};
    int rc = pg_run(pg_pool(), &sql_upkeep_claim,
                    PG_ARGS(pg_text(STR("reports")), pg_i32(FORGET_INTERVAL_S)), &rows, &err);

    if (rc == 0 && rows.count > 0)
        rc = report_store_forget(&err);
    pg_rows_free(&rows);
    if (rc < 0 && err.kind != ERR_CANCELLED)
        log_warn(NULL, "reports_not_forgotten", KV_ERR(&err));
}

/* ---- life ------------------------------------------------------------------------------------ */

static void flush_and_tell(void)
{
    struct error err = {0};

    if (report_store_flush(&err) < 0 && err.kind != ERR_CANCELLED)
        log_warn(NULL, "report_rows_wait", KV_ERR(&err));
}

static void run(void *arg)
{
    int64_t forget_at_ms = loop_now_ms();

    while (fiber_sleep(FLUSH_INTERVAL_MS) != WAKE_CANCELLED) {
        flush_and_tell();
        if (loop_now_ms() >= forget_at_ms) {
            forget_when_due();
            forget_at_ms = loop_deadline((int64_t)FORGET_INTERVAL_S * 1000);
        }
    }
    store.fiber = NULL;
    wait_queue_wake_all(&store.stopped);
}

void report_store_start(void)
{
    if (store.fiber != NULL)
        return;
    wait_queue_init(&store.stopped);
    store.fiber = fiber_start("report_store", run, NULL);
}

PARKS void report_store_stop(void)
{
    if (store.fiber != NULL)
        fiber_cancel(store.fiber);
    while (store.fiber != NULL && wait_queue_wait(&store.stopped, NO_DEADLINE) == WAKE_READY)
        ;
    flush_and_tell();
    if (store.entries != NULL)
        drop_all();
}
