/* pg_error.c - what PostgreSQL's SQLSTATEs mean to a client of ours.
 *
 * Functions of our schema raise class MP with a message written for people; it passes. Every other
 * message may hold SQL, names of constraints or somebody's data: it goes to the log only. */
#include "server/pg/pg_internal.h"
#include "server/base/log.h"
#include "server/run/metrics.h"

const char pg_text_away[] = "the mail store is away for a moment, try again";

struct sqlstate_kind {
    const char *prefix; /* the first match counts */
    enum error_kind kind;
};

static const struct sqlstate_kind sqlstate_kinds[] = {
    {"MP001", ERR_NOT_FOUND},  {"MP002", ERR_DENIED},    {"MP003", ERR_EXISTS},
    {"MP004", ERR_OVER_QUOTA}, {"MP005", ERR_CONFLICT},  {"MP006", ERR_LIMIT},
    {"MP007", ERR_TOO_BIG},    {"08", ERR_TRY_LATER}, /* connection */
    {"0A000", ERR_TRY_LATER}, /* the schema changed under a prepared statement */
    {"22021", ERR_SYNTAX},    /* not UTF-8 */
    {"23503", ERR_NOT_FOUND}, /* foreign key */
    {"23505", ERR_EXISTS},    /* unique */
    {"23P01", ERR_CONFLICT},  /* exclusion: a room is taken */
    {"25006", ERR_TRY_LATER}, /* read-only: a standby that is about to be promoted */
    {"25P03", ERR_TRY_LATER}, /* idle in a transaction for too long */
    {"26000", ERR_TRY_LATER}, /* prepared statement gone: a connection proxy switched servers */
    {"40", ERR_TRY_LATER},    /* deadlock, serialization */
    {"53", ERR_TRY_LATER},    /* disk full, out of memory, too many connections */
    {"54000", ERR_TOO_BIG},    {"55P03", ERR_TRY_LATER}, /* lock_timeout */
    {"57", ERR_TRY_LATER},                               /* shutdown, statement_timeout */
    {"58", ERR_TRY_LATER},                               /* input/output error */
};

static const char *const kind_texts[ERR_KIND_COUNT] = {
    [ERR_SYNTAX] = "the text is not valid UTF-8",
    [ERR_NOT_FOUND] = "what this belongs to does not exist",
    [ERR_EXISTS] = "it exists already",
    [ERR_CONFLICT] = "it is taken by something else",
    [ERR_TOO_BIG] = "too large for the mail store",
    [ERR_TRY_LATER] = pg_text_away,
};

enum error_kind pg_error_kind(const char *sqlstate)
{
    if (sqlstate == NULL)
        return ERR_TRY_LATER; /* libpq's own: the connection broke */
    for (size_t i = 0; i < sizeof sqlstate_kinds / sizeof sqlstate_kinds[0]; i++)
        if (strncmp(sqlstate, sqlstate_kinds[i].prefix, strlen(sqlstate_kinds[i].prefix)) == 0)
            return sqlstate_kinds[i].kind;
    return ERR_INTERNAL;
}

bool pg_result_is_fatal(const PGresult *r)
{
    const char *severity = PQresultErrorField(r, PG_DIAG_SEVERITY_NONLOCALIZED);

    return severity != NULL && (strcmp(severity, "FATAL") == 0 || strcmp(severity, "PANIC") == 0);
}

bool pg_result_sqlstate_is(const PGresult *r, const char *sqlstate)
{
    const char *actual = PQresultErrorField(r, PG_DIAG_SQLSTATE);

    return actual != NULL && strcmp(actual, sqlstate) == 0;
}

static enum log_level level_of(enum error_kind kind)
{
    switch (kind) {
    case ERR_INTERNAL:
        return LOG_LEVEL_ERROR;
    case ERR_TRY_LATER:
        return LOG_LEVEL_WARN;
    default:
        return LOG_LEVEL_DEBUG; /* a refusal that its client hears of */
    }
}

int pg_fail(struct error *err, const PGresult *r, const char *query_name)
{
    const char *sqlstate = PQresultErrorField(r, PG_DIAG_SQLSTATE);
    const char *message = PQresultErrorField(r, PG_DIAG_MESSAGE_PRIMARY);
    enum error_kind kind = pg_error_kind(sqlstate);
    const char *text = kind_texts[kind] ? kind_texts[kind] : "the mail store refused this";

    if (message == NULL)
        message = PQresultErrorMessage(r);
    metric_inc(METRIC_pg_errors);
    LOG_AT(NULL, level_of(kind), "pg_refused", KV("query", query_name),
           KV("kind", error_kind_name(kind)), KV("sqlstate", sqlstate ? sqlstate : ""),
           KV("message", str_trim(str_c(message))));
    if (sqlstate != NULL && strncmp(sqlstate, "MP", 2) == 0)
        text = message;
    return fail(err, kind, "%s", text);
}
