/* pg.h - PostgreSQL on fibers: a pool of connections, named queries, transactions, pipelines.
 *
 * Queries are written in sql/queries/ and embedded as struct sql_query (build/sql_queries.h).
 * Each is prepared once per connection; parameters and results are binary. A struct pg is a place
 * to run queries: the worker's pool (each call borrows a connection) or one transaction.
 *
 * When PostgreSQL is away, callers wait up to config.database_wait for a connection and then get
 * ERR_TRY_LATER. A statement whose connection broke gets ERR_TRY_LATER too; when that was the
 * COMMIT, its outcome is unknown and the log says so. SQLSTATEs map to: unique violation ERR_EXISTS,
 * foreign key ERR_NOT_FOUND, deadlock and serialization ERR_TRY_LATER, disk full (53100) and
 * other class 53/57/58 ERR_TRY_LATER, custom class "MP": see pg_error_kind(), else ERR_INTERNAL. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "server/base/arena.h"
#include "server/base/error.h"
#include "server/base/str.h"
#include "server/run/fiber.h"

enum sql_result { SQL_ONE, SQL_MAYBE, SQL_MANY, SQL_EXEC };

struct sql_query {
    const char *name;
    const char *text;
    enum sql_result result; /* SQL_ONE: an empty answer is ERR_NOT_FOUND */
    unsigned index;         /* position among all queries */
    unsigned param_count;
};

/* --- parameters -------------------------------------------------------------------------------
 * A parameter's type is what PostgreSQL infers from the query, and the argument must be of exactly that type:
 * pg_i32 for int4, pg_i64 for int8. Where it cannot tell, the query says: $1::bigint, $2::text::jsonb.
 * PG_ARGS lives until the end of the enclosing block: do not fill a pg_call with it inside a loop's body. */
struct pg_arg {
    enum {
        PG_NULL,
        PG_BOOL,
        PG_I16,
        PG_I32,
        PG_I64,
        PG_F64,
        PG_TEXT,
        PG_BYTEA,
        PG_TIME_US,
        PG_I32_ARRAY,
        PG_I64_ARRAY,
        PG_TEXT_ARRAY,
        PG_BYTEA_ARRAY
    } type;
    union {
        int64_t i;
        double f;
        struct str s;
        struct {
            const void *items;
            size_t count;
        } array;
    };
};
struct pg_args {
    const struct pg_arg *v;
    size_t n;
};
#define PG_ARGS(...)                                                                               \
    ((struct pg_args){(const struct pg_arg[]){__VA_ARGS__},                                        \
                      sizeof((const struct pg_arg[]){__VA_ARGS__}) / sizeof(struct pg_arg)})
#define PG_NO_ARGS ((struct pg_args){NULL, 0})

static inline struct pg_arg pg_null(void)
{
    return (struct pg_arg){.type = PG_NULL};
}
static inline struct pg_arg pg_bool(bool v)
{
    return (struct pg_arg){.type = PG_BOOL, .i = v};
}
static inline struct pg_arg pg_i16(int16_t v)
{
    return (struct pg_arg){.type = PG_I16, .i = v};
}
static inline struct pg_arg pg_i32(int32_t v)
{
    return (struct pg_arg){.type = PG_I32, .i = v};
}
static inline struct pg_arg pg_i64(int64_t v)
{
    return (struct pg_arg){.type = PG_I64, .i = v};
}
/* Valid UTF-8 without NUL: anything else is refused as ERR_SYNTAX. */
static inline struct pg_arg pg_text(struct str v)
{
    return (struct pg_arg){.type = PG_TEXT, .s = v};
}
static inline struct pg_arg pg_bytea(struct str v)
{
    return (struct pg_arg){.type = PG_BYTEA, .s = v};
}
static inline struct pg_arg pg_time_us(int64_t unix_us)
{
    return (struct pg_arg){.type = PG_TIME_US, .i = unix_us};
}
static inline struct pg_arg pg_i32_array(const int32_t *v, size_t n)
{
    return (struct pg_arg){.type = PG_I32_ARRAY, .array = {v, n}};
}
static inline struct pg_arg pg_i64_array(const int64_t *v, size_t n)
{
    return (struct pg_arg){.type = PG_I64_ARRAY, .array = {v, n}};
}
static inline struct pg_arg pg_text_array(const struct str *v, size_t n)
{
    return (struct pg_arg){.type = PG_TEXT_ARRAY, .array = {v, n}};
}
static inline struct pg_arg pg_bytea_array(const struct str *v, size_t n)
{
    return (struct pg_arg){.type = PG_BYTEA_ARRAY, .array = {v, n}};
}

/* --- results ---------------------------------------------------------------------------------- */
struct pg_rows {
    void *result; /* PGresult; NULL after pg_rows_free */
    size_t count; /* rows, or rows affected by an SQL_EXEC */
};
void pg_rows_free(struct pg_rows *rows); /* harmless on a zeroed one */

/* Values by column name (our bug when there is no such column). Texts and bytes are borrowed from the rows.
 * NULL reads as 0 / empty. */
int pg_column(const struct pg_rows *rows, const char *name);
bool pg_is_null(const struct pg_rows *rows, size_t row, const char *name);
bool pg_get_bool(const struct pg_rows *rows, size_t row, const char *name);
int32_t pg_get_i32(const struct pg_rows *rows, size_t row, const char *name); /* int2 and int4 */
uint32_t pg_get_u32(const struct pg_rows *rows, size_t row,
                    const char *name); /* int4 or int8 holding 32 unsigned bits */
int64_t pg_get_i64(const struct pg_rows *rows, size_t row, const char *name); /* int2, int4, int8 */
struct str pg_get_str(const struct pg_rows *rows, size_t row, const char *name); /* text, bytea */
int64_t pg_get_time_us(const struct pg_rows *rows, size_t row, const char *name);
/* The same by column number (from pg_column), for loops over thousands of rows. */
bool pg_null_at(const struct pg_rows *rows, size_t row, int column);
int64_t pg_i64_at(const struct pg_rows *rows, size_t row, int column); /* bool, int2, int4, int8 */
struct str pg_str_at(const struct pg_rows *rows, size_t row, int column);
int64_t pg_time_us_at(const struct pg_rows *rows, size_t row, int column);
/* The first row whose column holds the value, of rows ordered by that column; SIZE_MAX: none. */
size_t pg_find_i64(const struct pg_rows *rows, int column, int64_t value);
/* Arrays: one-dimensional; NULL members read as 0 / empty. Memory from the arena; strs borrowed from the
 * rows. */
size_t pg_text_array_at(struct arena *a, const struct pg_rows *rows, size_t row, int column,
                        struct str **out);
size_t pg_i64_array_at(struct arena *a, const struct pg_rows *rows, size_t row, int column,
                       int64_t **out);

/* --- running ---------------------------------------------------------------------------------- */
struct pg;

struct pg *pg_pool(void); /* the process's pool */

/* One statement. rows may be NULL when nothing is read; otherwise pg_rows_free() it (it is zeroed on failure). */
PARKS int pg_run(struct pg *db, const struct sql_query *q, struct pg_args args,
                 struct pg_rows *rows, struct error *err);

/* Several statements in one round trip and (on the pool) one transaction. On failure nothing has happened, every
 * rows[] is zeroed, and err is that of the first statement refused. A :one among statements that are not plain
 * SELECTs costs a second round trip, since only its answer decides whether to commit. */
struct pg_call {
    const struct sql_query *query;
    struct pg_args args;
};
PARKS int pg_run_batch(struct pg *db, const struct pg_call *calls, size_t count,
                       struct pg_rows *rows, struct error *err);

/* A transaction over several round trips. Never hold one while waiting for a client. A failed statement
 * leaves only rollback. Both end calls take *tx and leave NULL; rollback accepts NULL. */
PARKS struct pg *pg_begin(struct error *err);
PARKS int pg_commit(struct pg **tx, struct error *err);
PARKS void pg_rollback(struct pg **tx);

/* --- life ------------------------------------------------------------------------------------- */
/* conninfo: a libpq connection string or URI. Connections are made as they are needed. */
void pg_pool_init(const char *conninfo, unsigned connections_max);
PARKS void pg_pool_fini(void);
const char *pg_conninfo(void); /* from config: `database`, or the embedded cluster's socket */

enum error_kind pg_error_kind(const char *sqlstate);
