/* test_dnsbl.c - how DNS lists are written. What they answer is in tests/integration/test_dns_lists.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "mail/authentic/dnsbl.h"

static void lists_are_read(void **state)
{
    struct arena *a = arena_new();
    struct dnsbl_list list;
    struct error err = {0};

    assert_int_equal(
        dnsbl_parse(a,
                    STR("zen.example.org, bl.example.net=127.0.0.2-11*3 one.example=127.0.0.4,"
                        "allow.example=127.0.1.0-127.0.2.255*-5 ,, last_one.example*0"),
                    &list, &err),
        0);
    assert_int_equal(list.count, 5);
    assert_true(str_eq(list.zones[0].name, STR("zen.example.org")));
    assert_int_equal(list.zones[0].first, 0x7f000000);
    assert_int_equal(list.zones[0].last, 0x7fffffff);
    assert_int_equal(list.zones[0].weight, 1);
    assert_int_equal(list.zones[1].first, 0x7f000002);
    assert_int_equal(list.zones[1].last, 0x7f00000b);
    assert_int_equal(list.zones[1].weight, 3);
    assert_int_equal(list.zones[2].last, 0x7f000004);
    assert_int_equal(list.zones[3].last, 0x7f0002ff);
    assert_int_equal(list.zones[3].weight, -5);
    assert_int_equal(list.zones[4].weight, 0);
    assert_int_equal(dnsbl_parse(a, STR(" , "), &list, &err), 0);
    assert_int_equal(list.count, 0);
    arena_free(&a);
}

static void wrong_entries_are_named(void **state)
{
    static const char *const rows[] = {
        "=127.0.0.2", "x.org=",        "x.org=192.0.2.1", "x.org=127.0.0.9-2",
        "x.org*",     "x.org*many",    "x.org*1001",      "x.org=127.0.0.2-256",
        ".x.org",     "x..org",        "x/y.org",         "x.org=127.0.0.2-128.0.0.1",
        "x.org*--1",  "x.org=127.0.0", "caf\xc3\xa9.org", "x.org=127.0.0.2-",
    };
    struct arena *a = arena_new();

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct dnsbl_list list;
        struct error err = {0};

        assert_int_equal(dnsbl_parse(a, str_c(rows[i]), &list, &err), -1);
        assert_int_equal(err.kind, ERR_SYNTAX);
        assert_non_null(strstr(err.text, rows[i]));
    }
    arena_free(&a);
}

static void a_list_has_an_end(void **state)
{
    struct arena *a = arena_new();
    struct dnsbl_list list;
    struct error err = {0};
    char text[2 * (DNSBL_ZONES_MAX + 1)];

    for (size_t i = 0; i < sizeof text; i += 2)
        memcpy(text + i, "x ", 2);
    assert_int_equal(dnsbl_parse(a, str_of(text, sizeof text - 2), &list, &err), 0);
    assert_int_equal(dnsbl_parse(a, str_of(text, sizeof text), &list, &err), -1);
    arena_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lists_are_read),
        cmocka_unit_test(wrong_entries_are_named),
        cmocka_unit_test(a_list_has_an_end),
    };

    return cmocka_run_group_tests_name("dnsbl", tests, NULL, NULL);
}
