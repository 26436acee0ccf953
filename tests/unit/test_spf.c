/* test_spf.c - SPF records and macros, without DNS. The RFC 7208 suite runs in tests/integration/test_spf.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "mail/authentic/spf_internal.h"

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

static struct spf_macros macros_ipv4(void)
{
    return (struct spf_macros){
        .sender = STR("strong-bad@email.example.com"),
        .local = STR("strong-bad"),
        .sender_domain = STR("email.example.com"),
        .domain = STR("email.example.com"),
        .helo = STR("mx.example.org"),
        .receiver = STR("us.example.net"),
        .validated_name = STR("mx.example.org"),
        .is_ipv4 = true,
        .address = {192, 0, 2, 3},
        .now_s = 1400000000,
    };
}

static const char *expand(const char *text, const struct spf_macros *m)
{
    struct str out;

    assert_true(spf_macro_is_valid(str_c(text), SPF_IN_EXPLANATION));
    assert_int_equal(spf_macro_expand(arena, str_c(text), m, &out, NULL), 0);
    return arena_c(arena, out);
}

static void macros_expand_as_the_rfc_shows(void **state)
{
    static const struct {
        const char *text, *expansion;
    } rows[] = {
        {"%{s}", "strong-bad@email.example.com"},
        {"%{o}", "email.example.com"},
        {"%{d}", "email.example.com"},
        {"%{d4}", "email.example.com"},
        {"%{d2}", "example.com"},
        {"%{d1}", "com"},
        {"%{dr}", "com.example.email"},
        {"%{d2r}", "example.email"},
        {"%{l}", "strong-bad"},
        {"%{l-}", "strong.bad"},
        {"%{lr}", "strong-bad"},
        {"%{lr-}", "bad.strong"},
        {"%{l1r-}", "strong"},
        {"%{ir}.%{v}._spf.%{d2}", "3.2.0.192.in-addr._spf.example.com"},
        {"%{lr-}.lp.%{ir}.%{v}._spf.%{d2}", "bad.strong.lp.3.2.0.192.in-addr._spf.example.com"},
        {"%%%_%-", "% %20"},
        {"%{D200}", "email.example.com"},
        {"%{S}", "strong-bad%40email.example.com"},
        {"%{c} %{r} %{t} %{h} %{p1}", "192.0.2.3 us.example.net 1400000000 mx.example.org org"},
    };
    struct spf_macros m = macros_ipv4();

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        assert_string_equal(expand(rows[i].text, &m), rows[i].expansion);
}

static void ipv6_addresses_are_digits_in_names_and_readable_in_texts(void **state)
{
    struct spf_macros m = macros_ipv4();

    m.is_ipv4 = false;
    memcpy(m.address, "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\xcb\x01", 16);
    assert_string_equal(expand("%{ir}.%{v}", &m),
                        "1.0.b.c.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6");
    assert_string_equal(expand("%{c}", &m), "2001:db8::cb01");
}

static void empty_parts_are_parts(void **state)
{
    struct spf_macros m = macros_ipv4();

    m.local = STR("-a--b-");
    assert_string_equal(expand("<%{l-}>", &m), "<.a..b.>");
    assert_string_equal(expand("<%{l2r-}>", &m), "<a.>");
    m.local = STR("");
    assert_string_equal(expand("<%{lr-}>", &m), "<>");
}

static void macros_with_errors_are_refused(void **state)
{
    static const char *const rows[] = {"%",      "%{",   "%{d",   "%{}",   "%{a}",
                                       "%(d)",   "%d",   "%{d0}", "%{dx}", "%{d-r}",
                                       "%{drr}", "a\tb", "\x80",  "%{d00}"};

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        assert_false(spf_macro_is_valid(str_c(rows[i]), SPF_IN_EXPLANATION));
    assert_false(spf_macro_is_valid(STR("a b"), SPF_IN_MODIFIER));
    assert_false(spf_macro_is_valid(STR("%{c}"), SPF_IN_TERM));
    assert_true(spf_macro_is_valid(STR("%{c}"), SPF_IN_MODIFIER));
}

static void an_expansion_has_a_limit(void **state)
{
    struct spf_macros m = macros_ipv4();
    struct error err = {0};
    char text[4 * 200];
    struct str out;

    for (size_t i = 0; i < sizeof text; i += 4)
        memcpy(text + i, "%{s}", 4);
    assert_int_equal(spf_macro_expand(arena, str_of(text, sizeof text), &m, &out, &err), -1);
    assert_int_equal(err.kind, ERR_TOO_BIG);
}

static void records_that_are_right_are_understood(void **state)
{
    struct error err = {0};
    struct spf_record r;
    struct spf_directive *d;

    assert_int_equal(
        spf_parse_record(
            arena,
            STR("V=SPF1 ip4:192.0.2.0/24 -IP6:2001:db8::/32 ~a:mail.%{d}/28//64 mx/0 "
                " ?exists:%{i}.x.org exp=e.example.org moo=%{c} redirect=r.example.org "),
            &r, &err),
        0);
    d = r.directives;
    assert_int_equal(r.count, 5);
    assert_int_equal(d[0].bits4, 24);
    assert_memory_equal(d[0].network, "\xc0\x00\x02\x00", 4);
    assert_int_equal(d[1].result, SPF_FAIL);
    assert_int_equal(d[1].bits6, 32);
    assert_int_equal(d[2].result, SPF_SOFTFAIL);
    assert_true(str_eq(d[2].domain_spec, STR("mail.%{d}")));
    assert_int_equal(d[2].bits4, 28);
    assert_int_equal(d[2].bits6, 64);
    assert_int_equal(d[3].bits4, 0);
    assert_int_equal(d[4].result, SPF_NEUTRAL);
    assert_false(r.has_all);
    assert_true(str_eq(r.exp, STR("e.example.org")));
    assert_true(str_eq(r.redirect, STR("r.example.org")));
}

static void records_with_errors_are_refused_whole(void **state)
{
    static const char *const rows[] = {
        "v=spf10",
        "v=spf1 moo",
        "v=spf1 all:x.org",
        "v=spf1 all/24",
        "v=spf1 --all",
        "v=spf1 a:",
        "v=spf1 a:museum",
        "v=spf1 a:x.123",
        "v=spf1 a:x.-com",
        "v=spf1 a/33",
        "v=spf1 a/032",
        "v=spf1 a/24/64",
        "v=spf1 a//129",
        "v=spf1 a/",
        "v=spf1 mx:x.org/24/",
        "v=spf1 include",
        "v=spf1 include:x.org/24",
        "v=spf1 exists",
        "v=spf1 ptr/24",
        "v=spf1 ip4",
        "v=spf1 ip4:192.0.2",
        "v=spf1 ip4:192.0.2.1/",
        "v=spf1 ip4:192.0.2.01",
        "v=spf1 ip4:192.0.2.1//32",
        "v=spf1 ip6:::1/129",
        "v=spf1 ip6:192.0.2.1",
        "v=spf1 exp=",
        "v=spf1 exp=x.org exp=x.org",
        "v=spf1 redirect=x.org redirect=y.org",
        "v=spf1 redirect:x.org",
        "v=spf1 1up=x",
        "v=spf1 =x",
        "v=spf1 moo=%x",
        "v=spf1 -all\t",
        "v=spf1 a:caf\xc3\xa9.org",
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct error err = {0};
        struct spf_record r;

        assert_int_equal(spf_parse_record(arena, str_c(rows[i]), &r, &err), -1);
        assert_int_equal(err.kind, ERR_SYNTAX);
    }
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(macros_expand_as_the_rfc_shows),
        CASE(ipv6_addresses_are_digits_in_names_and_readable_in_texts),
        CASE(empty_parts_are_parts),
        CASE(macros_with_errors_are_refused),
        CASE(an_expansion_has_a_limit),
        CASE(records_that_are_right_are_understood),
        CASE(records_with_errors_are_refused_whole),
    };

    return cmocka_run_group_tests_name("spf", tests, NULL, NULL);
}
