/* test_arena.c - memory of one lifetime. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "server/base/arena.h"
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

static void a_new_arena_holds_next_to_nothing(void **state)
{
    struct arena *a = arena_new();

    assert_true(arena_size(a) < 64);
    arena_reset(a);
    assert_true(arena_size(a) < 64);
    arena_alloc(a, 1);
    assert_true(arena_size(a) < 4096 + 64);
    arena_free(&a);
    assert_null(a);
    arena_free(&a);
}

static void memory_is_zeroed_and_aligned_for_anything(void **state)
{
    static const size_t sizes[] = {0, 1, 3, 15, 16, 17, 500, 2000, 4000, 5000, 70000, 1};
    struct arena *a = arena_new();

    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            unsigned char *p = arena_alloc(a, sizes[i]);

            assert_int_equal((uintptr_t)p % _Alignof(max_align_t), 0);
            for (size_t at = 0; at < sizes[i]; at++)
                assert_int_equal(p[at], 0);
            memset(p, 0xaa, sizes[i]);
        }
        arena_reset(a);
    }
    arena_free(&a);
}

static void neighbours_do_not_overlap(void **state)
{
    struct arena *a = arena_new();
    unsigned char *p[500];

    for (unsigned i = 0; i < 500; i++) {
        p[i] = arena_alloc(a, i * 7 % 3000 + 1);
        memset(p[i], (int)(i & 255), i * 7 % 3000 + 1);
    }
    for (unsigned i = 0; i < 500; i++) {
        assert_int_equal(p[i][0], i & 255);
        assert_int_equal(p[i][i * 7 % 3000], i & 255);
    }
    arena_free(&a);
}

static void a_reset_gives_back_all_but_the_first_block(void **state)
{
    struct arena *a = arena_new();

    arena_alloc(a, 10 << 20); /* even when the first value is outsized */
    for (int i = 0; i < 1000; i++)
        arena_alloc(a, 1000);
    assert_true(arena_size(a) > 11000000);
    arena_reset(a);
    assert_true(arena_size(a) < 4096 + 64);
    arena_free(&a);
}

static void a_large_value_does_not_waste_the_current_block(void **state)
{
    struct arena *a = arena_new();
    char *before = arena_alloc(a, 16);
    char *after;

    arena_alloc(a, 1 << 20);
    after = arena_alloc(a, 16);
    assert_ptr_equal(after, before + 16);
    arena_free(&a);
}

static void copies_are_closed_with_nul(void **state)
{
    struct arena *a = arena_new();
    struct str s = arena_str(a, str_of("abcdef", 3));

    assert_int_equal(s.n, 3);
    assert_string_equal(s.p, "abc");
    assert_string_equal(arena_c(a, STR_NULL), "");
    assert_memory_equal(arena_copy(a, "xyz", 3), "xyz", 3);
    assert_string_equal(arena_lower(a, STR("MiXeD-\xc3\x89")).p, "mixed-\xc3\x89");
    s = arena_printf(a, "%s-%d", "n", 5);
    assert_int_equal(s.n, 3);
    assert_string_equal(s.p, "n-5");
    s = arena_printf(a, "%9000d", 1);
    assert_int_equal(s.n, 9000);
    arena_free(&a);
}

static void arrays_are_typed_and_zeroed(void **state)
{
    struct arena *a = arena_new();
    uint64_t *numbers = ARENA_ARRAY(a, 1000, uint64_t);
    struct str *one = ARENA_NEW(a, struct str);

    for (int i = 0; i < 1000; i++)
        assert_true(numbers[i] == 0);
    assert_null(one->p);
    arena_free(&a);
}

static void what_was_reset_is_poisoned_under_the_sanitizer(void **state)
{
#if defined(__SANITIZE_ADDRESS__)
    struct arena *a = arena_new();
    char *p = arena_alloc(a, 13);

    assert_false(__asan_address_is_poisoned(p + 12));
    assert_true(__asan_address_is_poisoned(p + 13));
    arena_reset(a);
    assert_true(__asan_address_is_poisoned(p));
    arena_free(&a);
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_arena_holds_next_to_nothing),
        cmocka_unit_test(memory_is_zeroed_and_aligned_for_anything),
        cmocka_unit_test(neighbours_do_not_overlap),
        cmocka_unit_test(a_reset_gives_back_all_but_the_first_block),
        cmocka_unit_test(a_large_value_does_not_waste_the_current_block),
        cmocka_unit_test(copies_are_closed_with_nul),
        cmocka_unit_test(arrays_are_typed_and_zeroed),
        cmocka_unit_test(what_was_reset_is_poisoned_under_the_sanitizer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
