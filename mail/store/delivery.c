/* delivery.c - messages go in: the blob, then a call of the SQL function for each account, in
 * one pipeline; of many messages to one mailbox the blobs and one call for each portion.
 *
 * Accounts are taken in ascending order, so that two deliveries to the same people cannot wait
 * for each other. What one account refuses (quota, no such mailbox) is its status and leaves the
 * others alone; what PostgreSQL refuses undoes everything. Work beyond ROUND_SIZE_MAX is sent in
 * several rounds of one transaction, to bound the memory it needs here. */
#include "mail/store/delivery.h"
#include <stdlib.h>
#include <string.h>
#include "mail/store/blob.h"
#include "mail/store/text_indexer.h"
#include "server/pg/notify.h"
#include "server/base/log.h"
#include "server/pg/pg.h"
#include "server/run/config.h"
#include "server/run/loop.h"
#include "server/run/metrics.h"
#include "sql_queries.h"

#define ROUND_SIZE_MAX      ((size_t)16 << 20)
#define ROUND_CALLS_MAX     200
#define BLOB_SIZE_MAX       ((size_t)1000 << 20) /* PostgreSQL's limit of one value is 1 GB */
#define DELIVER_PARAM_COUNT 17
#define ATTEMPTS_MAX        3
#define PORTION_SIZE_MAX    ((size_t)4 << 20)
#define PORTION_COUNT_MAX   200
#define APPEND_PARAM_COUNT  21
#define RECIPIENT_SIZE      100 /* of a queued one, about */

/* ---- many statements, one transaction -------------------------------------------------------- */

struct work {
    struct arena *arena;
    struct pg_call *calls;
    size_t *sizes; /* of what each call sends, about */
    struct pg_rows *rows;
    size_t count, count_max;
    bool was_done; /* by an attempt whose answer was lost: there are no rows to read */
};

static struct work *work_new(size_t count_max)
{
    struct arena *arena = arena_new();
    struct work *w = ARENA_NEW(arena, struct work);

    *w = (struct work){.arena = arena, .count_max = count_max};
    w->calls = ARENA_ARRAY(arena, count_max, struct pg_call);
    w->sizes = ARENA_ARRAY(arena, count_max, size_t);
    w->rows = ARENA_ARRAY(arena, count_max, struct pg_rows);
    return w;
}

static void work_free_rows(struct work *w)
{
    for (size_t i = 0; i < w->count; i++)
        pg_rows_free(&w->rows[i]);
}

static void work_free(struct work **work)
{
    struct work *w = *work;
    struct arena *arena = w->arena;

    work_free_rows(w);
    arena_free(&arena);
    *work = NULL;
}

static struct pg_arg *work_add(struct work *w, const struct sql_query *query, size_t param_count,
                               size_t size)
{
    struct pg_arg *args = ARENA_ARRAY(w->arena, param_count, struct pg_arg);

    w->calls[w->count] = (struct pg_call){query, {args, param_count}};
    w->sizes[w->count] = size;
    w->count++;
    return args;
}

/* How many calls from `at` on make one round. */
static size_t round_count(const struct work *w, size_t at)
{
    size_t size = w->sizes[at];
    size_t count = 1;

    while (at + count < w->count && count < ROUND_CALLS_MAX &&
           size + w->sizes[at + count] <= ROUND_SIZE_MAX)
        size += w->sizes[at + count++];
    return count;
}

static int run_rounds(struct work *w, struct pg *db, struct error *err)
{
    size_t count;

    for (size_t at = 0; at < w->count; at += count) {
        count = round_count(w, at);
        if (pg_run_batch(db, w->calls + at, count, w->rows + at, err) < 0)
            return -1;
    }
    return 0;
}

static int work_try(struct work *w, struct error *err)
{
    struct pg *tx;

    if (round_count(w, 0) == w->count)
        return run_rounds(w, pg_pool(), err);
    tx = pg_begin(err);
    if (tx == NULL)
        return -1;
    if (run_rounds(w, tx, err) < 0) {
        pg_rollback(&tx);
        return -1;
    }
    return pg_commit(&tx, err);
}

/* When the connection breaks, nobody knows whether the commit happened. The work is done again then: if it had been
 * done, its blob's number is taken, and that is the answer. So a crash of PostgreSQL neither loses nor doubles a
 * message, and a client seldom has to try again. Waiting for a database that stays away is the pool's: no retry. */
static int work_run(struct work *w, struct error *err)
{
    for (int attempt = 1;; attempt++) {
        int64_t started_ms = loop_now_ms();
        struct error cause = {0};

        if (work_try(w, &cause) == 0)
            return 0;
        work_free_rows(w);
        w->was_done = attempt > 1 && cause.kind == ERR_EXISTS;
        if (w->was_done)
            return 0;
        if (cause.kind != ERR_TRY_LATER || attempt == ATTEMPTS_MAX || fiber_cancelled() ||
            loop_now_ms() - started_ms >= config.database_wait)
            return fail(err, cause.kind, "%s", cause.text);
        log_warn(NULL, "delivery_again", KV_ERR(&cause));
    }
}

/* ---- statements ------------------------------------------------------------------------------ */

static void add_blob(struct work *w, int64_t blob_id, size_t uses, struct str raw)
{
    struct pg_arg *args = work_add(w, &sql_mail_blob_insert, 4, raw.n);

    args[0] = pg_i64(blob_id);
    args[1] = pg_i32((int32_t)uses);
    args[2] = pg_i64((int64_t)raw.n);
    args[3] = pg_bytea(raw);
}

static void add_delivery(struct work *w, const struct sql_query *query,
                         const struct message_prepared *m, int64_t blob_id,
                         const struct delivery *d)
{
    size_t size = m->envelope.n + m->structure.n + m->headers.n;
    struct pg_arg *args = work_add(w, query, DELIVER_PARAM_COUNT, size);

    args[0] = pg_i64(d->account_id);
    args[1] = pg_i64(d->mailbox_id != 0 ? d->mailbox_id : INBOX_ID);
    args[2] = pg_i32((int32_t)(d->flags & FLAG_SYSTEM_ALL));
    args[3] = d->keywords.n > 0 ? pg_text_array(d->keywords.v, d->keywords.n) : pg_null();
    args[4] = pg_time_us(d->received_us);
    args[5] = pg_i64(blob_id);
    args[6] = pg_i64((int64_t)m->raw.n);
    args[7] = m->sent_us != INT64_MIN ? pg_time_us(m->sent_us) : pg_null();
    args[8] = pg_bytea(m->envelope);
    args[9] = pg_bytea(m->structure);
    args[10] = m->headers.p != NULL ? pg_bytea(m->headers) : pg_null();
    args[11] = pg_i64_array(m->thread.refs, m->thread.ref_count);
    args[12] = pg_i64(m->thread.subject_hash);
    args[13] = pg_i64(d->may_exceed_quota ? -1 : config.quota_bytes);
    args[14] = pg_i64(d->may_exceed_quota ? -1 : config.quota_messages);
    args[15] = pg_bytea(m->sort_keys);
    args[16] = pg_text(m->preview);
}

/* Behind the deliveries, so that their answers stand where they were. */
static void add_growth(struct work *w, const struct message_prepared *m, int64_t blob_id,
                       int64_t account_id)
{
    struct pg_arg *args;

    if (m->growth == 0)
        return;
    args = work_add(w, &sql_message_growth_insert, 3, 0);
    args[0] = pg_i64(account_id);
    args[1] = pg_i64(blob_id);
    args[2] = pg_i64((int64_t)m->growth);
}

static void read_answer(const struct pg_rows *rows, size_t row, struct delivery *d)
{
    d->status = (enum delivery_status)pg_get_i32(rows, row, "status");
    d->uid_validity = pg_get_u32(rows, row, "uid_validity");
    d->uid = pg_get_u32(rows, row, "uid");
    d->message_id = pg_get_i64(rows, row, "message_id");
    d->thread_id = pg_get_i64(rows, row, "thread_id");
    d->modseq = (uint64_t)pg_get_i64(rows, row, "modseq");
}

/* What an earlier attempt did, when its answer was lost. */
static int find_answers(const int64_t *blob_ids, struct delivery *v, size_t count,
                        struct error *err)
{
    struct pg_rows rows;

    if (pg_run(pg_pool(), &sql_mail_delivery_find,
               PG_ARGS(pg_i64(v->account_id), pg_i64_array(blob_ids, count)), &rows, err) < 0)
        return -1;
    for (size_t i = 0; i < count; i++) {
        size_t row = pg_find_i64(&rows, pg_column(&rows, "blob_id"), blob_ids[i]);

        if (row != SIZE_MAX)
            read_answer(&rows, row, &v[i]);
        else
            v[i].status = DELIVERY_OVER_QUOTA;
    }
    pg_rows_free(&rows);
    return 0;
}

static int take_answer(const struct work *w, size_t call, int64_t blob_id, struct delivery *d,
                       struct error *err)
{
    if (w->was_done)
        return find_answers(&blob_id, d, 1, err);
    read_answer(&w->rows[call], 0, d);
    return 0;
}

static void note_delivered(const struct delivery *d, size_t size)
{
    if (d->status != DELIVERED)
        return;
    metric_inc(METRIC_mail_deliveries);
    metric_add(METRIC_mail_bytes_delivered, (int64_t)size);
    bus_publish((uint64_t)d->account_id);
    text_indexer_note(d->account_id);
}

static int check_size(const struct message_prepared *m, struct error *err)
{
    return m->raw.n <= BLOB_SIZE_MAX
               ? 0
               : fail(err, ERR_TOO_BIG, "message is larger than the mail store can keep");
}

/* ---- messages to many accounts --------------------------------------------------------------- */

/* A delivery in the order of the statements: by account, whichever message it is of. */
struct turn {
    struct mail_item *item;
    struct delivery *d;
    int64_t blob_id;
};

struct plan {
    struct mail_item *items;
    size_t count;
    int64_t *blob_ids;  /* of the items */
    struct turn *turns; /* sorted */
    size_t turn_count;
    size_t blob_count;
};

static int compare_turns(const void *a, const void *b)
{
    const struct turn *x = a, *y = b;

    if (x->d->account_id != y->d->account_id)
        return x->d->account_id < y->d->account_id ? -1 : 1;
    if (x->item != y->item)
        return x->item < y->item ? -1 : 1;
    return (x->d > y->d) - (x->d < y->d);
}

static size_t count_entries(const struct outbound *o)
{
    size_t n = 0;

    for (; o != NULL; o = o->next)
        n += o->rcpt_count > 0;
    return n;
}

/* Entries that have nothing to queue may still end something. */
static size_t count_statements(const struct outbound *o)
{
    size_t n = 0;

    for (; o != NULL; o = o->next)
        n += (o->rcpt_count > 0) + (o->ends != NULL);
    return n;
}

/* Nobody gets it: it is not stored. */
static bool is_for_nobody(const struct mail_item *item)
{
    return item->count == 0 && count_entries(item->outbound) == 0;
}

static size_t count_calls(const struct mail_item *items, size_t count)
{
    size_t n = 0;

    for (size_t i = 0; i < count; i++)
        n += 1 + 2 * items[i].count + count_statements(items[i].outbound);
    return n;
}

static struct plan *plan_new(struct arena *a, struct mail_item *items, size_t count)
{
    struct plan *p = ARENA_NEW(a, struct plan);
    size_t turn_room = 0;

    for (size_t i = 0; i < count; i++)
        turn_room += items[i].count;
    *p = (struct plan){.items = items, .count = count};
    p->blob_ids = ARENA_ARRAY(a, count, int64_t);
    p->turns = ARENA_ARRAY(a, turn_room, struct turn);
    return p;
}

static int plan_item(struct plan *p, struct mail_item *item, struct error *err)
{
    int64_t *blob_id = &p->blob_ids[item - p->items];

    *blob_id = 0;
    if (is_for_nobody(item))
        return 0;
    if (check_size(item->m, err) < 0 || blob_next_id(blob_id, err) < 0)
        return -1;
    p->blob_count++;
    for (size_t i = 0; i < item->count; i++)
        p->turns[p->turn_count++] = (struct turn){item, &item->v[i], *blob_id};
    for (struct outbound *o = item->outbound; o != NULL; o = o->next)
        if (o->rcpt_count > 0 && outbound_prepare(o, err) < 0)
            return -1;
    return 0;
}

static void add_outbound(struct work *w, const struct outbound *o, int64_t blob_id,
                         size_t blob_size)
{
    struct pg_arg *args =
        work_add(w, &sql_queue_insert, OUTBOUND_INSERT_PARAMS, o->rcpt_count * RECIPIENT_SIZE);

    outbound_insert_args(w->arena, o, blob_id, blob_size, args);
}

static void add_ends(struct work *w, const struct outbound_ends *ends)
{
    const struct sql_query *query;
    struct pg_arg args[OUTBOUND_ENDS_PARAMS];
    size_t count = outbound_ends_args(w->arena, ends, &query, args);

    memcpy(work_add(w, query, count, ends->count * sizeof(int64_t)), args, count * sizeof args[0]);
}

static void add_entries(struct work *w, const struct mail_item *item, int64_t blob_id)
{
    for (const struct outbound *o = item->outbound; o != NULL; o = o->next) {
        if (o->rcpt_count > 0)
            add_outbound(w, o, blob_id, item->m->raw.n);
        if (o->ends != NULL)
            add_ends(w, o->ends);
    }
}

/* The blobs stand first and the deliveries behind them: work_run() and take_answer() rely on it. */
static void add_all(struct work *w, const struct plan *p)
{
    for (size_t i = 0; i < p->count; i++)
        if (p->blob_ids[i] != 0)
            add_blob(w, p->blob_ids[i], p->items[i].count + count_entries(p->items[i].outbound),
                     p->items[i].m->raw);
    for (size_t i = 0; i < p->turn_count; i++)
        add_delivery(w, &sql_mail_deliver, p->turns[i].item->m, p->turns[i].blob_id, p->turns[i].d);
    for (size_t i = 0; i < p->turn_count; i++)
        add_growth(w, p->turns[i].item->m, p->turns[i].blob_id, p->turns[i].d->account_id);
    for (size_t i = 0; i < p->count; i++)
        if (p->blob_ids[i] != 0)
            add_entries(w, &p->items[i], p->blob_ids[i]);
}

static int make_plan(struct plan *p, struct error *err)
{
    for (size_t i = 0; i < p->count; i++)
        if (plan_item(p, &p->items[i], err) < 0)
            return -1;
    if (p->turn_count > 1)
        qsort(p->turns, p->turn_count, sizeof *p->turns, compare_turns);
    return 0;
}

static int run_plan(struct work *w, struct plan *p, struct error *err)
{
    if (make_plan(p, err) < 0)
        return -1;
    if (p->blob_count == 0)
        return 0;
    add_all(w, p);
    if (work_run(w, err) < 0)
        return -1;
    for (size_t i = 0; i < p->turn_count; i++)
        if (take_answer(w, p->blob_count + i, p->turns[i].blob_id, p->turns[i].d, err) < 0)
            return -1;
    for (size_t i = 0; i < p->turn_count; i++)
        note_delivered(p->turns[i].d, p->turns[i].item->m->raw.n);
    return 0;
}

int mail_deliver_all(struct mail_item *items, size_t count, struct error *err)
{
    struct work *w = work_new(count_calls(items, count));
    int rc = run_plan(w, plan_new(w->arena, items, count), err);

    work_free(&w);
    return rc;
}

/* ---- many messages to one mailbox ------------------------------------------------------------ */

static size_t portion_size(const struct message_prepared *m)
{
    return m->raw.n + m->envelope.n + m->structure.n + m->headers.n;
}

static bool have_one_target(const struct delivery *a, const struct delivery *b)
{
    return a->account_id == b->account_id && a->mailbox_id == b->mailbox_id &&
           a->user_id == b->user_id && a->may_exceed_quota == b->may_exceed_quota;
}

/* As many messages as their sizes allow, at least one. */
static size_t portion_count(const struct message_prepared *m, const struct delivery *v,
                            size_t count)
{
    size_t size = portion_size(m);
    size_t n = 1;

    while (n < count && n < PORTION_COUNT_MAX && have_one_target(&v[0], &v[n]) &&
           size + portion_size(&m[n]) <= PORTION_SIZE_MAX)
        size += portion_size(&m[n++]);
    return n;
}

static void add_blobs(struct work *w, const struct message_prepared *m, const int64_t *blob_ids,
                      size_t count)
{
    struct str *data = ARENA_ARRAY(w->arena, count, struct str);
    int64_t *sizes = ARENA_ARRAY(w->arena, count, int64_t);
    size_t total = 0;
    struct pg_arg *args;

    for (size_t i = 0; i < count; i++) {
        data[i] = m[i].raw;
        sizes[i] = (int64_t)m[i].raw.n;
        total += m[i].raw.n;
    }
    args = work_add(w, &sql_mail_blob_insert_many, 3, total);
    args[0] = pg_i64_array(blob_ids, count);
    args[1] = pg_i64_array(sizes, count);
    args[2] = pg_bytea_array(data, count);
}

/* A portion turned on its side: one array for each column. */
struct columns {
    int32_t *flags, *without_headers, *keyword_of, *ref_of;
    int64_t *received_us, *sizes, *sent_us, *refs, *ref_subjects;
    struct str *envelopes, *structures, *headers, *sort_keys, *previews, *keywords;
    size_t without_count, keyword_count, ref_count;
    size_t bytes;
};

static struct columns columns_new(struct arena *a, const struct message_prepared *m,
                                  const struct delivery *v, size_t count)
{
    size_t refs = 0, keywords = 0;

    for (size_t i = 0; i < count; i++) {
        refs += m[i].thread.ref_count;
        keywords += v[i].keywords.n;
    }
    return (struct columns){
        .flags = ARENA_ARRAY(a, count, int32_t),
        .without_headers = ARENA_ARRAY(a, count, int32_t),
        .keyword_of = ARENA_ARRAY(a, keywords, int32_t),
        .ref_of = ARENA_ARRAY(a, refs, int32_t),
        .received_us = ARENA_ARRAY(a, count, int64_t),
        .sizes = ARENA_ARRAY(a, count, int64_t),
        .sent_us = ARENA_ARRAY(a, count, int64_t),
        .refs = ARENA_ARRAY(a, refs, int64_t),
        .ref_subjects = ARENA_ARRAY(a, refs, int64_t),
        .envelopes = ARENA_ARRAY(a, count, struct str),
        .structures = ARENA_ARRAY(a, count, struct str),
        .headers = ARENA_ARRAY(a, count, struct str),
        .sort_keys = ARENA_ARRAY(a, count, struct str),
        .previews = ARENA_ARRAY(a, count, struct str),
        .keywords = ARENA_ARRAY(a, keywords, struct str),
    };
}

static void columns_add_lists(struct columns *c, size_t at, const struct message_prepared *m,
                              const struct delivery *d)
{
    if (m->headers.p == NULL)
        c->without_headers[c->without_count++] = (int32_t)at;
    for (size_t i = 0; i < d->keywords.n; i++) {
        c->keyword_of[c->keyword_count] = (int32_t)at;
        c->keywords[c->keyword_count++] = d->keywords.v[i];
    }
    for (size_t i = 0; i < m->thread.ref_count; i++) {
        c->ref_of[c->ref_count] = (int32_t)at;
        c->refs[c->ref_count] = m->thread.refs[i];
        c->ref_subjects[c->ref_count++] = m->thread.subject_hash;
    }
}

static void columns_set(struct columns *c, size_t at, const struct message_prepared *m,
                        const struct delivery *d)
{
    c->flags[at] = (int32_t)(d->flags & FLAG_SYSTEM_ALL);
    c->received_us[at] = d->received_us;
    c->sizes[at] = (int64_t)m->raw.n;
    c->sent_us[at] = m->sent_us;
    c->envelopes[at] = m->envelope;
    c->structures[at] = m->structure;
    c->headers[at] = m->headers;
    c->sort_keys[at] = m->sort_keys;
    c->previews[at] = m->preview;
    c->bytes += m->envelope.n + m->structure.n + m->headers.n + m->sort_keys.n;
    columns_add_lists(c, at, m, d);
}

static void columns_give(const struct columns *c, size_t count, struct pg_arg args[13])
{
    args[0] = pg_i32_array(c->flags, count);
    args[1] = pg_i64_array(c->received_us, count);
    args[3] = pg_i64_array(c->sizes, count);
    args[4] = pg_i64_array(c->sent_us, count);
    args[5] = pg_bytea_array(c->envelopes, count);
    args[6] = pg_bytea_array(c->structures, count);
    args[7] = pg_bytea_array(c->headers, count);
    args[8] = pg_i32_array(c->without_headers, c->without_count);
    args[9] = pg_i32_array(c->keyword_of, c->keyword_count);
    args[10] = pg_text_array(c->keywords, c->keyword_count);
    args[11] = pg_i32_array(c->ref_of, c->ref_count);
    args[12] = pg_i64_array(c->refs, c->ref_count);
}

static void add_appends(struct work *w, const struct message_prepared *m, const struct delivery *v,
                        const int64_t *blob_ids, size_t count)
{
    struct columns c = columns_new(w->arena, m, v, count);
    struct pg_arg *args;

    for (size_t i = 0; i < count; i++)
        columns_set(&c, i, &m[i], &v[i]);
    args = work_add(w, &sql_mail_append_many, APPEND_PARAM_COUNT, c.bytes);
    args[0] = pg_i64(v->account_id);
    args[1] = pg_i64(v->mailbox_id != 0 ? v->mailbox_id : INBOX_ID);
    args[2] = pg_i64(v->user_id);
    columns_give(&c, count, args + 3);
    args[5] = pg_i64_array(blob_ids, count);
    args[16] = pg_i64_array(c.ref_subjects, c.ref_count);
    args[17] = pg_i64(v->may_exceed_quota ? -1 : config.quota_bytes);
    args[18] = pg_i64(v->may_exceed_quota ? -1 : config.quota_messages);
    args[19] = pg_bytea_array(c.sort_keys, count);
    args[20] = pg_text_array(c.previews, count);
}

/* UIDs and ids follow one another within a portion. */
static void read_append_answer(struct arena *a, const struct pg_rows *rows, struct delivery *v)
{
    uint32_t uid_validity = pg_get_u32(rows, 0, "uid_validity");
    uint32_t first_uid = pg_get_u32(rows, 0, "first_uid");
    int64_t first_message_id = pg_get_i64(rows, 0, "first_message_id");
    uint64_t modseq = (uint64_t)pg_get_i64(rows, 0, "modseq");
    int64_t *threads;
    size_t count = pg_i64_array_at(a, rows, 0, pg_column(rows, "thread_ids"), &threads);

    for (size_t i = 0; i < count; i++) {
        v[i].status = DELIVERED;
        v[i].uid_validity = uid_validity;
        v[i].uid = first_uid + (uint32_t)i;
        v[i].message_id = first_message_id + (int64_t)i;
        v[i].thread_id = threads[i];
        v[i].modseq = modseq;
    }
}

static int append_many(const struct message_prepared *m, struct delivery *v,
                       const int64_t *blob_ids, size_t count, struct error *err)
{
    struct work *w = work_new(3 * count);
    int rc;

    for (size_t at = 0, n; at < count; at += n) {
        n = portion_count(m + at, v + at, count - at);
        add_blobs(w, m + at, blob_ids + at, n);
        add_appends(w, m + at, v + at, blob_ids + at, n);
        fiber_pause();
    }
    for (size_t i = 0; i < count; i++)
        add_growth(w, &m[i], blob_ids[i], v[i].account_id);
    rc = work_run(w, err);
    if (rc == 0 && w->was_done)
        rc = find_answers(blob_ids, v, count, err);
    for (size_t at = 0, call = 1; rc == 0 && !w->was_done && at < count; call += 2) {
        read_append_answer(w->arena, &w->rows[call], v + at);
        at += portion_count(m + at, v + at, count - at);
    }
    work_free(&w);
    return rc;
}

/* ---- one message to one mailbox -------------------------------------------------------------- */

static bool sets_seen_of_another(const struct delivery *d)
{
    return d->user_id != 0 && d->user_id != d->account_id && (d->flags & FLAG_SEEN) != 0;
}

static void add_append(struct work *w, const struct message_prepared *m, const struct delivery *d,
                       const int64_t *blob_id)
{
    if (sets_seen_of_another(d))
        add_appends(w, m, d, blob_id, 1);
    else
        add_delivery(w, &sql_mail_append, m, *blob_id, d);
}

static int take_append(struct work *w, size_t call, int64_t blob_id, struct delivery *d,
                       struct error *err)
{
    if (w->was_done || !sets_seen_of_another(d))
        return take_answer(w, call, blob_id, d, err);
    read_append_answer(w->arena, &w->rows[call], d);
    return 0;
}

static int append_one(const struct message_prepared *m, struct delivery *d, int64_t blob_id,
                      struct error *err)
{
    struct work *w = work_new(3);
    int rc;

    add_blob(w, blob_id, 1, m->raw);
    add_append(w, m, d, &blob_id);
    add_growth(w, m, blob_id, d->account_id);
    rc = work_run(w, err);
    if (rc == 0)
        rc = take_append(w, 1, blob_id, d, err);
    work_free(&w);
    return rc;
}

/* ---- both ------------------------------------------------------------------------------------ */

static int take_blob_id(const struct message_prepared *m, const struct delivery *d,
                        int64_t *blob_id, struct error *err)
{
    if (d->keywords.n > KEYWORDS_PER_MESSAGE_MAX)
        return fail(err, ERR_LIMIT, "too many keywords on one message");
    return check_size(m, err) < 0 ? -1 : blob_next_id(blob_id, err);
}

int mail_append(const struct message_prepared *m, struct delivery *v, size_t count,
                struct error *err)
{
    struct arena *a = arena_new();
    int64_t *blob_ids = ARENA_ARRAY(a, count, int64_t);
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < count; i++)
        rc = take_blob_id(&m[i], &v[i], &blob_ids[i], err);
    if (rc == 0 && count == 1)
        rc = append_one(m, v, blob_ids[0], err);
    else if (rc == 0 && count > 0)
        rc = append_many(m, v, blob_ids, count, err);
    for (size_t i = 0; rc == 0 && i < count; i++)
        note_delivered(&v[i], m[i].raw.n);
    arena_free(&a);
    return rc;
}

/* ---- one message instead of another ---------------------------------------------------------- */

static void add_removal(struct work *w, struct mailbox_key mailbox, uint32_t uid)
{
    struct pg_arg *args = work_add(w, &sql_mail_replace_old, 3, 0);

    args[0] = pg_i64(mailbox.account_id);
    args[1] = pg_i64(mailbox.mailbox_id);
    args[2] = pg_i64(uid);
}

/* The old one first, so that its bytes are free; between two accounts the lower number first, as in
 * every transaction. */
int mail_replace(const struct message_prepared *m, struct delivery *d,
                 struct mailbox_key old_mailbox, uint32_t old_uid, struct error *err)
{
    bool removes_first = old_mailbox.account_id <= d->account_id;
    struct work *w;
    int64_t blob_id;
    int rc;

    if (take_blob_id(m, d, &blob_id, err) < 0)
        return -1;
    w = work_new(4);
    add_blob(w, blob_id, 1, m->raw);
    if (removes_first)
        add_removal(w, old_mailbox, old_uid);
    add_append(w, m, d, &blob_id);
    if (!removes_first)
        add_removal(w, old_mailbox, old_uid);
    add_growth(w, m, blob_id, d->account_id);
    rc = work_run(w, err);
    if (rc == 0)
        rc = take_append(w, removes_first ? 2 : 1, blob_id, d, err);
    work_free(&w);
    if (rc == 0)
        note_delivered(d, m->raw.n);
    if (rc == 0 && old_mailbox.account_id != d->account_id)
        bus_publish((uint64_t)old_mailbox.account_id);
    return rc;
}
