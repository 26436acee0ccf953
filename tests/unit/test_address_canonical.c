/* test_address_canonical.c - one form for every way to write an address, and a reason for what is none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "server/directory/directory_internal.h"

static struct arena *arena;

static const struct {
    const char *local, *domain, *canonical, *refusal;
} addresses[] = {
    {"ani", "example.test", "ani@example.test", NULL},
    {"Ani.Putri", "EXAMPLE.Test", "ani.putri@example.test", NULL},
    {"ani putri", "example.test", "ani putri@example.test", NULL},
    {"a@b", "example.test", "a@b@example.test", NULL},
    {"\"", "example.test", "\"@example.test", NULL},
    {"..", "example.test", "..@example.test", NULL},
    {"ani", "BÜRO.example", "ani@xn--bro-hoa.example", NULL},
    {"ani", "xn--bro-hoa.example", "ani@xn--bro-hoa.example", NULL},
    {"ani", "straße.example", "ani@xn--strae-oqa.example", NULL},
    {"ani", "localhost", "ani@localhost", NULL},
    {"ani", "1.2.3.test", "ani@1.2.3.test", NULL},
    {"JÖRG", "example.test", "jörg@example.test", NULL},
    {"jo\xcc\x88rg", "example.test", "jörg@example.test", NULL},
    {"STRASSE", "example.test", "strasse@example.test", NULL},
    {"straße", "example.test", "strasse@example.test", NULL},
    {"ΣΑΣ", "example.test", "σασ@example.test", NULL},
    {"日本", "日本.example", "日本@xn--wgv71a.example", NULL},
    {"0123456789012345678901234567890123456789012345678901234567890123", "a.test",
     "0123456789012345678901234567890123456789012345678901234567890123@a.test", NULL},

    {"", "example.test", NULL, "local part of the address is missing"},
    {"01234567890123456789012345678901234567890123456789012345678901234", "a.test", NULL,
     "longer than 64"},
    {"a\tb", "example.test", NULL, "control character"},
    {"a\x7f", "example.test", NULL, "control character"},
    {"a\xc2\x85", "example.test", NULL, "control character"},
    {"a\xe2\x80\xa8", "example.test", NULL, "control character"},
    {"a\xff", "example.test", NULL, "not valid UTF-8"},
    {"a\xcd\xb8", "example.test", NULL, "not assigned"},
    {"ani", "", NULL, "domain is missing"},
    {"ani", "[192.0.2.1]", NULL, "literal"},
    {"ani", "192.0.2.1", NULL, "number is not a domain"},
    {"ani", "example..test", NULL, "empty part"},
    {"ani", ".example.test", NULL, "empty part"},
    {"ani", "example.test.", NULL, "empty part"},
    {"ani", "-example.test", NULL, "hyphen"},
    {"ani", "example-.test", NULL, "hyphen"},
    {"ani", "exa mple.test", NULL, "no domain may have"},
    {"ani", "exa_mple.test", NULL, "no domain may have"},
    {"ani", "b@example.test", NULL, "no domain may have"},
    {"ani", "b\xfc.test", NULL, "not valid UTF-8"},
    {"ani", "a\xe2\x80\xaa.test", NULL, "not a valid international name"},
    {"ani", "0123456789012345678901234567890123456789012345678901234567890123.test", NULL,
     "longer than 63"},
};

static void addresses_have_one_form(void **state)
{
    for (size_t i = 0; i < sizeof addresses / sizeof *addresses; i++) {
        struct error err = {0};
        struct str out = STR_NULL;
        int status = address_canonical(arena, str_c(addresses[i].local), str_c(addresses[i].domain),
                                       &out, &err);

        if (addresses[i].canonical != NULL) {
            assert_int_equal(err.kind, ERR_NONE);
            assert_string_equal(arena_c(arena, out), addresses[i].canonical);
            continue;
        }
        assert_int_equal(status, -1);
        assert_int_equal(err.kind, ERR_SYNTAX);
        if (strstr(err.text, addresses[i].refusal) == NULL)
            print_error("%s@%s: %s\n", addresses[i].local, addresses[i].domain, err.text);
        assert_non_null(strstr(err.text, addresses[i].refusal));
    }
}

static void the_canonical_form_is_its_own(void **state)
{
    for (size_t i = 0; i < sizeof addresses / sizeof *addresses; i++) {
        struct str local, domain, again;

        if (addresses[i].canonical == NULL)
            continue;
        assert_true(str_rcut(str_c(addresses[i].canonical), '@', &local, &domain));
        assert_int_equal(address_canonical(arena, local, domain, &again, NULL), 0);
        assert_string_equal(arena_c(arena, again), addresses[i].canonical);
    }
}

static void a_nul_is_nowhere_accepted(void **state)
{
    struct str out;

    assert_int_equal(address_canonical(arena, STR("a\0b"), STR("example.test"), &out, NULL), -1);
    assert_int_equal(address_canonical(arena, STR("a"), STR("exam\0ple.test"), &out, NULL), -1);
    assert_int_equal(address_canonical(arena, STR("\xc3\xa4\0"), STR("example.test"), &out, NULL),
                     -1);
    assert_int_equal(address_canonical(arena, STR("a"), STR("b\xc3\xbc\0.test"), &out, NULL), -1);
}

static void what_is_typed_at_a_login_is_always_printable(void **state)
{
    static const struct {
        struct str typed;
        const char *name;
        bool is_bare;
    } rows[] = {
        {STR("Ani@Example.Test"), "ani@example.test", false},
        {STR("Ani"), "ani", true},
        {STR("ani@"), "ani@", false},
        {STR("a\0b"),
         "a\xef\xbf\xbd"
         "b",
         false},
        {STR("\xff@example.test"), "\xef\xbf\xbd@example.test", false},
        {STR(""), "", false},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        bool is_bare;
        struct str name = login_name(arena, rows[i].typed, &is_bare);
        assert_string_equal(arena_c(arena, name), rows[i].name);
        assert_int_equal(is_bare, rows[i].is_bare);
    }
}

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_have_one_form),
        cmocka_unit_test(the_canonical_form_is_its_own),
        cmocka_unit_test(a_nul_is_nowhere_accepted),
        cmocka_unit_test(what_is_typed_at_a_login_is_always_printable),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
