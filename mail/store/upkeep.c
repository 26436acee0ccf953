/* upkeep.c - purge, collection, forgetting and audit, a little at a time.
 *
 * Counts of uses change in the same transactions as the rows that use a blob, so the audit finds
 * something only after a bug or a repair by hand. Tombstones of UIDs are kept for
 * TOMBSTONE_AGE_MS: a client that was away for longer gets every missing UID named instead
 * (mailbox_vanished_since). */
#include "mail/store/upkeep.h"
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
#define TOMBSTONE_AGE_MS  (INT64_C(365) * 86400 * 1000)
#define PORTION_COUNT     500

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
    size_t collected = PORTION_COUNT;

    while (collected == PORTION_COUNT) {
        struct pg_rows rows = {0};

        if (pg_run(pg_pool(), &sql_upkeep_collect_blobs, PG_ARGS(pg_i32(PORTION_COUNT)), &rows,
                   err) < 0)
            return -1;
        collected = rows.count;
        pg_rows_free(&rows);
    }
    return 0;
}

int store_purge(int64_t retention_ms, struct error *err)
{
    if (purge_removed(time_before(retention_ms), err) < 0)
        return -1;
    return collect_blobs(err);
}

/* ---- tombstones and audit -------------------------------------------------------------------- */

int store_forget(int64_t age_ms, struct error *err)
{
    struct pg_rows rows = {0};
    int rc =
        pg_run(pg_pool(), &sql_upkeep_accounts_to_forget, PG_ARGS(time_before(age_ms)), &rows, err);

    for (size_t i = 0; rc == 0 && i < rows.count; i++)
        rc = pg_run(pg_pool(), &sql_upkeep_forget,
                    PG_ARGS(pg_i64(pg_get_i64(&rows, i, "account_id")),
                            pg_i64(pg_get_i64(&rows, i, "modseq"))),
                    NULL, err);
    pg_rows_free(&rows);
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
    struct pg_rows rows = {0};
    int rc = pg_run(pg_pool(), &sql_upkeep_miscounted_blobs, PG_NO_ARGS, &rows, err);

    *count = (int64_t)rows.count;
    for (size_t i = 0; rc == 0 && i < rows.count; i++)
        rc = correct_blob(pg_get_i64(&rows, i, "blob_id"), pg_get_i32(&rows, i, "difference"), err);
    pg_rows_free(&rows);
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

    if (pg_run(pg_pool(), &sql_message_growth_forget, PG_NO_ARGS, NULL, err) < 0)
        return -1;
    return store_audit_blobs(&count, err);
}

static const struct upkeep_task {
    const char *name; /* its row in store_upkeep */
    int interval_s;
    int (*run)(struct error *err);
} upkeep_tasks[] = {
    {"purge", PURGE_INTERVAL_S, do_purge},
    {"forget", FORGET_INTERVAL_S, do_forget},
    {"audit", AUDIT_INTERVAL_S, do_audit},
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
