/* login_watch.c - one fiber that asks for all sessions whose account was announced.
 *
 * Notices only mark sessions as due. While the answer is on its way sessions come and go, so it is compared with those
 * that were marked as asked before and are still there. Without a database everybody stays, and is asked about later. */
#include "server/directory/login_watch.h"

#include "server/base/arena.h"
#include "server/base/log.h"
#include "server/pg/pg.h"
#include "server/run/channel.h"
#include "server/run/loop.h"
#include "sql_queries.h"

#define TOPIC_BASE                                                                                 \
    (UINT64_C(1) << 62) /* as login_notice has it: the numbers below are the stores' */
#define LOOK_AT_ALL_MS   (5 * 60 * 1000)
#define LOOK_AT_NEW_MS   2000 /* many log-ins, one question */
#define RETRY_MS         1000
#define ACCOUNTS_AT_ONCE 5000

static struct {
    struct list all;
    struct fiber *keeper;
    struct wait_queue due, ended;
    bool has_due;
    int64_t look_at_ms; /* some are new, or it is time for all */
    int64_t look_at_all_ms;
} watches = {.all = {&watches.all, &watches.all}};

/* --- notices ---------------------------------------------------------------------------------- */

static void mark_due(struct login_watch *w)
{
    w->is_due = true;
    if (watches.has_due || watches.keeper == NULL)
        return;
    watches.has_due = true;
    wait_queue_wake_all(&watches.due);
}

static void heard(struct bus_subscription *s)
{
    mark_due(CONTAINER_OF(s, struct login_watch, subscription));
}

void login_watch_start(struct login_watch *w, const struct account *account,
                       void (*ended)(struct login_watch *w))
{
    login_watch_stop(w);
    *w = (struct login_watch){
        .account_id = account->account_id,
        .credential_id = account->credential_id,
        .credential_us = account->credential_us,
        .ended = ended,
    };
    list_append(&watches.all, &w->link);
    bus_subscribe(&w->subscription, TOPIC_BASE + (uint64_t)account->account_id, heard);
    w->is_due = true; /* it may have been announced between the log-in's query and now */
    if (watches.keeper == NULL || watches.look_at_ms <= loop_deadline(LOOK_AT_NEW_MS))
        return;
    watches.look_at_ms = loop_deadline(LOOK_AT_NEW_MS);
    wait_queue_wake_all(&watches.due);
}

void login_watch_stop(struct login_watch *w)
{
    bus_unsubscribe(&w->subscription);
    list_remove(&w->link);
}

/* --- looking ---------------------------------------------------------------------------------- */

static struct login_watch *watch_at(struct list *at)
{
    return CONTAINER_OF(at, struct login_watch, link);
}

/* The accounts of sessions that are due, which become asked. */
static size_t take_due(struct arena *a, int64_t **accounts)
{
    size_t n = 0;

    *accounts = ARENA_ARRAY(a, ACCOUNTS_AT_ONCE, int64_t);
    watches.has_due = false;
    LIST_EACH (at, &watches.all) {
        struct login_watch *w = watch_at(at);

        if (w->is_due && n == ACCOUNTS_AT_ONCE)
            watches.has_due = true;
        if (!w->is_due || n == ACCOUNTS_AT_ONCE)
            continue;
        w->is_due = false;
        w->is_asked = true;
        (*accounts)[n++] = w->account_id;
    }
    return n;
}

/* Rows are ordered by account and credential. An account that is gone has none. */
static bool may_stay(const struct pg_rows *rows, const struct login_watch *w)
{
    size_t row = pg_find_i64(rows, pg_column(rows, "account_id"), w->account_id);

    for (; row < rows->count && pg_get_i64(rows, row, "account_id") == w->account_id; row++) {
        if (!pg_get_bool(rows, row, "is_active"))
            return false;
        if (w->credential_us == 0 || (!pg_is_null(rows, row, "credential_id") &&
                                      pg_get_i64(rows, row, "credential_id") == w->credential_id &&
                                      pg_get_time_us(rows, row, "created_at") == w->credential_us))
            return true;
    }
    return false;
}

static void judge(const struct pg_rows *rows)
{
    LIST_EACH_SAFE (at, &watches.all) {
        struct login_watch *w = watch_at(at);

        if (!w->is_asked)
            continue;
        w->is_asked = false;
        if (w->is_over || may_stay(rows, w))
            continue;
        w->is_over = true;
        log_info(NULL, "session_revoked", KV("account", w->account_id));
        w->ended(w);
    }
}

static void ask_again_later(void)
{
    LIST_EACH (at, &watches.all) {
        struct login_watch *w = watch_at(at);

        w->is_due = w->is_due || w->is_asked;
        w->is_asked = false;
    }
    watches.has_due = true;
}

static void look(void)
{
    struct arena *a = arena_new();
    struct pg_rows rows;
    int64_t *accounts;
    size_t count = take_due(a, &accounts);

    if (count > 0) {
        if (pg_run(pg_pool(), &sql_login_standing, PG_ARGS(pg_i64_array(accounts, count)), &rows,
                   NULL) == 0) {
            judge(&rows);
            pg_rows_free(&rows);
        } else {
            ask_again_later();
            fiber_sleep(RETRY_MS);
        }
    }
    arena_free(&a);
}

static void time_passed(void)
{
    watches.has_due = true;
    if (watches.look_at_all_ms <= loop_now_ms()) {
        watches.look_at_all_ms = loop_deadline(LOOK_AT_ALL_MS);
        LIST_EACH (at, &watches.all)
            watch_at(at)->is_due = true;
    }
    watches.look_at_ms = watches.look_at_all_ms;
}

static void keeper_run(void *arg)
{
    while (!fiber_cancelled()) {
        if (watches.has_due)
            look();
        else if (wait_queue_wait(&watches.due, watches.look_at_ms) == WAKE_TIMED_OUT)
            time_passed();
    }
    watches.keeper = NULL;
    wait_queue_wake_all(&watches.ended);
}

void login_watch_keeper_start(void)
{
    wait_queue_init(&watches.due);
    wait_queue_init(&watches.ended);
    watches.has_due = false;
    watches.look_at_all_ms = watches.look_at_ms = loop_deadline(LOOK_AT_ALL_MS);
    watches.keeper = fiber_start("login_watch", keeper_run, NULL);
}

void login_watch_keeper_stop(void)
{
    if (watches.keeper == NULL)
        return;
    fiber_cancel(watches.keeper);
    while (watches.keeper != NULL && !fiber_cancelled())
        wait_queue_wait(&watches.ended, NO_DEADLINE);
}
