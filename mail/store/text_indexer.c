/* text_indexer.c - a fiber per worker that works while others rest.
 *
 *   noted --quiet for a while--> enough waiting? --claim--> batch, batch, ... merges --> released
 *
 * After each step it rests for as long as the step took, and longer while messages come in. */
#include "mail/store/text_indexer.h"

#include <stdlib.h>

#include "mail/store/text_batch.h"
#include "server/base/encode.h"
#include "server/base/list.h"
#include "server/base/log.h"
#include "server/base/map.h"
#include "server/base/memory.h"
#include "server/pg/pg.h"
#include "server/run/channel.h"
#include "server/run/config.h"
#include "server/run/loop.h"
#include "sql_queries.h"

#define TICK_MS           200
#define LASTING_MS        10000 /* noted again and again: not put off for longer */
#define RETRY_MS          5000  /* another worker is at it, or something failed */
#define SWEEP_INTERVAL_MS (10 * 60 * 1000)
#define SWEEP_FIRST_MS    5000
#define SWEEP_SLICE       1000
#define STEPS_MAX         20 /* of one account, before others have their turn */
#define REST_MAX_MS       1000
#define BUSY_MS           500 /* after a delivery the worker counts as busy for so long */

struct noted {
    struct list link;
    uint64_t account_id;
    int64_t first_ms, due_ms;
    bool is_sure; /* no need to ask how much waits */
};

static struct {
    struct map *by_account; /* NULL: no indexer here */
    struct list noted;
    struct fiber *fiber;
    int64_t claim;
    int64_t sweep_ms, delivery_ms;
    struct wait_queue ended;
} indexer;

/* ---- what is noted --------------------------------------------------------------------------- */

static struct noted *find_or_add(uint64_t account_id)
{
    struct noted *n = map_get(indexer.by_account, map_key_u64(&account_id));

    if (n != NULL)
        return n;
    n = memory_alloc(sizeof *n);
    n->account_id = account_id;
    n->first_ms = loop_now_ms();
    map_put(indexer.by_account, map_key_u64(&account_id), n);
    list_append(&indexer.noted, &n->link);
    return n;
}

static void forget(struct noted *n)
{
    map_remove(indexer.by_account, map_key_u64(&n->account_id));
    list_remove(&n->link);
    free(n);
}

static void put_off(uint64_t account_id, int64_t delay_ms, bool is_sure)
{
    struct noted *n = find_or_add(account_id);

    n->due_ms = loop_now_ms() + delay_ms;
    n->is_sure = n->is_sure || is_sure;
}

void text_indexer_note(int64_t account_id)
{
    struct noted *n;
    int64_t last_ms;

    if (indexer.by_account == NULL)
        return;
    indexer.delivery_ms = loop_now_ms();
    n = find_or_add((uint64_t)account_id);
    last_ms = n->first_ms + LASTING_MS + config.text_index_delay;
    n->due_ms = loop_now_ms() + config.text_index_delay;
    if (n->due_ms > last_ms)
        n->due_ms = last_ms;
}

static struct noted *first_due(void)
{
    LIST_EACH (at, &indexer.noted) {
        struct noted *n = CONTAINER_OF(at, struct noted, link);
        if (n->due_ms <= loop_now_ms())
            return n;
    }
    return NULL;
}

/* ---- one account ----------------------------------------------------------------------------- */

/* A few small messages may wait for others: searches read them. */
static int is_worth_it(int64_t account_id, bool *is_worth, struct error *err)
{
    struct pg_rows rows = {0};

    if (pg_run(pg_pool(), &sql_text_due,
               PG_ARGS(pg_i64(account_id), pg_i32((int32_t)config.text_index_messages)), &rows,
               err) < 0)
        return -1;
    *is_worth = rows.count > 0 && (pg_get_i64(&rows, 0, "messages") >= config.text_index_messages ||
                                   pg_get_i64(&rows, 0, "bytes") >= TEXT_WAITING_BYTES);
    pg_rows_free(&rows);
    return 0;
}

/* ERR_CONFLICT: another worker has it. ERR_NOT_FOUND never: an account that is gone has no row to claim. */
static int claim(struct text_claim *c, struct error *err)
{
    struct pg_rows rows = {0};

    if (pg_run(pg_pool(), &sql_text_claim,
               PG_ARGS(pg_i64(c->account_id), pg_i64(c->claim), pg_i32(TEXT_CLAIM_S)), &rows,
               err) < 0)
        return -1;
    if (rows.count == 0) {
        pg_rows_free(&rows);
        return fail(err, ERR_CONFLICT, "another worker indexes this account");
    }
    c->indexed_message_id = pg_get_i64(&rows, 0, "indexed_message_id");
    c->last_message_id = pg_get_i64(&rows, 0, "last_message_id");
    pg_rows_free(&rows);
    return 0;
}

static void release(const struct text_claim *c)
{
    pg_run(pg_pool(), &sql_text_release, PG_ARGS(pg_i64(c->account_id), pg_i64(c->claim)), NULL,
           NULL);
}

/* One batch or one merge; *more: there may be more to do. */
static int step(struct text_claim *c, bool *more, struct error *err)
{
    if (c->indexed_message_id >= c->last_message_id)
        return text_merge_some(c, more, err);
    *more = true;
    return text_index_batch(c, err);
}

/* Rests in proportion to what the step took from others. */
static int rest(int64_t step_ms, struct error *err)
{
    bool is_busy = loop_now_ms() - indexer.delivery_ms < BUSY_MS;
    int64_t rest_ms = is_busy ? 4 * step_ms + 20 : step_ms / 2 + 1;

    if (fiber_sleep(rest_ms < REST_MAX_MS ? rest_ms : REST_MAX_MS) == WAKE_CANCELLED)
        return fiber_wake_error(WAKE_CANCELLED, err);
    return 0;
}

/* *more: stopped although there was more. */
static int work_on(int64_t account_id, int64_t claim_number, unsigned steps_max, bool rests,
                   bool *more, struct error *err)
{
    struct text_claim c = {.account_id = account_id, .claim = claim_number};
    int rc = claim(&c, err);

    if (rc < 0)
        return -1;
    *more = true;
    for (unsigned i = 0; rc == 0 && *more && i < steps_max; i++) {
        int64_t begun_ms = loop_now_ms();
        rc = step(&c, more, err);
        if (rc == 0 && rests)
            rc = rest(loop_now_ms() - begun_ms, err);
    }
    release(&c);
    return rc;
}

int text_index_account(int64_t account_id, struct error *err)
{
    bool more;

    return work_on(account_id, (int64_t)(random_u64() >> 1), UINT32_MAX, false, &more, err);
}

static void log_failure(int64_t account_id, const struct error *err)
{
    if (err->kind == ERR_CANCELLED || err->kind == ERR_CONFLICT)
        return;
    log_warn(NULL, "text_index_failed", KV("account", account_id), KV_ERR(err));
}

static void take_turn(struct noted *n)
{
    int64_t account_id = (int64_t)n->account_id;
    bool is_worth = n->is_sure, more = false;
    struct error err = {0};
    int rc = 0;

    forget(n); /* what comes from now on notes it anew */
    if (!is_worth)
        rc = is_worth_it(account_id, &is_worth, &err);
    if (rc == 0 && is_worth)
        rc = work_on(account_id, indexer.claim, STEPS_MAX, true, &more, &err);
    if (rc < 0)
        log_failure(account_id, &err);
    if (rc < 0 && err.kind != ERR_CANCELLED)
        put_off((uint64_t)account_id, RETRY_MS, false);
    else if (rc == 0 && more)
        put_off((uint64_t)account_id, 0, true);
}

/* ---- what nobody noted ----------------------------------------------------------------------- */

static int sweep_slice(int64_t *after, size_t *count, struct error *err)
{
    struct pg_rows rows = {0};

    if (pg_run(pg_pool(), &sql_text_accounts_behind,
               PG_ARGS(pg_i64(*after), pg_i64(config.text_index_messages)), &rows, err) < 0)
        return -1;
    *count = rows.count;
    for (size_t i = 0; i < rows.count; i++) {
        *after = pg_get_i64(&rows, i, "account_id");
        put_off((uint64_t)*after, 0, false);
    }
    pg_rows_free(&rows);
    return 0;
}

static void sweep(void)
{
    struct error err = {0};
    int64_t after = 0;
    size_t count = SWEEP_SLICE;

    indexer.sweep_ms = loop_now_ms() + SWEEP_INTERVAL_MS;
    while (count == SWEEP_SLICE && sweep_slice(&after, &count, &err) == 0)
        ;
    if (err.kind != ERR_NONE && err.kind != ERR_CANCELLED)
        log_warn(NULL, "text_index_sweep_failed", KV_ERR(&err));
}

/* ---- the fiber ------------------------------------------------------------------------------- */

static void indexer_run(void *arg)
{
    while (fiber_sleep(TICK_MS) != WAKE_CANCELLED) {
        struct noted *n;

        if (indexer.sweep_ms <= loop_now_ms())
            sweep();
        while (!fiber_cancelled() && (n = first_due()) != NULL)
            take_turn(n);
    }
    indexer.fiber = NULL;
    wait_queue_wake_all(&indexer.ended);
}

void text_indexer_start(void)
{
    if (indexer.by_account != NULL)
        return;
    indexer.by_account = map_new();
    list_init(&indexer.noted);
    wait_queue_init(&indexer.ended);
    indexer.claim = (int64_t)(random_u64() >> 1);
    indexer.sweep_ms = loop_now_ms() + SWEEP_FIRST_MS;
    indexer.delivery_ms = loop_now_ms();
    indexer.fiber = fiber_start("text_indexer", indexer_run, NULL);
}

void text_indexer_stop(void)
{
    if (indexer.by_account == NULL)
        return;
    fiber_cancel(indexer.fiber);
    while (indexer.fiber != NULL && wait_queue_wait(&indexer.ended, NO_DEADLINE) == WAKE_READY)
        ;
    while (!list_is_empty(&indexer.noted))
        forget(CONTAINER_OF(indexer.noted.next, struct noted, link));
    map_free(&indexer.by_account);
}
