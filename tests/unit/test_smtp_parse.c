/* The grammar of SMTP commands, by table. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "mail/smtp/smtp_parse.h"
#include "mail/mime/address_path.h"

struct path_case {
    const char *text;
    const char *local, *domain; /* local NULL: refused; "" and "": the null path */
    unsigned params;
};

static const struct path_case path_cases[] = {
    {"FROM:<ani@example.org>", "ani", "example.org", 0},
    {"from:<ani@example.org>", "ani", "example.org", 0},
    {"FROM: <ani@example.org>", "ani", "example.org", 0},
    {"FROM:<ani.putri+shop@example.org> SIZE=100 BODY=8BITMIME", "ani.putri+shop", "example.org",
     2},
    {"FROM:<\"two words\"@example.org>", "two words", "example.org", 0},
    {"FROM:<\"a\\\"b\\\\c\"@example.org>", "a\"b\\c", "example.org", 0},
    {"FROM:<\"a@b\"@example.org>", "a@b", "example.org", 0},
    {"FROM:<ani@[192.0.2.1]>", "ani", "[192.0.2.1]", 0},
    {"FROM:<ani@[IPv6:2001:db8::1]>", "ani", "[IPv6:2001:db8::1]", 0},
    {"FROM:<@a.example,@b.example:ani@example.org>", "ani", "example.org", 0},
    {"FROM:<>", "", "", 0},
    {"FROM:<> BODY=7BIT", "", "", 1},
    {"FROM:<\xc3\xa4ni@b\xc3\xbcro.example>", "\xc3\xa4ni", "b\xc3\xbcro.example", 0},
    /* refused */
    {"", NULL, NULL, 0},
    {"FROM", NULL, NULL, 0},
    {"TO:<ani@example.org>", NULL, NULL, 0},
    {"FROM:ani@example.org", NULL, NULL, 0},
    {"FROM:<ani@example.org", NULL, NULL, 0},
    {"FROM:<ani>", NULL, NULL, 0},
    {"FROM:<@example.org>", NULL, NULL, 0},
    {"FROM:<ani@>", NULL, NULL, 0},
    {"FROM:<ani@.example.org>", NULL, NULL, 0},
    {"FROM:<ani@example..org>", NULL, NULL, 0},
    {"FROM:<ani@example.org.>", NULL, NULL, 0},
    {"FROM:<.ani@example.org>", NULL, NULL, 0},
    {"FROM:<ani.@example.org>", NULL, NULL, 0},
    {"FROM:<a..b@example.org>", NULL, NULL, 0},
    {"FROM:<two words@example.org>", NULL, NULL, 0},
    {"FROM:<a@b@example.org>", NULL, NULL, 0},
    {"FROM:<\"open@example.org>", NULL, NULL, 0},
    {"FROM:<\"a\rb\"@example.org>", NULL, NULL, 0},
    {"FROM:<ani@[192.0.2.1>", NULL, NULL, 0},
    {"FROM:<ani@[192.0.2]>", NULL, NULL, 0},
    {"FROM:<ani@[]>", NULL, NULL, 0},
    {"FROM:<ani@[unix]>", NULL, NULL, 0},
    {"FROM:<ani@[x>SIZE=1]>", NULL, NULL, 0},
    {"FROM:<ani@[2001:db8::1]>", NULL, NULL, 0},
    {"FROM:<ani@[IPv6:192.0.2.1]>", NULL, NULL, 0},
    {"FROM:<ani@[192.0.2.1/24]>", NULL, NULL, 0},
    {"FROM:<postmaster>", NULL, NULL, 0},
    {"FROM:<@a.example ani@example.org>", NULL, NULL, 0},
    {"FROM:<ani@example.org>SIZE=1", NULL, NULL, 0},
    {"FROM:<\xff\xfe@example.org>", NULL, NULL, 0},
    {"FROM:<a@b> X=a=b", NULL, NULL, 0},
    {"FROM:<a@b> X=", NULL, NULL, 0},
    {"FROM:<a@b> =a", NULL, NULL, 0},
    {"FROM:<a@b> X_Y=a", NULL, NULL, 0},
    {"FROM:<a@b> X=a\tb", NULL, NULL, 0},
    {"FROM:<a@b> 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21", NULL, NULL, 0},
    {"FROM:<aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa@example.org>", NULL,
     NULL, 0},
};

static void paths_are_read_or_refused(void **state)
{
    struct arena *a = arena_new();

    for (size_t i = 0; i < sizeof path_cases / sizeof *path_cases; i++) {
        const struct path_case *c = &path_cases[i];
        struct smtp_params params;
        struct smtp_path path;
        struct error err = {0};
        int status = smtp_parse_path(a, str_c(c->text), STR("FROM:"), &path, &params, &err);

        if (c->local == NULL) {
            if (status == 0)
                print_error("accepted: %s\n", c->text);
            assert_int_equal(err.kind, ERR_SYNTAX);
            continue;
        }
        if (status != 0)
            print_error("%s: %s\n", c->text, err.text);
        assert_int_equal(status, 0);
        assert_true(str_eq(path.local, str_c(c->local)));
        assert_true(str_eq(path.domain, str_c(c->domain)));
        assert_int_equal(params.n, c->params);
        assert_int_equal(path.is_null, c->local[0] == '\0');
    }
    arena_free(&a);
}

static void only_a_recipient_is_postmaster_without_a_domain(void **state)
{
    struct arena *a = arena_new();
    struct smtp_params params;
    struct smtp_path path;

    assert_int_equal(smtp_parse_path(a, STR("TO:<Postmaster>"), STR("TO:"), &path, &params, NULL),
                     0);
    assert_true(str_eq(path.local, STR("Postmaster")) && str_empty(path.domain));
    arena_free(&a);
}

static void a_domain_is_not_endless(void **state)
{
    struct arena *a = arena_new();
    struct smtp_params params;
    struct smtp_path path;
    char x[SMTP_DOMAIN_SIZE_MAX + 1];

    memset(x, 'x', sizeof x);
    struct str good = arena_printf(a, "FROM:<a@%.*s>", SMTP_DOMAIN_SIZE_MAX, x);
    struct str bad = arena_printf(a, "FROM:<a@%.*s>", SMTP_DOMAIN_SIZE_MAX + 1, x);
    assert_int_equal(smtp_parse_path(a, good, STR("FROM:"), &path, &params, NULL), 0);
    assert_int_equal(smtp_parse_path(a, bad, STR("FROM:"), &path, &params, NULL), -1);
    assert_true(path.is_bad);
    arena_free(&a);
}

static void parameters_are_split_at_their_equals_sign(void **state)
{
    struct arena *a = arena_new();
    struct smtp_params params;
    struct smtp_path path;

    assert_int_equal(smtp_parse_path(a, STR("TO:<a@b>  SIZE=12 X-Y=a<b> FLAG"), STR("TO:"), &path,
                                     &params, NULL),
                     0);
    assert_int_equal(params.n, 3);
    assert_true(str_eq(params.v[0].name, STR("SIZE")) && str_eq(params.v[0].value, STR("12")));
    assert_true(str_eq(params.v[1].name, STR("X-Y")) && str_eq(params.v[1].value, STR("a<b>")));
    assert_true(str_eq(params.v[2].name, STR("FLAG")) && str_empty(params.v[2].value));
    arena_free(&a);
}

static void a_mailbox_is_quoted_only_where_it_must_be(void **state)
{
    static const struct {
        const char *local, *domain, *text;
    } cases[] = {
        {"ani", "example.org", "ani@example.org"},
        {"a.b+c", "example.org", "a.b+c@example.org"},
        {"two words", "example.org", "\"two words\"@example.org"},
        {"a\"b\\c", "example.org", "\"a\\\"b\\\\c\"@example.org"},
        {".a", "example.org", "\".a\"@example.org"},
        {"postmaster", "", "postmaster"},
        {"", "", ""},
    };
    struct arena *a = arena_new();

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_true(str_eq(address_path_of(a, str_c(cases[i].local), str_c(cases[i].domain)),
                           str_c(cases[i].text)));
    arena_free(&a);
}

static bool takes_local_part(const char *start, size_t size)
{
    struct arena *a = arena_new();
    struct str pad = str_of(memset(arena_alloc(a, size + 1), 'a', size), size - strlen(start));
    struct str line = arena_printf(a, "FROM:<%s%.*s@example.org>", start, STR_ARG(pad));
    struct smtp_params params;
    struct smtp_path path;
    bool is_taken = smtp_parse_path(a, line, STR("FROM:"), &path, &params, NULL) == 0;

    arena_free(&a);
    return is_taken;
}

static void only_a_forwarders_local_part_is_longer_than_64_bytes(void **state)
{
    assert_true(takes_local_part("", 64));
    assert_false(takes_local_part("", 65));
    assert_false(takes_local_part("SRS0", 65));
    assert_true(takes_local_part("SRS0=", 65));
    assert_true(takes_local_part("srs1+", 254));
    assert_false(takes_local_part("SRS0=", 255));
}

static void bdat_needs_a_size_and_nothing_but_last(void **state)
{
    static const struct {
        const char *args;
        bool is_valid, is_last;
        uint64_t size;
    } cases[] = {
        {"100", true, false, 100},     {"0 LAST", true, true, 0},
        {"86 last", true, true, 86},   {"", false, false, 0},
        {"-1", false, false, 0},       {"x", false, false, 0},
        {"10 FIRST", false, false, 0}, {"99999999999999999999", false, false, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint64_t size;
        bool is_last;
        int status = smtp_parse_bdat(str_c(cases[i].args), &size, &is_last, NULL);

        assert_int_equal(status == 0, cases[i].is_valid);
        if (status == 0) {
            assert_int_equal(is_last, cases[i].is_last);
            assert_int_equal(size, cases[i].size);
        }
    }
}

static void a_helo_name_holds_no_odd_bytes(void **state)
{
    assert_true(smtp_helo_is_valid(STR("mail.example.org")));
    assert_true(smtp_helo_is_valid(STR("my_pc")));
    assert_true(smtp_helo_is_valid(STR("Ani's-laptop")));
    assert_true(smtp_helo_is_valid(STR("[IPv6:2001:db8::1]")));
    assert_false(smtp_helo_is_valid(STR("")));
    assert_false(smtp_helo_is_valid(STR("two words")));
    assert_false(smtp_helo_is_valid(STR("a(b)")));
    assert_false(smtp_helo_is_valid(STR("a\rb")));
    assert_false(smtp_helo_is_valid(STR("a\0b")));
    assert_false(smtp_helo_is_valid(STR("a<b>")));
    assert_true(smtp_helo_is_valid(STR("mél.example.org")));
    assert_false(smtp_helo_is_valid(STR("m\xe9l.example.org")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(paths_are_read_or_refused),
        cmocka_unit_test(a_domain_is_not_endless),
        cmocka_unit_test(only_a_recipient_is_postmaster_without_a_domain),
        cmocka_unit_test(parameters_are_split_at_their_equals_sign),
        cmocka_unit_test(a_mailbox_is_quoted_only_where_it_must_be),
        cmocka_unit_test(only_a_forwarders_local_part_is_longer_than_64_bytes),
        cmocka_unit_test(bdat_needs_a_size_and_nothing_but_last),
        cmocka_unit_test(a_helo_name_holds_no_odd_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
