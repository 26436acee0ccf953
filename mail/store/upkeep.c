/* upkeep.c - purge, collection, forgetting and audit, a little at a time.
 *
 * Every statement is a portion: nothing here grows with the store until it meets the time limit of
 * statements. Counts of uses change in the same transactions as the rows that use a blob, so the
 * audit finds something only after a bug or a repair by hand; its portions add up because one
 * transaction sees them all as of its beginning. Tombstones of UIDs are kept for TOMBSTONE_AGE_MS:
 * a client that was away for longer gets every missing UID named instead (mailbox_vanished_since).
 * The journal of other changes only spares an index from being read anew, and is kept for
 * CHANGE_AGE_MS. */
#include "mail/store/upkeep.h"
#include "mail/store/sieve_store.h"
#include "mail/store/trace.h"
#include "server/base/date.h"
#include "server/base/log.h"
#include "server/base/str.h"
#include "server/pg/pg.h"
#include "server/run/config.h"
#include "sql_queries.h"

#define WAKE_INTERVAL_MS  (60 * 1000)
#define PURGE_INTERVAL_S  300
#define FORGET_INTERVAL_S 86400
#define AUDIT_INTERVAL_S  (7 * 86400)
#define TRACE_INTERVAL_S  3600
#define TOMBSTONE_AGE_MS  (INT64_C(365) * 86400 * 1000)
#define CHANGE_AGE_MS     (INT64_C(14) * 86400 * 1000)
#define UNUSED_AGE_MS     (INT64_C(3600) * 1000)
#define PORTION_COUNT     500
#define TALLY_COUNT       50000
#define EMPTY_COUNT       5000
#define MISCOUNTS_MAX     10000

static struct fiber *upkeep_fiber;

static struct pg_arg time_before(int64_t age_ms)
{
    return pg_time_us(time_now_us() - age_ms * 1000);
}

/* ---- purge ----------------------------------------------------------------------------------- */

static int purge_account(int64_t account_id, struct pg_arg before, struct error *err)
{
    int32_t purged = PORTION_COUNT;

    while (purged == PORTION_COUNT) {
        struct pg_rows rows = {0};

        if (pg_run(pg_pool(), &sql_upkeep_purge_account,
                   PG_ARGS(pg_i64(account_id), before, pg_i32(PORTION_COUNT)), &rows, err) < 0)
            return -1;
        purged = pg_get_i32(&rows, 0, "purged");
        pg_rows_free(&rows);
    }
    return 0;
}

/* One look finds the accounts of the oldest removals; it is repeated until there are none. */
static int purge_removed(struct pg_arg before, struct error *err)
{
    size_t accounts = 1;
    int rc = 0;

    while (rc == 0 && accounts > 0) {
        struct pg_rows rows = {0};

        if (pg_run(pg_pool(), &sql_upkeep_accounts_to_purge, PG_ARGS(before), &rows, err) < 0)
            return -1;
        accounts = rows.count;
        for (size_t i = 0; rc == 0 && i < accounts; i++)
            rc = purge_account(pg_get_i64(&rows, i, "account_id"), before, err);
        pg_rows_free(&rows);
    }
    return rc;
}

static int collect_blobs(struct error *err)
{
    int32_t collected = PORTION_COUNT;

    while (collected == PORTION_COUNT) {
        struct pg_rows rows = {0};

        if (pg_run(pg_pool(), &sql_upkeep_collect_blobs,
                   PG_ARGS(time_before(UNUSED_AGE_MS), pg_i32(PORTION_COUNT)), &rows, err) < 0)
            return -1;
        collected = pg_get_i32(&rows, 0, "collected");
        pg_rows_free(&rows);
    }
    return 0;
}

/* ---- mailboxes that are gone ----------------------------------------------------------------- */

static int empty_mailbox(int64_t account_id, int64_t mailbox_id, struct error *err)
{
    bool is_emptied = false;

    while (!is_emptied) {
        struct pg_rows rows = {0};

        if (pg_run(pg_pool(), &sql_mailbox_empty_removed,
                   PG_ARGS(pg_i64(account_id), pg_i64(mailbox_id), pg_i32(EMPTY_COUNT)), &rows,
                   err) < 0)
            return -1;
        is_emptied = pg_get_bool(&rows, 0, "is_emptied");
        pg_rows_free(&rows);
    }
    return 0;
}

/* Who removed a large one was stopped in the middle of it. */
static int empty_mailboxes(struct error *err)
{
    struct pg_rows rows = {0};
    int rc = pg_run(pg_pool(), &sql_upkeep_mailboxes_to_empty, PG_NO_ARGS, &rows, err);

    for (size_t i = 0; rc == 0 && i < rows.count; i++)
        rc = empty_mailbox(pg_get_i64(&rows, i, "account_id"), pg_get_i64(&rows, i, "mailbox_id"),
                           err);
    pg_rows_free(&rows);
    return rc;
}

int store_purge(int64_t retention_ms, struct error *err)
{
    if (empty_mailboxes(err) < 0 || purge_removed(time_before(retention_ms), err) < 0)
        return -1;
    return collect_blobs(err);
}

/* ---- tombstones ------------------------------------------------------------------------------ */

static int forget_account(int64_t account_id, int64_t removed_modseq, int64_t changed_modseq,
                          struct error *err)
{
    bool is_done = false;

    while (!is_done) {
        struct pg_rows rows = {0};

        if (pg_run(pg_pool(), &sql_upkeep_forget,
                   PG_ARGS(pg_i64(account_id), pg_i64(removed_modseq), pg_i64(changed_modseq),
                           pg_i32(EMPTY_COUNT)),
                   &rows, err) < 0)
            return -1;
        is_done = pg_get_bool(&rows, 0, "is_done");
        pg_rows_free(&rows);
    }
    return 0;
}

int store_forget(int64_t age_ms, struct error *err)
{
    int64_t change_age_ms = age_ms < CHANGE_AGE_MS ? age_ms : CHANGE_AGE_MS;
    struct pg_rows rows = {0};
    int rc = pg_run(pg_pool(), &sql_upkeep_accounts_to_forget,
                    PG_ARGS(time_before(age_ms), time_before(change_age_ms)), &rows, err);

    for (size_t i = 0; rc == 0 && i < rows.count; i++)
        rc = forget_account(pg_get_i64(&rows, i, "account_id"),
                            pg_get_i64(&rows, i, "removed_modseq"),
                            pg_get_i64(&rows, i, "changed_modseq"), err);
    pg_rows_free(&rows);
    return rc;
}

/* ---- audit ----------------------------------------------------------------------------------- */

static int tally_account(struct pg *tx, int64_t account_id, struct error *err)
{
    int64_t after = 0;

    for (;;) {
        struct pg_rows rows = {0};
        bool is_last;

        if (pg_run(tx, &sql_upkeep_tally,
                   PG_ARGS(pg_i64(account_id), pg_i64(after), pg_i32(TALLY_COUNT)), &rows, err) < 0)
            return -1;
        is_last = pg_is_null(&rows, 0, "last_message_id");
        after = pg_get_i64(&rows, 0, "last_message_id");
        pg_rows_free(&rows);
        if (is_last)
            return 0;
    }
}

static int tally_accounts(struct pg *tx, struct error *err)
{
    int64_t account_id = 0;
    size_t count = PORTION_COUNT;
    int rc = 0;

    while (rc == 0 && count == PORTION_COUNT) {
        struct pg_rows rows = {0};

        rc = pg_run(tx, &sql_upkeep_tally_accounts,
                    PG_ARGS(pg_i64(account_id), pg_i32(PORTION_COUNT)), &rows, err);
        count = rows.count;
        for (size_t i = 0; rc == 0 && i < count; i++) {
            account_id = pg_get_i64(&rows, i, "account_id");
            rc = tally_account(tx, account_id, err);
        }
        pg_rows_free(&rows);
    }
    return rc;
}

struct miscounts {
    int64_t *blob_ids;
    int32_t *differences;
    size_t n;
};

static void note_miscounts(struct miscounts *m, const struct pg_rows *rows)
{
    int blob = pg_column(rows, "blob_id"), difference = pg_column(rows, "difference");

    for (size_t i = 0; i < rows->count && m->n < MISCOUNTS_MAX; i++) {
        m->blob_ids[m->n] = pg_i64_at(rows, i, blob);
        m->differences[m->n] = (int32_t)pg_i64_at(rows, i, difference);
        m->n += m->differences[m->n] != 0;
        fiber_pause();
    }
}

/* More than MISCOUNTS_MAX are left to the next audit. */
static int compare_counts(struct pg *tx, struct miscounts *m, struct error *err)
{
    int64_t blob_id = 0;
    size_t count = TALLY_COUNT;

    while (count == TALLY_COUNT && m->n < MISCOUNTS_MAX) {
        struct pg_rows rows = {0};

        if (pg_run(tx, &sql_upkeep_miscounted_blobs, PG_ARGS(pg_i64(blob_id), pg_i32(TALLY_COUNT)),
                   &rows, err) < 0)
            return -1;
        count = rows.count;
        if (count > 0)
            blob_id = pg_get_i64(&rows, count - 1, "blob_id");
        note_miscounts(m, &rows);
        pg_rows_free(&rows);
    }
    return 0;
}

static int find_miscounts(struct miscounts *m, struct error *err)
{
    struct pg *tx = pg_begin(err);
    int rc = tx == NULL ? -1 : 0;

    if (rc == 0)
        rc = pg_run(tx, &sql_upkeep_snapshot, PG_NO_ARGS, NULL, err);
    if (rc == 0)
        rc = pg_run(tx, &sql_upkeep_tally_queue, PG_NO_ARGS, NULL, err);
    if (rc == 0)
        rc = tally_accounts(tx, err);
    if (rc == 0)
        rc = compare_counts(tx, m, err);
    pg_rollback(&tx); /* the tally was for us alone */
    return rc;
}

static int correct_blob(int64_t blob_id, int32_t difference, struct error *err)
{
    log_warn(NULL, "blob_miscounted", KV("blob", blob_id), KV("difference", difference));
    return pg_run(pg_pool(), &sql_upkeep_correct_blob, PG_ARGS(pg_i64(blob_id), pg_i32(difference)),
                  NULL, err);
}

int store_audit_blobs(int64_t *count, struct error *err)
{
    struct arena *a = arena_new();
    struct miscounts m = {ARENA_ARRAY(a, MISCOUNTS_MAX, int64_t),
                          ARENA_ARRAY(a, MISCOUNTS_MAX, int32_t), 0};
    int rc = find_miscounts(&m, err);

    *count = (int64_t)m.n;
    for (size_t i = 0; rc == 0 && i < m.n; i++)
        rc = correct_blob(m.blob_ids[i], m.differences[i], err);
    arena_free(&a);
    return rc;
}

/* ---- sizes of messages that are gone --------------------------------------------------------- */

static int forget_growth_of(int64_t account_id, struct error *err)
{
    struct pg_call calls[] = {
        {&sql_message_growth_lock, PG_ARGS(pg_i64(account_id))},
        {&sql_message_growth_forget, PG_ARGS(pg_i64(account_id))},
    };
    struct pg_rows rows[2] = {{0}};
    int rc = pg_run_batch(pg_pool(), calls, 2, rows, err);

    pg_rows_free(&rows[0]);
    pg_rows_free(&rows[1]);
    return rc;
}

int store_forget_growth(struct error *err)
{
    int64_t account_id = 0;
    size_t count = 1;
    int rc = 0;

    while (rc == 0 && count > 0) {
        struct pg_rows rows = {0};

        if (pg_run(pg_pool(), &sql_message_growth_accounts, PG_ARGS(pg_i64(account_id)), &rows,
                   err) < 0)
            return -1;
        count = rows.count;
        for (size_t i = 0; rc == 0 && i < count; i++) {
            account_id = pg_get_i64(&rows, i, "account_id");
            rc = forget_growth_of(account_id, err);
        }
        pg_rows_free(&rows);
    }
    return rc;
}

/* ---- the fiber ------------------------------------------------------------------------------- */

static int do_purge(struct error *err)
{
    return store_purge(config.retention, err);
}

static int do_forget(struct error *err)
{
    return store_forget(TOMBSTONE_AGE_MS, err);
}

static int do_audit(struct error *err)
{
    int64_t count;

    return store_forget_growth(err) < 0 ? -1 : store_audit_blobs(&count, err);
}

static int do_trace(struct error *err)
{
    return trace_upkeep(config.trace_retention, err);
}

static int do_sieve(struct error *err)
{
    int64_t count = 1;

    while (count > 0)
        if (sieve_store_forget_expired(&count, err) < 0)
            return -1;
    return 0;
}

static const struct upkeep_task {
    const char *name; /* its row in store_upkeep */
    int interval_s;
    int (*run)(struct error *err);
} upkeep_tasks[] = {
    {"purge", PURGE_INTERVAL_S, do_purge},  {"forget", FORGET_INTERVAL_S, do_forget},
    {"audit", AUDIT_INTERVAL_S, do_audit},  {"trace", TRACE_INTERVAL_S, do_trace},
    {"sieve", FORGET_INTERVAL_S, do_sieve},
};

static bool claim(const struct upkeep_task *task, struct error *err)
{
    struct pg_rows rows = {0};
    bool is_ours;

    if (pg_run(pg_pool(), &sql_upkeep_claim,
               PG_ARGS(pg_text(str_c(task->name)), pg_i32(task->interval_s)), &rows, err) < 0)
        return false;
    is_ours = rows.count > 0;
    pg_rows_free(&rows);
    return is_ours;
}

static void run_task(const struct upkeep_task *task)
{
    struct error err = {0};

    if (claim(task, &err))
        task->run(&err);
    if (err.kind != ERR_NONE && err.kind != ERR_CANCELLED)
        log_warn(NULL, "upkeep_failed", KV("task", task->name), KV_ERR(&err));
}

static void upkeep_run(void *arg)
{
    while (fiber_sleep(WAKE_INTERVAL_MS) != WAKE_CANCELLED)
        for (size_t i = 0; i < sizeof upkeep_tasks / sizeof upkeep_tasks[0]; i++)
            run_task(&upkeep_tasks[i]);
    upkeep_fiber = NULL;
}

void store_upkeep_start(void)
{
    if (upkeep_fiber == NULL)
        upkeep_fiber = fiber_start("store_upkeep", upkeep_run, NULL);
}

void store_upkeep_stop(void)
{
    if (upkeep_fiber != NULL)
        fiber_cancel(upkeep_fiber);
}
