/* delivery.c - messages go in: the blob, then a call of the SQL function for each account, in
 * one pipeline.
 *
 * Accounts are taken in ascending order, so that two deliveries to the same people cannot wait
 * for each other. What one account refuses (quota, no such mailbox) is its status and leaves the
 * others alone; what PostgreSQL refuses undoes everything. Work beyond ROUND_SIZE_MAX is sent in
 * several rounds of one transaction, to bound the memory it needs here. */
#include "mail/store/delivery.h"
#include <stdlib.h>
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
    args[11] = pg_i64_array(m->refs, m->ref_count);
    args[12] = pg_i64(m->subject_hash);
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

static void read_answer(const struct pg_rows *rows, struct delivery *d)
{
    d->status = (enum delivery_status)pg_get_i32(rows, 0, "status");
    d->uid_validity = pg_get_u32(rows, 0, "uid_validity");
    d->uid = pg_get_u32(rows, 0, "uid");
    d->message_id = pg_get_i64(rows, 0, "message_id");
    d->thread_id = pg_get_i64(rows, 0, "thread_id");
    d->modseq = (uint64_t)pg_get_i64(rows, 0, "modseq");
}

/* What an earlier attempt did, when its answer was lost. */
static int find_answer(int64_t blob_id, struct delivery *d, struct error *err)
{
    struct pg_rows rows;

    if (pg_run(pg_pool(), &sql_mail_delivery_find, PG_ARGS(pg_i64(d->account_id), pg_i64(blob_id)),
               &rows, err) < 0)
        return -1;
    if (rows.count > 0)
        read_answer(&rows, d);
    else
        d->status = DELIVERY_OVER_QUOTA;
    pg_rows_free(&rows);
    return 0;
}

static int take_answer(const struct work *w, size_t call, int64_t blob_id, struct delivery *d,
                       struct error *err)
{
    if (w->was_done)
        return find_answer(blob_id, d, err);
    read_answer(&w->rows[call], d);
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

/* ---- one message to many accounts ------------------------------------------------------------ */

static int compare_accounts(const void *a, const void *b)
{
    const struct delivery *x = *(struct delivery *const *)a;
    const struct delivery *y = *(struct delivery *const *)b;

    if (x->account_id != y->account_id)
        return x->account_id < y->account_id ? -1 : 1;
    return (x > y) - (x < y);
}

static struct delivery **sort_by_account(struct arena *a, struct delivery *v, size_t count)
{
    struct delivery **sorted = ARENA_ARRAY(a, count, struct delivery *);

    for (size_t i = 0; i < count; i++)
        sorted[i] = &v[i];
    qsort(sorted, count, sizeof sorted[0], compare_accounts);
    return sorted;
}

int mail_deliver(const struct message_prepared *m, struct delivery *v, size_t count,
                 struct error *err)
{
    struct delivery **sorted;
    struct work *w;
    int64_t blob_id;
    int rc;

    if (count == 0)
        return 0;
    if (check_size(m, err) < 0 || blob_next_id(&blob_id, err) < 0)
        return -1;
    w = work_new(2 * count + 1);
    sorted = sort_by_account(w->arena, v, count);
    add_blob(w, blob_id, count, m->raw);
    for (size_t i = 0; i < count; i++)
        add_delivery(w, &sql_mail_deliver, m, blob_id, sorted[i]);
    for (size_t i = 0; i < count; i++)
        add_growth(w, m, blob_id, sorted[i]->account_id);
    rc = work_run(w, err);
    for (size_t i = 0; rc == 0 && i < count; i++)
        rc = take_answer(w, 1 + i, blob_id, sorted[i], err);
    work_free(&w);
    for (size_t i = 0; rc == 0 && i < count; i++)
        note_delivered(&v[i], m->raw.n);
    return rc;
}

/* ---- many messages to one mailbox ------------------------------------------------------------ */

static int add_append(struct work *w, const struct message_prepared *m, const struct delivery *d,
                      int64_t *blob_id, struct error *err)
{
    if (d->keywords.n > KEYWORDS_PER_MESSAGE_MAX)
        return fail(err, ERR_LIMIT, "too many keywords on one message");
    if (check_size(m, err) < 0 || blob_next_id(blob_id, err) < 0)
        return -1;
    add_blob(w, *blob_id, 1, m->raw);
    add_delivery(w, &sql_mail_append, m, *blob_id, d);
    return 0;
}

int mail_append(const struct message_prepared *m, struct delivery *v, size_t count,
                struct error *err)
{
    int64_t *blob_ids;
    struct work *w;
    int rc = 0;

    if (count == 0)
        return 0;
    w = work_new(3 * count);
    blob_ids = ARENA_ARRAY(w->arena, count, int64_t);
    for (size_t i = 0; rc == 0 && i < count; i++)
        rc = add_append(w, &m[i], &v[i], &blob_ids[i], err);
    for (size_t i = 0; rc == 0 && i < count; i++)
        add_growth(w, &m[i], blob_ids[i], v[i].account_id);
    if (rc == 0)
        rc = work_run(w, err);
    for (size_t i = 0; rc == 0 && i < count; i++)
        rc = take_answer(w, 2 * i + 1, blob_ids[i], &v[i], err);
    work_free(&w);
    for (size_t i = 0; rc == 0 && i < count; i++)
        note_delivered(&v[i], m[i].raw.n);
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

    if (d->keywords.n > KEYWORDS_PER_MESSAGE_MAX)
        return fail(err, ERR_LIMIT, "too many keywords on one message");
    if (check_size(m, err) < 0 || blob_next_id(&blob_id, err) < 0)
        return -1;
    w = work_new(3);
    add_blob(w, blob_id, 1, m->raw);
    if (removes_first)
        add_removal(w, old_mailbox, old_uid);
    add_delivery(w, &sql_mail_append, m, blob_id, d);
    if (!removes_first)
        add_removal(w, old_mailbox, old_uid);
    rc = work_run(w, err);
    if (rc == 0)
        rc = take_answer(w, removes_first ? 2 : 1, blob_id, d, err);
    work_free(&w);
    if (rc == 0)
        note_delivered(d, m->raw.n);
    if (rc == 0 && old_mailbox.account_id != d->account_id)
        bus_publish((uint64_t)old_mailbox.account_id);
    return rc;
}
