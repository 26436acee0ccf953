/* test_imap_sequence.c - sequence sets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "mail/imap/imap_sequence.h"

static struct str print_ranges(struct arena *a, const struct imap_set *set)
{
    struct str out = STR("");

    for (size_t i = 0; i < set->n; i++)
        out = arena_printf(a, "%.*s%s%u:%u", STR_ARG(out), i > 0 ? "," : "", set->v[i].from,
                           set->v[i].to);
    return out;
}

static void sets_resolve_to_ascending_ranges(void **state)
{
    static const struct {
        const char *text;
        uint32_t largest;
        const char *resolved;
    } rows[] = {
        {"1", 10, "1:1"},       {"5:2", 10, "2:5"},    {"*", 10, "10:10"},
        {"*:4", 10, "4:10"},    {"15:*", 10, "10:15"}, {"7,3:4,5,1", 10, "1:1,3:5,7:7"},
        {"1:5,2:3", 10, "1:5"}, {"1,2,3", 10, "1:3"},  {"1:4294967295", 10, "1:4294967295"},
        {"1:*", 0, ""},         {"*", 0, ""},          {"3", 0, "3:3"},
    };
    struct arena *arena = arena_new();

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct imap_parser p;
        struct imap_set set;
        struct str got;
        imap_parser_init(&p, str_c(rows[i].text));
        assert_int_equal(imap_set_parse(&p, arena, &set, NULL), 0);
        imap_set_resolve(&set, rows[i].largest);
        got = print_ranges(arena, &set);
        print_message("%s is %.*s\n", rows[i].text, STR_ARG(got));
        assert_true(str_eq(got, str_c(rows[i].resolved)));
    }
    arena_free(&arena);
}

static void malformed_sets_are_refused(void **state)
{
    static const char *const rows[] = {"",   "0",   "a",  "1:",         ":1",    ",1",
                                       "1,", "1:0", "-1", "4294967296", "1:2:x,"};
    struct arena *arena = arena_new();

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct imap_parser p;
        struct imap_set set;
        imap_parser_init(&p, str_c(rows[i]));
        print_message("\"%s\"\n", rows[i]);
        assert_false(imap_set_parse(&p, arena, &set, NULL) == 0 && imap_parse_end(&p, NULL) == 0);
    }
    arena_free(&arena);
}

static void a_resolved_set_knows_its_members(void **state)
{
    struct arena *arena = arena_new();
    struct imap_parser p;
    struct imap_set set;

    (void)state;
    imap_parser_init(&p, STR("2:4,9,12:*"));
    assert_int_equal(imap_set_parse(&p, arena, &set, NULL), 0);
    imap_set_resolve(&set, 14);
    for (uint32_t i = 0; i < 20; i++)
        assert_int_equal(imap_set_contains(&set, i),
                         (i >= 2 && i <= 4) || i == 9 || (i >= 12 && i <= 14));
    assert_true(imap_set_count(&set) == 7);
    arena_free(&arena);
}

static void numbers_print_as_runs_in_their_order(void **state)
{
    static const uint32_t numbers[] = {4, 5, 6, 9, 1, 2, UINT32_MAX};
    struct buf out;

    (void)state;
    buf_init(&out, SIZE_MAX);
    imap_set_print(&out, numbers, sizeof numbers / sizeof *numbers);
    assert_string_equal(buf_c(&out), "4:6,9,1:2,4294967295");
    buf_fini(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sets_resolve_to_ascending_ranges),
        cmocka_unit_test(malformed_sets_are_refused),
        cmocka_unit_test(a_resolved_set_knows_its_members),
        cmocka_unit_test(numbers_print_as_runs_in_their_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
