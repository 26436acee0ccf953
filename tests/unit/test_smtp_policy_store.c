/* test_smtp_policy_store.c - counts that workers share, and the greylist. */
#include "tests/unit/store_fixture.h"

#include "mail/smtp/smtp_rate.h"
#include "mail/store/smtp_policy_store.h"

#define KEY STR("network 192.0.2.7")

static void start_clean(void)
{
    fixture_sql("TRUNCATE smtp_count, smtp_greylist, smtp_greylist_known");
    config.smtp_rate_window = 3600 * 1000;
}

static int64_t sum(const char *column)
{
    char sql[200];

    snprintf(sql, sizeof sql, "SELECT sum(%s)::bigint FROM smtp_count", column);
    return fixture_sql(sql);
}

static unsigned take_many(unsigned tries, int64_t limit)
{
    unsigned taken = 0;

    while (tries-- > 0)
        taken += smtp_rate_take(KEY, SMTP_RATE_MESSAGES, limit);
    return taken;
}

CASE(one_worker_keeps_to_a_limit_exactly)
{
    start_clean();
    assert_int_equal(take_many(20, 7), 7);
    assert_true(smtp_rate_take(KEY, SMTP_RATE_RECIPIENTS, 1));
    assert_false(smtp_rate_take(KEY, SMTP_RATE_RECIPIENTS, 1));
    assert_true(smtp_rate_take(STR("network 192.0.2.8"), SMTP_RATE_MESSAGES, 7));
    assert_done(smtp_rate_reconcile(&err));
    assert_int_equal(take_many(20, 7), 0);
    assert_int_equal(take_many(20, 9), 2);
    assert_done(smtp_rate_reconcile(&err));
    assert_int_equal(sum("messages"), 10);
    assert_int_equal(sum("recipients"), 1);
    smtp_rate_stop();
}

CASE(what_is_returned_can_be_taken_again)
{
    start_clean();
    assert_int_equal(take_many(20, 7), 7);
    smtp_rate_return(KEY, SMTP_RATE_MESSAGES);
    assert_int_equal(take_many(20, 7), 1);
    smtp_rate_stop();
    assert_int_equal(sum("messages"), 7);
}

CASE(no_limit_counts_nothing)
{
    start_clean();
    assert_int_equal(take_many(20, 0), 20);
    smtp_rate_stop();
    assert_int_equal(fixture_sql("SELECT count(*) FROM smtp_count"), 0);
}

CASE(what_other_workers_counted_is_known_after_sharing)
{
    start_clean();
    assert_int_equal(take_many(3, 10), 3);
    assert_done(smtp_rate_reconcile(&err));
    fixture_sql("UPDATE smtp_count SET messages = messages + 5");
    assert_int_equal(take_many(1, 10), 1);
    assert_done(smtp_rate_reconcile(&err));
    assert_int_equal(take_many(20, 10), 1);
    smtp_rate_stop();
    assert_int_equal(sum("messages"), 10);
}

CASE(of_the_window_before_the_part_that_is_inside_counts)
{
    int64_t window = time_now_us() / (config.smtp_rate_window * 1000);
    struct smtp_counts v = {.key = KEY, .window = window - 1, .add = {0, 1000000, 0}};
    int64_t passed_us = time_now_us() % (config.smtp_rate_window * 1000);
    int64_t inside = 1000000 - passed_us / (config.smtp_rate_window / 1000);

    start_clean();
    assert_done(smtp_counts_add(&v, 1, &err));
    assert_int_equal(v.current[1], 1000000);
    assert_int_equal(take_many(1, 10000000), 1);
    assert_done(smtp_rate_reconcile(&err));
    assert_int_equal(take_many(1, inside - 100000), 0);
    assert_int_equal(take_many(1, inside + 100000), 1);
    smtp_rate_stop();
}

CASE(windows_that_are_over_are_forgotten)
{
    struct smtp_counts v[] = {{.key = KEY, .window = 7},
                              {.key = STR("domain a.test"), .window = 9}};

    start_clean();
    assert_done(smtp_counts_add(v, 2, &err));
    assert_done(smtp_counts_forget(9, &err));
    assert_int_equal(fixture_sql("SELECT count(*) FROM smtp_count WHERE period = 9"), 1);
    assert_int_equal(fixture_sql("SELECT count(*) FROM smtp_count"), 1);
}

/* ---- the greylist ------------------------------------------------------------------------------- */

static const struct greylist_terms terms = {.delay_s = 60, .retry_max_s = 3600, .keep_s = 86400};

static int64_t try_greylist(const char *sender, const char *recipient)
{
    int64_t wait_s = -1;
    bool is_known;

    assert_done(greylist_try(STR("192.0.2.0/24"), str_c(sender), str_c(recipient), &terms, &wait_s,
                             &is_known, &err));
    return wait_s;
}

static void let_pass(const char *interval)
{
    char sql[300];

    snprintf(sql, sizeof sql,
             "UPDATE smtp_greylist SET first_at = first_at - interval '%s', last_at = last_at - "
             "interval '%s'; UPDATE smtp_greylist_known SET last_at = last_at - interval '%s'",
             interval, interval, interval);
    fixture_sql(sql);
}

CASE(a_stranger_waits_and_then_passes)
{
    start_clean();
    assert_int_equal(try_greylist("a@a.test", "b@b.test"), 60);
    let_pass("30 seconds");
    assert_in_range(try_greylist("a@a.test", "b@b.test"), 29, 30);
    assert_int_equal(try_greylist("a@a.test", "c@b.test"), 60);
    assert_int_equal(try_greylist("", "b@b.test"), 60);
    let_pass("31 seconds");
    assert_int_equal(try_greylist("a@a.test", "b@b.test"), 0);
    assert_in_range(try_greylist("a@a.test", "c@b.test"), 28, 29);
}

CASE(who_comes_again_too_late_begins_anew)
{
    start_clean();
    assert_int_equal(try_greylist("a@a.test", "b@b.test"), 60);
    let_pass("61 minutes");
    assert_int_equal(try_greylist("a@a.test", "b@b.test"), 60);
}

CASE(a_network_of_which_a_letter_came_through_is_known_for_a_while)
{
    start_clean();
    assert_int_equal(try_greylist("a@a.test", "b@b.test"), 60);
    assert_done(greylist_pass(STR("192.0.2.0/24"), &err));
    assert_done(greylist_pass(STR("192.0.2.0/24"), &err));
    assert_int_equal(try_greylist("x@a.test", "y@b.test"), 0);
    let_pass("25 hours");
    assert_int_equal(try_greylist("x@a.test", "y@b.test"), 60);
    assert_done(greylist_forget(&terms, &err));
    assert_int_equal(fixture_sql("SELECT count(*) FROM smtp_greylist_known"), 0);
    assert_int_equal(fixture_sql("SELECT count(*) FROM smtp_greylist"), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_worker_keeps_to_a_limit_exactly),
        cmocka_unit_test(what_is_returned_can_be_taken_again),
        cmocka_unit_test(no_limit_counts_nothing),
        cmocka_unit_test(what_other_workers_counted_is_known_after_sharing),
        cmocka_unit_test(of_the_window_before_the_part_that_is_inside_counts),
        cmocka_unit_test(windows_that_are_over_are_forgotten),
        cmocka_unit_test(a_stranger_waits_and_then_passes),
        cmocka_unit_test(who_comes_again_too_late_begins_anew),
        cmocka_unit_test(a_network_of_which_a_letter_came_through_is_known_for_a_while),
    };

    return cmocka_run_group_tests(tests, store_start, fixture_stop);
}
