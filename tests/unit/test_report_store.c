/* test_report_store.c - reports in the store: collected, claimed once, filled; received ones kept and shown. */
#include "tests/unit/store_fixture.h"

#include "mail/store/report_address.h"
#include "mail/store/report_store.h"

#define TODAY ((int32_t)(time_now_us() / 1000000 / 86400))

static void truncate_reports(void)
{
    config.report_rows_max = 2000000;
    config.report_rows_source = 50000;
    config.report_spread = 0; /* due as soon as the day is over */
    fixture_sql("SET client_min_messages = warning; TRUNCATE report_due, report_dmarc_row, "
                "report_tls_row, report_received CASCADE");
}

/* What was collected today is due tomorrow; so it becomes yesterday's. */
static void let_a_day_pass(void)
{
    fixture_sql("UPDATE report_due SET day = day - 1; UPDATE report_dmarc_row SET day = day - 1; "
                "UPDATE report_tls_row SET day = day - 1");
}

static void add_message(const char *domain, const char *ip, const char *disposition)
{
    struct dmarc_report policy = {.domain = str_c(domain),
                                  .p = STR("reject"),
                                  .sp = STR("none"),
                                  .adkim = STR("r"),
                                  .aspf = STR("s"),
                                  .fo = STR("0"),
                                  .testing = STR("n")};
    struct dmarc_report_dkim dkim = {
        .domain = STR("d.test"), .selector = STR("s 1"), .result = STR("fail")};
    struct dmarc_report_spf spf = {
        .domain = STR("s.test"), .scope = STR("mfrom"), .result = STR("pass")};
    struct dmarc_report_reason reason = {.type = STR("local_policy"),
                                         .comment = STR("arc=pass as[1].d=lists.test")};
    struct str rua[] = {STR("a@r.test"), STR("b@r.test")};
    struct dmarc_report_record r = {.source_ip = str_c(ip),
                                    .count = 1,
                                    .disposition = str_c(disposition),
                                    .dkim = STR("fail"),
                                    .spf = STR("pass"),
                                    .header_from = STR("h.test"),
                                    .envelope_from = STR("e.test"),
                                    .reasons = &reason,
                                    .reason_count = 1,
                                    .dkims = &dkim,
                                    .dkim_count = 1,
                                    .spfs = &spf,
                                    .spf_count = 1};

    report_store_add_dmarc(&policy, rua, 2, &r);
}

CASE(messages_of_the_same_fate_are_one_row_with_a_count)
{
    truncate_reports();
    for (int i = 0; i < 5; i++)
        add_message("example.test", "192.0.2.1", "none");
    add_message("example.test", "192.0.2.2", "reject");
    assert_done(report_store_flush(&err));
    add_message("example.test", "192.0.2.1", "none");
    assert_done(report_store_flush(&err));
    assert_int_equal(fixture_sql("SELECT count(*) FROM report_dmarc_row"), 2);
    assert_int_equal(
        fixture_sql("SELECT count FROM report_dmarc_row WHERE source_ip = '192.0.2.1'"), 6);
    assert_int_equal(fixture_sql("SELECT count(*) FROM report_due"), 1);
}

CASE(nothing_is_collected_for_domains_that_want_no_report)
{
    struct dmarc_report policy = {.domain = STR("example.test")};
    struct dmarc_report_record r = {.source_ip = STR("192.0.2.1"), .count = 1};

    truncate_reports();
    report_store_add_dmarc(&policy, NULL, 0, &r);
    assert_done(report_store_flush(&err));
    assert_int_equal(fixture_sql("SELECT count(*) FROM report_dmarc_row"), 0);
}

CASE(a_report_is_due_when_its_day_is_over_and_claimed_once)
{
    struct report_claim first, second;
    struct dmarc_report report;

    truncate_reports();
    add_message("example.test", "192.0.2.1", "none");
    add_message("example.test", "192.0.2.1", "none");
    assert_done(report_store_flush(&err));
    assert_int_equal(report_store_claim(store_arena, &first, NULL), 0);
    let_a_day_pass();
    assert_int_equal(report_store_claim(store_arena, &first, NULL), 1);
    assert_int_equal(report_store_claim(store_arena, &second, NULL), 0);
    assert_int_equal(first.kind, REPORT_DMARC);
    assert_int_equal(first.day, TODAY - 1);
    assert_int_equal(first.rua_count, 2);
    assert_str(first.rua[1], STR("b@r.test"));
    assert_done(report_store_fill_dmarc(store_arena, &first, &report, &err));
    assert_str(report.domain, STR("example.test"));
    assert_str(report.p, STR("reject"));
    assert_int_equal(report.np.n, 0);
    assert_str(report.aspf, STR("s"));
    assert_int_equal(report.end_s - report.begin_s, 86399);
    assert_int_equal(report.record_count, 1);
    assert_int_equal(report.records[0].count, 2);
    assert_str(report.records[0].header_from, STR("h.test"));
    assert_str(report.records[0].reasons[0].type, STR("local_policy"));
    assert_str(report.records[0].reasons[0].comment, STR("arc=pass as[1].d=lists.test"));
    assert_str(report.records[0].dkims[0].selector, STR("s_1"));
    assert_str(report.records[0].spfs[0].scope, STR("mfrom"));
}

CASE(reports_of_a_day_are_spread_until_an_administrator_wants_them_now)
{
    int64_t day_us = INT64_C(86400) * 1000000, asked;
    struct report_claim claim;
    struct report_due *due;
    size_t count;
    char domain[32];

    truncate_reports();
    for (int i = 0; i < 40; i++) {
        snprintf(domain, sizeof domain, "d%d.test", i);
        add_message(domain, "192.0.2.1", "none");
    }
    assert_done(report_store_flush(&err));
    let_a_day_pass();
    config.report_spread = INT64_C(10000) * 86400 * 1000;
    assert_done(report_store_list_due(store_arena, STR("dmarc"), STR(""), &due, &count, &err));
    assert_int_equal(count, 40);
    for (size_t i = 0; i < count; i++) {
        assert_true(due[i].due_us >= due[i].day_us + day_us);
        assert_true(due[i].due_us <= due[i].day_us + 10001 * day_us);
        assert_true(i == 0 || due[i].due_us != due[i - 1].due_us);
    }
    assert_int_equal(report_store_claim(store_arena, &claim, NULL), 0);
    assert_done(report_store_ask(STR("d9.test"), &asked, &err));
    assert_int_equal(asked, 1);
    assert_int_equal(report_store_claim(store_arena, &claim, NULL), 1);
    assert_str(claim.domain, STR("d9.test"));
    assert_int_equal(report_store_claim(store_arena, &claim, NULL), 0);
}

CASE(a_report_ends_with_the_mail_that_carries_it_or_not_at_all)
{
    struct report_claim first, second;
    struct outbound_recipient rcpt = {.address = STR("a@r.test")};
    struct outbound_ends ends = {.report = &first};
    struct outbound o = {.sender = STR("postmaster@us.test"),
                         .rcpts = &rcpt,
                         .rcpt_count = 1,
                         .arena = store_arena,
                         .ends = &ends};
    struct message_prepared m = store_message("Subject: report\r\n\r\n");
    struct report_due *due;
    size_t count;

    truncate_reports();
    fixture_sql("TRUNCATE queue_message, queue_recipient CASCADE");
    add_message("example.test", "192.0.2.1", "none");
    assert_done(report_store_flush(&err));
    let_a_day_pass();
    assert_int_equal(report_store_claim(store_arena, &first, NULL), 1);
    fixture_sql("UPDATE report_due SET claimed_at = now() - interval '2 hours'");
    assert_int_equal(report_store_claim(store_arena, &second, NULL), 1);
    assert_refused(mail_deliver(&m, NULL, 0, &o, &err), ERR_CONFLICT);
    assert_int_equal(fixture_sql("SELECT count(*) FROM queue_message"), 0);
    second.note = STR("sent to a@r.test");
    ends.report = &second;
    assert_done(mail_deliver(&m, NULL, 0, &o, &err));
    assert_int_equal(fixture_sql("SELECT count(*) FROM queue_message"), 1);
    assert_refused(mail_deliver(&m, NULL, 0, &o, &err), ERR_CONFLICT);
    assert_int_equal(fixture_sql("SELECT count(*) FROM queue_message"), 1);
    assert_done(report_store_list_due(store_arena, STR(""), STR(""), &due, &count, &err));
    assert_int_equal(count, 1);
    assert_str(due[0].note, STR("sent to a@r.test"));
    assert_true(due[0].sent_us > 0);
    fixture_sql("TRUNCATE queue_message, queue_recipient CASCADE");
}

CASE(a_report_that_was_put_back_is_tried_again_when_the_claim_is_over)
{
    struct report_claim claim, again;

    truncate_reports();
    add_message("example.test", "192.0.2.1", "none");
    assert_done(report_store_flush(&err));
    let_a_day_pass();
    assert_int_equal(report_store_claim(store_arena, &claim, NULL), 1);
    claim.note = STR("the web server was away");
    assert_done(report_store_put_back(&claim, &err));
    assert_int_equal(report_store_claim(store_arena, &again, NULL), 0);
    fixture_sql("UPDATE report_due SET claimed_at = now() - interval '2 hours'");
    assert_int_equal(report_store_claim(store_arena, &again, NULL), 1);
    assert_done(report_store_end(&again, &err));
    assert_done(report_store_put_back(&again, &err));
    fixture_sql("UPDATE report_due SET claimed_at = now() - interval '2 hours'");
    assert_int_equal(report_store_claim(store_arena, &claim, NULL), 0);
}

CASE(a_report_is_sent_once_even_when_a_claim_was_lost)
{
    struct report_claim first, second;

    truncate_reports();
    add_message("example.test", "192.0.2.1", "none");
    assert_done(report_store_flush(&err));
    let_a_day_pass();
    assert_int_equal(report_store_claim(store_arena, &first, NULL), 1);
    fixture_sql("UPDATE report_due SET claimed_at = now() - interval '2 hours'");
    assert_int_equal(report_store_claim(store_arena, &second, NULL), 1);
    assert_refused(report_store_end(&first, &err), ERR_CONFLICT);
    assert_done(report_store_end(&second, &err));
    assert_refused(report_store_end(&second, &err), ERR_CONFLICT);
    fixture_sql("UPDATE report_due SET claimed_at = now() - interval '2 hours'");
    assert_int_equal(report_store_claim(store_arena, &first, NULL), 0);
}

static void add_session(const char *result_type, const char *mx)
{
    struct report_tls_session s = {.domain = STR("them.test"),
                                   .policy_type = STR("sts"),
                                   .policy_domain = STR("them.test"),
                                   .policy_strings = STR("version: STSv1\nmode: enforce"),
                                   .mx_hosts = STR("*.them.test"),
                                   .result_type = str_c(result_type),
                                   .mx_hostname = str_c(mx),
                                   .receiving_ip = STR("192.0.2.7")};

    report_store_add_tls(&s);
}

CASE(tls_sessions_are_counted_by_policy_and_failure)
{
    struct report_claim claim;
    struct tls_report r;

    truncate_reports();
    for (int i = 0; i < 3; i++)
        add_session("", "a.them.test");
    for (int i = 0; i < 2; i++)
        add_session("certificate-expired", "b.them.test");
    add_session("validation-failure", "b.them.test");
    assert_done(report_store_flush(&err));
    let_a_day_pass();
    assert_int_equal(report_store_claim(store_arena, &claim, NULL), 1);
    assert_int_equal(claim.kind, REPORT_TLS);
    assert_done(report_store_fill_tls(store_arena, &claim, &r, &err));
    assert_int_equal(r.policy_count, 1);
    assert_int_equal(r.policies[0].successful_session_count, 3);
    assert_int_equal(r.policies[0].failed_session_count, 3);
    assert_int_equal(r.policies[0].failure_count, 2);
    assert_int_equal(r.policies[0].string_count, 2);
    assert_str(r.policies[0].strings[1], STR("mode: enforce"));
    assert_int_equal(r.policies[0].failures[0].failed_session_count, 2);
    assert_str(r.policies[0].failures[0].result_type, STR("certificate-expired"));
}

CASE(texts_that_are_not_clean_are_stored_repaired)
{
    truncate_reports();
    add_message("exa\x1fmple\xff.test", "192.0.2.1\x1fx", "no\nne");
    assert_done(report_store_flush(&err));
    assert_int_equal(
        fixture_sql("SELECT count(*) FROM report_dmarc_row WHERE spf = 'pass' AND count = 1"), 1);
}

CASE(what_is_too_much_is_left_out)
{
    char ip[32];

    truncate_reports();
    for (int i = 0; i < 21000; i++) {
        snprintf(ip, sizeof ip, "10.0.%d.%d", i / 256, i % 256);
        add_message("example.test", ip, "none");
    }
    assert_done(report_store_flush(&err));
    assert_int_equal(fixture_sql("SELECT count(*) FROM report_dmarc_row"), 20000);
}

CASE(a_received_report_is_kept_once_and_shown)
{
    struct str xml = STR(
        "<feedback><report_metadata><org_name>Org</org_name><report_id>id 1</report_id><date_range>"
        "<begin>1700000000</begin><end>1700086399</end></date_range></"
        "report_metadata><policy_published>"
        "<domain>example.test</domain><p>reject</p></policy_published>"
        "<record><row><source_ip>192.0.2.1</source_ip><count>3</"
        "count><policy_evaluated><disposition>none"
        "</disposition><dkim>pass</dkim><spf>fail</spf></policy_evaluated></"
        "row><identifiers><header_from>"
        "example.test</header_from></identifiers></record>"
        "<record><row><source_ip>192.0.2.2</source_ip><count>4</"
        "count><policy_evaluated><disposition>reject"
        "</disposition><dkim>fail</dkim><spf>fail</spf></policy_evaluated></row></record></"
        "feedback>");
    struct str mail = arena_printf(
        store_arena, "From: a@b.test\r\nContent-Type: application/xml\r\n\r\n%.*s", STR_ARG(xml));
    struct report_received *list, shown;
    struct report_received_row *rows;
    size_t count, row_count;

    truncate_reports();
    assert_int_equal(report_store_keep_message(mail, NULL), 1);
    assert_int_equal(report_store_keep_message(mail, NULL), 0);
    assert_done(
        report_store_list(store_arena, STR("dmarc"), STR("example.test"), &list, &count, &err));
    assert_int_equal(count, 1);
    assert_int_equal(list[0].passed, 3);
    assert_int_equal(list[0].failed, 4);
    assert_int_equal(list[0].begin_us, INT64_C(1700000000000000));
    assert_done(report_store_show(store_arena, list[0].report_id, &shown, &rows, &row_count, &err));
    assert_str(shown.organization, STR("Org"));
    assert_int_equal(row_count, 2);
    assert_str(rows[0].source, STR("192.0.2.2")); /* what failed stands first */
    assert_str(rows[0].outcome, STR("reject"));
    assert_true(!rows[0].is_pass && rows[1].is_pass);
    assert_done(report_store_list(store_arena, STR("tls"), STR(""), &list, &count, &err));
    assert_int_equal(count, 0);
    assert_refused(report_store_show(store_arena, 999999, &shown, &rows, &row_count, &err),
                   ERR_NOT_FOUND);
}

CASE(tls_and_feedback_reports_are_told_apart)
{
    struct str tls =
        STR("From: a@b.test\r\nContent-Type: application/tlsrpt+json\r\n\r\n"
            "{\"organization-name\":\"Org\",\"report-id\":\"1\",\"policies\":[{\"policy\":{"
            "\"policy-type\":\"sts\","
            "\"policy-domain\":\"us.test\"},\"summary\":{\"total-successful-session-count\":5,"
            "\"total-failure-session-count\":2},\"failure-details\":[{\"result-type\":"
            "\"certificate-expired\","
            "\"failed-session-count\":2}]}]}");
    struct str arf = STR("From: a@b.test\r\nMessage-ID: <1@b.test>\r\nContent-Type: "
                         "multipart/report; boundary=x\r\n\r\n"
                         "--x\r\nContent-Type: message/feedback-report\r\n\r\nFeedback-Type: "
                         "abuse\r\nUser-Agent: Us/1\r\n"
                         "Version: 1\r\nSource-IP: 192.0.2.9\r\n\r\n--x--\r\n");
    struct report_received *list;
    size_t count;

    truncate_reports();
    assert_int_equal(report_store_keep_message(tls, NULL), 1);
    assert_int_equal(report_store_keep_message(arf, NULL), 1);
    assert_int_equal(report_store_keep_message(arf, NULL), 0);
    assert_refused(report_store_keep_message(STR("From: a@b.test\r\n\r\nhello\r\n"), &err),
                   ERR_NOT_FOUND);
    assert_done(report_store_list(store_arena, STR(""), STR(""), &list, &count, &err));
    assert_int_equal(count, 2);
    assert_str(list[0].kind, STR("feedback"));
    assert_str(list[1].kind, STR("tls"));
    assert_int_equal(list[1].passed, 5);
    assert_int_equal(list[1].failed, 2);
}

static void keep(const char *id, const char *ip, const char *dkim, int count)
{
    struct dmarc_report_record record = {.source_ip = str_c(ip),
                                         .count = (uint64_t)count,
                                         .disposition = STR("none"),
                                         .dkim = str_c(dkim),
                                         .spf = STR("fail"),
                                         .header_from = STR("us.test")};
    struct dmarc_report r = {.org_name = arena_printf(store_arena, "org %s", id),
                             .report_id = str_c(id),
                             .domain = STR("us.test"),
                             .records = &record,
                             .record_count = 1};

    assert_int_equal(report_store_keep_dmarc(&r, NULL), 1);
}

CASE(sources_are_summed_over_reports_with_failures_first)
{
    struct report_source *v;
    size_t count;

    truncate_reports();
    keep("1", "192.0.2.1", "pass", 900);
    keep("2", "192.0.2.1", "fail", 2);
    keep("3", "192.0.2.2", "fail", 50);
    keep("4", "192.0.2.2", "fail", 7);
    keep("5", "192.0.2.3", "pass", 1000);
    assert_done(
        report_store_sources(store_arena, STR("dmarc"), STR("us.test"), 0, &v, &count, &err));
    assert_int_equal(count, 3);
    assert_str(v[0].source, STR("192.0.2.2"));
    assert_int_equal(v[0].failed, 57);
    assert_int_equal(v[0].reporters, 2);
    assert_str(v[1].source, STR("192.0.2.1"));
    assert_int_equal(v[1].passed, 900);
    assert_int_equal(v[1].failed, 2);
    assert_str(v[2].source, STR("192.0.2.3"));
    assert_done(report_store_sources(store_arena, STR("tls"), STR(""), 0, &v, &count, &err));
    assert_int_equal(count, 0);
}

CASE(counts_that_no_number_holds_are_the_largest_one)
{
    struct report_source *v;
    size_t count;

    truncate_reports();
    for (int i = 0; i < 3; i++) {
        char id[2] = {(char)('a' + i), '\0'};
        struct dmarc_report_record record = {.source_ip = STR("192.0.2.1"),
                                             .count = INT64_MAX,
                                             .dkim = STR("fail"),
                                             .spf = STR("fail")};
        struct dmarc_report r = {.org_name = str_c(id),
                                 .report_id = str_c(id),
                                 .domain = STR("us.test"),
                                 .records = &record,
                                 .record_count = 1};

        assert_int_equal(report_store_keep_dmarc(&r, NULL), 1);
    }
    assert_done(report_store_sources(store_arena, STR(""), STR(""), 0, &v, &count, &err));
    assert_int_equal(count, 1);
    assert_true(v[0].failed == INT64_MAX);
}

CASE(addresses_for_reports_are_known_in_any_spelling_and_with_details)
{
    config.recipient_delimiter = "+";
    config.report_addresses = "dmarc-reports, tls-reports";
    assert_true(report_address_is(STR("dmarc-reports")));
    assert_true(report_address_is(STR("TLS-Reports+us.test")));
    assert_true(report_address_is(STR("postmaster")));
    assert_true(report_address_is(STR("Abuse")));
    assert_false(report_address_is(STR("reports")));
    assert_false(report_address_is(STR("")));
    config.report_addresses = "";
    assert_false(report_address_is(STR("dmarc-reports")));
    assert_false(report_address_is(STR("")));
}

static int keep_of(const char *organization, int id, struct error *err)
{
    struct dmarc_report_record record = {.source_ip = STR("192.0.2.1"), .count = 1};
    struct dmarc_report r = {
        .org_name = str_c(organization),
        .report_id = arena_printf(store_arena, "%d", id),
        .domain = STR("example.test"),
        .records = &record,
        .record_count = 1,
    };

    return report_store_keep_dmarc(&r, err);
}

CASE(one_source_cannot_fill_the_store_in_a_day)
{
    truncate_reports();
    config.report_rows_source = 3;
    for (int i = 0; i < 3; i++)
        assert_int_equal(keep_of("Flood", i, NULL), 1);
    assert_refused(keep_of("Flood", 3, &err), ERR_LIMIT);
    assert_int_equal(keep_of("Other", 1, NULL), 1);
    fixture_sql("UPDATE report_received SET received_at = now() - interval '25 hours'");
    assert_int_equal(keep_of("Flood", 3, NULL), 1);
}

CASE(many_sources_cannot_push_out_what_others_said_in_a_day)
{
    truncate_reports();
    config.report_rows_max = 20;
    assert_int_equal(keep_of("a", 1, NULL), 1);
    assert_int_equal(keep_of("b", 1, NULL), 1);
    assert_refused(keep_of("c", 1, &err), ERR_LIMIT);
}

CASE(the_oldest_reports_go_when_there_are_too_many_lines)
{
    truncate_reports();
    for (int i = 0; i < 5; i++)
        assert_int_equal(keep_of("a", i, NULL), 1);
    fixture_sql("UPDATE report_received SET received_at = now() - interval '1 hour' * (9 - "
                "external_id::integer)");
    config.report_rows_max = 3;
    assert_done(report_store_forget(&err));
    assert_int_equal(fixture_sql("SELECT count(*) FROM report_received"), 3);
    assert_int_equal(fixture_sql("SELECT min(external_id::integer) FROM report_received"), 2);
    assert_int_equal(fixture_sql("SELECT count(*) FROM report_received_row"), 3);
}

CASE(what_is_left_out_was_a_report_all_the_same)
{
    bool is_report = false;
    truncate_reports();
    config.report_rows_source = 0;
    assert_done(report_address_keep(
        STR("From: a@b.test\r\nMessage-ID: <1@b.test>\r\nContent-Type: multipart/report; "
            "boundary=x\r\n\r\n--x\r\nContent-Type: message/feedback-report\r\n\r\n"
            "Feedback-Type: abuse\r\nUser-Agent: Us/1\r\nVersion: 1\r\n"
            "Source-IP: 192.0.2.9\r\n\r\n--x--\r\n"),
        &is_report, &err));
    assert_true(is_report);
    assert_int_equal(fixture_sql("SELECT count(*) FROM report_received"), 0);
}

CASE(mail_without_a_report_passes_a_report_address)
{
    bool is_report = true;
    truncate_reports();
    assert_done(report_address_keep(STR("From: a@b.test\r\n\r\nhello\r\n"), &is_report, &err));
    assert_false(is_report);
    assert_int_equal(fixture_sql("SELECT count(*) FROM report_received"), 0);
}

CASE(the_fiber_writes_what_was_collected_when_it_stops)
{
    truncate_reports();
    report_store_start();
    add_message("example.test", "192.0.2.1", "none");
    report_store_stop();
    assert_int_equal(fixture_sql("SELECT count(*) FROM report_dmarc_row"), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_of_the_same_fate_are_one_row_with_a_count),
        cmocka_unit_test(nothing_is_collected_for_domains_that_want_no_report),
        cmocka_unit_test(a_report_is_due_when_its_day_is_over_and_claimed_once),
        cmocka_unit_test(reports_of_a_day_are_spread_until_an_administrator_wants_them_now),
        cmocka_unit_test(a_report_ends_with_the_mail_that_carries_it_or_not_at_all),
        cmocka_unit_test(a_report_that_was_put_back_is_tried_again_when_the_claim_is_over),
        cmocka_unit_test(a_report_is_sent_once_even_when_a_claim_was_lost),
        cmocka_unit_test(tls_sessions_are_counted_by_policy_and_failure),
        cmocka_unit_test(texts_that_are_not_clean_are_stored_repaired),
        cmocka_unit_test(what_is_too_much_is_left_out),
        cmocka_unit_test(a_received_report_is_kept_once_and_shown),
        cmocka_unit_test(tls_and_feedback_reports_are_told_apart),
        cmocka_unit_test(sources_are_summed_over_reports_with_failures_first),
        cmocka_unit_test(counts_that_no_number_holds_are_the_largest_one),
        cmocka_unit_test(addresses_for_reports_are_known_in_any_spelling_and_with_details),
        cmocka_unit_test(one_source_cannot_fill_the_store_in_a_day),
        cmocka_unit_test(many_sources_cannot_push_out_what_others_said_in_a_day),
        cmocka_unit_test(the_oldest_reports_go_when_there_are_too_many_lines),
        cmocka_unit_test(what_is_left_out_was_a_report_all_the_same),
        cmocka_unit_test(mail_without_a_report_passes_a_report_address),
        cmocka_unit_test(the_fiber_writes_what_was_collected_when_it_stops),
    };

    return cmocka_run_group_tests(tests, store_start, fixture_stop);
}
