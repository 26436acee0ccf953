/* test_credential.c - who logs in with what, and what stays of it. */
#include "tests/unit/directory_fixture.h"

#include "server/directory/limiter.h"
#include "server/run/channel.h"
#include "server/run/metrics.h"

static struct account account;

static enum error_kind login(const char *name, const char *password)
{
    struct login_origin origin = {.service = STR("test"), .address = STR("192.0.2.7")};
    struct error err = {0};

    account = (struct account){0};
    credential_verify(arena, str_c(name), str_c(password), &origin, &account, &err);
    if (err.kind == ERR_AUTH)
        assert_string_equal(err.text, "the name or the password is wrong");
    return err.kind;
}

CASE(any_address_of_the_account_logs_in)
{
    static const struct {
        const char *name, *password;
        enum error_kind refusal;
    } rows[] = {
        {"ani@example.test", "pencil", ERR_NONE},
        {"ANI@Example.TEST", "pencil", ERR_NONE},
        {"a.putri@other.test", "pencil", ERR_NONE},
        {"ani@example.test", "Pencil", ERR_AUTH},
        {"ani@example.test", "", ERR_AUTH},
        {"budi@example.test", "pencil", ERR_AUTH},
        {"ani", "pencil", ERR_AUTH},
        {"", "pencil", ERR_AUTH},
        {"ani@", "pencil", ERR_AUTH},
        {"ani+x@example.test", "pencil", ERR_AUTH},
        {"\xff", "pencil", ERR_AUTH},
        {"room@example.test", "pencil", ERR_AUTH},
        {"all@example.test", "pencil", ERR_AUTH},
    };

    make_account("ani@example.test", ACCOUNT_PERSON, "pencil");
    make_account("room@example.test", ACCOUNT_ROOM, NULL);
    make_account("all@example.test", ACCOUNT_GROUP, NULL);
    assert_int_equal(alias_add(STR("a.putri@other.test"), STR("ani@example.test"), NULL), 0);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_int_equal(login(rows[i].name, rows[i].password), rows[i].refusal);
        assert_int_equal(account.account_id, rows[i].refusal == ERR_NONE);
    }
    assert_str(account.address, "");
}

CASE(a_bare_name_is_enough_with_one_domain)
{
    make_account("ani@example.test", ACCOUNT_PERSON, "pencil");
    assert_int_equal(login("ani", "pencil"), ERR_AUTH);
    assert_int_equal(domain_remove(STR("other.test"), NULL), 0);
    assert_int_equal(login("Ani", "pencil"), ERR_NONE);
    assert_str(account.address, "ani@example.test");
}

CASE(a_suspended_account_says_the_same_as_a_wrong_password)
{
    make_account("ani@example.test", ACCOUNT_PERSON, "pencil");
    assert_int_equal(login("ani@example.test", "pencil"), ERR_NONE);
    assert_int_equal(account_set_active(STR("ani@example.test"), false, NULL), 0);
    assert_int_equal(login("ani@example.test", "pencil"), ERR_AUTH);
    assert_int_equal(account_set_active(STR("ani@example.test"), true, NULL), 0);
    assert_int_equal(login("ani@example.test", "pencil"), ERR_NONE);
}

CASE(a_changed_password_is_not_remembered_as_the_old_one)
{
    struct error err = {0};

    make_account("ani@example.test", ACCOUNT_PERSON, "pencil");
    assert_int_equal(login("ani@example.test", "pencil"), ERR_NONE);
    assert_int_equal(login("ani@example.test", "pencil"), ERR_NONE);
    assert_int_equal(credential_set_password(1, STR("eraser"), &err), 0);
    assert_int_equal(login("ani@example.test", "pencil"), ERR_AUTH);
    assert_int_equal(login("ani@example.test", "eraser"), ERR_NONE);
    assert_int_equal(credential_set_password(99, STR("eraser"), &err), -1);
    assert_int_equal(err.kind, ERR_NOT_FOUND);
}

/* A remembered password costs the log-in query alone. */
CASE(a_remembered_password_asks_the_database_once)
{
    int64_t before;

    make_account("ani@example.test", ACCOUNT_PERSON, "pencil");
    assert_int_equal(login("ani@example.test", "pencil"), ERR_NONE);
    before = metrics_sum(METRIC_pg_queries);
    assert_int_equal(login("ani@example.test", "pencil"), ERR_NONE);
    assert_int_equal(metrics_sum(METRIC_pg_queries) - before, 1);
    config.auth_cache = 0;
    credential_fini();
    assert_int_equal(login("ani@example.test", "pencil"), ERR_NONE);
    before = metrics_sum(METRIC_pg_queries);
    assert_int_equal(login("ani@example.test", "pencil"), ERR_NONE);
    assert_true(metrics_sum(METRIC_pg_queries) - before > 1);
}

CASE(a_foreign_hash_becomes_ours_at_the_first_login)
{
    struct account_new n = {.address = STR("ani@example.test"),
                            .password_hash = STR("{MD5-CRYPT}$1$saltsalt$wCrc3hcrR95SV83Xh8Z.41")};
    struct error err = {0};

    assert_int_equal(account_add(&n, NULL, &err), 0);
    assert_int_equal(login("ani@example.test", "eraser"), ERR_AUTH);
    assert_int_equal(
        fixture_sql("SELECT count(*) FROM credential WHERE crypt LIKE '$1$%' AND scram IS NULL"),
        1);
    assert_int_equal(login("ani@example.test", "pencil"), ERR_NONE);
    assert_int_equal(fixture_sql("SELECT count(*) FROM credential WHERE crypt LIKE '$y$%' AND "
                                 "scram LIKE 'SCRAM-SHA-256$%'"),
                     1);
    assert_int_equal(login("ani@example.test", "pencil"), ERR_NONE);
    credential_fini();
    assert_int_equal(login("ani@example.test", "pencil"), ERR_NONE);
}

CASE(an_app_password_is_one_device_and_can_be_taken_away)
{
    struct app_password *list;
    struct str phone, laptop;
    struct error err = {0};
    int64_t phone_id, laptop_id;
    size_t count;

    make_account("ani@example.test", ACCOUNT_PERSON, "pencil");
    assert_int_equal(app_password_add(arena, 1, STR("phone"), &phone_id, &phone, &err), 0);
    assert_int_equal(app_password_add(arena, 1, STR("laptop"), &laptop_id, &laptop, &err), 0);
    assert_int_equal(phone.n, 24);
    assert_false(str_eq(phone, laptop));
    assert_int_equal(login("ani@example.test", phone.p), ERR_NONE);
    assert_int_equal(login("ani@example.test", laptop.p), ERR_NONE);
    assert_int_equal(login("ani@example.test", "pencil"), ERR_NONE);
    assert_int_equal(login("ani@example.test", "abcdefghijkmnpqrstuvwxyz"), ERR_AUTH);

    assert_int_equal(app_password_remove(1, phone_id, &err), 0);
    assert_int_equal(login("ani@example.test", phone.p), ERR_AUTH);
    assert_int_equal(app_password_list(arena, 1, &list, &count, &err), 0);
    assert_int_equal(count, 1);
    assert_str(list[0].label, "laptop");
    assert_true(list[0].used_us > 0);

    assert_int_equal(app_password_remove(1, phone_id, &err), -1);
    assert_int_equal(err.kind, ERR_NOT_FOUND);
    assert_int_equal(app_password_remove(1, 0, NULL), -1);
    assert_int_equal(login("ani@example.test", "pencil"), ERR_NONE);
    assert_int_equal(app_password_add(arena, 1, STR("\xff"), &phone_id, &phone, NULL), -1);
    assert_int_equal(app_password_add(arena, 99, STR("x"), &phone_id, &phone, NULL), -1);
}

CASE(used_at_is_written_at_most_hourly)
{
    struct str phone;
    int64_t id;

    make_account("ani@example.test", ACCOUNT_PERSON, "pencil");
    assert_int_equal(app_password_add(arena, 1, STR("phone"), &id, &phone, NULL), 0);
    assert_int_equal(login("ani@example.test", phone.p), ERR_NONE);
    fixture_sql(
        "UPDATE credential SET used_at = now() - interval '50 minutes' WHERE credential_id = 1");
    assert_int_equal(login("ani@example.test", phone.p), ERR_NONE);
    assert_int_equal(
        fixture_sql(
            "SELECT count(*) FROM credential WHERE used_at < now() - interval '40 minutes'"),
        1);
    fixture_sql(
        "UPDATE credential SET used_at = now() - interval '70 minutes' WHERE credential_id = 1");
    assert_int_equal(login("ani@example.test", phone.p), ERR_NONE);
    assert_int_equal(
        fixture_sql("SELECT count(*) FROM credential WHERE used_at > now() - interval '5 minutes'"),
        1);
}

/* --- many at once ---------------------------------------------------------------------------------- */

static struct {
    int running, good, bad;
    const char *password;
    struct wait_queue ended;
} crowd;

static void login_in_crowd(void *arg)
{
    enum error_kind kind = login("ani@example.test", crowd.password);

    crowd.good += kind == ERR_NONE;
    crowd.bad += kind == ERR_AUTH;
    if (--crowd.running == 0)
        wait_queue_wake_all(&crowd.ended);
}

static void crowd_logs_in(const char *password)
{
    crowd.good = crowd.bad = 0;
    crowd.password = password;
    wait_queue_init(&crowd.ended);
    for (crowd.running = 0; crowd.running < 30; crowd.running++)
        fiber_start("login", login_in_crowd, NULL);
    while (crowd.running > 0)
        wait_queue_wait(&crowd.ended, NO_DEADLINE);
}

CASE(a_crowd_with_one_password_shares_one_verification)
{
    make_account("ani@example.test", ACCOUNT_PERSON, "pencil");
    crowd_logs_in("pencil");
    assert_int_equal(crowd.good, 30);
    crowd_logs_in("eraser");
    assert_int_equal(crowd.bad, 30);
    assert_int_equal(fixture_sql("SELECT count(*) FROM login_guess"), 1);
    config.auth_cache = 0;
    credential_fini();
    crowd_logs_in("pencil");
    assert_int_equal(crowd.good, 30);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_address_of_the_account_logs_in),
        cmocka_unit_test(a_bare_name_is_enough_with_one_domain),
        cmocka_unit_test(a_suspended_account_says_the_same_as_a_wrong_password),
        cmocka_unit_test(a_changed_password_is_not_remembered_as_the_old_one),
        cmocka_unit_test(a_remembered_password_asks_the_database_once),
        cmocka_unit_test(a_foreign_hash_becomes_ours_at_the_first_login),
        cmocka_unit_test(an_app_password_is_one_device_and_can_be_taken_away),
        cmocka_unit_test(used_at_is_written_at_most_hourly),
        cmocka_unit_test(a_crowd_with_one_password_shares_one_verification),
    };

    return cmocka_run_group_tests(tests, directory_start, fixture_stop);
}
