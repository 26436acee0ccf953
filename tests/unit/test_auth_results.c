/* test_auth_results.c - Authentication-Results: the RFC's examples, round trips, forgeries. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "mail/authentic/auth_results.h"

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
    if (!str_eq(got, str_c(wanted)))
        print_error("\"%.*s\" is not \"%s\"\n", STR_ARG(got), wanted);
    assert_true(str_eq(got, str_c(wanted)));
}

/* "method=result(comment)[reason]{ptype.name=value}..." for every result, in a line. */
static struct str summary(const struct auth_results *r)
{
    struct str text = arena_printf(arena, "%.*s:", STR_ARG(r->authserv_id));

    for (size_t i = 0; i < r->n; i++) {
        const struct auth_result *one = &r->v[i];

        text = arena_printf(arena, "%.*s %.*s=%.*s", STR_ARG(text), STR_ARG(one->method),
                            STR_ARG(one->result));
        if (one->comment.n > 0)
            text = arena_printf(arena, "%.*s(%.*s)", STR_ARG(text), STR_ARG(one->comment));
        if (one->reason.n > 0)
            text = arena_printf(arena, "%.*s[%.*s]", STR_ARG(text), STR_ARG(one->reason));
        for (size_t k = 0; k < one->property_count; k++)
            text = arena_printf(arena, "%.*s{%.*s.%.*s=%.*s}", STR_ARG(text),
                                STR_ARG(one->properties[k].ptype), STR_ARG(one->properties[k].name),
                                STR_ARG(one->properties[k].value));
    }
    return text;
}

static void fields_are_read(void **state)
{
    static const struct {
        const char *value, *summary; /* NULL: refused */
    } rows[] = {
        /* RFC 8601, appendix B */
        {"example.org 1; none", "example.org:"},
        {" example.com;\r\n         spf=pass smtp.mailfrom=example.net",
         "example.com: spf=pass{smtp.mailfrom=example.net}"},
        {"example.com;\r\n auth=pass (cram-md5) smtp.auth=sender@example.net;\r\n spf=pass "
         "smtp.mailfrom=example.net",
         "example.com: auth=pass(cram-md5){smtp.auth=sender@example.net} "
         "spf=pass{smtp.mailfrom=example.net}"},
        {"example.com; iprev=pass policy.iprev=\"192.0.2.200\"",
         "example.com: iprev=pass{policy.iprev=192.0.2.200}"},
        {"example.com; dkim=pass reason=\"good signature\" header.i=@mail-router.example.net; "
         "dkim=fail reason=\"bad signature\" header.i=@newyork.example.com",
         "example.com: dkim=pass[good signature]{header.i=@mail-router.example.net} dkim=fail[bad "
         "signature]{header.i=@newyork.example.com}"},
        {"foo.example.net (foobar) 1 (baz); dkim (Because I like it) / 1 (One yay) = (wait for it) "
         "fail policy (A dot can go here) . (like that) expired (this surprised me) = (as I wasn't "
         "expecting it) 1362471462",
         "foo.example.net: dkim=fail{policy.expired=1362471462}"},
        /* quoting */
        {"\"a b\"; spf=pass smtp.mailfrom=\"a b\"@example.net",
         "a b: spf=pass{smtp.mailfrom=a b@example.net}"},
        {"a; x=y h.v=\"q\\\"uo;te\"", "a: x=y{h.v=q\"uo;te}"},
        {"a; x=y (c (n\\) ested) d) h.v=1;", "a: x=y(c (n\\) ested) d){h.v=1}"},
        {"a;none", "a:"},
        {"a; NONE ; SPF=Pass", "a: spf=pass"},
        {"a", "a:"},
        /* broken ones */
        {"", NULL},
        {"; spf=pass", NULL},
        {"(only a comment", NULL},
        {"a; spf", NULL},
        {"a; spf=", NULL},
        {"a; =pass", NULL},
        {"a; spf=pass smtp", NULL},
        {"a; spf=pass smtp.=x", NULL},
        {"a; spf=pass smtp.mailfrom", NULL},
        {"a b c; spf=pass", NULL},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct auth_results r;
        struct error err = {0};
        int rc = auth_results_parse(arena, str_c(rows[i].value), &r, &err);

        print_message("%s\n", rows[i].value);
        assert_int_equal(rc, rows[i].summary != NULL ? 0 : -1);
        if (rc == 0)
            assert_str(summary(&r), rows[i].summary);
    }
}

static void what_is_built_is_read_again(void **state)
{
    static const char *const values[] = {
        "example.net", "a b@example.net",
        "x;y",         "\"",
        "\\",          "",
        "(",           "2001:db8::1",
        "a=b",         "sp\xc3\xa4t@x",
        "tab\there",   "cr\r\nX-Evil: 1",
    };

    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        struct auth_builder *b = auth_builder_new(arena);
        struct auth_results r;
        struct str payload, value;

        auth_builder_result(b, "spf", "softfail", str_c(values[i]));
        auth_builder_reason(b, str_c(values[i]));
        auth_builder_property(b, "smtp", "mailfrom", str_c(values[i]));
        auth_builder_result(b, "dkim", "none", STR_NULL);
        payload = auth_builder_payload(b);
        value = arena_printf(arena, "mx.example.org; %.*s", STR_ARG(payload));
        assert_int_equal(auth_results_parse(arena, value, &r, NULL), 0);
        assert_int_equal(r.n, 2);
        assert_int_equal(r.v[0].property_count, 1);
        assert_str(r.v[1].method, "dkim");
        assert_true(str_find(payload, STR("\nX-Evil")) < 0);
        if (str_index(str_c(values[i]), '\t') < 0 && str_index(str_c(values[i]), '\r') < 0) {
            assert_str(r.v[0].properties[0].value, values[i]);
            assert_str(r.v[0].reason, values[i]);
        }
    }
}

static void check_lines(struct str field)
{
    struct str line;

    while (str_cut(field, '\n', &line, &field)) {
        assert_true(line.n < 998);
        assert_true(str_ends(line, STR("\r")));
        assert_true(field.n == 0 || field.p[0] == '\t');
    }
}

static void lines_are_folded_and_never_too_long(void **state)
{
    char address[2000];
    struct auth_builder *b = auth_builder_new(arena);
    struct str field;

    memset(address, 'a', sizeof address);
    for (int i = 0; i < 20; i++) {
        auth_builder_result(b, "dkim", "fail", STR("the body was changed on its way to us"));
        auth_builder_property(b, "header", "d", STR("a-rather-long-domain.example.org"));
        auth_builder_property(b, "header", "i", str_of(address, sizeof address));
    }
    field = auth_results_field(arena, STR("mx.example.org"), auth_builder_payload(b));
    assert_true(str_ends(field, STR("\r\n")));
    check_lines(field);
}

static void what_must_be_escaped_makes_no_line_too_long(void **state)
{
    static const char escaped[] = {'"', '\\', '(', ')'};
    char text[2000];

    for (size_t i = 0; i < sizeof escaped; i++) {
        struct auth_builder *b = auth_builder_new(arena);

        memset(text, escaped[i], sizeof text);
        auth_builder_result(b, "dkim", "neutral", str_of(text, sizeof text));
        auth_builder_property(b, "header", "i", str_of(text, sizeof text));
        check_lines(auth_results_field(arena, STR("mx.example.org"), auth_builder_payload(b)));
    }
}

static void nothing_checked_is_none(void **state)
{
    assert_str(auth_results_field(arena, STR("a"), auth_builder_payload(auth_builder_new(arena))),
               "Authentication-Results: a;\r\n\tnone\r\n");
}

static void fields_that_claim_to_be_ours_are_found(void **state)
{
    static const struct {
        const char *value;
        bool is_ours;
    } rows[] = {
        {"mx.example.org; spf=pass", true},
        {" MX.Example.ORG;none", true},
        {"mx.example.org 1; spf=pass", true},
        {"mx.example.org/1; spf=pass", true},
        {"\"mx.example.org\"; spf=pass", true},
        {"\"mx\\.example.org\"; spf=pass", true},
        {"mx.\"example\".org; spf=pass", true},
        {"(it is) \r\n (really) mx.example.org(yes); spf=pass", true},
        {"\"mx.example.org\r\n\"; x", true},
        {"mx.example.org.; x", true},
        {"mx.example.org", true},
        {"mx(x).example.org; spf=pass", true},
        {"mx.example.org(x)y; spf=pass", true},
        {"mx . example . org; spf=pass", true},
        {"\"mx\"(x)\".example.org\" 1; spf=pass", true},
        {"mx.example.org (x) 1; spf=pass", true},
        {"mx\\.example.org; spf=pass", true},
        {"mx(\\).example.org; spf=pass)", false},
        {"mx.example .com; spf=pass", false},
        {"other; mx.example.org", false},
        {"mx.example.org; broken === (", true},
        {"mx.example.com; spf=pass", false},
        {"sub.mx.example.org; spf=pass", false},
        {"mx.example.org.evil.test; spf=pass", false},
        {"(mx.example.org) other; spf=pass", false},
        {"", false},
        {"(mx.example.org", false},
        {"\"\"", false},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        print_message("%s\n", rows[i].value);
        assert_int_equal(auth_results_is_ours(str_c(rows[i].value), STR("mx.example.org")),
                         rows[i].is_ours);
    }
}

static void limits_are_kept(void **state)
{
    struct str value = STR("a");
    struct auth_results r;
    struct error err = {0};

    for (int i = 0; i < AUTH_RESULTS_MAX + 1; i++)
        value = arena_printf(arena, "%.*s;spf=pass", STR_ARG(value));
    assert_int_equal(auth_results_parse(arena, value, &r, &err), -1);
    assert_int_equal(err.kind, ERR_LIMIT);
    value = STR("a; spf=pass");
    for (int i = 0; i < AUTH_PROPERTIES_MAX + 1; i++)
        value = arena_printf(arena, "%.*s h.a=1", STR_ARG(value));
    error_clear(&err);
    assert_int_equal(auth_results_parse(arena, value, &r, &err), -1);
    assert_int_equal(err.kind, ERR_LIMIT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(fields_are_read, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_built_is_read_again, setup, teardown),
        cmocka_unit_test_setup_teardown(lines_are_folded_and_never_too_long, setup, teardown),
        cmocka_unit_test_setup_teardown(what_must_be_escaped_makes_no_line_too_long, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(nothing_checked_is_none, setup, teardown),
        cmocka_unit_test_setup_teardown(fields_that_claim_to_be_ours_are_found, setup, teardown),
        cmocka_unit_test_setup_teardown(limits_are_kept, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
