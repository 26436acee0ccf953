/* pg_internal.h - what the files of the PostgreSQL client share: connections, the pool, results.
 *
 *   pg_conn.c  one libpq connection on the loop: opening, waiting, reading
 *   pg_pool.c  who may use which connection, and reconnecting
 *   pg_run.c   statements in a pipeline, transactions
 *   pg_args.c  parameters to binary      pg_rows.c  results from binary      pg_error.c  SQLSTATEs */
#pragma once
#include <libpq-fe.h>
#include "server/base/list.h"
#include "server/pg/pg.h"
#include "server/run/loop.h"

/* --- a connection -------------------------------------------------------------------------------
 * Always non-blocking and in pipeline mode. One fiber at a time uses it; while none does, input
 * goes to `unattended`, so that a server that hangs up is noticed at once. */
enum prepared { NOT_PREPARED, PREPARING, PREPARED };

struct pg_conn {
    PGconn *pq;
    struct loop_fd lfd; /* on our own duplicate: libpq closes its descriptor without asking */
    struct fiber *waiter;
    void (*unattended)(struct pg_conn *);
    struct list link; /* in the pool: idle or draining */
    struct timer drain_timer;
    uint8_t *prepared; /* enum prepared by sql_query.index */
    unsigned prepared_size;
    unsigned preparing_count;
    unsigned syncs_due; /* sent and not yet answered */
    bool is_broken;     /* nothing more may be sent */
    bool is_retiring;   /* to be closed after this use */
};

/* Signed on and ready for pg_conn_wait and friends. NULL with the reason for the log, not for clients. */
PARKS struct pg_conn *pg_conn_open(const char *conninfo, int64_t deadline_ms, struct error *err);
void pg_conn_close(struct pg_conn **c);
bool pg_conn_is_alive(const struct pg_conn *c);
struct str pg_conn_reason(const struct pg_conn *c); /* why it ended, in one line, for the log */

/* Parks until the server sent something, and takes it in; sends on meanwhile what is still to be sent. */
PARKS enum wake pg_conn_wait(struct pg_conn *c, int64_t deadline_ms);
void pg_conn_watch(struct pg_conn *c); /* epoll for what libpq wants next */
int pg_conn_sync(struct pg_conn *c);   /* ends what was queued and sends it; -1 when broken */

/* The next result, NULL at the end of a statement's. Not WAKE_READY: timed out or cancelled. */
PARKS enum wake pg_conn_result(struct pg_conn *c, PGresult **result);

/* Reads everything that is due. The first refusal ends it, with the reason for the log. */
PARKS int pg_conn_finish(struct pg_conn *c, struct error *err);

/* Takes without waiting what has arrived of answers that nobody wants. */
enum drained { DRAIN_MORE, DRAIN_DONE, DRAIN_BROKEN };
enum drained pg_conn_drain(struct pg_conn *c);

enum prepared pg_conn_prepared(const struct pg_conn *c, const struct sql_query *q);
void pg_conn_set_prepared(struct pg_conn *c, const struct sql_query *q, enum prepared state);

/* How long the server may be silent before a connection counts as dead. */
int64_t pg_silence_max_ms(void);

/* A connection through which so much went in one piece is closed after use: libpq never shrinks its
 * buffers. */
#define PG_RETIRE_SIZE ((size_t)16 << 20)

/* --- the pool ------------------------------------------------------------------------------- */
PARKS struct pg_conn *pg_pool_acquire(struct error *err);
void pg_pool_release(struct pg_conn *c); /* closes a broken one, drains a half-read one */

struct pg {
    struct pg_conn *conn; /* NULL: the pool */
    bool is_begun;        /* BEGIN goes out with the first statement */
    bool is_failed;       /* only rollback is left */
};

/* --- parameters --------------------------------------------------------------------------------- */
#define PG_PARAMS_MAX 64

struct pg_params {
    const char *values[PG_PARAMS_MAX];
    int sizes[PG_PARAMS_MAX];
    int64_t numbers[PG_PARAMS_MAX]; /* big-endian values live here */
    size_t total;
};
extern const int pg_binary_formats[PG_PARAMS_MAX];

/* Valid until the next call: arrays are built in one buffer of the process. */
int pg_params_encode(struct pg_params *p, struct pg_args args, struct error *err);

/* --- errors ------------------------------------------------------------------------------------- */
extern const char pg_text_away[]; /* "the mail store is away for a moment, try again" */

int pg_fail(struct error *err, const PGresult *r, const char *query_name); /* logs the detail; -1 */
bool pg_result_is_fatal(const PGresult *r); /* the server ended the session with it */
bool pg_result_sqlstate_is(const PGresult *r, const char *sqlstate);
