/* test_memo.c - remembers as much as it may and as long as it may. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "server/directory/memo.h"
#include "server/run/loop.h"

#define LONG_MS (60 * 60 * 1000)

static struct memo *memo;

static bool holds(const char *one, const char *other)
{
    return memo_holds(memo, (const struct str[]){str_c(one), str_c(other)}, 2);
}

static void add(const char *one, const char *other, int64_t duration_ms)
{
    memo_add(memo, (const struct str[]){str_c(one), str_c(other)}, 2, duration_ms);
}

static void what_was_added_is_known_exactly(void **state)
{
    assert_false(holds("ab", "c"));
    add("ab", "c", LONG_MS);
    add("ab", "c", LONG_MS);
    assert_true(holds("ab", "c"));
    assert_false(holds("a", "bc"));
    assert_false(holds("abc", ""));
    assert_false(holds("c", "ab"));
}

static void the_oldest_gives_way(void **state)
{
    add("1", "", LONG_MS);
    add("2", "", LONG_MS);
    add("3", "", LONG_MS);
    add("1", "", LONG_MS); /* the youngest again */
    add("4", "", LONG_MS);
    assert_true(holds("1", ""));
    assert_false(holds("2", ""));
    assert_true(holds("3", ""));
    assert_true(holds("4", ""));
}

static void no_time_is_not_remembered(void **state)
{
    add("1", "", 0);
    assert_false(holds("1", ""));
}

static void wait_a_little(void *arg)
{
    add("1", "", 1);
    fiber_sleep(20);
}

static void time_makes_it_forget(void **state)
{
    loop_run_fiber("wait", wait_a_little, NULL);
    assert_false(holds("1", ""));
    add("1", "", LONG_MS);
    assert_true(holds("1", ""));
}

static int setup(void **state)
{
    loop_init();
    memo = memo_new(3);
    return 0;
}

static int teardown(void **state)
{
    memo_free(&memo);
    fiber_pool_fini();
    loop_fini();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_was_added_is_known_exactly, setup, teardown),
        cmocka_unit_test_setup_teardown(the_oldest_gives_way, setup, teardown),
        cmocka_unit_test_setup_teardown(no_time_is_not_remembered, setup, teardown),
        cmocka_unit_test_setup_teardown(time_makes_it_forget, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
