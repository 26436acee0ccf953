/* test_submit_report.c - of which settled recipients the sender hears, and of which not: by the answers of a submission that
 * are hard to bring about from outside. */
#include "tests/unit/store_fixture.h"

#include "mail/queue/submit_report.h"
#include "server/run/config.h"

#define SUCCESS OUTBOUND_NOTIFY_SUCCESS
#define FAILURE OUTBOUND_NOTIFY_FAILURE
#define NEVER   OUTBOUND_NOTIFY_NEVER

static const struct route here = {.kind = ROUTE_ACCOUNT, .account_id = 2};
static const struct route away = {.kind = ROUTE_REMOTE, .address = {"x@far.test", 10}};

static struct submit_recipient make_recipient(enum submit_status status, unsigned notify)
{
    return (struct submit_recipient){.address = STR("b@ours.test"),
                                     .orcpt = STR("rfc822;B+2Bx@ours.test"),
                                     .notify = notify,
                                     .routes = &here,
                                     .route_count = 1,
                                     .status = status};
}

static struct submit make_submit(struct submit_recipient *rcpts, size_t count)
{
    return (struct submit){.sender = STR("ani@ours.test"),
                           .message = STR("From: ani@ours.test\r\nSubject: x\r\n\r\nbody\r\n"),
                           .rcpts = rcpts,
                           .rcpt_count = count};
}

static void start_clean(void)
{
    fixture_sql("SET client_min_messages = warning; TRUNCATE domain CASCADE; INSERT INTO domain "
                "(name) VALUES ('ours.test');"
                "INSERT INTO address SELECT 'ani@ours.test', domain_id, 1, true FROM domain");
    config.hostname = "mail.ours.test";
}

static int64_t count_reports(const char *with)
{
    char sql[300];

    snprintf(sql, sizeof sql,
             "SELECT count(*) FROM message JOIN blob USING (blob_id) WHERE account_id = 1 AND "
             "convert_from(data, 'UTF8') LIKE '%%%s%%'",
             with);
    return fixture_sql(sql);
}

static const char *const statuses[] = {
    [SUBMIT_TAKEN] = "Action: delivered",
    [SUBMIT_OVER_QUOTA] = "Action: failed%Status: 5.2.2",
    [SUBMIT_GONE] = "Action: failed%Status: 5.1.1",
};

CASE(failures_are_told_unless_the_answer_tells_them)
{
    static const struct {
        enum submit_status status[2];
        unsigned notify;
        bool answers_each, is_from_queue;
        int reports;
    } cases[] = {
        {{SUBMIT_TAKEN, SUBMIT_GONE}, 0, false, false, 1},
        {{SUBMIT_TAKEN, SUBMIT_OVER_QUOTA}, FAILURE, false, false, 1},
        {{SUBMIT_TAKEN, SUBMIT_GONE}, SUCCESS, false, false, 0},
        {{SUBMIT_TAKEN, SUBMIT_GONE}, NEVER, false, false, 0},
        {{SUBMIT_GONE, SUBMIT_GONE}, 0, false, false, 0},
        {{SUBMIT_GONE, SUBMIT_GONE}, 0, false, true, 1},
        {{SUBMIT_TAKEN, SUBMIT_OVER_QUOTA}, 0, true, false, 0},
        {{SUBMIT_TAKEN, SUBMIT_TAKEN}, SUCCESS, true, false, 1},
        {{SUBMIT_TAKEN, SUBMIT_TAKEN}, FAILURE, false, false, 0},
    };
    struct outbound_ends ends = {0};

    start_clean();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        enum submit_status status = cases[i].status[1];
        struct submit_recipient rcpts[] = {make_recipient(cases[i].status[0], 0),
                                           make_recipient(status, cases[i].notify)};
        struct submit s = make_submit(rcpts, 2);
        int64_t before = count_reports(statuses[status]), all = count_reports("");

        s.answers_each = cases[i].answers_each;
        s.ends = cases[i].is_from_queue ? &ends : NULL;
        submit_report_taken(&s);
        assert_int_equal(count_reports(statuses[status]) - before, cases[i].reports);
        assert_int_equal(count_reports("") - all, cases[i].reports);
    }
    assert_int_equal(count_reports("Original-Recipient: rfc822; B+x@ours.test"), count_reports(""));
    assert_store_is_consistent();
}

CASE(what_the_queue_tells_is_not_told_here)
{
    struct submit_recipient r = make_recipient(SUBMIT_TAKEN, SUCCESS);
    struct submit s = make_submit(&r, 1);

    start_clean();
    r.routes = &away;
    submit_report_taken(&s);
    r.routes = &here;
    s.hold_until_us = time_now_us() + 60000000;
    submit_report_taken(&s);
    s.hold_until_us = 0;
    s.held = STR("by the administrator");
    submit_report_taken(&s);
    s.held = STR("");
    s.sender = STR("");
    submit_report_taken(&s);
    assert_int_equal(fixture_sql("SELECT count(*) FROM message"), 0);
    assert_int_equal(fixture_sql("SELECT count(*) FROM queue_message"), 0);
}

CASE(a_sender_who_is_gone_or_malformed_is_no_harm)
{
    static const char *const senders[] = {
        "gone@ours.test", "ani", "@ours.test", "ani@", "SRS0=AAAA=BB=far.test=x@ours.test",
        "\"@ours.test"};
    struct submit_recipient r = make_recipient(SUBMIT_TAKEN, SUCCESS);

    start_clean();
    for (size_t i = 0; i < sizeof senders / sizeof senders[0]; i++) {
        struct submit s = make_submit(&r, 1);
        s.sender = str_c(senders[i]);
        submit_report_taken(&s);
    }
    assert_int_equal(fixture_sql("SELECT count(*) FROM message"), 0);
    assert_int_equal(fixture_sql("SELECT count(*) FROM queue_message"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(failures_are_told_unless_the_answer_tells_them),
        cmocka_unit_test(what_the_queue_tells_is_not_told_here),
        cmocka_unit_test(a_sender_who_is_gone_or_malformed_is_no_harm),
    };

    return cmocka_run_group_tests(tests, store_start, fixture_stop);
}
