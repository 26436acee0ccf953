/* test_srs.c - rewritten senders lead back, and nothing that this server did not make does. */
#include "tests/unit/directory_fixture.h"

#include "mail/authentic/srs.h"

#define NOW   1700000000
#define DAY_S 86400

static struct str rewritten(const char *local, const char *domain)
{
    struct error err = {0};
    struct str out;

    assert_int_equal(srs_rewrite(arena, str_c(local), str_c(domain), NOW, &out, &err), 0);
    return out;
}

static enum error_kind restore_at(struct str srs_local, int64_t now_s, struct str *local,
                                  struct str *domain)
{
    struct error err = {0};

    *local = *domain = STR_NULL;
    return srs_restore(arena, srs_local, now_s, local, domain, &err) == 0 ? ERR_NONE : err.kind;
}

CASE(a_rewritten_sender_leads_back)
{
    static const struct {
        const char *local, *domain;
    } rows[] = {
        {"ani", "example.org"},       {"Ani.B+shop", "sub.Example.org"}, {"a=b=c", "example.org"},
        {"two words", "example.org"}, {"\xc3\xa9", "example.org"},       {"SRS0", "example.org"},
        {"srs1=x", "example.org"},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct str out = rewritten(rows[i].local, rows[i].domain), local, domain;

        assert_true(str_starts(out, STR("SRS0=")));
        assert_true(srs_is_rewritten(out));
        assert_int_equal(restore_at(out, NOW, &local, &domain), ERR_NONE);
        assert_str(local, rows[i].local);
        assert_str(domain, rows[i].domain);
    }
}

CASE(the_form_is_the_one_that_others_read)
{
    struct str out = rewritten("ani", "example.org"), rest;

    assert_true(str_ends(out, STR("=example.org=ani")));
    assert_int_equal(out.n, strlen("SRS0=HHHHHH=TT=example.org=ani"));
    /* 19675 days since 1970, of 1024: 219. */
    rest = str_from(out, strlen("SRS0=HHHHHH="));
    assert_str(str_head(rest, 3), "G3=");
}

CASE(another_case_of_letters_is_the_same_address)
{
    struct str out = arena_lower(arena, rewritten("Ani", "example.org")), local, domain;

    assert_int_equal(restore_at(out, NOW, &local, &domain), ERR_NONE);
    assert_str(local, "ani");
}

CASE(it_expires)
{
    struct str out = rewritten("ani", "example.org"), local, domain;

    config.srs_age = 21LL * DAY_S * 1000;
    assert_int_equal(restore_at(out, NOW + 21 * DAY_S, &local, &domain), ERR_NONE);
    assert_int_equal(restore_at(out, NOW + 22 * DAY_S, &local, &domain), ERR_DENIED);
    assert_int_equal(restore_at(out, NOW - DAY_S, &local, &domain), ERR_NONE);
    assert_int_equal(restore_at(out, NOW - 2 * DAY_S, &local, &domain), ERR_DENIED);
}

CASE(nothing_made_elsewhere_is_taken)
{
    struct str out = rewritten("ani", "example.org"), local, domain;
    char *text = (char *)arena_c(arena, out);

    /* One byte changed anywhere behind the scheme. */
    for (size_t i = 5; i < out.n; i++) {
        char was = text[i];

        text[i] = ascii_lower(was) == 'x' ? 'y' : 'x';
        assert_int_not_equal(restore_at(str_c(text), NOW, &local, &domain), ERR_NONE);
        text[i] = was;
    }
    assert_int_equal(restore_at(str_c(text), NOW, &local, &domain), ERR_NONE);
}

CASE(damaged_addresses_are_refused)
{
    static const char *const rows[] = {
        "",
        "SRS0",
        "SRS0=",
        "SRS0=AAAAAA",
        "SRS0=AAAAAA=AA",
        "SRS1=",
        "SRS1=A",
        "SRS1=AAAAAA=x=",
        "SRS0=AAAAAA=AA=x.org",
        "SRS0=AAAAAA=AA==ani",
        "SRS1===x=y",
        "SRS0======",
        "ani",
        "SRS2=AAAAAA=AA=x=y",
        "SRS0=AAAAAA=AA=x.org=",
        "SRS0_AAAAAA=AA=x.org=ani",
    };
    struct str local, domain;

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        enum error_kind kind = restore_at(str_c(rows[i]), NOW, &local, &domain);

        assert_true(kind == ERR_SYNTAX || kind == ERR_DENIED);
    }
}

CASE(a_chain_of_forwarders_leads_back_to_the_first)
{
    struct str first = rewritten("ani", "example.org"), second, third, local, domain;
    struct error err = {0};

    assert_int_equal(srs_rewrite(arena, first, STR("one.test"), NOW, &second, &err), 0);
    assert_true(str_starts(second, STR("SRS1=")));
    assert_int_equal(srs_rewrite(arena, second, STR("two.test"), NOW, &third, &err), 0);
    assert_true(str_find(third, STR("two.test")) < 0); /* it does not grow */
    assert_int_equal(third.n, second.n);
    assert_int_equal(restore_at(third, NOW, &local, &domain), ERR_NONE);
    assert_str(domain, "one.test");
    assert_true(str_eq(local, first));
    assert_int_equal(restore_at(local, NOW, &local, &domain), ERR_NONE);
    assert_str(local, "ani");
    assert_str(domain, "example.org");
}

CASE(another_forwarders_separator_is_given_back_to_him)
{
    struct str second, local, domain;
    struct error err = {0};

    assert_int_equal(srs_rewrite(arena, STR("SRS0+abcd=XY=example.org=ani"), STR("one.test"), NOW,
                                 &second, &err),
                     0);
    assert_int_equal(restore_at(second, NOW, &local, &domain), ERR_NONE);
    assert_str(local, "SRS0+abcd=XY=example.org=ani");
    assert_str(domain, "one.test");
}

CASE(what_no_path_can_hold_is_refused)
{
    struct error err = {0};
    char local[240];
    struct str out;

    memset(local, 'a', sizeof local);
    assert_int_equal(
        srs_rewrite(arena, str_of(local, sizeof local), STR("example.org"), NOW, &out, &err), -1);
    assert_int_equal(err.kind, ERR_TOO_BIG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_rewritten_sender_leads_back),
        cmocka_unit_test(the_form_is_the_one_that_others_read),
        cmocka_unit_test(another_case_of_letters_is_the_same_address),
        cmocka_unit_test(it_expires),
        cmocka_unit_test(nothing_made_elsewhere_is_taken),
        cmocka_unit_test(damaged_addresses_are_refused),
        cmocka_unit_test(a_chain_of_forwarders_leads_back_to_the_first),
        cmocka_unit_test(another_forwarders_separator_is_given_back_to_him),
        cmocka_unit_test(what_no_path_can_hold_is_refused),
    };

    return cmocka_run_group_tests_name("srs", tests, directory_start, fixture_stop);
}
