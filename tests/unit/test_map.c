/* test_map.c - the hash table. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>
#include "server/base/map.h"

static char values[5000];

static void what_was_put_is_found_until_removed(void **state)
{
    struct map *m = map_new();

    assert_null(map_get(m, STR("a")));
    assert_null(map_remove(m, STR("a")));
    assert_null(map_put(m, STR("a"), &values[1]));
    assert_ptr_equal(map_put(m, STR("a"), &values[2]), &values[1]);
    assert_ptr_equal(map_get(m, STR("a")), &values[2]);
    assert_int_equal(map_count(m), 1);
    assert_ptr_equal(map_remove(m, STR("a")), &values[2]);
    assert_null(map_get(m, STR("a")));
    assert_int_equal(map_count(m), 0);
    map_free(&m);
    assert_null(m);
    map_free(&m);
}

static void keys_are_copied_and_compared_to_the_last_byte(void **state)
{
    static const char *const keys[] = {
        "", "a", "A", "0123456789abcdef", "0123456789abcdefg", "0123456789abcdefh"};
    struct map *m = map_new();
    char key[32];

    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        snprintf(key, sizeof key, "%s", keys[i]);
        map_put(m, str_c(key), &values[i]);
    }
    memset(key, 'x', sizeof key);
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        assert_ptr_equal(map_get(m, str_c(keys[i])), &values[i]);
    assert_null(map_get(m, STR("0123456789abcdefi")));
    assert_null(map_get(m, str_of("a\0", 2)));
    map_free(&m);
}

static void thousands_of_numbers_come_and_go(void **state)
{
    struct map *m = map_new();

    for (int round = 0; round < 3; round++) {
        for (uint64_t i = 0; i < 5000; i++)
            assert_null(map_put(m, map_key_u64(&i), &values[i]));
        for (uint64_t i = 0; i < 5000; i++)
            assert_ptr_equal(map_get(m, map_key_u64(&i)), &values[i]);
        for (uint64_t i = 0; i < 5000; i++)
            assert_ptr_equal(map_remove(m, map_key_u64(&i)), &values[i]);
        assert_int_equal(map_count(m), 0);
    }
    map_free(&m);
}

static void a_small_set_that_churns_stays_correct(void **state)
{
    struct map *m = map_new();

    for (uint64_t i = 0; i < 100000; i++) {
        uint64_t old = i - 10;

        map_put(m, map_key_u64(&i), &values[i % 5000]);
        if (i >= 10)
            assert_ptr_equal(map_remove(m, map_key_u64(&old)), &values[old % 5000]);
    }
    assert_int_equal(map_count(m), 10);
    map_free(&m);
}

static void a_walk_sees_every_entry_once_and_may_remove_it(void **state)
{
    struct map *m = map_new();
    bool seen[1000] = {false};
    size_t at = 0, visited = 0;
    struct str key;
    void *value;

    for (uint64_t i = 0; i < 1000; i++)
        map_put(m, map_key_u64(&i), &values[i]);
    while (map_each(m, &at, &key, &value)) {
        size_t i = (size_t)((char *)value - values);

        assert_int_equal(key.n, 8);
        assert_false(seen[i]);
        seen[i] = true;
        visited++;
        if (i % 2 == 0)
            map_remove(m, key);
    }
    assert_int_equal(visited, 1000);
    assert_int_equal(map_count(m), 500);
    map_free(&m);
}

static void a_walk_may_remove_long_keys(void **state)
{
    struct map *m = map_new();
    size_t at = 0;
    struct str key;

    map_put(m, STR("a key longer than sixteen bytes"), values);
    map_put(m, STR("another key longer than sixteen bytes"), values);
    while (map_each(m, &at, &key, NULL))
        map_remove(m, key);
    assert_int_equal(map_count(m), 0);
    map_free(&m);
}

static void hashes_agree_within_a_process(void **state)
{
    assert_true(siphash(STR("same")) == siphash(str_of("same!", 4)));
    assert_true(siphash(STR("same")) != siphash(STR("sane")));
    assert_true(siphash(STR("")) == siphash(STR_NULL));
    assert_true(siphash(STR("a")) != siphash(str_of("a\0", 2)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_put_is_found_until_removed),
        cmocka_unit_test(keys_are_copied_and_compared_to_the_last_byte),
        cmocka_unit_test(thousands_of_numbers_come_and_go),
        cmocka_unit_test(a_small_set_that_churns_stays_correct),
        cmocka_unit_test(a_walk_sees_every_entry_once_and_may_remove_it),
        cmocka_unit_test(a_walk_may_remove_long_keys),
        cmocka_unit_test(hashes_agree_within_a_process),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
