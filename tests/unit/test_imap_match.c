/* test_imap_match.c - mailbox patterns. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "mail/imap/imap_match.h"
#include "mail/store/mailbox.h"

static const struct {
    const char *pattern, *path;
    bool matches;
} rows[] = {
    {"*", "INBOX", true},
    {"*", "a/b/c", true},
    {"%", "a", true},
    {"%", "a/b", false},
    {"a/%", "a/b", true},
    {"a/%", "a/b/c", false},
    {"a/*", "a/b/c", true},
    {"a*", "a", true},
    {"a/%", "a", false},
    {"%/b", "a/b", true},
    {"*b", "a/b", true},
    {"*c", "a/b", false},
    {"", "a", false},
    {"inbox", "INBOX", true},
    {"InBox", "INBOX", true},
    {"inbox/%", "INBOX/x", true},
    {"inbox/X", "INBOX/x", false},
    {"in%", "INBOX", true},
    {"in%", "INBOXES", false},
    {"i%", "Important", false},
    {"a", "A", false},
    {"a%c", "abbbc", true},
    {"a%c", "ab/c", false},
    {"a*c", "ab/c", true},
    {"%%", "a/b", false},
    {"*%", "a/b", true},
    {"%*", "a/b", true},
    {"a%b%c", "axbxc", true},
    {"a%b%c", "axbx", false},
    {"*a*b*", "xxaxxbxx", true},
    {"*a*b*", "xxbxxaxx", false},
    {"a", "", false},
};

static void patterns_match_as_the_rfc_says(void **state)
{
    struct arena *arena = arena_new();

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct imap_pattern *p = imap_pattern_new(arena, str_c(rows[i].pattern), NULL);
        assert_non_null(p);
        print_message("%s on %s\n", rows[i].pattern, rows[i].path);
        assert_int_equal(imap_pattern_matches(p, str_c(rows[i].path)), rows[i].matches);
    }
    arena_free(&arena);
}

static void the_longest_pattern_matches_the_longest_path(void **state)
{
    struct arena *arena = arena_new();
    char path[MAILBOX_PATH_SIZE_MAX], pattern[MAILBOX_PATH_SIZE_MAX - 1];
    struct imap_pattern *p;

    (void)state;
    memset(path, 'a', sizeof path);
    for (size_t i = 0; i < sizeof pattern; i++)
        pattern[i] = i % 2 ? 'a' : '*';
    p = imap_pattern_new(arena, str_of(pattern, sizeof pattern), NULL);
    assert_non_null(p);
    assert_true(imap_pattern_matches(p, str_of(path, sizeof path)));
    path[sizeof path - 1] = 'b';
    assert_true(imap_pattern_matches(p, str_of(path, sizeof path)) ==
                (pattern[sizeof pattern - 1] == '*'));
    arena_free(&arena);
}

static void a_pattern_longer_than_any_path_is_refused(void **state)
{
    struct arena *arena = arena_new();
    char pattern[MAILBOX_PATH_SIZE_MAX] = {0};
    struct error err = {0};

    (void)state;
    assert_null(imap_pattern_new(arena, str_of(pattern, sizeof pattern), &err));
    assert_int_equal(err.kind, ERR_LIMIT);
    arena_free(&arena);
}

static void a_pattern_tells_whether_it_can_match_below_a_name(void **state)
{
    static const struct {
        const char *pattern, *beginning;
        bool may;
    } cases[] = {
        {"*", "Shared", true},         {"%", "Shared", true},      {"Shared/x", "Shared", true},
        {"Shared", "Shared", true},    {"S*d", "Shared", true},    {"INBOX", "Shared", false},
        {"Share", "Shared", false},    {"a%/b", "Shared", false},  {"%/%", "Other Users", true},
        {"Sh%", "Other Users", false}, {"inbox/x", "INBOX", true}, {"", "Shared", false},
    };
    struct arena *arena = arena_new();

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct imap_pattern *p = imap_pattern_new(arena, str_c(cases[i].pattern), NULL);
        assert_int_equal(imap_pattern_may_begin(p, str_c(cases[i].beginning)), cases[i].may);
    }
    arena_free(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(patterns_match_as_the_rfc_says),
        cmocka_unit_test(the_longest_pattern_matches_the_longest_path),
        cmocka_unit_test(a_pattern_longer_than_any_path_is_refused),
        cmocka_unit_test(a_pattern_tells_whether_it_can_match_below_a_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
