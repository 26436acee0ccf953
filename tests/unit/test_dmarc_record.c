/* test_dmarc_record.c - the text of DMARC records, as domains publish them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "mail/authentic/dmarc_record.h"

enum { N = DMARC_POLICY_NONE, Q = DMARC_POLICY_QUARANTINE, R = DMARC_POLICY_REJECT };

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

static void texts_that_are_no_dmarc_record_are_refused(void **state)
{
    static const char *const texts[] = {
        "",          "v=spf1 -all",        "v=DMARC1.0; p=none", "v=dmarc1; p=none",
        "DMARC1",    "p=reject; v=DMARC1", "v=DMARC2; p=none",   " ; v=DMARC1; p=none",
        "v DMARC1;", "v=DMARC1 p=reject",
    };
    struct dmarc_record r;

    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        if (dmarc_record_parse(arena, str_c(texts[i]), &r))
            print_error("taken: %s\n", texts[i]);
        assert_false(dmarc_record_parse(arena, str_c(texts[i]), &r));
    }
}

static void policies_and_tags_are_read(void **state)
{
    static const struct {
        const char *text;
        int p, sp, np;
        bool is_test, is_problem;
        int adkim, aspf, psd;
        unsigned rua, ruf;
    } rows[] = {
        {"v=DMARC1; p=none", N, N, N, 0, 0, 0, 0, 0, 0, 0},
        {"v=DMARC1;p=reject;", R, R, R, 0, 0, 0, 0, 0, 0, 0},
        {" V = DMARC1 ; P = Quarantine ; SP = Reject ", Q, R, R, 0, 0, 0, 0, 0, 0, 0},
        {"v=DMARC1; p=reject; sp=none; np=quarantine", R, N, Q, 0, 0, 0, 0, 0, 0, 0},
        {"v=DMARC1; p=none; np=reject", N, N, R, 0, 0, 0, 0, 0, 0, 0},
        {"v=DMARC1; p=reject; adkim=s; aspf=S; psd=n; t=y", R, R, R, 1, 0, 1, 1, 2, 0, 0},
        {"v=DMARC1; p=reject; adkim=x; aspf=; psd=y; t=n", R, R, R, 0, 0, 0, 0, 1, 0, 0},
        {"v=DMARC1; p=reject; psd=u; t=Y", R, R, R, 1, 0, 0, 0, 0, 0, 0},
        /* tags of RFC 7489 */
        {"v=DMARC1; p=reject; pct=0; rf=afrf; ri=86400", R, R, R, 1, 0, 0, 0, 0, 0, 0},
        {"v=DMARC1; p=reject; pct=50", R, R, R, 0, 0, 0, 0, 0, 0, 0},
        {"v=DMARC1; p=reject; pct=0; t=n", R, R, R, 0, 0, 0, 0, 0, 0, 0},
        /* RFC 9989, 4.10.1 */
        {"v=DMARC1", N, N, N, 0, 0, 0, 0, 0, 0, 0},
        {"v=DMARC1; rua=mailto:a@b.test", N, N, N, 0, 0, 0, 0, 0, 1, 0},
        {"v=DMARC1; p=strict; rua=mailto:a@b.test", N, N, N, 0, 0, 0, 0, 0, 1, 0},
        {"v=DMARC1; p=reject; sp=all; rua=mailto:a@b.test", N, N, N, 0, 0, 0, 0, 0, 1, 0},
        {"v=DMARC1; p=strict", N, N, N, 0, 1, 0, 0, 0, 0, 0},
        {"v=DMARC1; p=reject; np=", N, N, N, 0, 1, 0, 0, 0, 0, 0},
        {"v=DMARC1; p=strict; rua=http://b.test", N, N, N, 0, 1, 0, 0, 0, 0, 0},
        /* what cannot be read changes nothing else */
        {"v=DMARC1; ;; nonsense; x=y=z; p=reject", R, R, R, 0, 0, 0, 0, 0, 0, 0},
        {"v=DMARC1; p=reject; p=none", R, R, R, 0, 0, 0, 0, 0, 0, 0},
        {"v=DMARC1; p=none; rua=mailto:a@b.test!10m , ftp://x, mailto:c@d.test; "
         "ruf=MAILTO:f@b.test",
         N, N, N, 0, 0, 0, 0, 0, 2, 1},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct dmarc_record r;

        print_message("%s\n", rows[i].text);
        assert_true(dmarc_record_parse(arena, str_c(rows[i].text), &r));
        assert_int_equal(r.p, rows[i].p);
        assert_int_equal(r.sp, rows[i].sp);
        assert_int_equal(r.np, rows[i].np);
        assert_int_equal(r.is_test, rows[i].is_test);
        assert_int_equal(r.problem.n > 0, rows[i].is_problem);
        assert_int_equal(r.adkim, rows[i].adkim);
        assert_int_equal(r.aspf, rows[i].aspf);
        assert_int_equal(r.psd, rows[i].psd);
        assert_int_equal(r.rua_count, rows[i].rua);
        assert_int_equal(r.ruf_count, rows[i].ruf);
    }
}

static void addresses_for_reports_are_decoded(void **state)
{
    static const struct {
        const char *uri, *address; /* NULL: not taken */
    } rows[] = {
        {"mailto:dmarc@example.test", "dmarc@example.test"},
        {"mailto:a%2Cb%21c@example.test!5k", "a,b!c@example.test"},
        {"mailto:a@example.test?subject=x", "a@example.test"},
        {"mailto:a%0d%0aBcc:x@example.test", NULL},
        {"mailto:a%4", NULL},
        {"mailto:a%zz@example.test", NULL},
        {"mailto:@example.test", NULL},
        {"mailto:nobody", NULL},
        {"mailto:a b@example.test", NULL},
        {"mailto:<a@example.test>", NULL},
        {"https://example.test/report", NULL},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct str text = arena_printf(arena, "v=DMARC1; p=none; rua=%s", rows[i].uri);
        struct dmarc_record r;

        assert_true(dmarc_record_parse(arena, text, &r));
        assert_int_equal(r.rua_count, rows[i].address != NULL);
        if (rows[i].address != NULL)
            assert_true(str_eq(r.rua[0], str_c(rows[i].address)));
    }
}

static void the_number_of_addresses_is_limited(void **state)
{
    struct str text = STR("v=DMARC1; p=none; rua=mailto:a@b.test");
    struct dmarc_record r;

    for (int i = 0; i < 50; i++)
        text = arena_printf(arena, "%.*s,mailto:a%d@b.test", STR_ARG(text), i);
    assert_true(dmarc_record_parse(arena, text, &r));
    assert_int_equal(r.rua_count, DMARC_URIS_MAX);
}

static void failure_options_are_kept_when_they_are_known(void **state)
{
    static const struct {
        const char *fo, *kept;
    } rows[] = {{"1", "1"}, {"d:S", "d:s"}, {"0:x", "0"}, {"", "0"}, {"1:d:s", "1:d:s"}};

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct dmarc_record r;

        assert_true(dmarc_record_parse(
            arena, arena_printf(arena, "v=DMARC1; p=none; fo=%s", rows[i].fo), &r));
        assert_true(str_eq(r.fo, str_c(rows[i].kept)));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(texts_that_are_no_dmarc_record_are_refused, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(policies_and_tags_are_read, setup, teardown),
        cmocka_unit_test_setup_teardown(addresses_for_reports_are_decoded, setup, teardown),
        cmocka_unit_test_setup_teardown(the_number_of_addresses_is_limited, setup, teardown),
        cmocka_unit_test_setup_teardown(failure_options_are_kept_when_they_are_known, setup,
                                        teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
