#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "mail/authentic/tag_list.h"
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

static void assert_str(struct str got, const char *wanted)
{
    assert_int_equal(got.n, strlen(wanted));
    if (got.n > 0)
        assert_memory_equal(got.p, wanted, got.n);
}

static void lists_are_read_or_refused(void **state)
{
    static const struct {
        const char *text;
        int count; /* -1: refused */
    } rows[] = {
        {"a=1", 1},       {"a=1;", 1},      {" a = 1 ;\r\n\tb = 2 ; ", 2},
        {"a=", 1},        {"a=;b=", 2},     {"v=DKIM1; p=", 2},
        {"a=1=2", 1},     {"a_1=x", 1},     {"n=caf\xc3\xa9", 1},
        {"a=x\r\n y", 1}, {"a=x\n\ty", 1},  {"", -1},
        {" ", -1},        {";", -1},        {"a", -1},
        {"=1", -1},       {"==", -1},       {"a=1;;", -1},
        {"a=1;;b=2", -1}, {";a=1", -1},     {"a=1; a=2", -1},
        {"1a=1", -1},     {"_a=1", -1},     {"a b=1", -1},
        {"a-b=1", -1},    {"a=x\r\ny", -1}, {"a=\x01", -1},
        {"a=\x7f", -1},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct error err = {0};
        struct tag_list list;
        int status = tag_list_parse(arena, str_c(rows[i].text), &list, &err);

        assert_int_equal(status, rows[i].count < 0 ? -1 : 0);
        if (status == 0)
            assert_int_equal(list.n, rows[i].count);
        else
            assert_true(err.text[0] != '\0');
    }
}

static void values_lose_the_space_around_them_and_names_keep_their_case(void **state)
{
    struct tag_list list;

    assert_int_equal(
        tag_list_parse(arena, STR(" a = x y\r\n z ;A=\t2 ; b=\r\n q r \r\n "), &list, NULL), 0);
    assert_str(tag_list_value(&list, STR("a")), "x y\r\n z");
    assert_str(tag_list_value(&list, STR("A")), "2");
    assert_str(tag_list_find(&list, STR("b"))->raw, "\r\n q r \r\n ");
    assert_str(tag_value_compact(arena, tag_list_value(&list, STR("b"))), "qr");
    assert_null(tag_list_find(&list, STR("B")));
    assert_str(tag_list_value(&list, STR("c")), "");
}

static void a_nul_is_refused(void **state)
{
    struct tag_list list;

    assert_int_equal(tag_list_parse(arena, STR("a=x\0y"), &list, NULL), -1);
    assert_int_equal(tag_list_parse(arena, STR("a\0=y"), &list, NULL), -1);
}

static void parts_of_a_value_are_taken_in_order(void **state)
{
    struct str rest = STR("a : b::c "), part;

    assert_true(tag_value_next(&rest, ':', &part));
    assert_str(part, "a");
    assert_true(tag_value_next(&rest, ':', &part));
    assert_str(part, "b");
    assert_true(tag_value_next(&rest, ':', &part));
    assert_str(part, "");
    assert_true(tag_value_next(&rest, ':', &part));
    assert_str(part, "c");
    assert_false(tag_value_next(&rest, ':', &part));
    assert_true(tag_value_has(STR("From : to"), ':', STR("TO")));
    assert_false(tag_value_has(STR("From : to"), ':', STR("t")));
}

static void too_many_tags_are_refused(void **state)
{
    struct error err = {0};
    struct tag_list list;
    struct buf text;

    buf_init(&text, TAG_LIST_SIZE_MAX + 16);
    for (int i = 0; i < TAG_LIST_COUNT_MAX; i++)
        buf_addf(&text, "a%d=;", i);
    assert_int_equal(tag_list_parse(arena, buf_str(&text), &list, &err), 0);
    buf_adds(&text, "b=");
    assert_int_equal(tag_list_parse(arena, buf_str(&text), &list, &err), -1);
    assert_int_equal(err.kind, ERR_TOO_BIG);
    buf_clear(&text);
    buf_adds(&text, "a=");
    while (text.n <= TAG_LIST_SIZE_MAX)
        buf_addc(&text, 'x');
    err = (struct error){0};
    assert_int_equal(tag_list_parse(arena, buf_str(&text), &list, &err), -1);
    assert_int_equal(err.kind, ERR_TOO_BIG);
    buf_fini(&text);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(lists_are_read_or_refused),
        CASE(values_lose_the_space_around_them_and_names_keep_their_case),
        CASE(a_nul_is_refused),
        CASE(parts_of_a_value_are_taken_in_order),
        CASE(too_many_tags_are_refused),
    };

    return cmocka_run_group_tests_name("tag_list", tests, NULL, NULL);
}
