/* migrate.c - brings the schema up to date, under an advisory lock, before any worker runs.
 *
 * What has been applied is in the table schema_migration; whatever is missing there is applied in order,
 * each together with its row in one transaction. Without fibers, for nothing else happens yet; but while the
 * server is silent, or another host migrates, we look now and then whether the start was called off. */
#include "server/pg/migrate.h"
#include <errno.h>
#include <libpq-fe.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include "server/base/log.h"
#include "server/run/startup.h"

#define LOOK_MS        100
#define CONNECT_MAX_MS (30 * 1000) /* of silence */

#define LOCK_SQL "SELECT pg_advisory_lock(7882832549778843937)" /* "merpati!" read as a number */
#define TABLE_SQL                                                                                  \
    "CREATE TABLE IF NOT EXISTS schema_migration ("                                                \
    "number integer PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT "     \
    "now())"

/* The first line says what is wrong; the log has the place in the SQL too. */
static int fail_pg(struct error *err, const PGconn *pq, const char *what)
{
    struct str message = str_trim(str_c(PQerrorMessage(pq)));
    struct str reason, rest;

    if (startup_is_called_off())
        return fail(err, ERR_CANCELLED, "told to stop");
    log_error(NULL, "schema_refused", KV("at", what), KV("message", message));
    str_cut(message, '\n', &reason, &rest);
    return fail(err, PQstatus(pq) == CONNECTION_OK ? ERR_INTERNAL : ERR_TRY_LATER, "%s: %.*s", what,
                STR_ARG(reason));
}

/* ---- waiting ---------------------------------------------------------------------------------------- */

/* False when the start was called off, or the server was silent for wait_ms (-1: for ever). */
static bool wait_for(PGconn *pq, short events, int wait_ms)
{
    struct pollfd state = {.fd = PQsocket(pq), .events = events};

    for (int waited_ms = 0; wait_ms < 0 || waited_ms < wait_ms; waited_ms += LOOK_MS) {
        int ready = poll(&state, 1, LOOK_MS);

        if (ready != 0 && !(ready < 0 && errno == EINTR))
            return ready > 0;
        if (startup_is_called_off())
            return false;
    }
    return false;
}

static int connect_to(PGconn *pq, struct error *err)
{
    PostgresPollingStatusType status = PGRES_POLLING_WRITING;

    while (PQstatus(pq) != CONNECTION_BAD && status != PGRES_POLLING_OK) {
        if (!wait_for(pq, status == PGRES_POLLING_READING ? POLLIN : POLLOUT, CONNECT_MAX_MS))
            return fail(err, startup_is_called_off() ? ERR_CANCELLED : ERR_TIMED_OUT,
                        "the database does not answer");
        status = PQconnectPoll(pq);
    }
    return PQstatus(pq) == CONNECTION_OK ? 0 : fail_pg(err, pq, "cannot reach the database");
}

/* The last result of what was sent, as PQexec gives it. NULL when it did not come. */
static PGresult *last_result(PGconn *pq)
{
    PGresult *last = NULL, *r;

    for (;;) {
        while (PQstatus(pq) == CONNECTION_OK && PQisBusy(pq)) {
            if (!wait_for(pq, POLLIN, -1)) {
                PQclear(last);
                return NULL;
            }
            PQconsumeInput(pq);
        }
        r = PQgetResult(pq);
        if (r == NULL)
            return last;
        PQclear(last);
        last = r;
    }
}

static PGresult *query(PGconn *pq, const char *sql)
{
    return PQsendQuery(pq, sql) == 1 ? last_result(pq) : NULL;
}

static int exec(PGconn *pq, const char *sql, const char *what, struct error *err)
{
    PGresult *r = query(pq, sql);
    ExecStatusType status = PQresultStatus(r);

    PQclear(r);
    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK && status != PGRES_EMPTY_QUERY)
        return fail_pg(err, pq, what);
    return 0;
}

/* ---- what is there already ------------------------------------------------------------------------- */

static PGresult *read_applied(PGconn *pq, struct error *err)
{
    PGresult *r = query(pq, "SELECT number FROM schema_migration ORDER BY number");

    if (PQresultStatus(r) == PGRES_TUPLES_OK)
        return r;
    fail_pg(err, pq, "cannot read the schema's version");
    PQclear(r);
    return NULL;
}

static int applied_number(const PGresult *applied, int row)
{
    return atoi(PQgetvalue(applied, row, 0));
}

static bool is_applied(const PGresult *applied, int number)
{
    for (int row = 0; row < PQntuples(applied); row++)
        if (applied_number(applied, row) == number)
            return true;
    return false;
}

static int check_not_newer(const PGresult *applied, struct error *err)
{
    int rows = PQntuples(applied);
    int newest = rows > 0 ? applied_number(applied, rows - 1) : 0;
    int known = sql_migration_count > 0 ? sql_migrations[sql_migration_count - 1].number : 0;

    if (newest <= known)
        return 0;
    return fail(err, ERR_UNSUPPORTED,
                "the database has schema %d, this program knows %d: start a newer merpati", newest,
                known);
}

/* ---- applying -------------------------------------------------------------------------------------- */

static int record(PGconn *pq, const struct sql_migration *m, const char *what, struct error *err)
{
    char number[16];
    const char *values[] = {number, m->name};
    PGresult *r;
    ExecStatusType status;

    snprintf(number, sizeof number, "%d", m->number);
    if (PQsendQueryParams(pq,
                          "INSERT INTO schema_migration (number, name) VALUES ($1::integer, $2)", 2,
                          NULL, values, NULL, NULL, 0) != 1)
        return fail_pg(err, pq, what);
    r = last_result(pq);
    status = PQresultStatus(r);
    PQclear(r);
    return status == PGRES_COMMAND_OK ? 0 : fail_pg(err, pq, what);
}

static int apply(PGconn *pq, const struct sql_migration *m, struct error *err)
{
    char what[160];

    snprintf(what, sizeof what, "migration %04d_%s", m->number, m->name);
    if (exec(pq, "BEGIN", what, err) < 0 || exec(pq, m->text, what, err) < 0)
        return -1;
    if (PQtransactionStatus(pq) != PQTRANS_INTRANS)
        return fail(err, ERR_INTERNAL, "%s ends its own transaction", what);
    if (record(pq, m, what, err) < 0 || exec(pq, "COMMIT", what, err) < 0)
        return -1;
    log_info(NULL, "schema_migrated", KV("number", m->number), KV("name", m->name));
    return 0;
}

static int apply_missing(PGconn *pq, struct error *err)
{
    PGresult *applied = read_applied(pq, err);
    int rc;

    if (applied == NULL)
        return -1;
    rc = check_not_newer(applied, err);
    for (int i = 0; i < sql_migration_count && rc == 0; i++)
        if (!is_applied(applied, sql_migrations[i].number))
            rc = apply(pq, &sql_migrations[i], err);
    PQclear(applied);
    return rc;
}

static void ignore_notice(void *arg, const PGresult *r) /* "relation exists, skipping" */ {}

/* The lock and an open transaction end with the connection, so nothing is undone by hand. */
int pg_migrate(const char *conninfo, struct error *err)
{
    PGconn *pq = PQconnectStart(conninfo);
    int rc = -1;

    if (connect_to(pq, err) < 0)
        goto out;
    PQsetNoticeReceiver(pq, ignore_notice, NULL);
    if (exec(pq, "SET statement_timeout = 0", "cannot set up the session", err) < 0 ||
        exec(pq, LOCK_SQL, "cannot lock the schema", err) < 0 ||
        exec(pq, TABLE_SQL, "cannot create schema_migration", err) < 0)
        goto out;
    rc = apply_missing(pq, err);
out:
    PQfinish(pq);
    return rc;
}
