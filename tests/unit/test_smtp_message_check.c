/* What a received message must not be, by table. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "mail/smtp/smtp_internal.h"
#include "mail/smtp/smtp_message_check.h"

#define OURS        "Received: from a.test (a.test [192.0.2.1])\r\n\tby mx.test with ESMTP; now\r\n"
#define THEIRS      "Received: from mx.test by other.test with ESMTP; now\r\n"
#define NEARLY_OURS "Received: by mx.test.example; now\r\nReceived: nearby mx.test; now\r\n"
#define FIVE(x)     x x x x x

static const struct {
    const char *name, *message;
    enum smtp_message_problem problem;
} cases[] = {
    {"plain", "Subject: x\r\n\r\nbody\r\n", SMTP_MESSAGE_GOOD},
    {"empty", "", SMTP_MESSAGE_GOOD},
    {"no header", "\r\nbody", SMTP_MESSAGE_GOOD},
    {"not a header at all", "just text\r\nand more", SMTP_MESSAGE_GOOD},
    {"twenty hops", FIVE(THEIRS THEIRS THEIRS THEIRS) "\r\nx", SMTP_MESSAGE_GOOD},
    {"hops in the body", "A: b\r\n\r\n" FIVE(FIVE(THEIRS)), SMTP_MESSAGE_GOOD},
    {"ten times here", OURS OURS FIVE(OURS) OURS OURS OURS "\r\nx", SMTP_MESSAGE_GOOD},
    {"delivered to her elsewhere", THEIRS "Delivered-To: ani@example.org\r\n\r\nx",
     SMTP_MESSAGE_GOOD},
    {"delivered to another here", OURS "Delivered-To: budi@example.org\r\n\r\nx",
     SMTP_MESSAGE_GOOD},
    {"a name that begins as ours", FIVE(FIVE("Received: by mx.test.example; now\r\n")) "\r\n",
     SMTP_MESSAGE_LOOPS}, /* by their number alone */
    {"twelve of a name that begins as ours", FIVE(NEARLY_OURS) NEARLY_OURS "\r\n",
     SMTP_MESSAGE_GOOD},
    {"twenty-one hops", FIVE(THEIRS THEIRS THEIRS THEIRS) THEIRS "\r\nx", SMTP_MESSAGE_LOOPS},
    {"lower case hops", FIVE(FIVE("received: x\r\n")) "\r\nx", SMTP_MESSAGE_LOOPS},
    {"eleven times here", FIVE(OURS OURS) OURS "\r\nx", SMTP_MESSAGE_LOOPS},
    {"delivered to her here", OURS "Delivered-To:  ANI@example.org \r\n\r\nx", SMTP_MESSAGE_LOOPS},
};

static const struct smtp_message_limits limits = {
    .header_size_max = 8192, .received_max = 20, .hostname = {"mx.test", 7}};
static const struct smtp_recipient rcpts[] = {{.path = {"tina@example.org", 16}},
                                              {.path = {"ani@example.org", 15}}};

static void messages_that_go_in_circles_are_found(void **state)
{
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        enum smtp_message_problem problem =
            smtp_message_check(str_c(cases[i].message), &limits, rcpts, 2);

        if (problem != cases[i].problem)
            print_error("%s\n", cases[i].name);
        assert_int_equal(problem, cases[i].problem);
    }
}

static enum smtp_message_problem check_header_of(size_t size, const char *behind, int64_t line_max)
{
    struct smtp_message_limits l = limits;
    struct buf b;
    enum smtp_message_problem problem;

    l.line_size_max = line_max;
    buf_init(&b, 1 << 20);
    buf_adds(&b, "X: ");
    while (b.n < size)
        buf_addc(&b, 'x');
    buf_adds(&b, behind);
    problem = smtp_message_check(buf_str(&b), &l, NULL, 0);
    buf_fini(&b);
    return problem;
}

static void a_header_beyond_the_limit_is_too_large(void **state)
{
    assert_int_equal(check_header_of(8000, "\r\n\r\nbody", 0), SMTP_MESSAGE_GOOD);
    assert_int_equal(check_header_of(9000, "\r\n\r\nbody", 0), SMTP_MESSAGE_HEADER_TOO_LARGE);
    assert_int_equal(check_header_of(9000, "", 0), SMTP_MESSAGE_HEADER_TOO_LARGE);
    assert_int_equal(check_header_of(100, "\r\n\r\n", 0), SMTP_MESSAGE_GOOD);
}

static void lines_count_without_their_ends(void **state)
{
    assert_int_equal(check_header_of(998, "\r\n\r\nbody", 998), SMTP_MESSAGE_GOOD);
    assert_int_equal(check_header_of(999, "\r\n\r\nbody", 998), SMTP_MESSAGE_LINE_TOO_LONG);
    assert_int_equal(check_header_of(999, "\r\n\r\nbody", 0), SMTP_MESSAGE_GOOD);
    assert_int_equal(check_header_of(999, "", 998), SMTP_MESSAGE_LINE_TOO_LONG);
    assert_int_equal(check_header_of(998, "", 998), SMTP_MESSAGE_GOOD);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_that_go_in_circles_are_found),
        cmocka_unit_test(a_header_beyond_the_limit_is_too_large),
        cmocka_unit_test(lines_count_without_their_ends),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
