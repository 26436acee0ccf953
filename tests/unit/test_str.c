/* test_str.c - slices: comparing, searching, cutting, numbers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "server/base/str.h"

static void assert_str(struct str got, const char *wanted)
{
    assert_int_equal(got.n, strlen(wanted));
    if (got.n > 0)
        assert_memory_equal(got.p, wanted, got.n);
}

static void comparison_is_exact_or_ignores_ascii_case(void **state)
{
    static const struct {
        const char *a, *b;
        bool eq, ieq;
    } rows[] = {
        {"", "", true, true},
        {"abc", "abc", true, true},
        {"abc", "ABC", false, true},
        {"abc", "ab", false, false},
        {"a", "", false, false},
        {"[", "{", false, false},
        {"\xc3\xa9", "\xc3\x89", false, false},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_int_equal(str_eq(str_c(rows[i].a), str_c(rows[i].b)), rows[i].eq);
        assert_int_equal(str_ieq(str_c(rows[i].a), str_c(rows[i].b)), rows[i].ieq);
    }
    assert_true(str_eq(STR_NULL, STR("")));
}

static int sign(int x)
{
    return (x > 0) - (x < 0);
}

static void order_is_by_bytes_and_the_shorter_comes_first(void **state)
{
    static const struct {
        const char *a, *b;
        int cmp, icmp;
    } rows[] = {
        {"", "", 0, 0},    {"a", "b", -1, -1}, {"b", "a", 1, 1},    {"a", "ab", -1, -1},
        {"B", "a", -1, 1}, {"A", "a", -1, 0},  {"\xff", "a", 1, 1}, {"ab", "", 1, 1},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_int_equal(sign(str_cmp(str_c(rows[i].a), str_c(rows[i].b))), rows[i].cmp);
        assert_int_equal(sign(str_icmp(str_c(rows[i].a), str_c(rows[i].b))), rows[i].icmp);
    }
    assert_int_equal(str_cmp(STR_NULL, STR_NULL), 0);
}

static void prefixes_and_suffixes_are_found(void **state)
{
    static const struct {
        const char *s, *part;
        bool starts, istarts, ends, iends;
    } rows[] = {
        {"mailbox", "mail", true, true, false, false},
        {"mailbox", "BOX", false, false, false, true},
        {"mailbox", "", true, true, true, true},
        {"", "x", false, false, false, false},
        {"ab", "abc", false, false, false, false},
        {"Abc", "aB", false, true, false, false},
        {"aa", "aa", true, true, true, true},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct str s = str_c(rows[i].s), part = str_c(rows[i].part);

        assert_int_equal(str_starts(s, part), rows[i].starts);
        assert_int_equal(str_istarts(s, part), rows[i].istarts);
        assert_int_equal(str_ends(s, part), rows[i].ends);
        assert_int_equal(str_iends(s, part), rows[i].iends);
    }
}

static void a_prefix_is_skipped_only_when_it_is_there(void **state)
{
    struct str s = STR("to:<a@b>");

    assert_false(str_skip_prefix(&s, STR("FROM:")));
    assert_str(s, "to:<a@b>");
    assert_true(str_skip_prefix(&s, STR("TO:")));
    assert_str(s, "<a@b>");
    assert_false(str_skip_prefix(&s, STR("<a@b>>")));
}

static void searching_finds_the_first_hit(void **state)
{
    static const struct {
        const char *s, *needle;
        int find, ifind;
    } rows[] = {
        {"hello world", "o", 4, 4},  {"hello", "LL", -1, 2},
        {"hello", "", 0, 0},         {"", "", 0, 0},
        {"", "a", -1, -1},           {"aaab", "aab", 1, 1},
        {"abcabcabd", "ABD", -1, 6}, {"abc", "abcd", -1, -1},
        {"xyz", "xyz", 0, 0},        {"xyZ", "z", -1, 2},
        {"abc", "x", -1, -1},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_int_equal(str_find(str_c(rows[i].s), str_c(rows[i].needle)), rows[i].find);
        assert_int_equal(str_ifind(str_c(rows[i].s), str_c(rows[i].needle)), rows[i].ifind);
    }
    assert_int_equal(str_index(STR("a.b.c"), '.'), 1);
    assert_int_equal(str_rindex(STR("a.b.c"), '.'), 3);
    assert_int_equal(str_index(STR("abc"), '.'), -1);
    assert_int_equal(str_index(STR_NULL, '.'), -1);
    assert_int_equal(str_rindex(STR_NULL, '.'), -1);
    assert_int_equal(str_ifind(STR_NULL, STR_NULL), 0);
}

static void cutting_splits_at_the_first_or_the_last(void **state)
{
    static const struct {
        const char *s, *head, *tail, *rhead, *rtail;
        bool found;
    } rows[] = {
        {"RCPT TO:<a b>", "RCPT", "TO:<a b>", "RCPT TO:<a", "b>", true},
        {"NOOP", "NOOP", "", "NOOP", "", false},
        {" x", "", "x", "", "x", true},
        {"x ", "x", "", "x", "", true},
        {"", "", "", "", "", false},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct str head, tail;

        assert_int_equal(str_cut(str_c(rows[i].s), ' ', &head, &tail), rows[i].found);
        assert_str(head, rows[i].head);
        assert_str(tail, rows[i].tail);
        assert_int_equal(str_rcut(str_c(rows[i].s), ' ', &head, &tail), rows[i].found);
        assert_str(head, rows[i].rhead);
        assert_str(tail, rows[i].rtail);
    }
}

static void cutting_may_write_over_its_own_variable(void **state)
{
    struct str s = STR("a b"), other;

    str_cut(s, ' ', &other, &s);
    assert_str(other, "a");
    assert_str(s, "b");
    s = STR("a b");
    str_cut(s, ' ', &s, &other);
    assert_str(s, "a");
    assert_str(other, "b");
}

static void tokens_skip_runs_of_separators(void **state)
{
    struct str rest = STR("  a  bc d "), token;

    assert_true(str_next_token(&rest, ' ', &token));
    assert_str(token, "a");
    assert_true(str_next_token(&rest, ' ', &token));
    assert_str(token, "bc");
    assert_true(str_next_token(&rest, ' ', &token));
    assert_str(token, "d");
    assert_false(str_next_token(&rest, ' ', &token));
    rest = STR_NULL;
    assert_false(str_next_token(&rest, ' ', &token));
}

static void trimming_takes_blanks_from_both_ends_only(void **state)
{
    assert_str(str_trim(STR(" \t a b \r\n")), "a b");
    assert_str(str_trim(STR(" \r\n\t ")), "");
    assert_str(str_trim(STR_NULL), "");
    assert_str(str_trim(STR("\fa")), "\fa");
}

static void numbers_are_whole_and_do_not_wrap(void **state)
{
    static const struct {
        const char *s;
        bool ok64;
        uint64_t value;
        bool ok32;
    } rows[] = {
        {"0", true, 0, true},
        {"007", true, 7, true},
        {"4294967295", true, 4294967295u, true},
        {"4294967296", true, 4294967296u, false},
        {"18446744073709551615", true, UINT64_MAX, false},
        {"18446744073709551616", false, 0, false},
        {"99999999999999999999", false, 0, false},
        {"", false, 0, false},
        {"-1", false, 0, false},
        {"+1", false, 0, false},
        {"1 ", false, 0, false},
        {"0x1", false, 0, false},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint64_t value64 = 0;
        uint32_t value32 = 0;

        assert_int_equal(str_to_u64(str_c(rows[i].s), &value64), rows[i].ok64);
        assert_true(value64 == rows[i].value);
        assert_int_equal(str_to_u32(str_c(rows[i].s), &value32), rows[i].ok32);
        assert_int_equal(value32, rows[i].ok32 ? rows[i].value : 0);
    }
}

static void slices_never_leave_their_text(void **state)
{
    assert_str(str_from(STR("abc"), 1), "bc");
    assert_str(str_from(STR("abc"), 9), "");
    assert_str(str_from(STR_NULL, 9), "");
    assert_str(str_head(STR("abc"), 2), "ab");
    assert_str(str_head(STR("abc"), 9), "abc");
    assert_true(str_is_ascii(STR("a\x7f")));
    assert_false(str_is_ascii(STR("a\x80")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(comparison_is_exact_or_ignores_ascii_case),
        cmocka_unit_test(order_is_by_bytes_and_the_shorter_comes_first),
        cmocka_unit_test(prefixes_and_suffixes_are_found),
        cmocka_unit_test(a_prefix_is_skipped_only_when_it_is_there),
        cmocka_unit_test(searching_finds_the_first_hit),
        cmocka_unit_test(cutting_splits_at_the_first_or_the_last),
        cmocka_unit_test(cutting_may_write_over_its_own_variable),
        cmocka_unit_test(tokens_skip_runs_of_separators),
        cmocka_unit_test(trimming_takes_blanks_from_both_ends_only),
        cmocka_unit_test(numbers_are_whole_and_do_not_wrap),
        cmocka_unit_test(slices_never_leave_their_text),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
