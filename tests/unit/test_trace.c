/* test_trace.c - ids of the trace, what is told and found again, and the days that go. */
#include "tests/unit/store_fixture.h"

#include "mail/store/trace.h"
#include "server/run/metrics.h"

#define DAY_US INT64_C(86400000000)

/* ---- ids -------------------------------------------------------------------------------------------------- */

static void ids_grow_and_never_repeat(void **state)
{
    char a[TRACE_ID_TEXT_SIZE], b[TRACE_ID_TEXT_SIZE];
    int64_t last = 0;

    for (int i = 0; i < 100000; i++) {
        int64_t id = trace_id_new();

        assert_true(id > last);
        if (last != 0)
            assert_true(strcmp(trace_id_text(last, a), trace_id_text(id, b)) < 0);
        last = id;
    }
}

static void an_id_holds_its_time(void **state)
{
    int64_t before = time_now_us(), id = trace_id_new();

    /* Those of the case before were made faster than one each microsecond at worst. */
    assert_true(trace_id_time_us(id) >= before);
    assert_true(trace_id_time_us(id) < before + 1000000);
    assert_true(trace_id_at(before) <= id);
    assert_int_equal(trace_id_time_us(trace_id_at(before)), before);
    assert_int_equal(trace_id_at(0), 0);
    assert_true(trace_id_at(INT64_MAX) > 0);
}

static void ids_are_read_as_people_write_them(void **state)
{
    static const struct {
        const char *text;
        int64_t id; /* 0: refused */
    } cases[] = {
        {"0000000000001", 1},
        {"000000000000Z", 31},
        {"000000000000z", 31},
        {"00000000000Io", 32},
        {"7ZZZZZZZZZZZZ", INT64_MAX},
        {"8000000000000", 0},
        {"0000000000000", 0},
        {"000000000000", 0},
        {"00000000000001", 0},
        {"000000000000U", 0},
        {"", 0},
        {"000000000000 ", 0},
    };
    int64_t id = trace_id_new(), again;
    char text[TRACE_ID_TEXT_SIZE];

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int64_t read = 0;
        assert_int_equal(trace_id_parse(str_c(cases[i].text), &read), cases[i].id != 0);
        assert_int_equal(cases[i].id != 0 ? read : 0, cases[i].id);
    }
    assert_true(trace_id_parse(str_c(trace_id_text(id, text)), &again));
    assert_int_equal(again, id);
}

/* ---- told and found ---------------------------------------------------------------------------------------- */

static struct trace_facts facts_of(const char *sender, const char *subject, const char *message_id)
{
    static const struct str recipients[] = {{"Budi@Example.net", 16}, {"citra@example.org", 17}};

    return (struct trace_facts){.direction = TRACE_SUBMITTED,
                                .client_ip = STR("192.0.2.7"),
                                .helo = STR("laptop.test"),
                                .protocol = STR("ESMTPSA"),
                                .account_id = 3,
                                .sender = str_c(sender),
                                .recipients = recipients,
                                .recipient_count = 2,
                                .subject = str_c(subject),
                                .message_id = str_c(message_id),
                                .size = 1234};
}

static void clear_trace(void)
{
    fixture_sql("TRUNCATE trace_message, trace_event");
    trace_start();
}

static size_t found(struct trace_query q)
{
    struct trace_message *v;
    size_t count;

    assert_done(trace_search(store_arena, &q, &v, &count, &err));
    return count;
}

CASE(what_was_told_is_found_by_every_question)
{
    int64_t id = trace_id_new();
    struct trace_facts f =
        facts_of("Ani@Example.test", "Laporan 100% =?utf-8?q?keu=C3=A4?=", "<one@example.test>");

    clear_trace();
    trace_received(id, &f);
    trace_event(id, TRACE_QUEUED, STR("Budi@Example.net"), STR("for mx1.example.net"));
    trace_delivered(id, STR("citra@example.org"), 5, STR("INBOX"));
    assert_done(trace_flush(&err));

#define ASK(...) found((struct trace_query){__VA_ARGS__})
    assert_int_equal(ASK(.trace_id = id), 1);
    assert_int_equal(ASK(.sender = STR("ani@example.test")), 1);
    assert_int_equal(ASK(.sender = STR("example.test")), 1);
    assert_int_equal(ASK(.sender = STR("@EXAMPLE.test")), 1);
    assert_int_equal(ASK(.recipient = STR("budi@example.net")), 1);
    assert_int_equal(ASK(.recipient = STR("example.org")), 1);
    assert_int_equal(ASK(.subject = STR("KEU laporan")), 1);
    assert_int_equal(ASK(.subject = STR("100%")), 1);
    assert_int_equal(ASK(.message_id = STR("<one@example.test>")), 1);
    assert_int_equal(ASK(.message_id = STR("one@example.test")), 1);
    assert_int_equal(ASK(.account_id = 3), 1);
    assert_int_equal(ASK(.account_id = 5), 1);
    assert_int_equal(ASK(.since_us = time_now_us() - DAY_US), 1);
    assert_int_equal(ASK(.sender = STR("example.test"), .recipient = STR("example.net"),
                         .subject = STR("laporan"), .account_id = 3,
                         .message_id = STR("one@example.test"), .since_us = time_now_us() - DAY_US),
                     1);

    assert_int_equal(ASK(.trace_id = id + 1), 0);
    assert_int_equal(ASK(.sender = STR("budi@example.net")), 0);
    assert_int_equal(ASK(.sender = STR("ample.test")), 0);
    assert_int_equal(ASK(.sender = STR("example")), 0);
    assert_int_equal(ASK(.recipient = STR("ani@example.test")), 0);
    assert_int_equal(ASK(.subject = STR("laporan 1_0")), 0);
    assert_int_equal(ASK(.message_id = STR("two@example.test")), 0);
    assert_int_equal(ASK(.account_id = 4), 0);
    assert_int_equal(ASK(.since_us = time_now_us() + DAY_US), 0);
    assert_int_equal(ASK(.until_us = time_now_us() - DAY_US), 0);
    assert_int_equal(ASK(.sender = STR("example.test"), .recipient = STR("nobody@example.net")), 0);
    assert_int_equal(ASK(.sender = STR("' OR true --")), 0);
    trace_stop();
}

CASE(nothing_asked_is_refused)
{
    struct trace_query q = {.limit = 10};
    struct trace_message *v;
    size_t count;

    assert_refused(trace_search(store_arena, &q, &v, &count, &err), ERR_SYNTAX);
}

CASE(the_lines_of_a_message_come_in_their_order)
{
    int64_t id = trace_id_new();
    struct trace_facts f = facts_of("ani@example.test", "x", "");
    struct trace_query q = {.trace_id = id};
    struct trace_message *v;
    size_t count;

    clear_trace();
    trace_received(id, &f);
    trace_event(id, TRACE_VERDICT, STR(""), STR("spf=pass"));
    for (int i = 0; i < 700; i++)
        trace_event(id, TRACE_ATTEMPT, STR("budi@example.net"),
                    arena_printf(store_arena, "try %d", i));
    assert_done(trace_flush(&err));
    assert_done(trace_search(store_arena, &q, &v, &count, &err));
    assert_int_equal(count, 1);
    assert_done(trace_read_lines(store_arena, &v[0], &err));
    assert_int_equal(v[0].line_count, 701);
    assert_int_equal(v[0].lines[0].kind, TRACE_VERDICT);
    assert_str(v[0].lines[0].recipient, STR(""));
    for (size_t i = 1; i < 701; i++) {
        assert_str(v[0].lines[i].text, arena_printf(store_arena, "try %zu", i - 1));
        assert_str(v[0].lines[i].recipient, STR("budi@example.net"));
        assert_true(v[0].lines[i].time_us > v[0].lines[i - 1].time_us);
    }
    assert_str(v[0].recipient_list, STR("Budi@Example.net, citra@example.org"));
    assert_str(v[0].facts.sender, STR("ani@example.test"));
    assert_int_equal(v[0].facts.size, 1234);
    trace_stop();
}

CASE(a_page_ends_where_the_next_begins)
{
    struct trace_facts f = facts_of("ani@example.test", "x", "");
    struct trace_query q = {.sender = STR("ani@example.test"), .limit = 10};
    struct trace_message *v;
    size_t count, seen = 0;
    int64_t last = INT64_MAX;

    clear_trace();
    for (int i = 0; i < 25; i++)
        trace_received(trace_id_new(), &f);
    assert_done(trace_flush(&err));
    do {
        assert_done(trace_search(store_arena, &q, &v, &count, &err));
        for (size_t i = count; i-- > 0; last = v[i].trace_id)
            assert_true(v[i].trace_id < last);
        seen += count;
        q.before_id = last;
    } while (count == 10);
    assert_int_equal(seen, 25);
    trace_stop();
}

CASE(hostile_texts_are_kept_clean_and_short)
{
    struct buf big;
    int64_t id = trace_id_new();
    struct trace_facts f = facts_of("a\x01@b.test", "bad \xff\xfe\r\n utf-8 \xc3", "<x\r\ny>");
    struct trace_query q = {.trace_id = id};
    struct trace_message *v;
    size_t count;

    buf_init(&big, SIZE_MAX);
    while (big.n < 1 << 20)
        buf_add(&big, STR("\xC3\xA4\x00 blah"));
    f.helo = f.client_name = f.tls = buf_str(&big);
    clear_trace();
    trace_received(id, &f);
    trace_event(id, TRACE_FAILED, buf_str(&big), buf_str(&big));
    assert_done(trace_flush(&err));
    assert_done(trace_search(store_arena, &q, &v, &count, &err));
    assert_int_equal(count, 1);
    assert_done(trace_read_lines(store_arena, &v[0], &err));
    assert_int_equal(v[0].line_count, 1);
    assert_true(v[0].lines[0].text.n < 2000);
    assert_true(v[0].facts.helo.n < 1000);
    for (size_t i = 0; i < v[0].facts.subject.n; i++)
        assert_true((unsigned char)v[0].facts.subject.p[i] >= ' ');
    buf_fini(&big);
    trace_stop();
}

/* What is told between the last write and the end is written by trace_stop. */
CASE(the_end_writes_what_waits)
{
    struct trace_facts f = facts_of("ani@example.test", "x", "");

    clear_trace();
    trace_received(trace_id_new(), &f);
    trace_stop();
    assert_int_equal(fixture_sql("SELECT count(*) FROM trace_message"), 1);
}

CASE(nobody_needs_to_ask_for_the_writing)
{
    struct trace_facts f = facts_of("ani@example.test", "x", "");

    clear_trace();
    trace_received(trace_id_new(), &f);
    while (fixture_sql("SELECT count(*) FROM trace_message") == 0)
        fiber_sleep(20);
    trace_stop();
}

static int64_t dropped(void)
{
    return metrics_sum(METRIC_trace_events_dropped);
}

CASE(memory_is_bounded_and_what_is_lost_is_counted)
{
    int64_t before = dropped();

    clear_trace();
    for (int i = 0; i < 200000; i++) /* nobody writes while this fiber keeps the worker */
        trace_event(trace_id_new(), TRACE_NOTE, STR("budi@example.net"), STR("one of very many"));
    assert_true(dropped() - before > 100000);
    assert_done(trace_flush(&err));
    assert_int_equal(fixture_sql("SELECT count(*) FROM trace_event") + dropped() - before, 200000);
    trace_stop();
}

CASE(without_a_writer_telling_costs_nothing)
{
    struct trace_facts f = facts_of("ani@example.test", "x", "");

    trace_received(trace_id_new(), &f);
    trace_event(1, TRACE_NOTE, STR(""), STR(""));
    assert_done(trace_flush(&err));
    trace_stop();
}

CASE(a_batch_written_twice_is_there_once)
{
    fixture_sql("TRUNCATE trace_message, trace_event;"
                "INSERT INTO trace_event VALUES (5, 6, 0, 1, '', '') ON CONFLICT DO NOTHING;"
                "INSERT INTO trace_event VALUES (5, 6, 0, 1, '', '') ON CONFLICT DO NOTHING");
    assert_int_equal(fixture_sql("SELECT count(*) FROM trace_event"), 1);
}

/* ---- days -------------------------------------------------------------------------------------------------- */

CASE(old_days_go_and_days_ahead_are_there)
{
    int64_t old = trace_id_at(time_now_us() - 100 * DAY_US);
    char sql[256];

    fixture_sql("TRUNCATE trace_message, trace_event");
    snprintf(sql, sizeof sql,
             "SELECT trace_make_partition('trace_event', (now() AT TIME ZONE 'UTC')::date - 100);"
             "INSERT INTO trace_event VALUES (%lld, 1, 0, 1, '', '')",
             (long long)old);
    fixture_sql(sql);
    assert_int_equal(fixture_sql("SELECT count(*) FROM trace_event"), 1);
    assert_done(trace_upkeep(101 * DAY_US / 1000, &err));
    assert_int_equal(fixture_sql("SELECT count(*) FROM trace_event"), 1);
    assert_done(trace_upkeep(99 * DAY_US / 1000, &err));
    assert_int_equal(fixture_sql("SELECT count(*) FROM trace_event"), 0);
    assert_int_equal(
        fixture_sql("SELECT count(*) FROM pg_inherits WHERE inhparent = 'trace_event'::regclass"),
        10); /* yesterday, today, a week, the strays */
}

CASE(strays_move_to_their_day_and_old_ones_go)
{
    char sql[512];

    fixture_sql("TRUNCATE trace_message, trace_event");
    snprintf(sql, sizeof sql,
             "INSERT INTO trace_event VALUES (%lld, 1, 0, 1, '', ''), (%lld, 2, 0, 1, '', '')",
             (long long)trace_id_at(time_now_us() + 8 * DAY_US),
             (long long)trace_id_at(time_now_us() - 200 * DAY_US));
    fixture_sql(sql);
    assert_int_equal(fixture_sql("SELECT count(*) FROM trace_event_stray"), 2);
    fixture_sql("SELECT trace_make_partition('trace_event', (now() AT TIME ZONE 'UTC')::date + 8)");
    assert_int_equal(fixture_sql("SELECT count(*) FROM trace_event_stray"), 1);
    assert_done(trace_upkeep(90 * DAY_US / 1000, &err));
    assert_int_equal(fixture_sql("SELECT count(*) FROM trace_event_stray"), 0);
    assert_int_equal(fixture_sql("SELECT count(*) FROM trace_event"), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_grow_and_never_repeat),
        cmocka_unit_test(an_id_holds_its_time),
        cmocka_unit_test(ids_are_read_as_people_write_them),
        cmocka_unit_test(what_was_told_is_found_by_every_question),
        cmocka_unit_test(nothing_asked_is_refused),
        cmocka_unit_test(the_lines_of_a_message_come_in_their_order),
        cmocka_unit_test(a_page_ends_where_the_next_begins),
        cmocka_unit_test(hostile_texts_are_kept_clean_and_short),
        cmocka_unit_test(the_end_writes_what_waits),
        cmocka_unit_test(nobody_needs_to_ask_for_the_writing),
        cmocka_unit_test(memory_is_bounded_and_what_is_lost_is_counted),
        cmocka_unit_test(without_a_writer_telling_costs_nothing),
        cmocka_unit_test(a_batch_written_twice_is_there_once),
        cmocka_unit_test(old_days_go_and_days_ahead_are_there),
        cmocka_unit_test(strays_move_to_their_day_and_old_ones_go),
    };

    return cmocka_run_group_tests(tests, store_start, fixture_stop);
}
