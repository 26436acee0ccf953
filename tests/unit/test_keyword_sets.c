/* test_keyword_sets.c - sets of keywords: each kept once, and not for ever. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include "mail/store/mailbox_index_internal.h"

#define MANY_SETS 30000

static uint32_t intern(struct keyword_sets *s, const char *a, const char *b)
{
    struct str v[] = {str_c(a), str_c(b)};

    return keyword_sets_intern(s, v, b[0] != '\0' ? 2 : 1);
}

static void intern_many(struct keyword_sets *s, const char *prefix)
{
    char name[32];

    for (int i = 0; i < MANY_SETS; i++) {
        snprintf(name, sizeof name, "%s%d", prefix, i);
        intern(s, name, "");
    }
}

static void assert_set(const struct keywords *k, const char *a, const char *b)
{
    assert_int_equal(k->n, 2);
    assert_true(str_eq(k->v[0], str_c(a)));
    assert_true(str_eq(k->v[1], str_c(b)));
}

static void each_set_is_kept_once(void **state)
{
    struct keyword_sets s;

    (void)state;
    keyword_sets_init(&s);
    assert_int_equal(keyword_sets_intern(&s, NULL, 0), 0);
    assert_int_equal(intern(&s, "red", "blue"), intern(&s, "red", "blue"));
    assert_int_not_equal(intern(&s, "red", "blue"), intern(&s, "red", ""));
    assert_null(keyword_sets_get(&s, 0));
    assert_set(keyword_sets_get(&s, intern(&s, "red", "blue")), "red", "blue");
    keyword_sets_fini(&s);
}

static void a_few_sets_are_left_alone(void **state)
{
    struct keyword_sets s;
    struct index_row row = {0};

    (void)state;
    keyword_sets_init(&s);
    row.keywords = intern(&s, "red", "blue");
    intern(&s, "unused", "");
    keyword_sets_tidy(&s, &row, 1);
    assert_int_equal(s.generation, 1);
    assert_int_equal(s.n, 2);
    keyword_sets_fini(&s);
}

static void of_many_only_those_in_use_stay(void **state)
{
    struct keyword_sets s;
    struct index_row rows[3] = {{0}};

    (void)state;
    keyword_sets_init(&s);
    intern_many(&s, "a");
    rows[0].keywords = intern(&s, "red", "blue");
    rows[2].keywords = intern(&s, "green", "white");
    keyword_sets_tidy(&s, rows, 3);
    assert_int_equal(s.n, 2);
    assert_int_equal(s.generation, 2);
    assert_set(keyword_sets_get(&s, rows[0].keywords), "red", "blue");
    assert_null(keyword_sets_get(&s, rows[1].keywords));
    assert_set(keyword_sets_get(&s, rows[2].keywords), "green", "white");
    keyword_sets_fini(&s);
}

static void what_was_given_out_stays_until_nobody_holds_it(void **state)
{
    struct keyword_sets s;
    struct index_row row = {0};
    const struct keywords *first, *second;

    (void)state;
    keyword_sets_init(&s);
    intern_many(&s, "a");
    first = keyword_sets_get(&s, row.keywords = intern(&s, "red", "blue"));
    keyword_sets_tidy(&s, &row, 1);
    intern_many(&s, "b");
    second = keyword_sets_get(&s, row.keywords);
    keyword_sets_tidy(&s, &row, 1);
    keyword_sets_forget(&s, 1);
    assert_set(first, "red", "blue");
    keyword_sets_forget(&s, 2);
    assert_int_equal(s.replaced->generation, 2);
    assert_set(second, "red", "blue");
    keyword_sets_forget(&s, 3);
    assert_null(s.replaced);
    assert_set(keyword_sets_get(&s, row.keywords), "red", "blue");
    keyword_sets_fini(&s);
}

/* Or each new set would cost a walk over all messages. */
static void many_that_are_in_use_are_asked_about_seldom(void **state)
{
    struct keyword_sets s;
    struct index_row *rows = calloc(MANY_SETS, sizeof rows[0]);
    char name[32];

    (void)state;
    keyword_sets_init(&s);
    for (int i = 0; i < MANY_SETS; i++) {
        snprintf(name, sizeof name, "a%d", i);
        rows[i].keywords = intern(&s, name, "");
    }
    keyword_sets_tidy(&s, rows, MANY_SETS);
    assert_int_equal(s.n, MANY_SETS);
    assert_int_equal(s.generation, 2);
    intern(&s, "one", "more");
    keyword_sets_tidy(&s, rows, MANY_SETS);
    assert_int_equal(s.generation, 2);
    keyword_sets_fini(&s);
    free(rows);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_set_is_kept_once),
        cmocka_unit_test(a_few_sets_are_left_alone),
        cmocka_unit_test(of_many_only_those_in_use_stay),
        cmocka_unit_test(what_was_given_out_stays_until_nobody_holds_it),
        cmocka_unit_test(many_that_are_in_use_are_asked_about_seldom),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
