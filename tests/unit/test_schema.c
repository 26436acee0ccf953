/* test_schema.c - the rules of the schema, read from PostgreSQL's catalogue: what belongs to an
 * account can be spread over machines by account_id. */
#include "tests/unit/pg_fixture.h"

#include "server/pg/migrate.h"

static int start(void **state)
{
    struct error err = {0};

    fixture_start(state);
    if (pg_migrate(cluster_conninfo(), &err) < 0)
        fixture_fail("pg_migrate", &err);
    return 0;
}

#define TABLES                                                                                     \
    "(SELECT c.oid, c.relname, split_part(obj_description(c.oid, 'pg_class'), ':', 1) AS class "   \
    "FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p'))"
#define ACCOUNT_TABLES "(SELECT * FROM " TABLES " AS t WHERE class = 'account')"
/* Name of the first column of an index or a foreign key. */
#define COLUMN(table, number)                                                                      \
    "(SELECT attname FROM pg_attribute WHERE attrelid = " table " AND attnum = " number ")"

/* Prints every row of the answer: each breaks a rule. */
static void assert_none(const char *sql)
{
    PGconn *pq = fixture_connect();
    PGresult *r = PQexec(pq, sql);
    int count = PQntuples(r);

    if (PQresultStatus(r) != PGRES_TUPLES_OK)
        print_error("%s%s", sql, PQerrorMessage(pq));
    assert_int_equal(PQresultStatus(r), PGRES_TUPLES_OK);
    for (int i = 0; i < count; i++)
        print_error("%s\n", PQgetvalue(r, i, 0));
    PQclear(r);
    PQfinish(pq);
    assert_int_equal(count, 0);
}

static void every_table_says_its_class(void **state)
{
    assert_none("SELECT relname FROM " TABLES
                " AS t WHERE relname <> 'schema_migration' AND (class IS NULL OR "
                "class NOT IN ('account', 'reference', 'host'))");
}

static void the_tables_of_accounts_are_found(void **state)
{
    static const char *const expected[] = {
        "account_state", "credential",           "mailbox",        "mailbox_removed",
        "message",       "message_meta",         "mailbox_change", "message_removed",
        "thread_ref",    "mailbox_seen",         "text_state",     "text_segment",
        "text_bucket",   "mailbox_subscription",
    };
    char sql[512];

    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
        snprintf(sql, sizeof sql,
                 "SELECT count(*) FROM " ACCOUNT_TABLES " AS t WHERE relname = '%s'", expected[i]);
        if (fixture_sql(sql) != 1)
            print_error("%s is not a table of class account\n", expected[i]);
        assert_int_equal(fixture_sql(sql), 1);
    }
}

static void tables_of_accounts_have_an_account_id(void **state)
{
    assert_none("SELECT relname FROM " ACCOUNT_TABLES
                " AS t WHERE NOT EXISTS (SELECT FROM pg_attribute WHERE "
                "attrelid = t.oid AND attname = 'account_id' AND attnotnull AND atttypid = "
                "'bigint'::regtype)");
}

static void tables_of_accounts_have_a_primary_key(void **state)
{
    assert_none("SELECT relname FROM " ACCOUNT_TABLES
                " AS t WHERE NOT EXISTS (SELECT FROM pg_index WHERE indrelid = "
                "t.oid AND indisprimary)");
}

static void unique_keys_begin_with_account_id(void **state)
{
    assert_none("SELECT i.indexrelid::regclass FROM " ACCOUNT_TABLES
                " AS t JOIN pg_index i ON i.indrelid = t.oid "
                "WHERE (i.indisunique OR i.indisexclusion) AND " COLUMN(
                    "t.oid", "i.indkey[0]") " IS DISTINCT FROM "
                                            "'account_id'");
}

static void foreign_keys_begin_with_account_id(void **state)
{
    assert_none(
        "SELECT t.relname || '.' || k.conname FROM " ACCOUNT_TABLES
        " AS t JOIN pg_constraint k ON k.conrelid "
        "= t.oid AND k.contype = 'f' WHERE " COLUMN(
            "k.conrelid",
            "k.conkey[1]") " <> 'account_id' OR " COLUMN("k.confrelid",
                                                         "k.confkey[1]") " <> 'account_id'");
}

static void tables_of_accounts_have_no_triggers(void **state)
{
    assert_none("SELECT t.relname || '.' || g.tgname FROM " ACCOUNT_TABLES
                " AS t JOIN pg_trigger g ON g.tgrelid = "
                "t.oid WHERE NOT g.tgisinternal");
}

/* The rules above find what breaks them. */
static void a_table_that_breaks_the_rules_is_found(void **state)
{
    static const struct {
        const char *columns;
        const char *rule;
    } bad[] = {
        {"account_id bigint NOT NULL, k bigint, PRIMARY KEY (k, account_id)",
         "SELECT count(*) FROM " ACCOUNT_TABLES
         " AS t JOIN pg_index i ON i.indrelid = t.oid WHERE i.indisunique AND " COLUMN(
             "t.oid", "i.indkey[0]") " IS DISTINCT FROM 'account_id'"},
        {"account_id bigint PRIMARY KEY, d bigint REFERENCES domain",
         "SELECT count(*) FROM " ACCOUNT_TABLES
         " AS t JOIN pg_constraint k ON k.conrelid = t.oid AND k.contype = 'f' "
         "WHERE " COLUMN("k.conrelid", "k.conkey[1]") " <> 'account_id'"},
    };
    char sql[512];

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        snprintf(sql, sizeof sql,
                 "CREATE TABLE bad (%s); COMMENT ON TABLE bad IS 'account: for this test'",
                 bad[i].columns);
        fixture_sql(sql);
        assert_int_equal(fixture_sql(bad[i].rule), 1);
        fixture_sql("DROP TABLE bad");
    }
}

/* Which of an account's rows there are many of, statistics know too late. */
static void the_planner_takes_no_account_for_empty(void **state)
{
    (void)state;
    assert_none(
        "SELECT t.relname FROM " ACCOUNT_TABLES
        " AS t JOIN pg_index i ON i.indrelid = t.oid AND i.indisprimary AND i.indnkeyatts > 1 "
        "JOIN pg_attribute a ON a.attrelid = t.oid AND a.attname = 'account_id' "
        "WHERE a.attstattarget <> 0");
}

#define MANY_MESSAGES                                                                              \
    "INSERT INTO message (account_id, mailbox_id, uid, message_id, modseq, flags, "                \
    "created_modseq, "                                                                             \
    "thread_id, blob_id, size, received_at) "                                                      \
    "SELECT 1000001, 1, g, g, g, 0, g, g, g, 1, now() FROM generate_series(1, 20000) AS g;"        \
    "ANALYZE message"

/* An import is over before anybody counts. */
static void a_message_is_looked_up_by_its_own_index_whatever_the_statistics_say(void **state)
{
    static const struct {
        const char *condition, *index;
    } lookups[] = {
        {"message_id = 5", "message_pkey"},
        {"message_id BETWEEN 5 AND 9", "message_pkey"},
        {"mailbox_id = 1 AND uid = 5", "message_uid"},
        {"mailbox_id = 1 AND uid BETWEEN 5 AND 9", "message_uid"},
        {"thread_id = 5", "message_thread"},
    };
    PGconn *pq = fixture_connect();

    (void)state;
    PQclear(PQexec(pq, "BEGIN"));
    PQclear(PQexec(pq, MANY_MESSAGES));
    for (size_t i = 0; i < sizeof lookups / sizeof lookups[0]; i++) {
        char sql[256];
        PGresult *r;

        snprintf(sql, sizeof sql, "EXPLAIN SELECT * FROM message WHERE account_id = 1000002 AND %s",
                 lookups[i].condition);
        r = PQexec(pq, sql);
        assert_int_equal(PQresultStatus(r), PGRES_TUPLES_OK);
        if (strstr(PQgetvalue(r, 0, 0), lookups[i].index) == NULL)
            print_error("%s: %s\n", lookups[i].condition, PQgetvalue(r, 0, 0));
        assert_non_null(strstr(PQgetvalue(r, 0, 0), lookups[i].index));
        PQclear(r);
    }
    PQclear(PQexec(pq, "ROLLBACK"));
    PQfinish(pq);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_table_says_its_class),
        cmocka_unit_test(the_tables_of_accounts_are_found),
        cmocka_unit_test(tables_of_accounts_have_an_account_id),
        cmocka_unit_test(tables_of_accounts_have_a_primary_key),
        cmocka_unit_test(unique_keys_begin_with_account_id),
        cmocka_unit_test(foreign_keys_begin_with_account_id),
        cmocka_unit_test(tables_of_accounts_have_no_triggers),
        cmocka_unit_test(a_table_that_breaks_the_rules_is_found),
        cmocka_unit_test(the_planner_takes_no_account_for_empty),
        cmocka_unit_test(a_message_is_looked_up_by_its_own_index_whatever_the_statistics_say),
    };

    return cmocka_run_group_tests(tests, start, fixture_stop);
}
