/* test_buf.c - growing buffers and their sticky limit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include "server/base/buf.h"

static void appends_follow_each_other(void **state)
{
    struct buf b;

    buf_init(&b, 1000);
    assert_string_equal(buf_c(&b), "");
    buf_add(&b, STR("* "));
    buf_add_u64(&b, 42);
    buf_addc(&b, ' ');
    buf_adds(&b, "FETCH");
    buf_addf(&b, " (UID %d)", 7);
    buf_add(&b, STR_NULL);
    assert_true(buf_ok(&b));
    assert_string_equal(buf_c(&b), "* 42 FETCH (UID 7)");
    assert_int_equal(b.n, strlen("* 42 FETCH (UID 7)"));
    buf_fini(&b);
    assert_null(b.p);
}

static void numbers_are_printed_to_the_last_digit(void **state)
{
    static const struct {
        uint64_t value;
        const char *text;
    } rows[] = {
        {0, "0"},
        {9, "9"},
        {10, "10"},
        {UINT64_MAX, "18446744073709551615"},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct buf b;

        buf_init(&b, 100);
        buf_add_u64(&b, rows[i].value);
        assert_string_equal(buf_c(&b), rows[i].text);
        buf_fini(&b);
    }
}

static void overflow_changes_nothing_and_stays(void **state)
{
    struct buf b;

    buf_init(&b, 5);
    buf_adds(&b, "12345");
    assert_true(buf_ok(&b));
    buf_adds(&b, "");
    assert_true(buf_ok(&b));
    buf_addc(&b, '6');
    assert_false(buf_ok(&b));
    assert_string_equal(buf_c(&b), "12345");
    buf_truncate(&b, 1);
    buf_addc(&b, 'x');
    assert_null(buf_reserve(&b, 1));
    assert_string_equal(buf_c(&b), "1");
    buf_clear(&b);
    buf_adds(&b, "abc");
    assert_true(buf_ok(&b));
    assert_string_equal(buf_c(&b), "abc");
    buf_fini(&b);
}

static void formatted_text_is_all_or_nothing(void **state)
{
    struct buf b;

    buf_init(&b, 10);
    buf_addf(&b, "%s", "1234567890");
    assert_true(buf_ok(&b));
    buf_clear(&b);
    buf_addf(&b, "%s", "1234567890a");
    assert_false(buf_ok(&b));
    assert_int_equal(b.n, 0);
    buf_fini(&b);
}

static void text_longer_than_the_first_block_survives_growth(void **state)
{
    struct buf b;

    buf_init(&b, 1 << 20);
    for (unsigned i = 0; i < 50000; i++)
        buf_addf(&b, "%05u,", i);
    assert_true(buf_ok(&b));
    assert_int_equal(b.n, 300000);
    assert_memory_equal(b.p + 6 * 49999, "49999,", 6);
    assert_true(b.cap <= b.size_max);
    buf_fini(&b);
}

static void a_size_that_would_wrap_is_an_overflow(void **state)
{
    struct buf b;

    buf_init(&b, SIZE_MAX / 2);
    buf_addc(&b, 'x');
    assert_null(buf_reserve(&b, SIZE_MAX));
    assert_false(buf_ok(&b));
    buf_fini(&b);
}

static void reserved_room_counts_when_committed(void **state)
{
    struct buf b;
    char *room;

    buf_init(&b, 1000);
    room = buf_reserve(&b, 300);
    assert_non_null(room);
    memcpy(room, "abc", 3);
    buf_commit(&b, 3);
    assert_string_equal(buf_c(&b), "abc");
    buf_fini(&b);
}

static void consuming_takes_from_the_front(void **state)
{
    struct buf b;

    buf_init(&b, 100);
    buf_consume(&b, 0);
    buf_adds(&b, "line1\nline2");
    buf_consume(&b, 6);
    assert_string_equal(buf_c(&b), "line2");
    buf_truncate(&b, 99);
    assert_string_equal(buf_c(&b), "line2");
    buf_consume(&b, 5);
    assert_string_equal(buf_c(&b), "");
    buf_fini(&b);
}

static void taken_bytes_belong_to_the_caller(void **state)
{
    struct buf b;
    size_t n;
    char *taken;

    buf_init(&b, 100);
    buf_adds(&b, "mine");
    taken = buf_take(&b, &n);
    assert_string_equal(taken, "mine");
    assert_int_equal(n, 4);
    assert_int_equal(b.n, 0);
    free(taken);
    taken = buf_take(&b, &n);
    assert_string_equal(taken, "");
    assert_int_equal(n, 0);
    free(taken);
    buf_fini(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(appends_follow_each_other),
        cmocka_unit_test(numbers_are_printed_to_the_last_digit),
        cmocka_unit_test(overflow_changes_nothing_and_stays),
        cmocka_unit_test(formatted_text_is_all_or_nothing),
        cmocka_unit_test(text_longer_than_the_first_block_survives_growth),
        cmocka_unit_test(a_size_that_would_wrap_is_an_overflow),
        cmocka_unit_test(reserved_room_counts_when_committed),
        cmocka_unit_test(consuming_takes_from_the_front),
        cmocka_unit_test(taken_bytes_belong_to_the_caller),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
