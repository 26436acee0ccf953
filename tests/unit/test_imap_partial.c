/* test_imap_partial.c - windows of lists (RFC 9394). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "mail/imap/imap_partial.h"

static void windows_lie_inside_the_list(void **state)
{
    static const struct {
        const char *text;
        size_t count, from, n;
    } rows[] = {
        {"1:2", 5, 0, 2},   {"2:1", 5, 0, 2},   {"4:9", 5, 3, 2},          {"6:9", 5, 0, 0},
        {"5:5", 5, 4, 1},   {"-1:-2", 5, 3, 2}, {"-2:-1", 5, 3, 2},        {"-4:-9", 5, 0, 2},
        {"-6:-9", 5, 0, 0}, {"1:1", 0, 0, 0},   {"1:4294967295", 5, 0, 5},
    };
    struct imap_partial w;
    struct imap_parser p;
    size_t from;

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        print_message("%s of %zu\n", rows[i].text, rows[i].count);
        imap_parser_init(&p, str_c(rows[i].text));
        assert_int_equal(imap_parse_partial(&p, &w, NULL), 0);
        assert_true(imap_partial_is_set(&w));
        assert_int_equal(imap_partial_window(&w, rows[i].count, &from), rows[i].n);
        assert_true(rows[i].n == 0 || from == rows[i].from);
    }
}

static void malformed_windows_are_refused(void **state)
{
    static const char *const rows[] = {"",    "1",     "1:",   ":1",    "0:1",         "1:0",
                                       "*:1", "1:*",   "1:-1", "-1:1",  "-1",          "--1:-1",
                                       "-:1", "-0:-1", "1,2",  "1:2:3", "1:4294967296"};
    struct imap_partial w;
    struct imap_parser p;

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        print_message("\"%s\"\n", rows[i]);
        imap_parser_init(&p, str_c(rows[i]));
        assert_false(imap_parse_partial(&p, &w, NULL) == 0 && imap_parse_end(&p, NULL) == 0);
    }
}

/* Beside the set written out number by number. */
static void sets_are_cut_as_their_numbers_are(void **state)
{
    static const struct imap_range ranges[] = {{2, 4}, {7, 7}, {9, 15}, {20, 21}};
    static const uint32_t all[] = {2, 3, 4, 7, 9, 10, 11, 12, 13, 14, 15, 20, 21};
    const size_t count = sizeof all / sizeof *all;

    (void)state;
    for (uint32_t first = 1; first < 16; first++)
        for (uint32_t last = 1; last < 32; last++) {
            struct imap_partial w = {first, last / 2 + 1, last % 2 == 0};
            struct imap_range v[4];
            struct imap_set set = {.v = v, .n = 4};
            size_t from, n = imap_partial_window(&w, count, &from), at = 0;
            memcpy(v, ranges, sizeof v);
            imap_partial_cut(&w, &set);
            for (size_t i = 0; i < set.n; i++)
                for (uint32_t number = set.v[i].from; number <= set.v[i].to; number++, at++) {
                    assert_true(at < n);
                    assert_int_equal(number, all[from + at]);
                }
            assert_int_equal(at, n);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(windows_lie_inside_the_list),
        cmocka_unit_test(malformed_windows_are_refused),
        cmocka_unit_test(sets_are_cut_as_their_numbers_are),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
