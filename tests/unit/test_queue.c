/* test_queue.c - the scheduler with a double for the other servers: what is delivered from memory, what waits, what
 * senders are told. */
#include "tests/unit/store_fixture.h"

#include "mail/queue/guard.h"
#include "mail/queue/queue_internal.h"
#include "mail/queue/queue_retry.h"

#define MESSAGE "Subject: x\r\n\r\nbody\r\n"

/* ---- the double -------------------------------------------------------------------------------- */

/* How a recipient ends is in the first letters of its address; "down" brings the whole destination down. */
static struct {
    int calls, delivered, running, running_max;
    bool is_dead_alive; /* what was down takes mail again */
    bool is_waiting;    /* deliveries do not end while this is so */
    char last_message[100];
} world;

static void answer(struct remote_job *job, struct remote_recipient *r)
{
    bool is_down = str_starts(job->destination, STR("down")) && !world.is_dead_alive;

    r->enhanced = STR("2.0.0");
    r->text = STR("ok");
    r->code = 250;
    r->status = REMOTE_DELIVERED;
    r->is_remote_answer = true;
    if (is_down || str_starts(r->address, STR("later"))) {
        r->status = REMOTE_DEFERRED;
        r->code = is_down ? 0 : 451;
        r->enhanced = STR("4.2.0");
        r->text = STR("not now");
    } else if (str_starts(r->address, STR("never"))) {
        r->status = REMOTE_FAILED;
        r->code = 550;
        r->enhanced = STR("5.1.1");
        r->text = STR("nobody of this name");
    } else
        world.delivered++;
    job->is_destination_down = is_down;
}

static void deliver(struct arena *a, struct remote_job *job)
{
    world.calls++;
    world.running++;
    if (world.running > world.running_max)
        world.running_max = world.running;
    do
        fiber_sleep(1);
    while (world.is_waiting);
    job->host = STR("mx.test [192.0.2.1]:25");
    snprintf(world.last_message, sizeof world.last_message, "%.*s", STR_ARG(job->message));
    for (size_t i = 0; i < job->rcpt_count; i++)
        answer(job, &job->rcpts[i]);
    world.running--;
}

/* ---- the house ---------------------------------------------------------------------------------- */

static void start_clean(void)
{
    fixture_sql("SET client_min_messages = warning; TRUNCATE queue_message, queue_recipient, "
                "queue_destination, queue_worker; TRUNCATE domain CASCADE;"
                "INSERT INTO domain (name) VALUES ('ours.test');"
                "INSERT INTO address SELECT 'ani@ours.test', domain_id, 1, true FROM domain");
    memset(&world, 0, sizeof world);
    config.hostname = "mail.ours.test";
    config.queue_poll_interval = 10;
    config.queue_retry_min = config.queue_retry_max = 3600000;
    config.queue_backoff_min = config.queue_backoff_max = 3600000;
    config.queue_deliveries_max = 40;
    config.queue_destination_concurrency = 8;
    config.workers = 1;
    assert_done(queue_prepare(&err));
    queue_start(&(struct queue_options){.worker = 0, .deliver = deliver});
    while (queue.worker_id == 0)
        fiber_sleep(1);
}

/* Bounded, or a broken case would hang. */
static void await_sql(const char *what, const char *sql, int64_t expected)
{
    for (int i = 0; i < 2000 && fixture_sql(sql) != expected; i++)
        fiber_sleep(5);
    if (fixture_sql(sql) != expected)
        broken("%s: %lld, not %lld", what, (long long)fixture_sql(sql), (long long)expected);
}

static void await_empty(void)
{
    await_sql("queue", "SELECT count(*) FROM queue_message", 0);
    assert_int_equal(fixture_sql("SELECT count(*) FROM queue_recipient"), 0);
}

static struct outbound make_outbound(const char *sender, const char *const *addresses, size_t count)
{
    struct outbound o = {
        .sender = str_c(sender), .language = STR("en"), .rcpt_count = count, .arena = store_arena};

    o.rcpts = ARENA_ARRAY(store_arena, count, struct outbound_recipient);
    for (size_t i = 0; i < count; i++)
        o.rcpts[i].address = str_c(addresses[i]);
    return o;
}

#define OUTBOUND(sender, ...)                                                                      \
    make_outbound(sender, (const char *const[]){__VA_ARGS__},                                      \
                  sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *))

static void send_out(struct outbound *o)
{
    struct message_prepared m = store_message(MESSAGE);

    assert_done(queue_deliver(&m, NULL, 0, o, &err));
}

/* ---- from memory ----------------------------------------------------------------------------------- */

CASE(what_is_accepted_is_delivered_from_memory_and_leaves_no_row)
{
    struct outbound o = OUTBOUND("ani@ours.test", "a@one.test", "b@two.test", "c@one.test");

    start_clean();
    send_out(&o);
    assert_true(o.claimed_by != 0);
    await_empty();
    assert_int_equal(world.calls, 2);
    assert_int_equal(world.delivered, 3);
    assert_string_equal(world.last_message, MESSAGE);
    assert_int_equal(fixture_sql("SELECT count(*) FROM blob"), 0);
    assert_int_equal(fixture_sql("SELECT count(*) FROM queue_destination"), 0);
    queue_stop();
    assert_int_equal(queue.job_count, 0);
    assert_int_equal(queue.bytes, 0);
    assert_int_equal(fixture_sql("SELECT count(*) FROM queue_worker"), 0);
}

CASE(what_does_not_fit_into_memory_goes_by_the_database)
{
    struct outbound o = OUTBOUND("ani@ours.test", "a@one.test");

    start_clean();
    config.queue_memory_messages = 0;
    send_out(&o);
    assert_int_equal(o.claimed_by, 0);
    config.queue_memory_messages = 1000;
    await_empty();
    assert_int_equal(world.delivered, 1);
    assert_string_equal(world.last_message, MESSAGE);
    queue_stop();
}

CASE(many_messages_all_arrive_once_within_the_slots_of_their_hop)
{
    start_clean();
    for (int i = 0; i < 300; i++) {
        struct outbound o = OUTBOUND("ani@ours.test", "a@one.test");
        config.queue_memory_messages = i < 150 ? 1000 : 20; /* both ways */
        send_out(&o);
    }
    config.queue_memory_messages = 1000;
    await_empty();
    assert_int_equal(world.delivered, 300);
    assert_in_range(world.running_max, 2, 8);
    queue_stop();
}

/* ---- deferral ---------------------------------------------------------------------------------------- */

CASE(a_recipient_that_is_put_off_waits_alone)
{
    struct outbound o = OUTBOUND("ani@ours.test", "later@one.test", "b@one.test");

    start_clean();
    send_out(&o);
    await_sql("deferred",
              "SELECT count(*) FROM queue_recipient WHERE claimed_by IS NULL AND attempts = 1 "
              "AND last_code = 451 AND next_at > now() + interval '40 minutes'",
              1);
    await_sql("recipients", "SELECT count(*) FROM queue_recipient", 1);
    assert_int_equal(world.delivered, 1);
    queue_stop();
}

CASE(a_dead_destination_keeps_its_mail_and_no_others)
{
    struct outbound later = OUTBOUND("ani@ours.test", "x@down.test");
    int calls;

    start_clean();
    world.is_waiting = true;
    for (int i = 0; i < 50; i++) {
        struct outbound o = OUTBOUND("ani@ours.test", "x@down.test"),
                        l = OUTBOUND("ani@ours.test", "x@live.test");
        send_out(&o);
        send_out(&l);
    }
    world.is_waiting = false;
    await_sql("waiting", "SELECT count(*) FROM queue_recipient WHERE hop = 'live.test'", 0);
    assert_int_equal(world.delivered, 50);
    await_sql("given back", "SELECT count(*) FROM queue_recipient WHERE claimed_by IS NULL", 50);
    await_sql("blocked",
              "SELECT count(*) FROM queue_destination WHERE hop = 'down.test' AND "
              "blocked_until > now() + interval '40 minutes' AND failures = 1",
              1);
    assert_in_range(world.calls, 51, 52); /* the two slots that a new hop has */
    calls = world.calls;
    send_out(&later);
    assert_int_equal(later.claimed_by, 0);
    fiber_sleep(50);
    assert_int_equal(world.calls, calls);

    world.is_dead_alive = true;
    fixture_sql("UPDATE queue_destination SET blocked_until = now(), next_at = now()");
    await_empty();
    assert_int_equal(world.delivered, 101);
    queue_stop();
}

CASE(dead_destinations_leave_slots_for_live_ones)
{
    struct outbound o = OUTBOUND("ani@ours.test", "x@live.test"),
                    again = OUTBOUND("ani@ours.test", "x@live.test");
    char address[40];

    start_clean();
    send_out(&o);
    await_empty();
    world.is_waiting = true; /* nothing answers */
    for (int i = 0; i < 60; i++) {
        struct outbound dead;
        snprintf(address, sizeof address, "x@down%d.test", i);
        dead = OUTBOUND("ani@ours.test", address);
        send_out(&dead);
    }
    fiber_sleep(20);
    assert_int_equal(queue.running, 30); /* three quarters of 40 */
    send_out(&again);
    for (int i = 0; i < 500 && queue.running != 31; i++)
        fiber_sleep(2);
    assert_int_equal(queue.running, 31);
    world.is_waiting = false;
    await_sql("live", "SELECT count(*) FROM queue_recipient WHERE hop = 'live.test'", 0);
    await_sql("dead", "SELECT count(*) FROM queue_destination WHERE failures = 1", 60);
    queue_stop();
}

/* ---- reports ------------------------------------------------------------------------------------------- */

CASE(a_sender_of_ours_finds_the_report_in_the_inbox)
{
    struct outbound o = OUTBOUND("ani@ours.test", "never@one.test", "b@one.test");

    start_clean();
    send_out(&o);
    await_empty();
    assert_int_equal(world.delivered, 1);
    assert_int_equal(fixture_sql("SELECT count(*) FROM message WHERE account_id = 1"), 1);
    assert_int_equal(fixture_sql("SELECT count(*) FROM blob WHERE convert_from(data, 'UTF8') LIKE "
                                 "'Return-Path: <>%never@one.test%5.1.1%nobody of this name%'"),
                     1);
    assert_store_is_consistent();
    queue_stop();
}

CASE(another_sender_gets_the_report_through_the_queue_and_nobody_hears_of_its_failure)
{
    struct outbound o = OUTBOUND("x@far.test", "never@one.test"),
                    p = OUTBOUND("never@far.test", "never@one.test");

    start_clean();
    send_out(&o);
    await_empty();
    assert_int_equal(world.calls, 2);
    assert_int_equal(world.delivered, 1);
    send_out(&p);
    await_empty();
    assert_int_equal(world.calls, 4);
    assert_int_equal(fixture_sql("SELECT count(*) FROM message"), 0);
    queue_stop();
}

CASE(senders_hear_what_they_asked_for)
{
    static const struct {
        const char *rcpt;
        unsigned notify;
        int reports;
    } cases[] = {
        {"never@one.test", 0, 1},
        {"never@one.test", OUTBOUND_NOTIFY_FAILURE, 1},
        {"never@one.test", OUTBOUND_NOTIFY_NEVER, 0},
        {"never@one.test", OUTBOUND_NOTIFY_SUCCESS, 0},
        {"a@one.test", 0, 0},
        {"a@one.test", OUTBOUND_NOTIFY_SUCCESS, 1},
        {"a@one.test", OUTBOUND_NOTIFY_FAILURE | OUTBOUND_NOTIFY_DELAY, 0},
    };

    start_clean();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct outbound o = OUTBOUND("ani@ours.test", cases[i].rcpt);
        int64_t before = fixture_sql("SELECT count(*) FROM message");

        o.rcpts[0].notify = cases[i].notify;
        send_out(&o);
        await_empty();
        assert_int_equal(fixture_sql("SELECT count(*) FROM message") - before, cases[i].reports);
    }
    queue_stop();
}

CASE(a_message_that_is_late_brings_a_warning_and_then_the_end)
{
    struct outbound o = OUTBOUND("ani@ours.test", "later@one.test");
    int64_t count;

    start_clean();
    send_out(&o);
    await_sql("deferred",
              "SELECT count(*) FROM queue_recipient WHERE attempts = 1 AND claimed_by IS NULL", 1);
    fixture_sql("UPDATE queue_message SET warn_at = now(), check_at = now()");
    assert_done(late_look(&err));
    assert_done(late_look(&err));
    assert_int_equal(fixture_sql("SELECT count(*) FROM message"), 1);
    assert_int_equal(fixture_sql("SELECT count(*) FROM queue_message WHERE warn_at = 'infinity'"),
                     1);
    fixture_sql("UPDATE queue_message SET expires_at = now(), check_at = now()");
    assert_done(late_look(&err));
    await_empty();
    assert_int_equal(fixture_sql("SELECT count(*) FROM message"), 2);
    assert_int_equal(fixture_sql("SELECT count(*) FROM blob WHERE convert_from(data, 'UTF8') LIKE "
                                 "'%delivery time expired%'"),
                     1);

    send_out(&o);
    await_sql("deferred",
              "SELECT count(*) FROM queue_recipient WHERE attempts = 1 AND claimed_by IS NULL", 1);
    assert_done(outbound_bounce(&(struct outbound_filter){.queue_id = o.queue_id}, &count, &err));
    assert_done(late_look(&err));
    await_empty();
    assert_int_equal(fixture_sql("SELECT count(*) FROM message"), 3);
    assert_store_is_consistent();
    queue_stop();
}

CASE(mail_in_memory_of_an_account_that_was_held_is_not_sent)
{
    int64_t count;

    start_clean();
    fixture_sql("TRUNCATE sending_guard");
    config.guard = true;
    world.is_waiting = true;
    for (int i = 0; i < 10; i++) {
        struct outbound o = OUTBOUND("ani@ours.test", "a@one.test");
        o.account_id = 1;
        send_out(&o);
    }
    while (world.running == 0)
        fiber_sleep(1);
    fixture_sql("INSERT INTO sending_guard (account_id, held_at, told_at, cause) VALUES (1, now(), "
                "now(), 'messages')");
    assert_done(queue_hold_account(1, STR("misused"), &count, &err));
    assert_int_equal(count, 10);
    assert_done(guard_reconcile(&err));
    world.is_waiting = false;
    await_sql("given back", "SELECT count(*) FROM queue_recipient WHERE claimed_by IS NOT NULL", 0);
    assert_true(world.delivered >= 1 && world.delivered < 10);
    assert_int_equal(fixture_sql("SELECT count(*) FROM queue_recipient WHERE held IS NOT NULL"),
                     10 - world.delivered);
    fixture_sql("DELETE FROM sending_guard");
    assert_done(outbound_release(&(struct outbound_filter){.account_id = 1}, &count, &err));
    await_empty();
    assert_int_equal(world.delivered, 10);
    queue_stop();
    guard_stop();
}

/* ---- life ------------------------------------------------------------------------------------------------ */

CASE(a_worker_that_stops_gives_back_what_waits)
{
    start_clean();
    world.is_waiting = true;
    for (int i = 0; i < 20; i++) {
        struct outbound o = OUTBOUND("ani@ours.test", "a@one.test");
        send_out(&o);
    }
    while (world.running == 0)
        fiber_sleep(1);
    config.drain_timeout = 50;
    world.is_waiting = false; /* those in delivery end, the others are not begun */
    queue_stop();
    assert_int_equal(
        fixture_sql("SELECT count(*) FROM queue_recipient WHERE claimed_by IS NOT NULL"), 0);
    assert_int_equal(fixture_sql("SELECT count(*) FROM queue_recipient") + world.delivered, 20);
    queue_start(&(struct queue_options){.worker = 0, .deliver = deliver});
    await_empty();
    assert_int_equal(world.delivered, 20);
    queue_stop();
}

CASE(a_worker_whose_lease_ended_begins_anew_and_leaves_what_is_others)
{
    struct outbound o = OUTBOUND("ani@ours.test", "a@one.test");
    int64_t before;

    start_clean();
    before = queue.worker_id;
    fixture_sql("DELETE FROM queue_worker");
    queue.renewed_ms -= 15000;
    for (int i = 0; i < 2000 && queue.worker_id == before; i++)
        fiber_sleep(2);
    assert_int_not_equal(queue.worker_id, before);
    send_out(&o);
    await_empty();
    assert_int_equal(world.delivered, 1);
    queue_stop();
}

static void pauses_double_within_their_bounds(void **state)
{
    int64_t delays_ms[QUEUE_BACKOFF_STEPS];

    config.queue_retry_min = 1000;
    config.queue_retry_max = 8000;
    config.queue_backoff_min = 100;
    config.queue_backoff_max = 100000;
    for (int i = 0; i < 100; i++) {
        assert_in_range(queue_retry_delay_ms(1), 800, 1200);
        assert_in_range(queue_retry_delay_ms(2), 1600, 2400);
        assert_in_range(queue_retry_delay_ms(30), 6400, 9600);
        queue_backoff_delays_ms(delays_ms);
        assert_in_range(delays_ms[0], 80, 120);
        assert_in_range(delays_ms[3], 640, 960);
        assert_in_range(delays_ms[QUEUE_BACKOFF_STEPS - 1], 80000, 120000);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pauses_double_within_their_bounds),
        cmocka_unit_test(what_is_accepted_is_delivered_from_memory_and_leaves_no_row),
        cmocka_unit_test(what_does_not_fit_into_memory_goes_by_the_database),
        cmocka_unit_test(many_messages_all_arrive_once_within_the_slots_of_their_hop),
        cmocka_unit_test(a_recipient_that_is_put_off_waits_alone),
        cmocka_unit_test(a_dead_destination_keeps_its_mail_and_no_others),
        cmocka_unit_test(dead_destinations_leave_slots_for_live_ones),
        cmocka_unit_test(a_sender_of_ours_finds_the_report_in_the_inbox),
        cmocka_unit_test(
            another_sender_gets_the_report_through_the_queue_and_nobody_hears_of_its_failure),
        cmocka_unit_test(senders_hear_what_they_asked_for),
        cmocka_unit_test(a_message_that_is_late_brings_a_warning_and_then_the_end),
        cmocka_unit_test(mail_in_memory_of_an_account_that_was_held_is_not_sent),
        cmocka_unit_test(a_worker_that_stops_gives_back_what_waits),
        cmocka_unit_test(a_worker_whose_lease_ended_begins_anew_and_leaves_what_is_others),
    };

    return cmocka_run_group_tests(tests, store_start, fixture_stop);
}
