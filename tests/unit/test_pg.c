/* test_pg.c - the PostgreSQL client against a real server: values, transactions, errors, and every way to lose
 * a connection. Times here only make an order certain; none is part of a verdict. */
#include "tests/unit/pg_fixture.h"

#include <signal.h>
#include <sys/wait.h>

#include "server/base/arena.h"
#include "server/pg/migrate.h"
#include "server/run/offload.h"
#include "sql_queries.h"

#define CONNECTIONS 3
#define OURS        "FROM pg_stat_activity WHERE application_name = 'merpati'"
#define SLEEPING    OURS " AND state = 'active' AND query LIKE '%pg_sleep%'"

/* Queries without a name are parsed each time, and need no place among the embedded ones. */
#define QUERY(text_, result_, params_)                                                             \
    (&(const struct sql_query){                                                                    \
        .name = "", .text = (text_), .result = SQL_##result_, .param_count = (params_)})

static const struct sql_query sleep_ms = {
    .name = "", .text = "SELECT pg_sleep($1::float8 / 1000)", .result = SQL_ONE, .param_count = 1};
static const struct sql_query insert = {
    .name = "", .text = "INSERT INTO t (k) VALUES ($1)", .result = SQL_EXEC, .param_count = 1};
static const struct sql_query count_t = {
    .name = "", .text = "SELECT count(*) AS n FROM t", .result = SQL_ONE};

static struct pg_arg ms(double v)
{
    return (struct pg_arg){.type = PG_F64, .f = v};
}

/* ---- each case runs in a fiber, with a pool and an empty table ------------------------------------- */

static unsigned connections_max;

static void run_case(void *arg)
{
    void (*body)(void) = (void (*)(void))arg;

    pg_pool_init(pg_conninfo(), connections_max);
    body();
    pg_pool_fini();
}

static void in_fiber(void (*body)(void))
{
    fixture_sql("SET client_min_messages = warning; DROP TABLE IF EXISTS t; CREATE TABLE t (k int "
                "PRIMARY KEY)");
    config.database_timeout = 30000;
    config.database_wait = 30000;
    loop_init();
    loop_run_fiber("case", run_case, (void *)body);
    offload_fini();
    fiber_pool_fini();
    loop_fini();
}

#define CASE_WITH(connections, name)                                                               \
    static void name##_body(void);                                                                 \
    static void name(void **state)                                                                 \
    {                                                                                              \
        connections_max = (connections);                                                           \
        in_fiber(name##_body);                                                                     \
    }                                                                                              \
    static void name##_body(void)
#define CASE(name) CASE_WITH(CONNECTIONS, name)

static int run_ok(const struct sql_query *q, struct pg_args args, struct pg_rows *rows)
{
    struct error err = {0};
    int rc = pg_run(pg_pool(), q, args, rows, &err);

    if (rc < 0)
        print_error("%s: %s\n", q->text, err.text);
    assert_int_equal(rc, 0);
    return rc;
}

static int64_t one_number(const struct sql_query *q, struct pg_args args)
{
    struct pg_rows rows;
    int64_t n;

    run_ok(q, args, &rows);
    n = pg_i64_at(&rows, 0, 0);
    pg_rows_free(&rows);
    return n;
}

static int64_t rows_in_t(void)
{
    return one_number(&count_t, PG_NO_ARGS);
}

static enum error_kind kind_of(struct pg *db, const struct sql_query *q, struct pg_args args)
{
    struct error err = {0};
    struct pg_rows rows;

    if (pg_run(db, q, args, &rows, &err) == 0) {
        pg_rows_free(&rows);
        return ERR_NONE;
    }
    assert_null(rows.result);
    return err.kind;
}

#define assert_str(actual, expected)                                                               \
    do {                                                                                           \
        struct str s_ = (actual);                                                                  \
        assert_int_equal(s_.n, sizeof(expected) - 1);                                              \
        assert_memory_equal(s_.p, expected, s_.n);                                                 \
    } while (0)

/* ---- values ---------------------------------------------------------------------------------------- */

CASE(values_come_back_as_they_went)
{
    struct pg_rows rows;

    run_ok(
        QUERY(
            "SELECT $1::bool AS b, $2::int2 AS s, $3::int4 AS i, $4::int8 AS l, $5::text AS t, "
            "$6::bytea AS x, "
            "$7::timestamptz AS at, $8::float8 = 0.5 AS half, $9::text AS empty, $2::int4 AS wide",
            ONE, 9),
        PG_ARGS(pg_bool(true), pg_i16(-2), pg_i32(INT32_MIN), pg_i64(INT64_MIN),
                pg_text(STR("gr\303\274n")), pg_bytea(STR("\0\1\377")),
                pg_time_us(1790000000123456), ms(0.5), pg_text(STR_NULL)),
        &rows);
    assert_int_equal(rows.count, 1);
    assert_true(pg_get_bool(&rows, 0, "b"));
    assert_int_equal(pg_get_i32(&rows, 0, "s"), -2);
    assert_int_equal(pg_get_i64(&rows, 0, "s"), -2);
    assert_int_equal(pg_get_i32(&rows, 0, "i"), INT32_MIN);
    assert_int_equal(pg_get_u32(&rows, 0, "i"), (uint32_t)INT32_MIN);
    assert_int_equal(pg_get_i64(&rows, 0, "l"), INT64_MIN);
    assert_str(pg_get_str(&rows, 0, "t"), "gr\303\274n");
    assert_str(pg_get_str(&rows, 0, "x"), "\0\1\377");
    assert_int_equal(pg_get_time_us(&rows, 0, "at"), 1790000000123456);
    assert_true(pg_get_bool(&rows, 0, "half"));
    assert_false(pg_is_null(&rows, 0, "empty"));
    assert_str(pg_get_str(&rows, 0, "empty"), "");
    pg_rows_free(&rows);
    pg_rows_free(&rows);
}

CASE(times_mean_what_postgresql_means)
{
    struct pg_rows rows;

    run_ok(QUERY("SELECT '1970-01-01 00:00:01Z'::timestamptz AS one_s, 'infinity'::timestamptz AS "
                 "never, "
                 "extract(epoch FROM $1::timestamptz)::int8 AS s",
                 ONE, 1),
           PG_ARGS(pg_time_us(-5000000)), &rows);
    assert_int_equal(pg_get_time_us(&rows, 0, "one_s"), 1000000);
    assert_true(pg_get_time_us(&rows, 0, "never") == INT64_MAX);
    assert_int_equal(pg_get_i64(&rows, 0, "s"), -5);
    pg_rows_free(&rows);
}

CASE(null_reads_as_zero_and_empty)
{
    struct pg_rows rows;

    run_ok(
        QUERY("SELECT $1::int8 AS n, $2::text AS t, $3::timestamptz AS at, $4::bool AS b", ONE, 4),
        PG_ARGS(pg_null(), pg_null(), pg_null(), pg_null()), &rows);
    assert_true(pg_is_null(&rows, 0, "n"));
    assert_int_equal(pg_get_i64(&rows, 0, "n"), 0);
    assert_int_equal(pg_get_str(&rows, 0, "t").n, 0);
    assert_int_equal(pg_get_time_us(&rows, 0, "at"), 0);
    assert_false(pg_get_bool(&rows, 0, "b"));
    pg_rows_free(&rows);
}

CASE(arrays_go_and_come_back)
{
    struct arena *a = arena_new();
    struct pg_rows rows;
    const int32_t i32[] = {1, -1};
    const int64_t i64[] = {INT64_MAX, 0, INT64_MIN};
    const struct str texts[] = {STR("a"), STR_NULL, STR("b,\"c\"")};
    const struct str bytes[] = {STR("\0")};
    int64_t *numbers;
    struct str *strs;

    run_ok(QUERY("SELECT $1::int4[] AS i, $2::int8[] AS l, $3::text[] AS t, $4::bytea[] AS x, "
                 "$5::int8[] AS none, "
                 "array[NULL, 'z']::text[] AS gap, NULL::text[] AS nothing",
                 ONE, 5),
           PG_ARGS(pg_i32_array(i32, 2), pg_i64_array(i64, 3), pg_text_array(texts, 3),
                   pg_bytea_array(bytes, 1), pg_i64_array(NULL, 0)),
           &rows);
    assert_int_equal(pg_i64_array_at(a, &rows, 0, pg_column(&rows, "i"), &numbers), 2);
    assert_int_equal(numbers[1], -1);
    assert_int_equal(pg_i64_array_at(a, &rows, 0, pg_column(&rows, "l"), &numbers), 3);
    assert_int_equal(numbers[0], INT64_MAX);
    assert_int_equal(numbers[2], INT64_MIN);
    assert_int_equal(pg_text_array_at(a, &rows, 0, pg_column(&rows, "t"), &strs), 3);
    assert_str(strs[1], "");
    assert_str(strs[2], "b,\"c\"");
    assert_int_equal(pg_text_array_at(a, &rows, 0, pg_column(&rows, "x"), &strs), 1);
    assert_str(strs[0], "\0");
    assert_int_equal(pg_i64_array_at(a, &rows, 0, pg_column(&rows, "none"), &numbers), 0);
    assert_int_equal(pg_text_array_at(a, &rows, 0, pg_column(&rows, "gap"), &strs), 2);
    assert_int_equal(strs[0].n, 0);
    assert_str(strs[1], "z");
    assert_int_equal(pg_text_array_at(a, &rows, 0, pg_column(&rows, "nothing"), &strs), 0);
    pg_rows_free(&rows);
    arena_free(&a);
}

CASE_WITH(1, a_large_value_passes_and_its_connection_is_not_kept)
{
    const size_t size = 20 << 20;
    char *p = malloc(size);
    struct pg_rows rows;
    int64_t pid;

    memset(p, 'x', size);
    p[size - 1] = '!';
    pid = one_number(QUERY("SELECT pg_backend_pid()", ONE, 0), PG_NO_ARGS);
    run_ok(QUERY("SELECT $1::bytea AS x", ONE, 1), PG_ARGS(pg_bytea(str_of(p, size))), &rows);
    assert_int_equal(pg_get_str(&rows, 0, "x").n, size);
    assert_memory_equal(pg_get_str(&rows, 0, "x").p, p, size);
    pg_rows_free(&rows);
    free(p);
    assert_int_not_equal(one_number(QUERY("SELECT pg_backend_pid()", ONE, 0), PG_NO_ARGS), pid);
}

CASE(many_rows_arrive_in_order)
{
    struct pg_rows rows;

    run_ok(QUERY("SELECT i FROM generate_series(1, $1::int8) i", MANY, 1), PG_ARGS(pg_i64(100000)),
           &rows);
    assert_int_equal(rows.count, 100000);
    for (size_t i = 0; i < rows.count; i++)
        assert_int_equal(pg_i64_at(&rows, i, 0), i + 1);
    pg_rows_free(&rows);
}

/* ---- answers --------------------------------------------------------------------------------------- */

CASE(an_empty_answer_is_not_found_only_for_one)
{
    struct error err = {0};
    struct pg_rows rows;

    assert_int_equal(kind_of(pg_pool(), QUERY("SELECT k FROM t", ONE, 0), PG_NO_ARGS),
                     ERR_NOT_FOUND);
    assert_int_equal(pg_run(pg_pool(), QUERY("SELECT k FROM t", MAYBE, 0), PG_NO_ARGS, &rows, &err),
                     0);
    assert_int_equal(rows.count, 0);
    pg_rows_free(&rows);
    assert_int_equal(kind_of(pg_pool(), QUERY("SELECT k FROM t", MANY, 0), PG_NO_ARGS), ERR_NONE);
}

CASE(exec_counts_the_rows_it_changed)
{
    struct pg_rows rows;

    run_ok(QUERY("INSERT INTO t SELECT generate_series(1, 7)", EXEC, 0), PG_NO_ARGS, &rows);
    assert_int_equal(rows.count, 7);
    pg_rows_free(&rows);
    run_ok(QUERY("DELETE FROM t WHERE k > $1", EXEC, 1), PG_ARGS(pg_i32(7)), &rows);
    assert_int_equal(rows.count, 0);
    pg_rows_free(&rows);
    run_ok(&insert, PG_ARGS(pg_i32(8)), NULL);
    assert_int_equal(rows_in_t(), 8);
}

CASE(a_named_query_is_prepared_once_per_connection)
{
    const struct sql_query named = {.name = "twice",
                                    .text = "SELECT $1::int4 AS n",
                                    .result = SQL_ONE,
                                    .index = sql_query_count + 100,
                                    .param_count = 1};
    struct pg_call calls[] = {{&named, PG_ARGS(pg_i32(1))}, {&named, PG_ARGS(pg_i32(2))}};
    struct pg_rows rows[2];
    struct error err = {0};

    assert_int_equal(pg_run_batch(pg_pool(), calls, 2, rows, &err), 0);
    assert_int_equal(pg_get_i32(&rows[1], 0, "n"), 2);
    pg_rows_free(&rows[0]);
    pg_rows_free(&rows[1]);
    assert_int_equal(one_number(&named, PG_ARGS(pg_i32(3))), 3);
    assert_int_equal(
        one_number(QUERY("SELECT count(*) FROM pg_prepared_statements", ONE, 0), PG_NO_ARGS), 1);
}

CASE(a_statement_that_could_not_be_prepared_is_tried_again)
{
    const struct sql_query early = {.name = "early",
                                    .text = "SELECT n FROM not_yet",
                                    .result = SQL_ONE,
                                    .index = sql_query_count + 3};
    struct pg_call calls[] = {
        {&insert, PG_ARGS(pg_i32(1))}, {&early, PG_NO_ARGS}, {&early, PG_NO_ARGS}};
    struct error err = {0};

    assert_int_equal(kind_of(pg_pool(), &early, PG_NO_ARGS), ERR_INTERNAL);
    assert_int_equal(pg_run_batch(pg_pool(), calls, 3, NULL, &err), -1);
    fixture_sql("CREATE TABLE not_yet AS SELECT 5 AS n");
    assert_int_equal(one_number(&early, PG_NO_ARGS), 5);
    fixture_sql("DROP TABLE not_yet");
}

CASE(a_changed_table_heals_after_one_try_later)
{
    const struct sql_query star = {.name = "star",
                                   .text = "SELECT * FROM t",
                                   .result = SQL_MANY,
                                   .index = sql_query_count + 1};

    assert_int_equal(kind_of(pg_pool(), &star, PG_NO_ARGS), ERR_NONE);
    fixture_sql("ALTER TABLE t ADD COLUMN more int");
    assert_int_equal(kind_of(pg_pool(), &star, PG_NO_ARGS), ERR_TRY_LATER);
    assert_int_equal(kind_of(pg_pool(), &star, PG_NO_ARGS), ERR_NONE);
}

/* ---- transactions ---------------------------------------------------------------------------------- */

CASE(a_batch_is_one_transaction)
{
    struct pg_call good[] = {{&insert, PG_ARGS(pg_i32(1))}, {&insert, PG_ARGS(pg_i32(2))}};
    struct pg_call bad[] = {{&insert, PG_ARGS(pg_i32(3))},
                            {&insert, PG_ARGS(pg_i32(1))},
                            {&insert, PG_ARGS(pg_i32(4))}};
    struct pg_rows rows[3];
    struct error err = {0};

    assert_int_equal(pg_run_batch(pg_pool(), good, 2, rows, &err), 0);
    assert_int_equal(rows[1].count, 1);
    pg_rows_free(&rows[0]);
    pg_rows_free(&rows[1]);
    assert_int_equal(pg_run_batch(pg_pool(), bad, 3, rows, &err), -1);
    assert_int_equal(err.kind, ERR_EXISTS);
    for (int i = 0; i < 3; i++)
        assert_null(rows[i].result);
    assert_int_equal(rows_in_t(), 2);
}

CASE(a_batch_whose_one_finds_nothing_changes_nothing)
{
    struct pg_call calls[] = {
        {&insert, PG_ARGS(pg_i32(1))},
        {QUERY("UPDATE t SET k = 2 WHERE k = $1 RETURNING k", ONE, 1), PG_ARGS(pg_i32(99))},
    };
    struct pg_rows rows[2];
    struct error err = {0};

    assert_int_equal(pg_run_batch(pg_pool(), calls, 2, rows, &err), -1);
    assert_int_equal(err.kind, ERR_NOT_FOUND);
    assert_int_equal(rows_in_t(), 0);
    calls[1].args = PG_ARGS(pg_i32(1));
    error_clear(&err);
    assert_int_equal(pg_run_batch(pg_pool(), calls, 2, rows, &err), 0);
    assert_int_equal(pg_get_i32(&rows[1], 0, "k"), 2);
    pg_rows_free(&rows[0]);
    pg_rows_free(&rows[1]);
    assert_int_equal(rows_in_t(), 1);
}

CASE(a_transaction_is_seen_by_others_after_its_commit_only)
{
    struct error err = {0};
    struct pg *tx = pg_begin(&err);

    assert_non_null(tx);
    assert_int_equal(pg_run(tx, &insert, PG_ARGS(pg_i32(1)), NULL, &err), 0);
    assert_int_equal(pg_run(tx, &insert, PG_ARGS(pg_i32(2)), NULL, &err), 0);
    assert_int_equal(rows_in_t(), 0);
    assert_int_equal(pg_commit(&tx, &err), 0);
    assert_null(tx);
    assert_int_equal(rows_in_t(), 2);
}

CASE(a_rollback_leaves_nothing)
{
    struct error err = {0};
    struct pg *tx = pg_begin(&err);

    assert_int_equal(pg_run(tx, &insert, PG_ARGS(pg_i32(1)), NULL, &err), 0);
    pg_rollback(&tx);
    assert_null(tx);
    pg_rollback(&tx);
    assert_int_equal(rows_in_t(), 0);
    tx = pg_begin(&err);
    assert_int_equal(pg_commit(&tx, &err), 0);
}

CASE(a_failed_transaction_can_only_be_rolled_back)
{
    struct error err = {0};
    struct pg *tx = pg_begin(&err);

    assert_int_equal(pg_run(tx, &insert, PG_ARGS(pg_i32(1)), NULL, &err), 0);
    assert_int_equal(kind_of(tx, &insert, PG_ARGS(pg_i32(1))), ERR_EXISTS);
    assert_int_not_equal(kind_of(tx, &insert, PG_ARGS(pg_i32(2))), ERR_NONE);
    assert_int_equal(pg_commit(&tx, &err), -1);
    assert_null(tx);
    assert_int_equal(rows_in_t(), 0);
}

CASE(a_deferred_constraint_refuses_at_the_end)
{
    fixture_sql("CREATE TABLE child (k int REFERENCES t DEFERRABLE INITIALLY DEFERRED)");
    const struct sql_query *orphan = QUERY("INSERT INTO child VALUES ($1)", EXEC, 1);
    struct error err = {0};
    struct pg *tx;

    assert_int_equal(kind_of(pg_pool(), orphan, PG_ARGS(pg_i32(5))), ERR_NOT_FOUND);
    tx = pg_begin(&err);
    assert_int_equal(pg_run(tx, orphan, PG_ARGS(pg_i32(5)), NULL, &err), 0);
    assert_int_equal(pg_commit(&tx, &err), -1);
    assert_int_equal(err.kind, ERR_NOT_FOUND);
    assert_int_equal(one_number(QUERY("SELECT count(*) FROM child", ONE, 0), PG_NO_ARGS), 0);
    fixture_sql("DROP TABLE child");
}

/* ---- errors ---------------------------------------------------------------------------------------- */

static void sqlstates_become_kinds(void **state)
{
    static const struct {
        const char *sqlstate;
        enum error_kind kind;
    } table[] = {
        {"23505", ERR_EXISTS},    {"23503", ERR_NOT_FOUND}, {"23P01", ERR_CONFLICT},
        {"40001", ERR_TRY_LATER}, {"40P01", ERR_TRY_LATER}, {"53100", ERR_TRY_LATER},
        {"53300", ERR_TRY_LATER}, {"57P01", ERR_TRY_LATER}, {"57014", ERR_TRY_LATER},
        {"58030", ERR_TRY_LATER}, {"08006", ERR_TRY_LATER}, {NULL, ERR_TRY_LATER},
        {"22021", ERR_SYNTAX},    {"54000", ERR_TOO_BIG},   {"MP001", ERR_NOT_FOUND},
        {"MP002", ERR_DENIED},    {"MP003", ERR_EXISTS},    {"MP004", ERR_OVER_QUOTA},
        {"MP005", ERR_CONFLICT},  {"MP006", ERR_LIMIT},     {"MP007", ERR_TOO_BIG},
        {"MP999", ERR_INTERNAL},  {"42P01", ERR_INTERNAL},  {"22P02", ERR_INTERNAL},
        {"", ERR_INTERNAL},
    };

    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        assert_int_equal(pg_error_kind(table[i].sqlstate), table[i].kind);
}

CASE(only_our_own_messages_reach_the_client)
{
    struct error err = {0};

    fixture_sql("CREATE OR REPLACE FUNCTION refuse(state text) RETURNS int LANGUAGE plpgsql AS "
                "$$ BEGIN RAISE EXCEPTION 'the mailbox is full' USING ERRCODE = state; END $$");
    const struct sql_query *refuse = QUERY("SELECT refuse($1)", ONE, 1);

    assert_int_equal(pg_run(pg_pool(), refuse, PG_ARGS(pg_text(STR("MP004"))), NULL, &err), -1);
    assert_int_equal(err.kind, ERR_OVER_QUOTA);
    assert_string_equal(err.text, "the mailbox is full");
    error_clear(&err);
    assert_int_equal(pg_run(pg_pool(), refuse, PG_ARGS(pg_text(STR("XX000"))), NULL, &err), -1);
    assert_int_equal(err.kind, ERR_INTERNAL);
    assert_null(strstr(err.text, "mailbox is full"));
    assert_int_equal(
        kind_of(pg_pool(), QUERY("SELECT $1::text", ONE, 1), PG_ARGS(pg_text(STR("\377")))),
        ERR_SYNTAX);
    assert_int_equal(rows_in_t(), 0);
}

CASE(a_statement_that_runs_too_long_is_try_later)
{
    config.database_timeout = 100;
    assert_int_equal(kind_of(pg_pool(), &sleep_ms, PG_ARGS(ms(20000))), ERR_TRY_LATER);
    assert_int_equal(rows_in_t(), 0);
}

/* ---- the pool -------------------------------------------------------------------------------------- */

struct job {
    const struct sql_query *query;
    struct pg_args args;
    struct error err;
    int rc;
    int order; /* in which the jobs ended, from 1 */
    struct fiber *fiber;
};

static int jobs_ended;

static void job_run(void *arg)
{
    struct job *j = arg;

    j->rc = pg_run(pg_pool(), j->query, j->args, NULL, &j->err);
    j->order = ++jobs_ended;
}

static void job_start(struct job *j)
{
    j->fiber = fiber_start("job", job_run, j);
}

static void jobs_wait(int count)
{
    while (jobs_ended < count)
        fiber_sleep(5);
    jobs_ended = 0;
}

static void run_jobs(struct job *jobs, int count)
{
    const struct pg_arg pause[] = {ms(5)};

    for (int i = 0; i < count; i++) {
        jobs[i].query = &sleep_ms;
        jobs[i].args = (struct pg_args){pause, 1};
        job_start(&jobs[i]);
    }
    jobs_wait(count);
    for (int i = 0; i < count; i++)
        assert_int_equal(jobs[i].rc, 0);
}

CASE_WITH(1, waiters_are_served_in_the_order_they_came)
{
    struct job jobs[20] = {0};

    run_jobs(jobs, 20);
    for (int i = 0; i < 20; i++)
        assert_int_equal(jobs[i].order, i + 1);
}

CASE(there_are_no_more_connections_than_the_pool_may_have)
{
    struct job jobs[20] = {0};

    run_jobs(jobs, 20);
    assert_true(fixture_sql("SELECT count(*) " OURS) <= CONNECTIONS);
}

/* Sleeps until somebody puts a row into t; then, run again, it returns at once. */
static const struct sql_query sleep_while_empty = {
    .name = "",
    .text = "SELECT pg_sleep(CASE WHEN EXISTS (SELECT FROM t) THEN 0 ELSE 60 END)",
    .result = SQL_ONE,
};

static void wait_until_it_sleeps(void)
{
    while (fixture_sql("SELECT count(*) " SLEEPING) == 0)
        fiber_sleep(5);
}

CASE_WITH(1, a_cancelled_fiber_leaves_its_connection_clean)
{
    const struct sql_query *backend = QUERY("SELECT pg_backend_pid()", ONE, 0);
    struct job j = {.query = &sleep_while_empty};
    int64_t pid = one_number(backend, PG_NO_ARGS);

    job_start(&j);
    wait_until_it_sleeps();
    fiber_cancel(j.fiber);
    jobs_wait(1);
    assert_int_equal(j.err.kind, ERR_CANCELLED);
    fixture_sql("SELECT pg_cancel_backend(pid) " SLEEPING);
    assert_int_equal(one_number(backend, PG_NO_ARGS),
                     pid); /* waited until it was read to its end */
    assert_int_equal(one_number(QUERY("SELECT 42", ONE, 0), PG_NO_ARGS), 42);
}

static void cancelled_tx_run(void *arg)
{
    struct job *j = arg;
    struct pg *tx = pg_begin(&j->err);

    j->rc = pg_run(tx, &insert, PG_ARGS(pg_i32(1)), NULL, &j->err);
    if (j->rc == 0)
        j->rc = pg_run(tx, &sleep_ms, PG_ARGS(ms(60000)), NULL, &j->err);
    pg_rollback(&tx);
    j->order = ++jobs_ended;
}

CASE(a_cancelled_transaction_is_rolled_back)
{
    struct job j = {0};

    j.fiber = fiber_start("tx", cancelled_tx_run, &j);
    wait_until_it_sleeps();
    fiber_cancel(j.fiber);
    jobs_wait(1);
    assert_int_equal(j.err.kind, ERR_CANCELLED);
    fixture_sql("SELECT pg_cancel_backend(pid) " SLEEPING);
    run_ok(&insert, PG_ARGS(pg_i32(1)), NULL); /* waits for the row's lock, then finds it free */
    assert_int_equal(rows_in_t(), 1);
}

/* ---- losing PostgreSQL ----------------------------------------------------------------------------- */

#define TERMINATE "SELECT count(pg_terminate_backend(pid)) " OURS

CASE(terminated_connections_are_replaced_unnoticed)
{
    for (int i = 0; i < 5; i++) {
        assert_int_equal(rows_in_t(), 0);
        assert_true(fixture_sql(TERMINATE) >= 1);
    }
    assert_int_equal(rows_in_t(), 0);
}

CASE(a_query_that_an_orderly_shutdown_cut_off_is_run_again)
{
    struct job j = {.query = &sleep_while_empty};

    job_start(&j);
    wait_until_it_sleeps();
    fixture_sql("INSERT INTO t VALUES (1)");
    assert_int_equal(fixture_sql(TERMINATE), 1);
    jobs_wait(1);
    assert_int_equal(j.rc, 0);
}

CASE(a_transaction_that_lost_its_connection_is_gone)
{
    struct error err = {0};
    struct pg *tx = pg_begin(&err);

    assert_int_equal(pg_run(tx, &insert, PG_ARGS(pg_i32(1)), NULL, &err), 0);
    fixture_sql(TERMINATE);
    assert_int_equal(kind_of(tx, &insert, PG_ARGS(pg_i32(2))), ERR_TRY_LATER);
    assert_int_equal(pg_commit(&tx, &err), -1);
    assert_int_equal(rows_in_t(), 0);
}

CASE(a_killed_backend_is_try_later_then_well)
{
    struct job j = {.query = &sleep_while_empty};

    job_start(&j);
    wait_until_it_sleeps();
    kill((pid_t)fixture_sql("SELECT pid " SLEEPING), SIGKILL);
    jobs_wait(1);
    assert_int_equal(j.rc, -1);
    assert_int_equal(j.err.kind, ERR_TRY_LATER);
    assert_int_equal(rows_in_t(), 0); /* waits out the recovery */
}

CASE(callers_wait_for_a_restart)
{
    struct error err = {0};
    struct job jobs[8] = {0};

    assert_int_equal(rows_in_t(), 0);
    cluster_stop(fixture_pid);
    for (int i = 0; i < 8; i++) {
        jobs[i].query = &count_t;
        job_start(&jobs[i]);
    }
    fiber_sleep(300);
    assert_int_equal(jobs_ended, 0);
    fixture_pid = cluster_companion.spawn(&err);
    assert_true(fixture_pid > 0);
    jobs_wait(8);
    for (int i = 0; i < 8; i++)
        assert_int_equal(jobs[i].rc, 0);
    assert_int_equal(cluster_companion.wait_ready(fixture_pid, &err), 0);
}

CASE(callers_are_sent_away_when_it_stays_away)
{
    struct error err = {0};

    assert_int_equal(rows_in_t(), 0);
    cluster_stop(fixture_pid);
    config.database_wait = 100;
    assert_int_equal(pg_run(pg_pool(), &count_t, PG_NO_ARGS, NULL, &err), -1);
    assert_int_equal(err.kind, ERR_TRY_LATER);
    assert_string_equal(err.text, "the mail store is away for a moment, try again");
    config.database_wait = 0;
    assert_int_equal(kind_of(pg_pool(), &count_t, PG_NO_ARGS), ERR_TRY_LATER);
    config.database_wait = 30000;
    fixture_pid = cluster_companion.spawn(&err);
    assert_int_equal(rows_in_t(), 0);
}

static void a_killed_cluster_recovers_what_was_committed(void **state)
{
    struct error err = {0};

    fixture_sql("SET client_min_messages = warning; DROP TABLE IF EXISTS t; CREATE TABLE t (k int "
                "PRIMARY KEY)");
    fixture_sql("INSERT INTO t SELECT generate_series(1, 1000)");
    kill(fixture_pid, SIGKILL);
    waitpid(fixture_pid, NULL, 0);
    fixture_start_cluster();
    assert_int_equal(fixture_sql("SELECT count(*) FROM t"), 1000);

    /* One that nobody watches any more, as after the supervisor's death, is stopped in good order. */
    pid_t second = cluster_start(&err);
    assert_true(second > 0 && second != fixture_pid);
    waitpid(fixture_pid, NULL, 0);
    fixture_pid = second;
    assert_int_equal(fixture_sql("SELECT count(*) FROM t"), 1000);
}

/* ---- the schema ------------------------------------------------------------------------------------ */

static void conninfo_of(char *out, size_t size, const char *database)
{
    snprintf(out, size, "%s dbname=%s", cluster_conninfo(), database);
}

static void two_that_start_at_once_migrate_once(void **state)
{
    char conninfo[512];
    pid_t pids[2];

    fixture_sql("CREATE DATABASE fresh");
    conninfo_of(conninfo, sizeof conninfo, "fresh");
    for (int i = 0; i < 2; i++) {
        pids[i] = fork();
        if (pids[i] == 0) {
            struct error err = {0};
            int rc = pg_migrate(conninfo, &err);
            if (rc < 0)
                fprintf(stderr, "%s\n", err.text);
            _exit(rc == 0 ? 0 : 1);
        }
    }
    for (int i = 0; i < 2; i++) {
        int status;
        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        assert_int_equal(status, 0);
    }
}

/* Runs after the one above, on its database. */
static void every_embedded_query_prepares(void **state)
{
    char conninfo[512];
    unsigned refused = 0;
    PGconn *pq;

    conninfo_of(conninfo, sizeof conninfo, "fresh");
    pq = PQconnectdb(conninfo);
    assert_int_equal(PQstatus(pq), CONNECTION_OK);
    for (unsigned i = 0; i < sql_query_count; i++) {
        const struct sql_query *q = sql_queries[i];
        PGresult *r = PQprepare(pq, q->name, q->text, 0, NULL);
        PGresult *d = PQdescribePrepared(pq, q->name);

        assert_int_equal(q->index, i);
        if (PQresultStatus(r) != PGRES_COMMAND_OK) {
            print_error("%s: %s", q->name, PQresultErrorMessage(r));
            refused++;
        } else if (PQnparams(d) != (int)q->param_count ||
                   (q->result != SQL_EXEC && PQnfields(d) == 0)) {
            print_error("%s: wrong number of parameters, or no columns\n", q->name);
            refused++;
        }
        PQclear(r);
        PQclear(d);
    }
    PQfinish(pq);
    assert_int_equal(refused, 0);
}

static void a_newer_schema_is_refused_with_both_numbers(void **state)
{
    int known = sql_migration_count > 0 ? sql_migrations[sql_migration_count - 1].number : 0;
    char conninfo[512], expected[160];
    struct error err = {0};

    conninfo_of(conninfo, sizeof conninfo, "fresh");
    PGconn *pq = PQconnectdb(conninfo);
    PQclear(PQexec(pq, "INSERT INTO schema_migration VALUES (9999, 'future')"));
    PQfinish(pq);
    assert_int_equal(pg_migrate(conninfo, &err), -1);
    snprintf(expected, sizeof expected,
             "the database has schema 9999, this program knows %d: start a newer merpati", known);
    assert_string_equal(err.text, expected);
}

static void an_unreachable_database_is_said_in_one_line(void **state)
{
    struct error err = {0};

    assert_int_equal(pg_migrate("host=/nonexistent dbname=x", &err), -1);
    assert_int_equal(err.kind, ERR_TRY_LATER);
    assert_null(strchr(err.text, '\n'));
}

static void a_bad_data_dir_is_refused_with_the_mend(void **state)
{
    static const char *const dirs[] = {
        "/tmp/with'quote",
        "/tmp/with,comma",
        "/tmp/"
        "a-name-that-is-much-too-long-for-a-socket-below-it-because-an-address-holds-only-one-"
        "hundred-and-seven",
    };
    for (size_t i = 0; i < sizeof dirs / sizeof dirs[0]; i++) {
        struct error err = {0};
        config.data_dir = dirs[i];
        assert_int_equal(cluster_start(&err), -1);
        assert_int_equal(err.kind, ERR_UNSUPPORTED);
    }
    config.data_dir = fixture_dir;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sqlstates_become_kinds),
        cmocka_unit_test(values_come_back_as_they_went),
        cmocka_unit_test(times_mean_what_postgresql_means),
        cmocka_unit_test(null_reads_as_zero_and_empty),
        cmocka_unit_test(arrays_go_and_come_back),
        cmocka_unit_test(a_large_value_passes_and_its_connection_is_not_kept),
        cmocka_unit_test(many_rows_arrive_in_order),
        cmocka_unit_test(an_empty_answer_is_not_found_only_for_one),
        cmocka_unit_test(exec_counts_the_rows_it_changed),
        cmocka_unit_test(a_named_query_is_prepared_once_per_connection),
        cmocka_unit_test(a_statement_that_could_not_be_prepared_is_tried_again),
        cmocka_unit_test(a_changed_table_heals_after_one_try_later),
        cmocka_unit_test(a_batch_is_one_transaction),
        cmocka_unit_test(a_batch_whose_one_finds_nothing_changes_nothing),
        cmocka_unit_test(a_transaction_is_seen_by_others_after_its_commit_only),
        cmocka_unit_test(a_rollback_leaves_nothing),
        cmocka_unit_test(a_failed_transaction_can_only_be_rolled_back),
        cmocka_unit_test(a_deferred_constraint_refuses_at_the_end),
        cmocka_unit_test(only_our_own_messages_reach_the_client),
        cmocka_unit_test(a_statement_that_runs_too_long_is_try_later),
        cmocka_unit_test(waiters_are_served_in_the_order_they_came),
        cmocka_unit_test(there_are_no_more_connections_than_the_pool_may_have),
        cmocka_unit_test(a_cancelled_fiber_leaves_its_connection_clean),
        cmocka_unit_test(a_cancelled_transaction_is_rolled_back),
        cmocka_unit_test(terminated_connections_are_replaced_unnoticed),
        cmocka_unit_test(a_query_that_an_orderly_shutdown_cut_off_is_run_again),
        cmocka_unit_test(a_transaction_that_lost_its_connection_is_gone),
        cmocka_unit_test(a_killed_backend_is_try_later_then_well),
        cmocka_unit_test(callers_wait_for_a_restart),
        cmocka_unit_test(callers_are_sent_away_when_it_stays_away),
        cmocka_unit_test(a_killed_cluster_recovers_what_was_committed),
        cmocka_unit_test(two_that_start_at_once_migrate_once),
        cmocka_unit_test(every_embedded_query_prepares),
        cmocka_unit_test(a_newer_schema_is_refused_with_both_numbers),
        cmocka_unit_test(an_unreachable_database_is_said_in_one_line),
        cmocka_unit_test(a_bad_data_dir_is_refused_with_the_mend),
    };

    if (getenv("TEST_FILTER"))
        cmocka_set_test_filter(getenv("TEST_FILTER"));
    return cmocka_run_group_tests(tests, fixture_start, fixture_stop);
}
