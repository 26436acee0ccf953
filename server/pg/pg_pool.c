/* pg_pool.c - the worker's connections, and who may use which.
 *
 * Connections are opened when somebody waits for one, one after another by a single fiber, and kept. A freed
 * one goes straight to whoever has waited longest. When none can be opened, that fiber goes on trying with
 * back-off until one can, so the pool heals by itself; those who waited config.database_wait are sent away. */
#include <assert.h>
#include <stdlib.h>
#include "server/base/log.h"
#include "server/base/memory.h"
#include "server/pg/cluster.h"
#include "server/pg/pg_internal.h"
#include "server/run/channel.h"
#include "server/run/config.h"
#include "server/run/metrics.h"

#define CONNECT_TIMEOUT_MS 10000
#define BACKOFF_MIN_MS     50
#define BACKOFF_MAX_MS     500
#define FINI_TIMEOUT_MS    5000

struct pool_waiter {
    struct list link;
    struct fiber *fiber;
    struct pg_conn *conn; /* handed over */
    int64_t since_ms;
    bool is_sent_away;
};

static struct pg_pool {
    struct pg place; /* what pg_pool() names */
    char *conninfo;
    unsigned connections_max;
    unsigned connection_count; /* in use, idle or draining */
    unsigned lost_count;       /* broken and not replaced yet, for the counter */
    struct list idle;          /* the last used first: its caches are warm */
    struct list draining;
    struct list waiters;
    struct fiber *connector;
    int64_t backoff_ms; /* 0: the last attempt succeeded */
    bool is_closing;
    struct wait_queue closed; /* told when a connection or the connector has ended */
} pool;

struct pg *pg_pool(void)
{
    return &pool.place;
}

const char *pg_conninfo(void)
{
    return config.database != NULL && config.database[0] != '\0' ? config.database
                                                                 : cluster_conninfo();
}

static bool pool_is_away(void)
{
    return pool.backoff_ms > 0 && pool.connection_count == 0;
}

/* ---- giving and taking ----------------------------------------------------------------------------- */

static void connector_start(void);

static void conn_drop(struct pg_conn *c)
{
    pool.connection_count--;
    pg_conn_close(&c);
    wait_queue_wake_all(&pool.closed);
    connector_start();
}

static void conn_lost(struct pg_conn *c)
{
    log_warn(NULL, "pg_connection_lost", KV("reason", pg_conn_reason(c)));
    pool.lost_count++;
    conn_drop(c);
}

static void idle_input(struct pg_conn *c)
{
    PQfreemem(PQnotifies(c->pq)); /* makes libpq look at what came: settings, notices */
    if (!pg_conn_is_alive(c))
        conn_lost(c);
}

/* Settled and usable: to the first who waits, else to the others. */
static void conn_hand_over(struct pg_conn *c)
{
    struct list *first = list_take_first(&pool.waiters);

    if (first == NULL) {
        if (pool.is_closing) {
            conn_drop(c);
            return;
        }
        c->unattended = idle_input;
        list_prepend(&pool.idle, &c->link);
        pg_conn_watch(c);
        return;
    }
    struct pool_waiter *w = CONTAINER_OF(first, struct pool_waiter, link);
    w->conn = c;
    fiber_wake(w->fiber);
}

/* Half-read or half-sent answers are taken to their end first; meanwhile it is nobody's. */
static void drain_input(struct pg_conn *c)
{
    enum drained drained;

    pg_conn_watch(c);
    drained = pg_conn_drain(c);
    if (drained == DRAIN_MORE)
        return;
    list_remove(&c->link);
    timer_clear(&c->drain_timer);
    c->unattended = NULL;
    if (drained == DRAIN_BROKEN)
        conn_lost(c);
    else if (c->preparing_count > 0 || PQtransactionStatus(c->pq) != PQTRANS_IDLE)
        conn_drop(c); /* what the server knows of it is not what we know */
    else
        conn_hand_over(c);
}

static void drain_timed_out(struct timer *t)
{
    struct pg_conn *c = CONTAINER_OF(t, struct pg_conn, drain_timer);

    conn_lost(c);
}

static void conn_drain(struct pg_conn *c)
{
    c->unattended = drain_input;
    c->drain_timer.fire = drain_timed_out;
    timer_set(&c->drain_timer, loop_deadline(pg_silence_max_ms()));
    list_append(&pool.draining, &c->link);
    drain_input(c);
}

void pg_pool_release(struct pg_conn *c)
{
    if (!pg_conn_is_alive(c))
        conn_lost(c);
    else if (c->is_retiring)
        conn_drop(c);
    else if (c->syncs_due > 0)
        conn_drain(c);
    else if (PQtransactionStatus(c->pq) != PQTRANS_IDLE)
        conn_drop(c);
    else
        conn_hand_over(c);
}

static struct pg_conn *take_idle(void)
{
    struct list *first = list_take_first(&pool.idle);
    struct pg_conn *c;

    if (first == NULL)
        return NULL;
    c = CONTAINER_OF(first, struct pg_conn, link);
    c->unattended = NULL;
    return c;
}

/* While the server is there, a queue is only load, and waiting costs less than trying again. */
static int64_t wait_deadline(void)
{
    int64_t wait_ms = config.database_wait;

    if (!pool_is_away() && wait_ms < config.database_timeout)
        wait_ms = config.database_timeout;
    return loop_deadline(wait_ms);
}

static struct pg_conn *wait_for_conn(struct error *err)
{
    struct pool_waiter w = {.fiber = fiber_self(), .since_ms = loop_now_ms()};
    int64_t deadline_ms = wait_deadline();
    enum wake wake = WAKE_READY;

    metric_inc(METRIC_pg_pool_waits);
    list_append(&pool.waiters, &w.link);
    connector_start();
    while (w.conn == NULL && !w.is_sent_away && wake == WAKE_READY)
        wake = fiber_park(deadline_ms);
    list_remove(&w.link);
    if (w.conn != NULL && !fiber_cancelled())
        return w.conn;
    if (w.conn != NULL)
        conn_hand_over(w.conn);
    if (wake == WAKE_CANCELLED || pool.is_closing)
        return fail_null(err, ERR_CANCELLED, "the server is shutting down");
    return fail_null(err, ERR_TRY_LATER, "%s", pg_text_away);
}

struct pg_conn *pg_pool_acquire(struct error *err)
{
    struct pg_conn *c;

    if (fiber_cancelled() || pool.is_closing)
        return fail_null(err, ERR_CANCELLED, "the server is shutting down");
    c = take_idle();
    return c != NULL ? c : wait_for_conn(err);
}

/* ---- connecting ------------------------------------------------------------------------------------ */

/* Away, it goes on without anybody waiting: whoever comes next finds the answer. */
static bool connection_is_wanted(void)
{
    return !pool.is_closing && pool.connection_count < pool.connections_max &&
           (!list_is_empty(&pool.waiters) || pool_is_away());
}

static void connected(struct pg_conn *c)
{
    if (pool.backoff_ms > 0)
        log_info(NULL, "pg_connected");
    pool.backoff_ms = 0;
    pool.connection_count++;
    if (pool.lost_count > 0) {
        pool.lost_count--;
        metric_inc(METRIC_pg_reconnects);
    }
    conn_hand_over(c);
}

static void send_away_the_patient(void)
{
    LIST_EACH_SAFE (at, &pool.waiters) {
        struct pool_waiter *w = CONTAINER_OF(at, struct pool_waiter, link);

        if (w->since_ms + config.database_wait > loop_now_ms())
            continue;
        list_remove(&w->link);
        w->is_sent_away = true;
        fiber_wake(w->fiber);
    }
}

static void connect_failed(const struct error *err)
{
    if (pool.backoff_ms == 0)
        log_error(NULL, "pg_away", KV_ERR(err));
    pool.backoff_ms *= 2;
    if (pool.backoff_ms < BACKOFF_MIN_MS)
        pool.backoff_ms = BACKOFF_MIN_MS;
    if (pool.backoff_ms > BACKOFF_MAX_MS)
        pool.backoff_ms = BACKOFF_MAX_MS;
    if (pool.connection_count == 0)
        send_away_the_patient();
}

static void connector_run(void *arg)
{
    while (connection_is_wanted()) {
        struct error err = {0};
        struct pg_conn *c = pg_conn_open(pool.conninfo, loop_deadline(CONNECT_TIMEOUT_MS), &err);

        if (c != NULL) {
            connected(c);
            continue;
        }
        if (fiber_cancelled())
            break;
        connect_failed(&err);
        fiber_sleep(pool.backoff_ms);
    }
    pool.connector = NULL;
    wait_queue_wake_all(&pool.closed);
}

static void connector_start(void)
{
    if (pool.connector == NULL && connection_is_wanted())
        pool.connector = fiber_start("pg-connect", connector_run, NULL);
}

/* ---- life ------------------------------------------------------------------------------------------ */

void pg_pool_init(const char *conninfo, unsigned connections_max)
{
    assert(pool.conninfo == NULL);
    assert(connections_max > 0);
    pool = (struct pg_pool){.conninfo = memory_copy_str(str_c(conninfo)),
                            .connections_max = connections_max};
    list_init(&pool.idle);
    list_init(&pool.draining);
    list_init(&pool.waiters);
    wait_queue_init(&pool.closed);
}

static void send_everybody_away(void)
{
    struct list *l;

    while ((l = list_take_first(&pool.waiters)) != NULL) {
        struct pool_waiter *w = CONTAINER_OF(l, struct pool_waiter, link);

        w->is_sent_away = true;
        fiber_wake(w->fiber);
    }
}

void pg_pool_fini(void)
{
    int64_t deadline_ms = loop_deadline(FINI_TIMEOUT_MS);
    struct pg_conn *c;

    pool.is_closing = true;
    if (pool.connector != NULL)
        fiber_cancel(pool.connector);
    send_everybody_away();
    while ((c = take_idle()) != NULL)
        conn_drop(c);
    while (pool.connection_count > 0 || pool.connector != NULL)
        if (wait_queue_wait(&pool.closed, deadline_ms) != WAKE_READY)
            break;
    if (pool.connection_count > 0)
        log_warn(NULL, "pg_connections_in_use", KV("count", pool.connection_count));
    free(pool.conninfo);
    pool.conninfo = NULL;
}
