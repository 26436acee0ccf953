/* test_sieve_match.c - comparators, wildcards with what they stood for, regular expressions and their limits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "mail/sieve/sieve_match.h"
#include "server/base/buf.h"

static struct arena *arena;

static int setup(void **state)
{
    arena = arena_new();
    return 0;
}

static int teardown(void **state)
{
    arena_free(&arena);
    return 0;
}

static int match(enum sieve_comparator comparator, enum sieve_match_type type, struct str value,
                 struct str pattern, struct sieve_captures *captures)
{
    struct sieve_match_how how = {comparator, type, SIEVE_EQ};
    struct sieve_match_room room = {arena, arena, false};
    struct sieve_value v = {.text = value};
    struct sieve_key key;
    struct str why;
    int answer;

    assert_int_equal(sieve_key_prepare(arena, how, pattern, &key, &why), 0);
    answer = sieve_match_value(how, &v, &key, &room, captures);
    if (answer == SIEVE_MATCH_LATER) {
        room.may_take_long = true;
        answer = sieve_match_value(how, &v, &key, &room, captures);
    }
    return answer;
}

/* The captures from ${1} on, between bars. */
static const char *captured(enum sieve_comparator comparator, enum sieve_match_type type,
                            const char *value, const char *pattern)
{
    struct sieve_captures c = {0};
    struct buf b;
    const char *text;

    if (match(comparator, type, str_c(value), str_c(pattern), &c) != 1)
        return NULL;
    buf_init(&b, SIZE_MAX);
    for (size_t i = 1; i < c.n; i++)
        buf_addf(&b, "|%.*s", STR_ARG(c.v[i]));
    text = arena_c(arena, buf_str(&b));
    buf_fini(&b);
    return text;
}

static void comparators_say_what_is_equal(void **state)
{
    static const struct {
        enum sieve_comparator comparator;
        enum sieve_match_type type;
        const char *value, *key;
        int answer;
    } rows[] = {
        {SIEVE_ASCII_CASEMAP, SIEVE_IS, "Hello", "hELLO", 1},
        {SIEVE_ASCII_CASEMAP, SIEVE_IS, "Hello", "hell", 0},
        {SIEVE_ASCII_CASEMAP, SIEVE_IS, "\xc3\xa4", "\xc3\x84", 0},
        {SIEVE_ASCII_CASEMAP, SIEVE_IS, "", "", 1},
        {SIEVE_ASCII_CASEMAP, SIEVE_CONTAINS, "Hello", "", 1},
        {SIEVE_ASCII_CASEMAP, SIEVE_CONTAINS, "", "", 1},
        {SIEVE_ASCII_CASEMAP, SIEVE_CONTAINS, "Hello", "ELL", 1},
        {SIEVE_ASCII_CASEMAP, SIEVE_CONTAINS, "Hello", "lle", 0},
        {SIEVE_OCTET, SIEVE_IS, "Hello", "hello", 0},
        {SIEVE_OCTET, SIEVE_CONTAINS, "Hello", "ell", 1},
        {SIEVE_UNICODE_CASEMAP, SIEVE_IS, "\xc3\xa4", "\xc3\x84", 1},
        {SIEVE_UNICODE_CASEMAP, SIEVE_IS, "A\xcc\x88", "\xc3\xa4", 1},
        {SIEVE_UNICODE_CASEMAP, SIEVE_CONTAINS, "CAF\xc3\x89!", "caf\xc3\xa9", 1},
        {SIEVE_UNICODE_CASEMAP, SIEVE_IS, "\xff", "\xff", 1},
        {SIEVE_ASCII_NUMERIC, SIEVE_IS, "042x", "42", 1},
        {SIEVE_ASCII_NUMERIC, SIEVE_IS, "x", "y", 1},
        {SIEVE_ASCII_NUMERIC, SIEVE_IS, "1", "y", 0},
        {SIEVE_ASCII_NUMERIC, SIEVE_IS, "", "0", 0},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        assert_int_equal(
            match(rows[i].comparator, rows[i].type, str_c(rows[i].value), str_c(rows[i].key), NULL),
            rows[i].answer);
}

static void relations_follow_the_order(void **state)
{
    static const struct {
        enum sieve_comparator comparator;
        const char *value, *key;
        enum sieve_relation relation;
        int answer;
    } rows[] = {
        {SIEVE_ASCII_NUMERIC, "10", "9", SIEVE_GT, 1},
        {SIEVE_ASCII_CASEMAP, "10", "9", SIEVE_GT, 0},
        {SIEVE_ASCII_NUMERIC, "x", "9", SIEVE_GT, 1},
        {SIEVE_ASCII_NUMERIC, "9", "x", SIEVE_LT, 1},
        {SIEVE_ASCII_NUMERIC, "x", "y", SIEVE_GE, 1},
        {SIEVE_ASCII_NUMERIC, "x", "y", SIEVE_NE, 0},
        {SIEVE_ASCII_CASEMAP, "B", "a", SIEVE_GT, 1},
        {SIEVE_OCTET, "B", "a", SIEVE_GT, 0},
        {SIEVE_ASCII_CASEMAP, "a", "A", SIEVE_LE, 1},
        {SIEVE_ASCII_CASEMAP, "a", "A", SIEVE_NE, 0},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct sieve_match_how how = {rows[i].comparator, SIEVE_VALUE, rows[i].relation};
        struct sieve_match_room room = {arena, arena, false};
        struct sieve_value v = {.text = str_c(rows[i].value)};
        struct sieve_key key;
        struct str why;
        assert_int_equal(sieve_key_prepare(arena, how, str_c(rows[i].key), &key, &why), 0);
        assert_int_equal(sieve_match_value(how, &v, &key, &room, NULL), rows[i].answer);
    }
}

static void wildcards_keep_what_they_stood_for(void **state)
{
    static const struct {
        enum sieve_comparator comparator;
        const char *value, *pattern, *captures; /* NULL: no match */
    } rows[] = {
        {SIEVE_ASCII_CASEMAP, "Hello", "hello", ""},
        {SIEVE_ASCII_CASEMAP, "Hello", "hell", NULL},
        {SIEVE_ASCII_CASEMAP, "Hello", "*", "|Hello"},
        {SIEVE_ASCII_CASEMAP, "", "*", "|"},
        {SIEVE_ASCII_CASEMAP, "", "?", NULL},
        {SIEVE_ASCII_CASEMAP, "", "", ""},
        {SIEVE_ASCII_CASEMAP, "[acme-users] [fwd] Version 1.0 is out", "[*] *",
         "|acme-users|[fwd] Version 1.0 is out"},
        {SIEVE_ASCII_CASEMAP, "aXbXc", "*x*", "|a|bXc"},
        {SIEVE_ASCII_CASEMAP, "aXbXc", "*x*c", "|a|bX"},
        {SIEVE_ASCII_CASEMAP, "aXbXc", "a*c", "|XbX"},
        {SIEVE_ASCII_CASEMAP, "abc", "a?c", "|b"},
        {SIEVE_ASCII_CASEMAP, "abc", "???", "|a|b|c"},
        {SIEVE_ASCII_CASEMAP, "abc", "??", NULL},
        {SIEVE_ASCII_CASEMAP, "abcd", "*?d", "|ab|c"},
        {SIEVE_ASCII_CASEMAP, "abcd", "**", "||abcd"},
        {SIEVE_ASCII_CASEMAP, "ab", "*b?", NULL},
        {SIEVE_ASCII_CASEMAP, "aab", "*ab", "|a"},
        {SIEVE_ASCII_CASEMAP, "ab", "ab*ab", NULL},
        {SIEVE_ASCII_CASEMAP, "a*b", "a\\*b", ""},
        {SIEVE_ASCII_CASEMAP, "axb", "a\\*b", NULL},
        {SIEVE_ASCII_CASEMAP, "a?b\\", "a\\?b\\\\", ""},
        {SIEVE_ASCII_CASEMAP, "\xc3\xa4", "??", "|\xc3|\xa4"},
        {SIEVE_UNICODE_CASEMAP, "\xc3\xa4", "??", NULL},
        {SIEVE_UNICODE_CASEMAP, "\xc3\xa4", "?", "|\xc3\xa4"},
        {SIEVE_UNICODE_CASEMAP, "x\xc3\xa4y", "X*Y", "|\xc3\xa4"},
        {SIEVE_UNICODE_CASEMAP, "gr\xc3\xbc\xc3\x9f gott", "*\xc3\x9c? G*", "|gr|\xc3\x9f|ott"},
        {SIEVE_UNICODE_CASEMAP, "abc\xc3\xa9", "*\xc3\x89", "|abc"},
        {SIEVE_UNICODE_CASEMAP, "plain", "P*N", "|lai"},
        {SIEVE_OCTET, "Hello", "h*", NULL},
        {SIEVE_OCTET, "Hello", "H*", "|ello"},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const char *got =
            captured(rows[i].comparator, SIEVE_MATCHES, rows[i].value, rows[i].pattern);
        print_message("# %s with %s\n", rows[i].value, rows[i].pattern);
        if (rows[i].captures == NULL)
            assert_null(got);
        else
            assert_string_equal(got != NULL ? got : "(no match)", rows[i].captures);
    }
}

static void groups_keep_what_they_stood_for(void **state)
{
    static const struct {
        enum sieve_comparator comparator;
        const char *value, *pattern, *captures;
    } rows[] = {
        {SIEVE_ASCII_CASEMAP, "order 4711 today", "order ([0-9]+)", "|4711"},
        {SIEVE_ASCII_CASEMAP, "ORDER 1", "order ([0-9]+)", "|1"},
        {SIEVE_OCTET, "ORDER 1", "order ([0-9]+)", NULL},
        {SIEVE_ASCII_CASEMAP, "ab", "(x)?(b)", "||b"},
        {SIEVE_ASCII_CASEMAP, "a b", "^a.b$", ""},
        {SIEVE_ASCII_CASEMAP, "b", "^a", NULL},
        {SIEVE_ASCII_CASEMAP, "", "^$", ""},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const char *got = captured(rows[i].comparator, SIEVE_REGEX, rows[i].value, rows[i].pattern);
        print_message("# %s with %s\n", rows[i].value, rows[i].pattern);
        if (rows[i].captures == NULL)
            assert_null(got);
        else
            assert_string_equal(got != NULL ? got : "(no match)", rows[i].captures);
    }
}

static struct str many(const char *text, size_t n)
{
    struct buf b;
    struct str out;

    buf_init(&b, SIZE_MAX);
    for (size_t i = 0; i < n; i++)
        buf_adds(&b, text);
    out = arena_str(arena, buf_str(&b));
    buf_fini(&b);
    return out;
}

static void what_would_take_for_ever_is_given_up(void **state)
{
    struct str as = many("a", 200000);

    assert_int_equal(match(SIEVE_ASCII_CASEMAP, SIEVE_REGEX,
                           arena_printf(arena, "%.*s!", STR_ARG(many("a", 60))), STR("(a+)+$"),
                           NULL),
                     -1);
    assert_int_equal(match(SIEVE_ASCII_CASEMAP, SIEVE_REGEX,
                           arena_printf(arena, "%.*s!", STR_ARG(as)), STR("(a|aa)+$"), NULL),
                     -1);
    /* Each star takes the first place and never another one. */
    assert_int_equal(match(SIEVE_ASCII_CASEMAP, SIEVE_MATCHES, as, many("*a", 150), NULL), 1);
    assert_int_equal(match(SIEVE_ASCII_CASEMAP, SIEVE_MATCHES, as, STR("*a*a*a*a*a*a*b"), NULL), 0);
    assert_int_equal(match(SIEVE_ASCII_CASEMAP, SIEVE_MATCHES, as,
                           arena_printf(arena, "*%.*sb*", STR_ARG(many("?", 150))), NULL),
                     -1);
}

static void more_captures_than_are_kept_still_match(void **state)
{
    struct sieve_captures c;

    assert_int_equal(match(SIEVE_OCTET, SIEVE_MATCHES, many("x", 100), many("?", 100), &c), 1);
    assert_int_equal(c.n, SIEVE_MATCH_VARIABLES_MAX);
    assert_int_equal(c.v[0].n, 100);
    assert_int_equal(c.v[SIEVE_MATCH_VARIABLES_MAX - 1].n, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(comparators_say_what_is_equal),
        cmocka_unit_test(relations_follow_the_order),
        cmocka_unit_test(wildcards_keep_what_they_stood_for),
        cmocka_unit_test(groups_keep_what_they_stood_for),
        cmocka_unit_test(what_would_take_for_ever_is_given_up),
        cmocka_unit_test(more_captures_than_are_kept_still_match),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
