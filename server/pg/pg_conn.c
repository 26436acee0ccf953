/* pg_conn.c - one connection to PostgreSQL on the worker's loop.
 *
 * libpq runs non-blocking and stays in pipeline mode for good. Its socket is watched level-triggered and
 * through a duplicate descriptor: libpq closes its own the moment a read fails, and a number that may by
 * then belong to another file must not be in our epoll set. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "server/base/log.h"
#include "server/base/memory.h"
#include "server/pg/pg_internal.h"
#include "server/run/config.h"
#include "server/run/offload.h"

#define SILENCE_GRACE_MS 5000

int64_t pg_silence_max_ms(void)
{
    return config.database_timeout + SILENCE_GRACE_MS;
}

bool pg_conn_is_alive(const struct pg_conn *c)
{
    return !c->is_broken && PQstatus(c->pq) == CONNECTION_OK;
}

struct str pg_conn_reason(const struct pg_conn *c)
{
    struct str line, rest;

    str_cut(str_trim(str_c(PQerrorMessage(c->pq))), '\n', &line, &rest);
    return line.n > 0 ? line : STR("the server ended it");
}

/* ---- waiting ------------------------------------------------------------------------------------- */

void pg_conn_watch(struct pg_conn *c)
{
    uint32_t events = EPOLLIN | (PQflush(c->pq) == 1 ? (uint32_t)EPOLLOUT : 0);

    if (events != c->lfd.events && PQstatus(c->pq) == CONNECTION_OK)
        loop_fd_set(&c->lfd, events);
}

static void conn_ready(struct loop_fd *lfd, uint32_t events)
{
    struct pg_conn *c = CONTAINER_OF(lfd, struct pg_conn, lfd);

    if (c->waiter != NULL) {
        fiber_wake(c->waiter);
        return;
    }
    PQconsumeInput(c->pq);
    if (PQstatus(c->pq) != CONNECTION_OK)
        loop_fd_set(&c->lfd, 0); /* at its end it would be ready for ever, */
    else
        pg_conn_watch(c); /* and for writing, when nothing is left to be sent */
    if (c->unattended != NULL)
        c->unattended(c);
}

enum wake pg_conn_wait(struct pg_conn *c, int64_t deadline_ms)
{
    enum wake wake;

    pg_conn_watch(c);
    if (PQstatus(c->pq) != CONNECTION_OK)
        return WAKE_READY; /* reading will tell why */
    c->waiter = fiber_self();
    wake = fiber_park(deadline_ms);
    c->waiter = NULL;
    if (wake == WAKE_READY)
        PQconsumeInput(c->pq);
    return wake;
}

int pg_conn_sync(struct pg_conn *c)
{
    if (PQpipelineSync(c->pq) != 1)
        return -1;
    c->syncs_due++;
    return 0;
}

/* A connection that has ended is never busy: libpq then makes up an error result. */
enum wake pg_conn_result(struct pg_conn *c, PGresult **result)
{
    while (PQisBusy(c->pq)) {
        enum wake wake = pg_conn_wait(c, loop_deadline(pg_silence_max_ms()));

        if (wake != WAKE_READY)
            return wake;
    }
    *result = PQgetResult(c->pq);
    if (PQresultStatus(*result) == PGRES_PIPELINE_SYNC)
        c->syncs_due--;
    return WAKE_READY;
}

enum drained pg_conn_drain(struct pg_conn *c)
{
    unsigned nulls = 0;

    while (c->syncs_due > 0) {
        PGresult *r;

        if (PQstatus(c->pq) != CONNECTION_OK || nulls > 1)
            return DRAIN_BROKEN; /* two in a row: libpq has nothing more to give */
        if (PQisBusy(c->pq))
            return DRAIN_MORE;
        r = PQgetResult(c->pq);
        nulls = r == NULL ? nulls + 1 : 0;
        if (PQresultStatus(r) == PGRES_PIPELINE_SYNC)
            c->syncs_due--;
        PQclear(r);
    }
    return DRAIN_DONE;
}

/* ---- statements known to the server ---------------------------------------------------------------- */

enum prepared pg_conn_prepared(const struct pg_conn *c, const struct sql_query *q)
{
    return q->index < c->prepared_size ? (enum prepared)c->prepared[q->index] : NOT_PREPARED;
}

static void prepared_grow(struct pg_conn *c, unsigned size)
{
    c->prepared = memory_resize(c->prepared, size);
    memset(c->prepared + c->prepared_size, NOT_PREPARED, size - c->prepared_size);
    c->prepared_size = size;
}

void pg_conn_set_prepared(struct pg_conn *c, const struct sql_query *q, enum prepared state)
{
    if (q->index >= c->prepared_size)
        prepared_grow(c, (q->index + 64) & ~63u);
    c->preparing_count += (state == PREPARING) - (c->prepared[q->index] == PREPARING);
    c->prepared[q->index] = (uint8_t)state;
}

/* ---- opening --------------------------------------------------------------------------------------- */

/* An error that no statement of ours caused is the server's goodbye: the end of the stream follows. */
static void notice_receive(void *arg, const PGresult *r)
{
    struct pg_conn *c = arg;
    const char *message = PQresultErrorField(r, PG_DIAG_MESSAGE_PRIMARY);
    const char *severity = PQresultErrorField(r, PG_DIAG_SEVERITY_NONLOCALIZED);

    log_debug(NULL, "pg_notice", KV("severity", severity ? severity : ""),
              KV("message", message ? message : ""));
    if (pg_result_is_fatal(r))
        c->is_broken = true;
}

struct connect_start {
    const char *conninfo;
    PGconn *pq;
};

/* On a helper thread, since it may look up names and read password files. What the operator wrote
 * in `database` comes last and wins. */
static void connect_start(void *arg)
{
    struct connect_start *start = arg;
    const char *const keywords[] = {"gssencmode",
                                    "keepalives_idle",
                                    "keepalives_interval",
                                    "tcp_user_timeout",
                                    "fallback_application_name",
                                    "dbname",
                                    "client_encoding",
                                    NULL};
    const char *const values[] = {"disable",       "30",   "10", "45000", "merpati",
                                  start->conninfo, "UTF8", NULL};

    start->pq = PQconnectStartParams(keywords, values, 1);
}

static int fail_connect(struct error *err, const PGconn *pq)
{
    struct str reason = str_trim(str_c(PQerrorMessage(pq)));

    return fail(err, ERR_TRY_LATER, "%.*s", STR_ARG(reason));
}

static int connect_poll(PGconn *pq, int64_t deadline_ms, struct error *err)
{
    PostgresPollingStatusType status = PGRES_POLLING_WRITING;

    if (PQstatus(pq) == CONNECTION_BAD)
        return fail_connect(err, pq);
    while (status != PGRES_POLLING_OK) {
        uint32_t events = status == PGRES_POLLING_READING ? EPOLLIN : EPOLLOUT;
        enum wake wake = loop_wait_fd(PQsocket(pq), events, deadline_ms);

        if (wake != WAKE_READY)
            return fiber_wake_error(wake, err);
        status = PQconnectPoll(pq);
        if (status == PGRES_POLLING_FAILED)
            return fail_connect(err, pq);
    }
    return 0;
}

static int conn_adopt(struct pg_conn *c, struct error *err)
{
    int fd = fcntl(PQsocket(c->pq), F_DUPFD_CLOEXEC, 0);

    if (fd < 0)
        return fail(err, ERR_TRY_LATER, "out of file descriptors");
    c->lfd = (struct loop_fd){.fd = fd, .ready = conn_ready};
    if (PQsetnonblocking(c->pq, 1) != 0 || PQenterPipelineMode(c->pq) != 1)
        return fail_connect(err, c->pq);
    return 0;
}

int pg_conn_finish(struct pg_conn *c, struct error *err)
{
    while (c->syncs_due > 0) {
        PGresult *r = NULL;
        enum wake wake = pg_conn_result(c, &r);

        if (wake != WAKE_READY)
            return fiber_wake_error(wake, err);
        if (r != NULL && PQresultStatus(r) == PGRES_FATAL_ERROR) {
            fail(err, ERR_TRY_LATER, "%.*s", STR_ARG(str_trim(str_c(PQresultErrorMessage(r)))));
            PQclear(r);
            return -1;
        }
        PQclear(r);
    }
    return 0;
}

/* As a statement and not as startup options, which connection proxies refuse and `database` may
 * hold already. */
static int session_settings(struct pg_conn *c, struct error *err)
{
    char sql[256];

    snprintf(sql, sizeof sql,
             "SELECT set_config('TimeZone', 'UTC', false), set_config('statement_timeout', '%lld', "
             "false), "
             "set_config('idle_in_transaction_session_timeout', '%lld', false)",
             (long long)config.database_timeout, (long long)config.database_timeout * 2);
    if (PQsendQueryParams(c->pq, sql, 0, NULL, NULL, NULL, NULL, 1) != 1 || pg_conn_sync(c) < 0)
        return fail_connect(err, c->pq);
    return pg_conn_finish(c, err);
}

static int conn_open(struct pg_conn *c, const char *conninfo, int64_t deadline_ms,
                     struct error *err)
{
    struct connect_start start = {.conninfo = conninfo};

    offload(connect_start, &start);
    c->pq = start.pq;
    if (c->pq == NULL)
        abort(); /* out of memory */
    PQsetNoticeReceiver(c->pq, notice_receive, c);
    if (connect_poll(c->pq, deadline_ms, err) < 0 || conn_adopt(c, err) < 0)
        return -1;
    return session_settings(c, err);
}

struct pg_conn *pg_conn_open(const char *conninfo, int64_t deadline_ms, struct error *err)
{
    struct pg_conn *c = memory_alloc(sizeof *c);

    c->lfd.fd = -1;
    if (conn_open(c, conninfo, deadline_ms, err) < 0)
        pg_conn_close(&c);
    return c;
}

void pg_conn_close(struct pg_conn **conn)
{
    struct pg_conn *c = *conn;

    *conn = NULL;
    if (c == NULL)
        return;
    timer_clear(&c->drain_timer);
    if (c->lfd.fd >= 0) {
        loop_fd_set(&c->lfd, 0);
        close(c->lfd.fd);
    }
    list_remove(&c->link);
    PQfinish(c->pq);
    free(c->prepared);
    free(c);
}
