/* test_mime_address.c - address lists: RFC 5322's, groups, and what mailers make of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "mail/mime/address.h"
#include "server/base/buf.h"

#define COUNT(rows) (sizeof(rows) / sizeof *(rows))

/* name <route:local@domain>, group{ ... } */
static void add_list(struct buf *out, const struct addresses *list)
{
    for (size_t i = 0; i < list->n; i++) {
        const struct address *address = &list->v[i];
        if (address->is_group_end)
            buf_adds(out, "}");
        else if (address->is_group_start)
            buf_addf(out, "%.*s{", STR_ARG(address->local));
        else
            buf_addf(out, "%.*s<%.*s%s%.*s@%.*s>", STR_ARG(address->name), STR_ARG(address->route),
                     address->route.n > 0 ? ":" : "", STR_ARG(address->local),
                     STR_ARG(address->domain));
    }
}

struct row {
    const char *value, *form;
};

static void assert_rows(const struct row *rows, size_t count)
{
    struct arena *a = arena_new();

    for (size_t i = 0; i < count; i++) {
        struct addresses list;
        struct buf form;
        address_parse_list(a, str_c(rows[i].value), &list);
        buf_init(&form, 10000);
        add_list(&form, &list);
        assert_string_equal(buf_c(&form), rows[i].form);
        buf_fini(&form);
    }
    arena_free(&a);
}

static void addresses_of_rfc_5322_are_read(void **state)
{
    static const struct row rows[] = {
        {"John Doe <jdoe@machine.example>", "John Doe<jdoe@machine.example>"},
        {"Mary Smith <mary@x.test>, jdoe@example.org, Who? <one@y.test>",
         "Mary Smith<mary@x.test><jdoe@example.org>Who?<one@y.test>"},
        {"<boss@nil.test>, \"Giant; \\\"Big\\\" Box\" <sysservices@example.net>",
         "<boss@nil.test>Giant; \"Big\" Box<sysservices@example.net>"},
        {"\"Joe Q. Public\" <john.q.public@example.com>",
         "Joe Q. Public<john.q.public@example.com>"},
        {"Pete(A nice \\) chap) <pete(his account)@silly.test(his host)>", "Pete<pete@silly.test>"},
        {"Joe Q. Public <john . q . public@example . com>",
         "Joe Q. Public<john.q.public@example.com>"},
        {"Mary Smith <@node.test,@b.test:mary@example.net>, , jdoe@test . example",
         "Mary Smith<@node.test,@b.test:mary@example.net><jdoe@test.example>"},
        {"jdoe@[192.0.2.1], x@[IPv6:2001:db8::1]", "<jdoe@[192.0.2.1]><x@[IPv6:2001:db8::1]>"},
        {"", ""},
        {" \r\n ", ""},
        {",,, ,", ""},
    };

    assert_rows(rows, COUNT(rows));
}

static void quoted_local_part_keeps_its_space(void **state)
{
    static const struct row rows[] = {
        {"\"a b\"@c.test", "<a b@c.test>"}, {"<\"a b\"@c.test>", "<a b@c.test>"},
        {"\"a@b\"@c.test", "<a@b@c.test>"}, {"\"a\\\\b\"@c.test", "<a\\b@c.test>"},
        {"\"\"@c.test", "<@c.test>"},
    };

    assert_rows(rows, COUNT(rows));
}

static void groups_open_and_close(void **state)
{
    static const struct row rows[] = {
        {"A Group:Ed Jones <joe@where.test>,joe@x.test;",
         "A Group{Ed Jones<joe@where.test><joe@x.test>}"},
        {"Undisclosed recipients:;", "Undisclosed recipients{}"},
        {"(hidden)Undisclosed (x) recipients : (nobody) ; ", "Undisclosed recipients{}"},
        {"a:b@c;, d@e", "a{<b@c>}<d@e>"},
        {"a:b@c; d@e", "a{<b@c>}<d@e>"},
        {"a:b@c", "a{<b@c>}"},
        {"a:b:c@d;", "a{}b{<c@d>}"},
        {"\"a:b\": c@d;", "a:b{<c@d>}"},
        {":;", "{}"},
        {";", ""},
    };

    assert_rows(rows, COUNT(rows));
}

static void a_name_may_stand_in_a_comment(void **state)
{
    static const struct row rows[] = {
        {"jdoe@example.org (John Doe)", "John Doe<jdoe@example.org>"},
        {"(John Doe) <jdoe@example.org>", "John Doe<jdoe@example.org>"},
        {"<jdoe@example.org> (John Doe)", "John Doe<jdoe@example.org>"},
        {"Jane <jdoe@example.org> (John Doe)", "Jane<jdoe@example.org>"},
        {"a@b (x (y) z), c@d", "x z<a@b><c@d>"},
    };

    assert_rows(rows, COUNT(rows));
}

static void what_people_write_is_understood(void **state)
{
    static const struct row rows[] = {
        {"alice@example.com <alice@example.com>", "alice@example.com<alice@example.com>"},
        {"a@b; c@d", "<a@b><c@d>"},
        {"A <a@b> B <c@d>", "A<a@b>B<c@d>"},
        {"A <a@b> junk, c@d", "A<a@b><c@d>"},
        {"<<a@b>>", "<a@b>"},
        {"A <a@b, C <c@d>", "A<a@b>C<c@d>"},
        {"A <a@b", "A<a@b>"},
        {"A \"unclosed <a@b>", "A \"unclosed<a@b>"},
        {"A (unclosed <a@b>", "A (unclosed<a@b>"},
        {"John Smith js@x.test", "John Smith<js@x.test>"},
        {"js@x.test John Smith", "<js@x.test>"},
        {"a@b@c.test", "<a@b@c.test>"},
        {"=?utf-8?Q?Doe,_John?= <j@x>", "=?utf-8?Q?Doe,_John?=<j@x>"},
        {"=?utf-8?Q?a@b?= <j@x>", "=?utf-8?Q?a@b?=<j@x>"},
        {"J\xc3\xb6rg <j\xc3\xb6rg@x>", "J\xc3\xb6rg<j\xc3\xb6rg@x>"},
        {"\"A\r\n B\"\r\n <a@b>", "A B<a@b>"},
        {"\"A\" \"B\" C <a@b>", "A B C<a@b>"},
        {"Name <>", "Name<@>"},
    };

    assert_rows(rows, COUNT(rows));
}

static void what_is_no_address_has_no_domain(void **state)
{
    static const struct row rows[] = {
        {"root", "<root@>"}, {"<root>", "<root@>"}, {"John Smith", "John Smith<@>"},
        {"a@", "<a@>"},      {"@b", "<@b>"},        {"<>", ""},
        {"()", ""},          {"\"\"", ""},
    };

    assert_rows(rows, COUNT(rows));
}

static void the_count_is_limited_and_groups_still_close(void **state)
{
    struct arena *a = arena_new();
    struct addresses list;
    struct buf m;

    buf_init(&m, 16 << 20);
    buf_adds(&m, "group:");
    for (int i = 0; i < 3 * ADDRESS_COUNT_MAX; i++)
        buf_adds(&m, "a@b,");
    address_parse_list(a, buf_str(&m), &list);
    assert_in_range(list.n, ADDRESS_COUNT_MAX - 5, ADDRESS_COUNT_MAX);
    assert_true(list.v[list.n - 1].is_group_end);
    buf_fini(&m);
    arena_free(&a);
}

/* Quadratic work would not end within any test's patience. */
static void hostile_lists_take_linear_time(void **state)
{
    static const char *const again[] = {
        "\"", "(",  "()",     "<",    ">",    "<a",     "@",    "a@",  "a ", ":",   ";",
        "\\", "=?", "=?a?q?", "a.b ", "a@b,", "\"\\\"", "(a) ", "a <", "[",  "@a,",
    };
    struct buf m;

    buf_init(&m, 64 << 20);
    for (size_t i = 0; i < COUNT(again); i++) {
        struct arena *a = arena_new();
        struct addresses list;
        buf_clear(&m);
        while (m.n < 2000000)
            buf_adds(&m, again[i]);
        address_parse_list(a, buf_str(&m), &list);
        assert_true(list.n <= ADDRESS_COUNT_MAX);
        arena_free(&a);
    }
    buf_fini(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_of_rfc_5322_are_read),
        cmocka_unit_test(quoted_local_part_keeps_its_space),
        cmocka_unit_test(groups_open_and_close),
        cmocka_unit_test(a_name_may_stand_in_a_comment),
        cmocka_unit_test(what_people_write_is_understood),
        cmocka_unit_test(what_is_no_address_has_no_domain),
        cmocka_unit_test(the_count_is_limited_and_groups_still_close),
        cmocka_unit_test(hostile_lists_take_linear_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
