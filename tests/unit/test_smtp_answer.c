/* test_smtp_answer.c - answers put together, and what EHLO says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "mail/queue/smtp_client.h"

static struct arena *a;

static int setup(void **state)
{
    a = arena_new();
    return 0;
}

static int teardown(void **state)
{
    arena_free(&a);
    return 0;
}

/* Feeds lines separated by '|'; the last return value. */
static int feed(struct smtp_answer *answer, const char *lines)
{
    struct str rest = str_c(lines), line;
    int state = 0;

    *answer = (struct smtp_answer){0};
    do {
        str_cut(rest, '|', &line, &rest);
        state = smtp_answer_add(a, answer, line, NULL);
    } while (state == 0 && rest.n > 0);
    return state;
}

static void answers_are_read(void **state)
{
    static const struct {
        const char *lines;
        int outcome, code;
        const char *enhanced, *text;
    } rows[] = {
        {"250 ok", 1, 250, "2.0.0", "ok"},
        {"250", 1, 250, "2.0.0", ""},
        {"250-|250 ", 1, 250, "2.0.0", ""},
        {"550-5.1.1 no such|550 5.1.1 user", 1, 550, "5.1.1", "no such user"},
        {"550 5.1.1", 1, 550, "5.1.1", ""},
        {"250 4.1.1 of another class", 1, 250, "2.0.0", "4.1.1 of another class"},
        {"550 5.1.1234 too long", 1, 550, "5.0.0", "5.1.1234 too long"},
        {"550 5.1 too short", 1, 550, "5.0.0", "5.1 too short"},
        {"354 go", 1, 354, "3.0.0", "go"},
        {"250-first", 0, 250, NULL, "first"},
        {"250 tab\tand\x01 more", 1, 250, "2.0.0", "tab and  more"},
        {"250 caf\xe9", 1, 250, "2.0.0", "caf?"},
        {"250-a|251 b", -1, 250, NULL, NULL},
        {"25 ok", -1, 0, NULL, NULL},
        {"2500 ok", -1, 0, NULL, NULL},
        {"150 ok", -1, 0, NULL, NULL},
        {"650 ok", -1, 0, NULL, NULL},
        {"", -1, 0, NULL, NULL},
        {"ok", -1, 0, NULL, NULL},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct smtp_answer answer;

        assert_int_equal(feed(&answer, rows[i].lines), rows[i].outcome);
        assert_int_equal(answer.code, rows[i].code);
        if (rows[i].enhanced != NULL)
            assert_true(str_eq(answer.enhanced, str_c(rows[i].enhanced)));
        if (rows[i].text != NULL)
            assert_true(str_eq(answer.text, str_c(rows[i].text)));
    }
}

static void an_answer_without_end_is_refused(void **state)
{
    struct smtp_answer answer = {0};
    int lines = 0, outcome;

    while ((outcome = smtp_answer_add(a, &answer, STR("250-more"), NULL)) == 0)
        lines++;
    assert_int_equal(outcome, -1);
    assert_int_equal(lines, SMTP_ANSWER_LINES_MAX);
    assert_true(answer.text.n <= SMTP_ANSWER_TEXT_MAX);
}

static void capabilities_are_read_and_nonsense_says_nothing(void **state)
{
    struct smtp_capabilities c;
    struct smtp_answer answer;

    feed(&answer,
         "250-SIZE 5 of the first line is a name|250-size 1000|250-Pipelining|250-AUTH PLAIN "
         "LOGIN|250-AUTH=CRAM-MD5|250-LIMITS RCPTMAX=20 MAILMAX=0 X=1|250-DELIVERBY 60|250 DSN");
    smtp_capabilities_parse(a, &answer, &c);
    assert_int_equal(c.size_max, 1000);
    assert_int_equal(c.can, SMTP_CAN_SIZE | SMTP_CAN_PIPELINE | SMTP_CAN_DELIVER_BY | SMTP_CAN_DSN);
    assert_true(str_eq(c.auth, STR("PLAIN LOGIN CRAM-MD5")));
    assert_int_equal(c.rcpt_max, 20);
    assert_int_equal(c.mail_max, 0);
    assert_int_equal(c.deliver_by_min_s, 60);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_are_read),
        cmocka_unit_test(an_answer_without_end_is_refused),
        cmocka_unit_test(capabilities_are_read_and_nonsense_says_nothing),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
