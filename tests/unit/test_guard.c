/* test_guard.c - accounts that seem to be misused: the thresholds, the past, what follows from a hold and from a release. */
#include "tests/unit/store_fixture.h"

#include <arpa/inet.h>

#include "mail/queue/guard.h"
#include "mail/queue/guard_internal.h"
#include "mail/queue/queue.h"
#include "server/run/geoip.h"
#include "tests/unit/mmdb_fixture.h"

#define ANI  1
#define BUDI 2 /* an administrator */
#define CICI 3 /* postmaster */

static void start_clean(void)
{
    fixture_sql("SET client_min_messages = warning; TRUNCATE sending_hour, sending_place, "
                "sending_guard, queue_message, queue_recipient, queue_destination, queue_worker; "
                "TRUNCATE domain CASCADE; INSERT INTO domain (name) VALUES ('ours.test');"
                "INSERT INTO address SELECT n.name || '@ours.test', domain_id, n.id, true "
                "FROM domain, (VALUES ('ani', 1), ('budi', 2), ('cici', 3)) AS n (name, id);"
                "UPDATE account SET is_administrator = account_id = 2;"
                "UPDATE domain SET postmaster_account_id = 3");
    config.hostname = "mail.ours.test";
    config.guard_factor = 5;
    config.guard_messages = 100;
    config.guard_recipients = 200;
    config.guard_recipients_away = 100;
    config.guard_bounces = 20;
    config.guard_bounces_percent = 30;
    config.guard_countries = 3;
    config.guard_networks = 10;
    config.guard_new_country = 20;
}

/* ---- thresholds --------------------------------------------------------------------------------- */

static const struct {
    const char *claim;
    struct guard_view
        view; /* levels: messages, recipients, elsewhere, bounces, countries, networks */
    enum guard_cause cause;
} thresholds[] = {
    {"nothing", {.levels = {0}}, GUARD_NOTHING},
    {"a newsletter of somebody new", {.levels = {1, 100, 100, 0, 1, 1}}, GUARD_NOTHING},
    {"more than is no jump for anybody", {.levels = {1, 101, 101, 0, 1, 1}}, GUARD_AWAY},
    {"five times the busiest hour", {.levels = {1, 150, 150}, .usual = {1, 30, 30}}, GUARD_NOTHING},
    {"more than five times", {.levels = {1, 151, 151}, .usual = {1, 30, 30}}, GUARD_AWAY},
    {"little, though much more than ever",
     {.levels = {20, 90, 90}, .usual = {1, 1, 1}},
     GUARD_NOTHING},
    {"many here", {.levels = {1, 201, 0}}, GUARD_RECIPIENTS},
    {"as many as always here", {.levels = {1, 201, 0}, .usual = {1, 41, 0}}, GUARD_NOTHING},
    {"many messages", {.levels = {101, 101, 0}}, GUARD_MESSAGES},
    {"forgiven", {.levels = {1, 500, 500}, .forgiven = {1, 101, 101}}, GUARD_NOTHING},
    {"more than was forgiven", {.levels = {1, 506, 506}, .forgiven = {1, 101, 101}}, GUARD_AWAY},
    {"few bounces, all of them", {.levels = {1, 19, 19, 19}, .day_away = 19}, GUARD_NOTHING},
    {"bounces among many", {.levels = {1, 90, 90, 20}, .day_away = 90}, GUARD_NOTHING},
    {"a large share of bounces", {.levels = {1, 66, 66, 20}, .day_away = 66}, GUARD_BOUNCES},
    {"more bounces than mail of the day", {.levels = {0, 0, 0, 25}, .day_away = 3}, GUARD_BOUNCES},
    {"bounces forgiven",
     {.levels = {1, 66, 66, 39}, .day_away = 66, .forgiven = {0, 0, 0, 20}},
     GUARD_NOTHING},
    {"new bounces",
     {.levels = {1, 66, 66, 40}, .day_away = 66, .forgiven = {0, 0, 0, 20}},
     GUARD_BOUNCES},
    {"three countries", {.levels = {1, 1, 1, 0, 3, 3}}, GUARD_NOTHING},
    {"four countries", {.levels = {1, 1, 1, 0, 4, 4}}, GUARD_COUNTRIES},
    {"four countries forgiven",
     {.levels = {1, 1, 1, 0, 4, 4}, .forgiven = {0, 0, 0, 0, 4, 4}},
     GUARD_NOTHING},
    {"many networks", {.levels = {1, 1, 1, 0, 0, 11}}, GUARD_NETWORKS},
    {"a little from abroad", {.levels = {1, 20, 20, 0, 1, 1}, .is_abroad = true}, GUARD_NOTHING},
    {"more from abroad", {.levels = {1, 21, 21, 0, 1, 1}, .is_abroad = true}, GUARD_NEW_COUNTRY},
    {"as much as at home from abroad",
     {.levels = {1, 40, 40, 0, 1, 1}, .usual = {1, 40, 40}, .is_abroad = true},
     GUARD_NOTHING},
};

CASE(thresholds_are_kept)
{
    start_clean();
    for (size_t i = 0; i < sizeof thresholds / sizeof *thresholds; i++) {
        struct guard_finding f = guard_judge(&thresholds[i].view);

        if (f.cause != thresholds[i].cause)
            broken("%s: %s", thresholds[i].claim, guard_cause_name(f.cause));
        assert_true((f.cause == GUARD_NOTHING) ==
                    str_empty(guard_sentence(store_arena, "id", &f, STR("ID"))));
        assert_int_equal(guard_cause_parse(str_c(guard_cause_name(f.cause))), f.cause);
    }
}

CASE(a_threshold_of_zero_is_not_looked_at)
{
    struct guard_view all = {.levels = {1000000, 1000000, 1000000, 1000000, 200, 200},
                             .is_abroad = true};

    start_clean();
    config.guard_messages = config.guard_recipients = config.guard_recipients_away = 0;
    config.guard_bounces = config.guard_countries = config.guard_networks =
        config.guard_new_country = 0;
    assert_int_equal(guard_judge(&all).cause, GUARD_NOTHING);
}

/* ---- submissions ---------------------------------------------------------------------------------- */

static const char *client = "192.0.2.7";

static struct guard_answer submit(int64_t account_id, size_t away)
{
    struct sockaddr_storage address = {.ss_family = AF_INET};
    struct guard_submission in = {.account_id = account_id,
                                  .recipients = away,
                                  .recipients_away = away,
                                  .client = &address,
                                  .language = "id"};
    struct guard_answer out;

    inet_pton(AF_INET, client, &((struct sockaddr_in *)&address)->sin_addr);
    assert_done(guard_admit(&in, &out, &err));
    return out;
}

static bool is_held(int64_t account_id, size_t away)
{
    return submit(account_id, away).is_held;
}

static void enqueue(int64_t account_id, const char *address)
{
    struct message_prepared m = store_message("Subject: x\r\n\r\nbody\r\n");
    struct outbound o = {.sender = STR("ani@ours.test"),
                         .account_id = account_id,
                         .rcpts = ARENA_NEW(store_arena, struct outbound_recipient),
                         .rcpt_count = 1,
                         .arena = store_arena};

    o.rcpts->address = str_c(address);
    assert_done(queue_deliver(&m, NULL, 0, &o, &err));
}

static int64_t held_rows(void)
{
    return fixture_sql("SELECT count(*) FROM queue_recipient WHERE held LIKE 'account misused? %'");
}

static void past(int64_t account_id, int hours_ago, int away)
{
    char sql[300];

    snprintf(
        sql, sizeof sql,
        "INSERT INTO sending_hour VALUES (%lld, extract(epoch FROM now())::bigint / 3600 - %d, "
        "1, %d, %d, 0)",
        (long long)account_id, hours_ago, away, away);
    fixture_sql(sql);
}

static void reconcile(void)
{
    assert_done(guard_reconcile(&err));
}

CASE(an_account_that_jumps_is_held_with_what_it_has_in_the_queue)
{
    struct guard_answer a;

    start_clean();
    enqueue(ANI, "x@one.test");
    enqueue(BUDI, "x@one.test");
    assert_false(is_held(ANI, 60));
    assert_false(is_held(BUDI, 60));
    a = submit(ANI, 60);
    assert_true(a.is_held);
    assert_string_equal(a.reason,
                        "account misused? 120 recipients on other servers within an hour; "
                        "the most so far were 0");
    assert_true(guard_is_held(ANI));
    assert_false(guard_is_held(BUDI));
    assert_int_equal(held_rows(), 0);
    reconcile();
    assert_int_equal(held_rows(), 1);
    assert_int_equal(fixture_sql("SELECT count(*) FROM sending_guard WHERE held_at IS NOT NULL AND "
                                 "account_id = 1 AND cause = 'recipients-away' AND seen = 120"),
                     1);
    assert_true(is_held(ANI, 1));
    assert_false(is_held(BUDI, 1));
    assert_false(is_held(0, 100000));
    guard_stop();
    assert_int_equal(fixture_sql("SELECT sum(recipients_away) FROM sending_hour"), 182);
}

CASE(a_hold_survives_a_restart)
{
    start_clean();
    assert_true(is_held(ANI, 101));
    reconcile();
    guard_stop();
    assert_true(is_held(ANI, 0));
    guard_stop();
}

CASE(what_an_account_did_before_is_its_measure)
{
    start_clean();
    past(ANI, 48, 50);
    past(BUDI, 3, 50); /* of today: no past yet */
    past(CICI, 24 * 31, 50);
    assert_false(is_held(ANI, 250));
    assert_true(is_held(ANI, 1));
    assert_true(is_held(BUDI, 110));
    assert_true(is_held(CICI, 110));
    guard_stop();
}

CASE(an_hour_does_not_end_the_count)
{
    int64_t now_us = time_now_us();
    struct guard_entry e = {.account_id = ANI, .hour = guard_hour(now_us) - 1};

    start_clean();
    guard_init();
    e.current[SENDING_AWAY] = 70;
    e.current[SENDING_BOUNCES] = 3;
    guard_entry_roll(&e, guard_hour(now_us));
    assert_int_equal(e.before[SENDING_AWAY], 70);
    assert_int_equal(e.current[SENDING_AWAY], 0);
    assert_int_equal(e.day_away, 70);
    assert_int_equal(e.day_bounces, 3);
    assert_true(e.is_stale);
    guard_entry_roll(&e, guard_hour(now_us) + 2);
    assert_int_equal(e.before[SENDING_AWAY], 0);
    list_remove(&e.changed);
    guard_stop();
}

CASE(the_first_message_of_an_hour_is_judged_at_once)
{
    start_clean();
    past(ANI, 48, 30);
    assert_false(is_held(ANI, 1));
    reconcile();
    guard_entry_of(ANI)->hour--;
    assert_true(is_held(ANI, 151));
    guard_stop();
}

CASE(two_workers_count_together)
{
    start_clean();
    assert_false(is_held(ANI, 60));
    reconcile();
    fixture_sql(
        "UPDATE sending_hour SET recipients_away = recipients_away + 60"); /* the other one's */
    assert_false(is_held(ANI, 0));
    reconcile();
    assert_true(guard_is_held(ANI));
    guard_stop();
    assert_int_equal(fixture_sql("SELECT recipients_away FROM sending_hour"), 120);
}

CASE(what_another_worker_holds_is_held_here)
{
    start_clean();
    assert_false(is_held(ANI, 1));
    fixture_sql("INSERT INTO sending_guard (account_id, held_at, cause, seen) VALUES (1, now(), "
                "'bounces', 7)");
    reconcile();
    assert_true(is_held(ANI, 1));
    guard_stop();
}

CASE(bounces_hold_an_account)
{
    start_clean();
    assert_false(is_held(ANI, 40));
    for (int i = 0; i < 19; i++)
        guard_note_bounce(ANI);
    reconcile();
    assert_false(guard_is_held(ANI));
    guard_note_bounce(ANI);
    guard_note_bounce(0);
    reconcile();
    assert_true(guard_is_held(ANI));
    guard_stop();
    assert_int_equal(fixture_sql("SELECT bounces FROM sending_hour WHERE account_id = 1"), 20);
    assert_int_equal(fixture_sql("SELECT count(*) FROM sending_guard WHERE cause = 'bounces'"), 1);
}

/* ---- places ---------------------------------------------------------------------------------------- */

static void start_with_countries(void)
{
    static const struct mmdb_network v[] = {{"192.0.2.0", 24, "ID"},
                                            {"198.51.100.0", 26, "DE"},
                                            {"198.51.100.64", 26, "FR"},
                                            {"203.0.113.0", 24, "BR"}};
    static char path[100];

    start_clean();
    snprintf(path, sizeof path, "%s/countries.mmdb", fixture_dir);
    mmdb_write(path, v, 4);
    config.geoip_database = path;
    geoip_refresh();
}

static void stop_with_countries(void)
{
    guard_stop();
    config.geoip_database = "";
    client = "192.0.2.7";
}

CASE(mail_from_many_countries_holds_an_account)
{
    static const char *const clients[] = {"192.0.2.7", "198.51.100.1", "198.51.100.65",
                                          "203.0.113.1"};

    start_with_countries();
    for (size_t i = 0; i < 4; i++) {
        client = clients[i];
        assert_int_equal(is_held(ANI, 1), i == 3);
        reconcile();
    }
    assert_int_equal(fixture_sql("SELECT count(*) FROM sending_place"),
                     7); /* FR and DE share a network */
    assert_int_equal(
        fixture_sql("SELECT count(*) FROM sending_guard WHERE detail = 'ID, DE, FR, BR'"), 1);
    stop_with_countries();
}

CASE(countries_of_another_worker_count)
{
    start_with_countries();
    assert_false(is_held(ANI, 1));
    fixture_sql("INSERT INTO sending_place SELECT 1, unnest('{DE,FR,BR}'::text[]), now(), now()");
    reconcile();
    assert_true(guard_is_held(ANI));
    stop_with_countries();
}

CASE(countries_of_yesterday_do_not_count)
{
    start_with_countries();
    fixture_sql("INSERT INTO sending_place SELECT 1, unnest('{DE,FR,BR}'::text[]), now() - "
                "interval '9 days', "
                "now() - interval '7 hours'");
    assert_false(is_held(ANI, 1));
    reconcile();
    assert_false(guard_is_held(ANI));
    stop_with_countries();
}

CASE(a_new_country_and_more_mail_than_usual_hold_an_account)
{
    start_with_countries();
    fixture_sql(
        "INSERT INTO sending_place SELECT a, 'ID', now() - interval '9 days', now() - interval "
        "'2 days' FROM generate_series(1, 2) AS a");
    client = "203.0.113.1";
    assert_false(is_held(ANI, 20));
    assert_true(is_held(ANI, 1));
    client = "192.0.2.7";
    assert_false(is_held(BUDI, 30)); /* at home */
    client = "203.0.113.1";
    assert_false(is_held(CICI, 30)); /* has no home yet */
    reconcile();
    assert_int_equal(
        fixture_sql("SELECT count(*) FROM sending_guard WHERE cause = 'new-country' AND "
                    "detail = 'BR'"),
        1);
    stop_with_countries();
}

/* ---- people ------------------------------------------------------------------------------------------ */

static int64_t messages_of(int64_t account_id, const char *words)
{
    char sql[300];

    snprintf(sql, sizeof sql,
             "SELECT count(*) FROM message m JOIN blob b USING (blob_id) WHERE m.account_id = %lld "
             "AND position('%s'::bytea IN b.data) > 0",
             (long long)account_id, words);
    return fixture_sql(sql);
}

CASE(account_administrators_and_postmaster_are_told_once)
{
    start_clean();
    enqueue(ANI, "x@one.test");
    assert_true(is_held(ANI, 101));
    reconcile();
    fixture_sql("UPDATE sending_guard SET version = version + 1"); /* somebody looks again */
    reconcile();
    assert_int_equal(fixture_sql("SELECT count(*) FROM message"), 3);
    assert_int_equal(messages_of(ANI, "merpati account release ani@ours.test"), 1);
    assert_int_equal(messages_of(ANI, "101 penerima di server lain dalam satu jam"), 1);
    assert_int_equal(messages_of(ANI, "recipients"), 0);
    for (int64_t who = BUDI; who <= CICI; who++) {
        assert_int_equal(messages_of(who, "merpati account purge ani@ours.test"), 1);
        assert_int_equal(messages_of(who, "101 recipients on other servers within an hour"), 1);
        assert_int_equal(messages_of(who, "1 messages, 1 recipients"), 1);
        assert_int_equal(messages_of(who, "101 penerima di server lain dalam satu jam"), 1);
        assert_int_equal(messages_of(who, "Auto-Submitted: auto-generated"), 1);
    }
    guard_stop();
}

CASE(a_postmaster_elsewhere_is_told_through_the_queue)
{
    start_clean();
    fixture_sql(
        "UPDATE domain SET postmaster_account_id = NULL, postmaster_address = 'host@away.test'");
    assert_true(is_held(ANI, 101));
    reconcile();
    assert_int_equal(fixture_sql("SELECT count(*) FROM queue_recipient WHERE address = "
                                 "'host@away.test' AND held IS NULL"),
                     1);
    assert_int_equal(fixture_sql("SELECT count(*) FROM message"), 2);
    guard_stop();
}

/* ---- administrators ------------------------------------------------------------------------------------ */

static void release(bool expected)
{
    bool was_held;
    int64_t count;

    assert_done(guard_release(ANI, &was_held, &count, &err));
    assert_int_equal(was_held, expected);
}

CASE(what_is_released_goes_and_is_forgiven_for_a_day)
{
    start_clean();
    enqueue(ANI, "x@one.test");
    assert_true(is_held(ANI, 120));
    reconcile();
    assert_int_equal(held_rows(), 1);
    release(true);
    assert_int_equal(held_rows(), 0);
    reconcile();
    assert_false(is_held(ANI, 400)); /* 520 */
    assert_true(is_held(ANI, 100));
    reconcile();
    release(true);
    reconcile();
    assert_false(is_held(ANI, 1));
    fixture_sql("UPDATE sending_guard SET forgiven_at = now() - interval '25 hours'");
    reconcile();
    assert_true(guard_is_held(ANI) || is_held(ANI, 0));
    reconcile();
    release(true);
    release(false);
    guard_stop();
}

CASE(what_was_admitted_before_a_hold_was_known_is_held_a_little_later)
{
    start_clean();
    assert_true(is_held(ANI, 120));
    reconcile();
    enqueue(ANI, "late@one.test");
    LIST_EACH (at, &guard.again)
        CONTAINER_OF(at, struct guard_again, link)->due_ms = loop_now_ms();
    reconcile();
    assert_int_equal(held_rows(), 1);
    release(true);
    reconcile();
    fixture_sql("UPDATE queue_recipient SET held = 'account misused? late', next_at = 'infinity'");
    LIST_EACH (at, &guard.again)
        CONTAINER_OF(at, struct guard_again, link)->due_ms = loop_now_ms();
    reconcile();
    assert_int_equal(held_rows(), 0);
    assert_true(list_is_empty(&guard.again));
    guard_stop();
}

CASE(what_is_purged_is_gone_and_is_no_past)
{
    int64_t count;

    start_clean();
    past(ANI, 48, 10);
    enqueue(ANI, "x@one.test");
    enqueue(ANI, "y@one.test");
    enqueue(BUDI, "z@one.test");
    assert_true(is_held(ANI, 10000));
    reconcile();
    assert_done(guard_purge(ANI, &count, &err));
    assert_int_equal(count, 2);
    assert_int_equal(fixture_sql("SELECT count(*) FROM queue_message"), 1);
    assert_int_equal(
        fixture_sql("SELECT sum(recipients_away) FROM sending_hour WHERE account_id = 1"), 10);
    reconcile();
    assert_true(is_held(ANI, 0));
    release(true);
    reconcile();
    assert_false(is_held(ANI, 100));
    assert_true(is_held(ANI, 1));
    guard_stop();
}

CASE(an_account_without_guard_is_never_held)
{
    start_clean();
    assert_done(guard_set_off(ANI, true, &err));
    assert_false(is_held(ANI, 100000));
    reconcile();
    assert_false(guard_is_held(ANI));
    assert_done(guard_set_off(ANI, false, &err));
    reconcile();
    assert_true(guard_is_held(ANI));
    guard_stop();
}

CASE(a_worker_that_does_not_know_yet_cannot_hold_who_is_never_held)
{
    start_clean();
    assert_false(is_held(ANI, 1));
    assert_done(guard_set_off(ANI, true, &err));
    assert_true(is_held(ANI, 200));
    reconcile();
    assert_false(guard_is_held(ANI));
    guard_stop();
}

CASE(without_the_guard_nothing_is_counted)
{
    start_clean();
    config.guard = false;
    assert_false(is_held(ANI, 100000));
    guard_note_bounce(ANI);
    guard_stop();
    config.guard = true;
    assert_int_equal(fixture_sql("SELECT count(*) FROM sending_hour"), 0);
}

CASE(what_is_old_is_forgotten)
{
    start_clean();
    past(ANI, 24 * 31, 1);
    past(ANI, 24 * 29, 1);
    fixture_sql("INSERT INTO sending_place VALUES (1, 'ID', now() - interval '40 days', now() - "
                "interval '31 "
                "days'), (1, 'DE', now() - interval '40 days', now() - interval '29 days')");
    assert_done(sending_forget(guard_hour(time_now_us()) - 24 * 30, 24 * 30, &err));
    assert_int_equal(fixture_sql("SELECT count(*) FROM sending_hour"), 1);
    assert_int_equal(fixture_sql("SELECT count(*) FROM sending_place WHERE place = 'DE'"), 1);
    assert_int_equal(fixture_sql("SELECT count(*) FROM sending_place"), 1);
}

/* ---- the keeper ------------------------------------------------------------------------------------------ */

CASE(the_fiber_does_all_of_it_and_hears_of_releases)
{
    start_clean();
    bus_start();
    guard_start(0);
    enqueue(ANI, "x@one.test");
    assert_true(is_held(ANI, 120));
    for (int i = 0;
         i < 2000 && (held_rows() == 0 || fixture_sql("SELECT count(*) FROM message") < 3); i++)
        fiber_sleep(5);
    assert_int_equal(held_rows(), 1);
    assert_int_equal(fixture_sql("SELECT count(*) FROM message"), 3);
    release(true);
    for (int i = 0; i < 2000 && guard_is_held(ANI); i++)
        fiber_sleep(5);
    assert_false(guard_is_held(ANI));
    guard_stop();
    bus_stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(thresholds_are_kept),
        cmocka_unit_test(a_threshold_of_zero_is_not_looked_at),
        cmocka_unit_test(an_account_that_jumps_is_held_with_what_it_has_in_the_queue),
        cmocka_unit_test(a_hold_survives_a_restart),
        cmocka_unit_test(what_an_account_did_before_is_its_measure),
        cmocka_unit_test(an_hour_does_not_end_the_count),
        cmocka_unit_test(the_first_message_of_an_hour_is_judged_at_once),
        cmocka_unit_test(two_workers_count_together),
        cmocka_unit_test(what_another_worker_holds_is_held_here),
        cmocka_unit_test(bounces_hold_an_account),
        cmocka_unit_test(mail_from_many_countries_holds_an_account),
        cmocka_unit_test(countries_of_another_worker_count),
        cmocka_unit_test(countries_of_yesterday_do_not_count),
        cmocka_unit_test(a_new_country_and_more_mail_than_usual_hold_an_account),
        cmocka_unit_test(account_administrators_and_postmaster_are_told_once),
        cmocka_unit_test(a_postmaster_elsewhere_is_told_through_the_queue),
        cmocka_unit_test(what_is_released_goes_and_is_forgiven_for_a_day),
        cmocka_unit_test(what_was_admitted_before_a_hold_was_known_is_held_a_little_later),
        cmocka_unit_test(what_is_purged_is_gone_and_is_no_past),
        cmocka_unit_test(an_account_without_guard_is_never_held),
        cmocka_unit_test(a_worker_that_does_not_know_yet_cannot_hold_who_is_never_held),
        cmocka_unit_test(without_the_guard_nothing_is_counted),
        cmocka_unit_test(what_is_old_is_forgotten),
        cmocka_unit_test(the_fiber_does_all_of_it_and_hears_of_releases),
    };

    return cmocka_run_group_tests(tests, store_start, fixture_stop);
}
