/* pg_run.c - statements in a pipeline, and transactions.
 *
 *   [BEGIN] [Parse] Bind Describe Execute ... Sync     one write, one answer
 *
 * A statement is prepared in the same pipeline as its first use on a connection. Whatever stands before one
 * Sync is one transaction. When a connection breaks, the work is done again on another one only if the
 * server cannot have done it: it never got the Sync, or it said goodbye before its first answer. */
#include <assert.h>
#include <stdlib.h>
#include "server/base/log.h"
#include "server/base/memory.h"
#include "server/pg/pg_internal.h"
#include "server/run/metrics.h"

#define TRIES_MAX 8

enum outcome { /* up to REFUSED the connection is well */
               DONE,
               REFUSED,    /* by PostgreSQL: err says why                      */
               NOT_RUN,    /* the connection broke, and nothing has happened   */
               UNKNOWN,    /* it broke, and the server may have done it or not */
               CALLED_OFF, /* this fiber was cancelled                         */
};

/* Statements of our own are without a name, and parsed every time. */
static const struct sql_query query_begin = {.name = "", .text = "BEGIN", .result = SQL_EXEC};
static const struct sql_query query_commit = {.name = "", .text = "COMMIT", .result = SQL_EXEC};
static const struct sql_query query_rollback = {.name = "", .text = "ROLLBACK", .result = SQL_EXEC};

static bool is_unnamed(const struct sql_query *q)
{
    return q->name[0] == '\0';
}

/* ---- sending --------------------------------------------------------------------------------------- */

static int send_execute(struct pg_conn *c, const struct sql_query *q, const struct pg_params *p,
                        int count)
{
    if (is_unnamed(q))
        return PQsendQueryParams(c->pq, q->text, count, NULL, p->values, p->sizes,
                                 pg_binary_formats, 1);
    if (pg_conn_prepared(c, q) == NOT_PREPARED) {
        if (PQsendPrepare(c->pq, q->name, q->text, 0, NULL) != 1)
            return 0;
        pg_conn_set_prepared(c, q, PREPARING);
    }
    return PQsendQueryPrepared(c->pq, q->name, count, p->values, p->sizes, pg_binary_formats, 1);
}

static enum outcome send_call(struct pg_conn *c, const struct pg_call *call, struct error *err)
{
    struct pg_params params;

    assert(call->args.n == call->query->param_count);
    if (pg_params_encode(&params, call->args, err) < 0)
        return REFUSED;
    if (params.total > PG_RETIRE_SIZE)
        c->is_retiring = true;
    return send_execute(c, call->query, &params, (int)call->args.n) == 1 ? DONE : NOT_RUN;
}

/* Without its Sync a pipeline has no effect, so a failure before that is NOT_RUN. */
static enum outcome send_calls(struct pg_conn *c, const struct pg_call *calls, size_t count,
                               struct error *err)
{
    if (!pg_conn_is_alive(c))
        return NOT_RUN;
    for (size_t i = 0; i < count; i++) {
        enum outcome outcome = send_call(c, &calls[i], err);

        if (outcome != DONE) {
            c->is_broken = true; /* something is queued that nobody will read */
            return outcome;
        }
    }
    metric_add(METRIC_pg_queries, (int64_t)count);
    return pg_conn_sync(c) < 0 ? UNKNOWN : DONE;
}

/* ---- reading --------------------------------------------------------------------------------------- */

struct answer {
    struct pg_conn *conn;
    struct error *err;
    enum outcome outcome; /* stays at the first failure */
    bool is_begun;        /* at least one statement was answered */
};

static enum outcome outcome_of_wake(struct answer *a, enum wake wake)
{
    if (wake == WAKE_CANCELLED) {
        fiber_wake_error(wake, a->err);
        return CALLED_OFF;
    }
    a->conn->is_broken = true; /* silent far beyond the server's own timeout */
    return UNKNOWN;
}

/* The goodbye of an orderly shutdown, before any answer: the server read nothing of what we sent. */
static bool is_goodbye(const PGresult *r)
{
    return pg_result_sqlstate_is(r, "57P01") || pg_result_sqlstate_is(r, "57P05");
}

static void note_refusal(struct answer *a, const PGresult *r, const char *query_name)
{
    if (a->outcome != DONE)
        return;
    if (pg_result_is_fatal(r) || PQresultErrorField(r, PG_DIAG_SQLSTATE) == NULL) {
        a->conn->is_broken = true;
        a->outcome = !a->is_begun && is_goodbye(r) ? NOT_RUN : UNKNOWN;
        return;
    }
    if (pg_result_sqlstate_is(r, "0A000") || pg_result_sqlstate_is(r, "26000"))
        a->conn->is_retiring = true; /* its prepared statements are out of date */
    pg_fail(a->err, r, query_name);
    a->outcome = REFUSED;
}

/* Reads one statement's answer to its end. NULL when there was none to keep. */
static PGresult *read_statement(struct answer *a, const char *query_name)
{
    PGresult *kept = NULL;
    PGresult *r;

    while (a->outcome <= REFUSED) {
        enum wake wake = pg_conn_result(a->conn, &r);

        if (wake != WAKE_READY)
            a->outcome = outcome_of_wake(a, wake);
        if (wake != WAKE_READY || r == NULL)
            break;
        if (PQresultStatus(r) == PGRES_FATAL_ERROR)
            note_refusal(a, r, query_name);
        a->is_begun = true;
        PQclear(kept);
        kept = r;
    }
    return kept;
}

static void read_prepare(struct answer *a, const struct sql_query *q)
{
    PGresult *r = read_statement(a, q->name);

    if (a->outcome <= REFUSED)
        pg_conn_set_prepared(a->conn, q,
                             PQresultStatus(r) == PGRES_COMMAND_OK ? PREPARED : NOT_PREPARED);
    PQclear(r);
}

static void keep_rows(struct pg_rows *rows, const struct sql_query *q, PGresult *r)
{
    rows->result = r;
    rows->count = q->result == SQL_EXEC ? strtoull(PQcmdTuples(r), NULL, 10) : (size_t)PQntuples(r);
}

static void check_size(struct pg_conn *c, const PGresult *r)
{
    if (PQresultMemorySize(r) > PG_RETIRE_SIZE)
        c->is_retiring = true;
}

static void read_call(struct answer *a, const struct sql_query *q, struct pg_rows *rows)
{
    PGresult *r;

    if (!is_unnamed(q) && pg_conn_prepared(a->conn, q) == PREPARING)
        read_prepare(a, q);
    r = read_statement(a, q->name);
    if (a->outcome != DONE || r == NULL) {
        PQclear(r);
        return;
    }
    check_size(a->conn, r);
    keep_rows(rows, q, r);
}

/* The transaction ends here, so deferred constraints may still refuse. */
static void read_sync(struct answer *a)
{
    while (a->outcome <= REFUSED) {
        PGresult *r = NULL;
        enum wake wake = pg_conn_result(a->conn, &r);
        bool is_end = PQresultStatus(r) == PGRES_PIPELINE_SYNC;

        if (wake != WAKE_READY)
            a->outcome = outcome_of_wake(a, wake);
        if (r != NULL && PQresultStatus(r) == PGRES_FATAL_ERROR)
            note_refusal(a, r, "end of transaction");
        PQclear(r);
        if (is_end)
            return;
        if (r == NULL && PQstatus(a->conn->pq) != CONNECTION_OK)
            a->outcome = UNKNOWN;
    }
}

static enum outcome read_calls(struct pg_conn *c, const struct pg_call *calls, size_t count,
                               struct pg_rows *rows, struct error *err)
{
    struct answer a = {.conn = c, .err = err, .outcome = DONE};

    for (size_t i = 0; i < count; i++)
        read_call(&a, calls[i].query, &rows[i]);
    read_sync(&a);
    if (a.outcome == UNKNOWN)
        log_warn(NULL, "pg_answer_lost", KV("query", calls[0].query->name),
                 KV("reason", pg_conn_reason(c)));
    return a.outcome;
}

/* ---- one exchange ---------------------------------------------------------------------------------- */

static enum outcome check_found(const struct pg_call *calls, size_t count,
                                const struct pg_rows *rows, struct error *err)
{
    for (size_t i = 0; i < count; i++)
        if (calls[i].query->result == SQL_ONE && rows[i].count == 0) {
            fail(err, ERR_NOT_FOUND, "not found");
            return REFUSED;
        }
    return DONE;
}

static void rows_free_all(struct pg_rows *rows, size_t count)
{
    for (size_t i = 0; i < count; i++)
        pg_rows_free(&rows[i]);
}

static enum outcome exchange(struct pg_conn *c, const struct pg_call *calls, size_t count,
                             struct pg_rows *rows, struct error *err)
{
    enum outcome outcome = send_calls(c, calls, count, err);

    if (outcome == DONE)
        outcome = read_calls(c, calls, count, rows, err);
    if (outcome == DONE)
        outcome = check_found(calls, count, rows, err);
    if (outcome != DONE)
        rows_free_all(rows, count);
    return outcome;
}

static int report(enum outcome outcome, struct error *err)
{
    if (outcome == DONE)
        return 0;
    return fail(err, ERR_TRY_LATER, "%s",
                pg_text_away); /* keeps a more exact error that is set already */
}

static int run_on_pool(const struct pg_call *calls, size_t count, struct pg_rows *rows,
                       struct error *err)
{
    enum outcome outcome = NOT_RUN;

    for (unsigned tries = 0; outcome == NOT_RUN && tries < TRIES_MAX; tries++) {
        struct pg_conn *c = pg_pool_acquire(err);

        if (c == NULL)
            return -1;
        outcome = exchange(c, calls, count, rows, err);
        pg_pool_release(c);
    }
    return report(outcome, err);
}

/* ---- transactions ---------------------------------------------------------------------------------- */

struct pg *pg_begin(struct error *err)
{
    struct pg_conn *c = pg_pool_acquire(err);
    struct pg *tx;

    if (c == NULL)
        return NULL;
    tx = memory_alloc(sizeof *tx);
    tx->conn = c;
    return tx;
}

static void tx_free(struct pg **tx)
{
    pg_pool_release((*tx)->conn);
    free(*tx);
    *tx = NULL;
}

static enum outcome begin_with(struct pg *tx, const struct pg_call *calls, size_t count,
                               struct pg_rows *rows, struct error *err)
{
    struct pg_call *all = memory_array(count + 1, sizeof *all);
    struct pg_rows *all_rows = memory_array(count + 1, sizeof *all_rows);
    enum outcome outcome;

    all[0] = (struct pg_call){&query_begin, PG_NO_ARGS};
    memcpy(all + 1, calls, count * sizeof *all);
    outcome = exchange(tx->conn, all, count + 1, all_rows, err);
    memcpy(rows, all_rows + 1, count * sizeof *rows);
    pg_rows_free(&all_rows[0]);
    free(all);
    free(all_rows);
    return outcome;
}

/* The first statements of a transaction may move to another connection, like those of the pool. */
static enum outcome begin_somewhere(struct pg *tx, const struct pg_call *calls, size_t count,
                                    struct pg_rows *rows, struct error *err)
{
    enum outcome outcome = begin_with(tx, calls, count, rows, err);

    for (unsigned tries = 1; outcome == NOT_RUN && tries < TRIES_MAX; tries++) {
        struct pg_conn *other = pg_pool_acquire(err);

        if (other == NULL)
            break;
        pg_pool_release(tx->conn);
        tx->conn = other;
        outcome = begin_with(tx, calls, count, rows, err);
    }
    tx->is_begun = true;
    return outcome;
}

static int run_in_tx(struct pg *tx, const struct pg_call *calls, size_t count, struct pg_rows *rows,
                     struct error *err)
{
    enum outcome outcome;

    if (fiber_cancelled())
        return fail(err, ERR_CANCELLED, "the server is shutting down");
    if (tx->is_failed)
        return fail(err, ERR_INTERNAL, "the transaction has failed before");
    if (tx->is_begun)
        outcome = exchange(tx->conn, calls, count, rows, err);
    else
        outcome = begin_somewhere(tx, calls, count, rows, err);
    tx->is_failed = outcome != DONE;
    return report(outcome, err);
}

int pg_commit(struct pg **tx_place, struct error *err)
{
    struct pg *tx = *tx_place;
    struct pg_call commit = {&query_commit, PG_NO_ARGS};
    struct pg_rows rows = {0};
    enum outcome outcome;

    if (tx->is_failed || fiber_cancelled()) {
        fail(err, tx->is_failed ? ERR_INTERNAL : ERR_CANCELLED, "the transaction was rolled back");
        pg_rollback(tx_place);
        return -1;
    }
    if (!tx->is_begun) {
        tx_free(tx_place);
        return 0;
    }
    outcome = exchange(tx->conn, &commit, 1, &rows, err);
    pg_rows_free(&rows);
    if (outcome == UNKNOWN)
        log_error(NULL, "pg_commit_unknown");
    tx_free(tx_place);
    return report(outcome, err);
}

/* Waits for nothing: the pool reads the answer when it comes. */
void pg_rollback(struct pg **tx_place)
{
    struct pg *tx = *tx_place;
    struct pg_call rollback = {&query_rollback, PG_NO_ARGS};

    if (tx == NULL)
        return;
    if (tx->is_begun && send_calls(tx->conn, &rollback, 1, NULL) != DONE)
        tx->conn->is_broken = true;
    tx_free(tx_place);
}

/* ---- entry ----------------------------------------------------------------------------------------- */

static bool is_plain_read(const struct sql_query *q)
{
    return str_istarts(str_trim(str_c(q->text)), STR("SELECT"));
}

/* Whether a :one came back empty is known only after the answer. Beside statements that write, the commit
 * has to wait for it. */
static bool needs_verdict(const struct pg_call *calls, size_t count)
{
    bool has_one = false;
    bool has_write = false;

    for (size_t i = 0; count > 1 && i < count; i++) {
        has_one |= calls[i].query->result == SQL_ONE;
        has_write |= !is_plain_read(calls[i].query);
    }
    return has_one && has_write;
}

static int run_with_verdict(const struct pg_call *calls, size_t count, struct pg_rows *rows,
                            struct error *err)
{
    struct pg *tx = pg_begin(err);

    if (tx == NULL)
        return -1;
    if (run_in_tx(tx, calls, count, rows, err) == 0 && pg_commit(&tx, err) == 0)
        return 0;
    pg_rollback(&tx);
    rows_free_all(rows, count);
    return -1;
}

static int run(struct pg *db, const struct pg_call *calls, size_t count, struct pg_rows *rows,
               struct error *err)
{
    memset(rows, 0, count * sizeof *rows);
    if (db->conn != NULL)
        return run_in_tx(db, calls, count, rows, err);
    if (needs_verdict(calls, count))
        return run_with_verdict(calls, count, rows, err);
    return run_on_pool(calls, count, rows, err);
}

int pg_run(struct pg *db, const struct sql_query *q, struct pg_args args, struct pg_rows *rows,
           struct error *err)
{
    struct pg_call call = {q, args};
    struct pg_rows own;
    int rc = run(db, &call, 1, rows ? rows : &own, err);

    if (rows == NULL && rc == 0)
        pg_rows_free(&own);
    return rc;
}

int pg_run_batch(struct pg *db, const struct pg_call *calls, size_t count, struct pg_rows *rows,
                 struct error *err)
{
    struct pg_rows *own;
    int rc;

    if (count == 0)
        return 0;
    if (rows != NULL)
        return run(db, calls, count, rows, err);
    own = memory_array(count, sizeof *own);
    rc = run(db, calls, count, own, err);
    rows_free_all(own, count);
    free(own);
    return rc;
}
