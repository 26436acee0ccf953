/* test_scanner.c - what scanners answer, read; and when one that failed is asked again. The conversations themselves:
 * tests/integration/test_scanners.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "mail/spam/clamd.h"
#include "mail/spam/scan_breaker.h"
#include "mail/spam/scanner.h"
#include "server/base/json_depth.h"
#include "server/run/config.h"

static void is_text(struct str got, const char *expected)
{
    if (!str_eq(got, str_c(expected)))
        print_message("%.*s is not %s\n", STR_ARG(got), expected);
    assert_true(str_eq(got, str_c(expected)));
}

/* ---- clamd ------------------------------------------------------------------------------------------- */

static void answers_of_clamd_are_clean_infected_or_a_reason(void **state)
{
    static const struct {
        const char *line, *virus;
        enum error_kind kind;
    } rows[] = {
        {"stream: OK", "", ERR_NONE},
        {"stream: OK\r", "", ERR_NONE},
        {"stream: Win.Test.EICAR_HDB-1 FOUND", "Win.Test.EICAR_HDB-1", ERR_NONE},
        {"stream: A FOUND FOUND", "A?FOUND", ERR_NONE},
        {"stream: a) \x01\xff<b> FOUND", "a?????b?", ERR_NONE},
        {"stream: OK FOUND", "OK", ERR_NONE},
        {"INSTREAM size limit exceeded. ERROR", "", ERR_TOO_BIG},
        {"stream: Can't allocate memory ERROR", "", ERR_UNSUPPORTED},
        {"COMMAND READ TIMED OUT. ERROR", "", ERR_UNSUPPORTED},
        {" ERROR", "", ERR_SYNTAX},
        {"stream: OK ERROR", "", ERR_UNSUPPORTED},
        {"", "", ERR_SYNTAX},
        {"stream: FOUND", "", ERR_SYNTAX},
        {"stream:  FOUND", "", ERR_SYNTAX},
        {"stream: OKAY", "", ERR_SYNTAX},
        {"OK", "", ERR_SYNTAX},
        {"other: X FOUND", "", ERR_SYNTAX},
        {"220 mail.test ESMTP", "", ERR_SYNTAX},
    };
    struct arena *a = arena_new();

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct error err = {0};
        struct str virus;

        assert_int_equal(clamd_answer_read(a, str_c(rows[i].line), &virus, &err),
                         rows[i].kind == ERR_NONE ? 0 : -1);
        assert_int_equal(err.kind, rows[i].kind);
        is_text(virus, rows[i].virus);
    }
    arena_free(&a);
}

static void long_names_are_cut(void **state)
{
    struct arena *a = arena_new();
    struct str virus, line = arena_printf(a, "stream: %0500d FOUND", 7);

    (void)state;
    assert_int_equal(clamd_answer_read(a, line, &virus, NULL), 0);
    assert_int_equal(virus.n, CLAMD_NAME_SIZE_MAX);
    arena_free(&a);
}

/* ---- Rspamd ------------------------------------------------------------------------------------------- */

static const char spam[] =
    "{\"is_skipped\":false,\"score\":7.6,\"required_score\":15.0,\"action\":\"add "
    "header\",\"symbols\":{"
    "\"LIGHT\":{\"name\":\"LIGHT\",\"score\":0.1},\"HEAVY\":{\"name\":\"HEAVY\",\"score\":8.0,"
    "\"options\":[\"x\"]},\"GOOD\":{\"name\":\"GOOD\",\"score\":-0.5}},"
    "\"messages\":{\"smtp_message\":\"no\\r\\n250 thanks\"}}";

static void an_answer_has_its_symbols_by_weight(void **state)
{
    struct scan_result r = {.clamav = SCAN_SAID, .rspamd = SCAN_SAID};
    struct arena *a = arena_new();

    (void)state;
    assert_int_equal(rspamd_answer_read(a, str_c(spam), &r.spam, NULL), 0);
    assert_int_equal(r.spam.action, RSPAMD_ADD_HEADER);
    assert_int_equal(r.spam.symbol_count, 3);
    is_text(r.spam.symbols[0].name, "HEAVY");
    is_text(r.spam.symbols[1].name, "GOOD");
    is_text(r.spam.message, "no??250 thanks");
    is_text(
        scan_result_text(a, &r),
        "clamav: clean; rspamd: add header, 7.60 of 15.00 (HEAVY 8.00, GOOD -0.50, LIGHT 0.10)");
    arena_free(&a);
}

static void actions_are_known_by_name(void **state)
{
    static const struct {
        const char *name;
        enum rspamd_action action;
    } rows[] = {
        {"no action", RSPAMD_NO_ACTION},
        {"greylist", RSPAMD_GREYLIST},
        {"add header", RSPAMD_ADD_HEADER},
        {"rewrite subject", RSPAMD_REWRITE_SUBJECT},
        {"soft reject", RSPAMD_SOFT_REJECT},
        {"reject", RSPAMD_REJECT},
        {"quarantine", RSPAMD_QUARANTINE},
        {"discard", RSPAMD_DISCARD},
        {"Reject", RSPAMD_OTHER},
        {"something", RSPAMD_OTHER},
    };
    struct arena *a = arena_new();

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct rspamd_answer answer;
        struct str json = arena_printf(a, "{\"action\":\"%s\"}", rows[i].name);

        assert_int_equal(rspamd_answer_read(a, json, &answer, NULL), 0);
        assert_int_equal(answer.action, rows[i].action);
        is_text(answer.action_name, rows[i].name);
    }
    arena_free(&a);
}

static void what_is_no_answer_of_rspamd_is_refused(void **state)
{
    static const char *const rows[] = {"",
                                       "<html>",
                                       "[]",
                                       "5",
                                       "{}",
                                       "{\"action\":5}",
                                       "{\"action\":\"\"}",
                                       "{\"action\":\"reject\"",
                                       "{\"error\":\"no\",\"action\":\"reject\"}",
                                       "{\"action\":\"reject\",\"score\":1e999}"};
    struct arena *a = arena_new();
    struct rspamd_answer answer;

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_int_equal(rspamd_answer_read(a, str_c(rows[i]), &answer, NULL), -1);
    arena_free(&a);
}

static void symbols_and_sizes_are_bounded(void **state)
{
    struct arena *a = arena_new();
    struct rspamd_answer answer;
    struct error err = {0};
    struct buf b;

    (void)state;
    buf_init(&b, RSPAMD_ANSWER_SIZE_MAX + 1);
    buf_adds(&b, "{\"action\":\"reject\",\"symbols\":{");
    for (int i = 0; i < 5000; i++)
        buf_addf(&b, "%s\"S%d\":{\"name\":\"S%d\",\"score\":%d}", i > 0 ? "," : "", i, i, i);
    buf_adds(&b, "}}");
    assert_true(buf_ok(&b));
    assert_int_equal(rspamd_answer_read(a, buf_str(&b), &answer, NULL), 0);
    assert_int_equal(answer.symbol_count, RSPAMD_SYMBOLS_MAX);
    while (buf_ok(&b) && b.n <= RSPAMD_ANSWER_SIZE_MAX)
        buf_addc(&b, ' ');
    assert_int_equal(rspamd_answer_read(a, buf_str(&b), &answer, &err), -1);
    assert_int_equal(err.kind, ERR_TOO_BIG);
    buf_fini(&b);
    arena_free(&a);
}

static void brackets_are_counted_outside_of_strings(void **state)
{
    (void)state;
    assert_false(json_is_deeper_than(STR("{\"a\":[1,2,{}]}"), 3));
    assert_true(json_is_deeper_than(STR("{\"a\":[1,2,{}]}"), 2));
    assert_false(json_is_deeper_than(STR("[\"[[[[\\\"[[\"]"), 1));
    assert_false(json_is_deeper_than(STR("[],[],[]"), 1));
    assert_true(json_is_deeper_than(STR("[[[["), 3));
    assert_false(json_is_deeper_than(STR("]]]][\"\\"), 1));
}

/* ---- the breaker -------------------------------------------------------------------------------------- */

static void nobody_there_is_a_rest_at_once(void **state)
{
    struct scan_breaker b = {0};

    (void)state;
    assert_true(scan_breaker_admits(&b, 1000));
    scan_breaker_failed(&b, true, 1000);
    assert_false(scan_breaker_admits(&b, 1000 + SCAN_REST_MS - 1));
    assert_true(scan_breaker_admits(&b, 1000 + SCAN_REST_MS));
    assert_false(scan_breaker_admits(&b, 1000 + SCAN_REST_MS)); /* one asks first */
    scan_breaker_succeeded(&b);
    assert_true(scan_breaker_admits(&b, 1000 + SCAN_REST_MS));
    assert_true(scan_breaker_admits(&b, 1000 + SCAN_REST_MS));
}

static void one_slow_message_is_no_rest_and_three_are(void **state)
{
    struct scan_breaker b = {0};

    (void)state;
    scan_breaker_failed(&b, false, 0);
    scan_breaker_failed(&b, false, 0);
    scan_breaker_succeeded(&b);
    scan_breaker_failed(&b, false, 0);
    scan_breaker_failed(&b, false, 0);
    assert_true(scan_breaker_admits(&b, 1));
    scan_breaker_failed(&b, false, 1);
    assert_false(scan_breaker_admits(&b, 2));
}

static void rests_grow_up_to_a_limit(void **state)
{
    struct scan_breaker b = {0};
    int64_t now = 0;

    (void)state;
    scan_breaker_failed(&b, true, now);
    for (int i = 0; i < 10; i++) {
        now = b.until_ms;
        assert_true(scan_breaker_admits(&b, now));
        scan_breaker_failed(&b, false, now);
        assert_true(b.until_ms - now <= SCAN_REST_MAX_MS && b.until_ms - now > SCAN_REST_MS);
    }
    assert_int_equal(b.until_ms - now, SCAN_REST_MAX_MS);
}

static void many_that_fail_together_are_one_failure(void **state)
{
    struct scan_breaker b = {0};

    (void)state;
    for (int i = 0; i < 100; i++)
        scan_breaker_failed(&b, true, 0);
    assert_int_equal(b.until_ms, SCAN_REST_MS);
}

static void a_question_called_off_leaves_the_next_one_to_ask(void **state)
{
    struct scan_breaker b = {0};

    (void)state;
    scan_breaker_failed(&b, true, 0);
    assert_true(scan_breaker_admits(&b, SCAN_REST_MS));
    scan_breaker_forget(&b);
    assert_true(scan_breaker_admits(&b, SCAN_REST_MS));
}

/* ---- settings ------------------------------------------------------------------------------------------ */

static void settings_are_read_or_told(void **state)
{
    static const struct {
        const char *name, *value;
        bool is_good;
    } rows[] = {
        {"clamav", "unix:/run/clamav/clamd.ctl", true},
        {"clamav", "inet:[::1]:3310", true},
        {"clamav", "inet:host:0", false},
        {"clamav", "inet:::1:3310", false},
        {"clamav", "unix:clamd.ctl", false},
        {"clamav", "", true},
        {"rspamd", "inet:localhost:11333", true},
        {"rspamd", "localhost:11333", false},
        {"rspamd", "", true},
        {"virus_action", "TAG", true},
        {"virus_action", "", false},
        {"scanner_away", "tempfail", true},
        {"scanner_away", "reject", false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct error err = {0};

        config_defaults();
        assert_int_equal(config_set(str_c(rows[i].name), str_c(rows[i].value), NULL), 0);
        assert_int_equal(scanner_start(&err), rows[i].is_good ? 0 : -1);
        assert_int_equal(err.kind, rows[i].is_good ? ERR_NONE : ERR_SYNTAX);
        scanner_stop();
    }
    config_fini();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_of_clamd_are_clean_infected_or_a_reason),
        cmocka_unit_test(long_names_are_cut),
        cmocka_unit_test(an_answer_has_its_symbols_by_weight),
        cmocka_unit_test(actions_are_known_by_name),
        cmocka_unit_test(what_is_no_answer_of_rspamd_is_refused),
        cmocka_unit_test(symbols_and_sizes_are_bounded),
        cmocka_unit_test(brackets_are_counted_outside_of_strings),
        cmocka_unit_test(nobody_there_is_a_rest_at_once),
        cmocka_unit_test(one_slow_message_is_no_rest_and_three_are),
        cmocka_unit_test(rests_grow_up_to_a_limit),
        cmocka_unit_test(many_that_fail_together_are_one_failure),
        cmocka_unit_test(a_question_called_off_leaves_the_next_one_to_ask),
        cmocka_unit_test(settings_are_read_or_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
