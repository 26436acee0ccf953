/* test_password.c - stored passwords of every kind are recognised, and what cannot be is refused when it comes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "server/directory/credential_internal.h"
#include "server/directory/scram.h"
#include "server/run/loop.h"
#include "server/run/offload.h"

static struct arena *arena;

/* All of "pencil". */
static const char *const hashes[] = {
    "$y$j75$saltsalt$o2gXFxBM7mhtEM8a8zhzk4Y6PnNRiSjgCeVNxKApSc8",
    "$gy$j75$saltsalt$NPovz3REAkQa9AtcdxNK2TOc6.uafIurtm3sKHLforC",
    "$2a$04$saltsaltsaltsaltsaltsOg6.7XlFws6Svp2e8YXuXRnFwyjfR.xK",
    "$2b$04$saltsaltsaltsaltsaltsOg6.7XlFws6Svp2e8YXuXRnFwyjfR.xK",
    "$2y$04$saltsaltsaltsaltsaltsOg6.7XlFws6Svp2e8YXuXRnFwyjfR.xK",
    "$6$saltsalt$rD9fW1BwIrjB90WCgCTdIQc3phTBhf04I6Iw/XlgKD9E9aEbzqGZipjiFxGo/4wWXDA6jV6/"
    "vZO.kKdDSfUJb0",
    "$6$rounds=1000$saltsalt$bbY.T.ZpN43KapLdmlSbP6MmxBlkMSbhrh.Y1rmY0fYaRO/"
    "t.4sKqUiU.Z8byKf8Oa1yagMn/0fncuHSYrb9h.",
    "$5$saltsalt$hl9BvcGsj7AkON13nbqeQHDgRpHyFxt7WDzLoS.OCQ/",
    "$1$saltsalt$wCrc3hcrR95SV83Xh8Z.41",
    "abJ32bJMdTsnY",
};
#define HASH_COUNT (sizeof hashes / sizeof *hashes)

static void run_case(void *body)
{
    ((void (*)(void))body)();
}

#define CASE(name)                                                                                 \
    static void name##_body(void);                                                                 \
    static void name(void **state)                                                                 \
    {                                                                                              \
        loop_run_fiber("case", run_case, (void *)name##_body);                                     \
    }                                                                                              \
    static void name##_body(void)

CASE(every_scheme_knows_its_password)
{
    for (size_t i = 0; i < HASH_COUNT; i++) {
        assert_true(password_hash_supported(str_c(hashes[i])));
        assert_true(password_matches(STR("pencil"), str_c(hashes[i])));
        assert_false(password_matches(STR("Pencil"), str_c(hashes[i])));
        assert_false(password_matches(STR("pencil2"), str_c(hashes[i])));
    }
}

CASE(what_no_password_can_be_never_matches)
{
    char *longest = arena_alloc(arena, PASSWORD_SIZE_MAX + 2);

    memset(longest, 'x', PASSWORD_SIZE_MAX + 1);
    for (size_t i = 0; i < HASH_COUNT; i++) {
        assert_false(password_matches(STR_NULL, str_c(hashes[i])));
        assert_false(password_matches(STR("pencil\0x"), str_c(hashes[i])));
        assert_false(password_matches(str_of(longest, PASSWORD_SIZE_MAX + 1), str_c(hashes[i])));
    }
    assert_false(password_matches(STR("pencil"), STR_NULL));
    assert_false(password_matches(STR("*0"), STR("*0")));
    assert_false(password_matches(STR("pencil"), STR("!")));
    assert_false(password_matches(STR("pencil"), STR("pencil")));
}

CASE(new_hashes_are_yescrypt_and_never_the_same)
{
    struct str one, other;
    struct error err = {0};

    assert_int_equal(password_hash(arena, STR("pencil"), &one, &err), 0);
    assert_int_equal(password_hash(arena, STR("pencil"), &other, &err), 0);
    assert_true(str_starts(one, STR("$y$")));
    assert_false(str_eq(one, other));
    assert_true(password_matches(STR("pencil"), one));
    assert_true(password_matches(STR("pencil"), other));
    assert_int_equal(password_hash(arena, STR(""), &one, &err), -1);
    assert_int_equal(err.kind, ERR_SYNTAX);
}

CASE(a_crew_hashes_many_and_stops_at_the_first_refusal)
{
    struct password_forms forms[9] = {0};
    struct error err = {0};
    size_t done;

    for (size_t i = 0; i < 9; i++)
        forms[i] = (struct password_forms){.password = i == 2 ? STR_NULL : STR("pencil"),
                                           .is_random = true};
    assert_int_equal(password_forms_make(arena, forms, 9, &done, &err), 0);
    assert_int_equal(done, 9);
    assert_true(str_empty(forms[2].crypt));
    assert_false(str_eq(forms[7].crypt, forms[8].crypt));
    assert_true(password_matches(STR("pencil"), forms[8].crypt));

    forms[5].password = STR("a\0b");
    assert_int_equal(password_forms_make(arena, forms, 9, &done, &err), -1);
    assert_int_equal(done, 5);
    assert_int_equal(err.kind, ERR_SYNTAX);
}

CASE(foreign_hashes_are_taken_or_refused_by_name)
{
    static const struct {
        const char *given, *stored, *refusal;
    } rows[] = {
        {"$1$saltsalt$wCrc3hcrR95SV83Xh8Z.41", "$1$saltsalt$wCrc3hcrR95SV83Xh8Z.41", NULL},
        {"{CRYPT}$1$saltsalt$wCrc3hcrR95SV83Xh8Z.41\n", "$1$saltsalt$wCrc3hcrR95SV83Xh8Z.41", NULL},
        {"{crypt}abJ32bJMdTsnY", "abJ32bJMdTsnY", NULL},
        {"{BLF-CRYPT}$2y$04$saltsaltsaltsaltsaltsOg6.7XlFws6Svp2e8YXuXRnFwyjfR.xK",
         "$2y$04$saltsaltsaltsaltsaltsOg6.7XlFws6Svp2e8YXuXRnFwyjfR.xK", NULL},
        {"{SHA512-CRYPT}$6$saltsalt$rD9fW1BwIrjB90WCgCTdIQc3phTBhf04I6Iw/XlgKD9E9aEbzqGZipjiFxGo/"
         "4wWXDA6jV6/vZO.kKdDSfUJb0",
         "$6$saltsalt$rD9fW1BwIrjB90WCgCTdIQc3phTBhf04I6Iw/XlgKD9E9aEbzqGZipjiFxGo/4wWXDA6jV6/"
         "vZO.kKdDSfUJb0",
         NULL},
        {"{PLAIN}pencil", NULL, "\"PLAIN\""},
        {"{SSHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", NULL, "\"SSHA\""},
        {"$pbkdf2-sha512$25000$abc$def", NULL, "\"pbkdf2-sha512\""},
        {"$2y$04$saltsaltsaltsaltsaltsOg6.7XlFws6Svp2e8", NULL, "\"2y\""},
        {"$6$saltsalt$", NULL, "\"6\""},
        {"$6$", NULL, "\"6\""},
        {"pencil", NULL, "\"unknown\""},
        {"", NULL, "\"unknown\""},
        {"{CRYPT}", NULL, "\"CRYPT\""},
        {"{CRYPT", NULL, "\"unknown\""},
        {"$", NULL, "\"unknown\""},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct error err = {0};
        struct str out = STR_NULL;
        int status = password_hash_import(arena, str_c(rows[i].given), &out, &err);

        assert_int_equal(status, rows[i].stored != NULL ? 0 : -1);
        if (rows[i].stored != NULL) {
            assert_string_equal(arena_c(arena, out), rows[i].stored);
            continue;
        }
        assert_int_equal(err.kind, ERR_UNSUPPORTED);
        assert_non_null(strstr(err.text, rows[i].refusal));
    }
}

/* Whatever this system's libcrypt says about argon2, the import says too. */
CASE(argon2_is_taken_only_where_libcrypt_knows_it)
{
    struct str
        hash = STR(
            "$argon2id$v=19$m=256,t=1,p=1$c2FsdHNhbHQ$J7bCUkSOlrWcgFvHGhNo2wmhQrhzAaBoYTGTMfSJ8lM"),
        out;
    struct error err = {0};

    if (password_hash_import(arena, arena_printf(arena, "{ARGON2ID}%s", hash.p), &out, &err) == 0)
        assert_true(str_eq(out, hash));
    else
        assert_non_null(strstr(err.text, "ARGON2ID"));
}

CASE(a_verifier_holds_what_was_put_in)
{
    struct scram_verifier v;
    struct str text;
    struct error err = {0};

    assert_int_equal(scram_verifier_make(arena, STR("pencil"), &text, &err), 0);
    assert_true(scram_verifier_parse(arena, text, &v));
    assert_int_equal(v.iterations, SCRAM_ITERATIONS);
    assert_int_equal(v.salt.n, SCRAM_SALT_SIZE);
    assert_int_equal(scram_verifier_make(arena, STR("pen\ncil"), &text, &err), -1);
    assert_int_equal(scram_verifier_make(arena, STR(""), &text, NULL), -1);
    assert_int_equal(scram_verifier_make(arena, STR("\xff"), &text, NULL), -1);
}

static int setup(void **state)
{
    arena = arena_new();
    loop_init();
    return 0;
}

static int teardown(void **state)
{
    offload_fini();
    fiber_pool_fini();
    loop_fini();
    arena_free(&arena);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_scheme_knows_its_password),
        cmocka_unit_test(what_no_password_can_be_never_matches),
        cmocka_unit_test(new_hashes_are_yescrypt_and_never_the_same),
        cmocka_unit_test(a_crew_hashes_many_and_stops_at_the_first_refusal),
        cmocka_unit_test(foreign_hashes_are_taken_or_refused_by_name),
        cmocka_unit_test(argon2_is_taken_only_where_libcrypt_knows_it),
        cmocka_unit_test(a_verifier_holds_what_was_put_in),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
