/* The parameters of MAIL and RCPT, by table. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "mail/mime/xtext.h"
#include "mail/smtp/smtp_params.h"

#define NOW_US INT64_C(1800000000000000)
#define LONG_XTEXT                                                                                 \
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" \
    "a"                                                                                            \
    "aaaaaaaaaaaa"

enum { TLS = 1, TRUSTED = 2, HOLD = 4 };

static int read_mail(struct arena *a, const char *text, unsigned session,
                     struct smtp_mail_params *out, struct error *err)
{
    struct smtp_offer offer = {
        .now_us = NOW_US,
        .size_max = 1000,
        .hold_max_s = session & HOLD ? 86400 : 0,
        .is_tls = session & TLS,
        .is_trusted = session & TRUSTED,
    };
    struct smtp_params params;
    struct smtp_path path;

    if (smtp_parse_path(a, arena_printf(a, "FROM:<a@b.test> %s", text), STR("FROM:"), &path,
                        &params, err) < 0)
        return -1;
    return smtp_read_mail_params(a, &params, &offer, out, err);
}

static int read_rcpt(struct arena *a, const char *text, bool is_utf8, struct smtp_rcpt_params *out,
                     struct error *err)
{
    struct smtp_params params;
    struct smtp_path path;

    if (smtp_parse_path(a, arena_printf(a, "TO:<a@b.test> %s", text), STR("TO:"), &path, &params,
                        err) < 0)
        return -1;
    return smtp_read_rcpt_params(a, &params, is_utf8, out, err);
}

static const struct {
    const char *text;
    unsigned session;
    enum error_kind kind;
} mail_cases[] = {
    {"", 0, ERR_NONE},
    {"SIZE=1000", 0, ERR_NONE},
    {"size=0 body=8bitmime smtputf8", 0, ERR_NONE},
    {"BODY=BINARYMIME", 0, ERR_NONE},
    {"RET=FULL ENVID=abc+20def", 0, ERR_NONE},
    {"RET=hdrs", 0, ERR_NONE},
    {"AUTH=<>", 0, ERR_NONE},
    {"AUTH=ani+2Bx@example.org", 0, ERR_NONE},
    {"BY=3600;R", 0, ERR_NONE},
    {"BY=-60;N", 0, ERR_NONE},
    {"BY=+0;nT", 0, ERR_NONE},
    {"MT-PRIORITY=-9", 0, ERR_NONE},
    {"MT-PRIORITY=9", 0, ERR_NONE},
    {"REQUIRETLS", TLS, ERR_NONE},
    {"HOLDFOR=86400", HOLD, ERR_NONE},
    {"HOLDUNTIL=2027-01-15T09:00:00Z", HOLD, ERR_NONE},
    {"HOLDUNTIL=2001-01-15T09:00:00Z", HOLD, ERR_NONE},
    /* refused */
    {"SIZE", 0, ERR_SYNTAX},
    {"SIZE=", 0, ERR_SYNTAX},
    {"SIZE=-1", 0, ERR_SYNTAX},
    {"SIZE=1e3", 0, ERR_SYNTAX},
    {"SIZE=1001", 0, ERR_TOO_BIG},
    {"SIZE=99999999999999999999999999", 0, ERR_SYNTAX},
    {"SIZE=1 SIZE=1", 0, ERR_SYNTAX},
    {"BODY=9BIT", 0, ERR_SYNTAX},
    {"BODY", 0, ERR_SYNTAX},
    {"SMTPUTF8=yes", 0, ERR_SYNTAX},
    {"RET=ALL", 0, ERR_SYNTAX},
    {"RET=FULL ret=FULL", 0, ERR_SYNTAX},
    {"ENVID", 0, ERR_SYNTAX},
    {"ENVID=a+0D+0Ab", 0, ERR_SYNTAX},
    {"ENVID=a+7F", 0, ERR_SYNTAX},
    {"ENVID=a+4", 0, ERR_SYNTAX},
    {"ENVID=a+4g", 0, ERR_SYNTAX},
    {"ENVID=a+e4", 0, ERR_SYNTAX},
    {"ENVID=a=b", 0, ERR_SYNTAX},
    {"ENVID=\xc3\xa4", 0, ERR_SYNTAX},
    {"ENVID=" LONG_XTEXT, 0, ERR_SYNTAX},
    {"AUTH", 0, ERR_SYNTAX},
    {"AUTH=nobody", 0, ERR_SYNTAX},
    {"AUTH=+3C+3E", 0, ERR_SYNTAX},
    {"AUTH=a@b.test+3E+20SIZE+3D1", 0, ERR_SYNTAX},
    {"AUTH=a@b.test+3E", 0, ERR_SYNTAX},
    {"BY=3600", 0, ERR_SYNTAX},
    {"BY=3600;", 0, ERR_SYNTAX},
    {"BY=3600;X", 0, ERR_SYNTAX},
    {"BY=3600;RX", 0, ERR_SYNTAX},
    {"BY=3600;RTT", 0, ERR_SYNTAX},
    {"BY=0;R", 0, ERR_SYNTAX},
    {"BY=-1;R", 0, ERR_SYNTAX},
    {"BY=1234567890;R", 0, ERR_SYNTAX},
    {"BY=--1;N", 0, ERR_SYNTAX},
    {"MT-PRIORITY=10", 0, ERR_SYNTAX},
    {"MT-PRIORITY=-0", 0, ERR_SYNTAX},
    {"MT-PRIORITY=+1", 0, ERR_SYNTAX},
    {"MT-PRIORITY", 0, ERR_SYNTAX},
    {"REQUIRETLS", 0, ERR_UNSUPPORTED},
    {"REQUIRETLS=1", TLS, ERR_SYNTAX},
    {"HOLDFOR=1", 0, ERR_UNSUPPORTED},
    {"HOLDUNTIL=2027-01-15T09:00:00Z", 0, ERR_UNSUPPORTED},
    {"HOLDFOR=0", HOLD, ERR_SYNTAX},
    {"HOLDFOR=86401", HOLD, ERR_SYNTAX},
    {"HOLDFOR=9999999999", HOLD, ERR_SYNTAX},
    {"HOLDUNTIL=2037-01-15T09:00:00Z", HOLD, ERR_SYNTAX},
    {"HOLDUNTIL=tomorrow", HOLD, ERR_SYNTAX},
    {"HOLDFOR=10 HOLDUNTIL=2027-01-15T09:00:00Z", HOLD, ERR_SYNTAX},
    {"XFOO", 0, ERR_UNSUPPORTED},
    {"X_FOO=1", 0, ERR_SYNTAX},
    {"-FOO=1", 0, ERR_SYNTAX},
    {"=1", 0, ERR_SYNTAX},
};

static void parameters_of_mail_are_read_or_refused(void **state)
{
    struct arena *a = arena_new();

    for (size_t i = 0; i < sizeof mail_cases / sizeof *mail_cases; i++) {
        struct smtp_mail_params out;
        struct error err = {0};
        int status = read_mail(a, mail_cases[i].text, mail_cases[i].session, &out, &err);

        if (err.kind != mail_cases[i].kind)
            print_error("%s: %s\n", mail_cases[i].text, err.text);
        assert_int_equal(err.kind, mail_cases[i].kind);
        assert_int_equal(status, mail_cases[i].kind == ERR_NONE ? 0 : -1);
    }
    arena_free(&a);
}

static void values_arrive(void **state)
{
    struct arena *a = arena_new();
    struct smtp_mail_params out;
    struct str text;

    assert_int_equal(read_mail(a,
                               "SIZE=7 RET=HDRS ENVID=a+20b BY=-60;NT MT-PRIORITY=-3 "
                               "BODY=BINARYMIME HOLDFOR=30 REQUIRETLS AUTH=ani+2Bx@b.test",
                               TLS | TRUSTED | HOLD, &out, NULL),
                     0);
    assert_int_equal(out.size_declared, 7);
    assert_int_equal(out.ret, SMTP_RET_HDRS);
    assert_int_equal(out.body, SMTP_BODY_BINARYMIME);
    assert_int_equal(out.by_mode, SMTP_BY_NOTIFY);
    assert_true(out.by_trace && out.requires_tls);
    assert_true(out.deliver_by_us == NOW_US - 60000000);
    assert_true(out.hold_until_us == NOW_US + 30000000);
    assert_int_equal(out.priority, -3);
    assert_true(str_eq(out.submitter, STR("ani+x@b.test")));
    assert_true(str_eq(out.envid, STR("a+20b")));
    assert_true(xtext_decode(a, out.envid, &text));
    assert_true(str_eq(text, STR("a b")));
    assert_true(str_eq(xtext_encode(a, text), out.envid));
    arena_free(&a);
}

static void strangers_are_not_believed(void **state)
{
    struct arena *a = arena_new();
    struct smtp_mail_params out;

    assert_int_equal(read_mail(a, "MT-PRIORITY=5 AUTH=ani@b.test", 0, &out, NULL), 0);
    assert_int_equal(out.priority, 0);
    assert_true(out.is_priority_lowered);
    assert_true(str_eq(out.submitter, STR("<>")));
    assert_int_equal(read_mail(a, "MT-PRIORITY=-5", 0, &out, NULL), 0);
    assert_int_equal(out.priority, -5);
    assert_false(out.is_priority_lowered);
    assert_int_equal(read_mail(a, "MT-PRIORITY=5", TRUSTED, &out, NULL), 0);
    assert_int_equal(out.priority, 5);
    arena_free(&a);
}

static const struct {
    const char *text;
    bool is_utf8;
    enum error_kind kind;
    unsigned notify;
} rcpt_cases[] = {
    {"", false, ERR_NONE, 0},
    {"NOTIFY=NEVER", false, ERR_NONE, SMTP_NOTIFY_NEVER},
    {"notify=success,Failure,DELAY", false, ERR_NONE, 14},
    {"NOTIFY=DELAY ORCPT=rfc822;ani+2Bx@example.org", false, ERR_NONE, SMTP_NOTIFY_DELAY},
    {"ORCPT=x400;/c=us", false, ERR_SYNTAX, 0},
    {"ORCPT=x400;/c+3Dus", false, ERR_NONE, 0},
    {"ORCPT=utf-8;\\x{E4}ni@example.org", false, ERR_NONE, 0},
    {"ORCPT=utf-8;a\\x{5C}\\x{2B}\\x{3D}\\x{20}\\x{10FFFF}@example.org", false, ERR_NONE, 0},
    {"ORCPT=UTF-8;\xc3\xa4ni@example.org", true, ERR_NONE, 0},
    /* refused */
    {"NOTIFY", false, ERR_SYNTAX, 0},
    {"NOTIFY=NEVER,DELAY", false, ERR_SYNTAX, 0},
    {"NOTIFY=DELAY,", false, ERR_SYNTAX, 0},
    {"NOTIFY=,DELAY", false, ERR_SYNTAX, 0},
    {"NOTIFY=ALWAYS", false, ERR_SYNTAX, 0},
    {"NOTIFY=DELAY NOTIFY=DELAY", false, ERR_SYNTAX, 0},
    {"ORCPT=ani@example.org", false, ERR_SYNTAX, 0},
    {"ORCPT=rfc822;", false, ERR_SYNTAX, 0},
    {"ORCPT=;ani@example.org", false, ERR_SYNTAX, 0},
    {"ORCPT=rf(c;ani@example.org", false, ERR_SYNTAX, 0},
    {"ORCPT=rfc822;a+0D+0AX:y", false, ERR_SYNTAX, 0},
    {"ORCPT=rfc822;a+00", false, ERR_SYNTAX, 0},
    {"ORCPT=rfc822;a+7F", false, ERR_SYNTAX, 0},
    {"ORCPT=rfc822;a+", false, ERR_SYNTAX, 0},
    {"ORCPT=rfc822;\xc3\xa4ni@example.org", false, ERR_SYNTAX, 0},
    {"ORCPT=rfc822;\xc3\xa4ni@example.org", true, ERR_NONE, 0},
    {"ORCPT=rfc822;\xc3ni@example.org", true, ERR_SYNTAX, 0},
    {"ORCPT=rfc822;\xc3\xa4ni+0A@example.org", true, ERR_SYNTAX, 0},
    {"ORCPT=rfc822;+C3+A4ni@example.org", false, ERR_NONE, 0},
    {"ORCPT=rfc822;+C3ni@example.org", true, ERR_SYNTAX, 0},
    {"ORCPT=x400;\xc3\xa4ni", true, ERR_SYNTAX, 0},
    {"ORCPT=x400;+C3+A4ni", true, ERR_SYNTAX, 0},
    {"ORCPT=utf-8;\xc3\xa4ni@example.org", false, ERR_SYNTAX, 0},
    {"ORCPT=utf-8;a\\x{41}@example.org", false, ERR_SYNTAX, 0},
    {"ORCPT=utf-8;a\\x{0A}@example.org", false, ERR_SYNTAX, 0},
    {"ORCPT=utf-8;a\\x{0E4}@example.org", false, ERR_SYNTAX, 0},
    {"ORCPT=utf-8;a\\x{e4}@example.org", false, ERR_SYNTAX, 0},
    {"ORCPT=utf-8;a\\x{D800}@example.org", false, ERR_SYNTAX, 0},
    {"ORCPT=utf-8;a\\x{110000}@example.org", false, ERR_SYNTAX, 0},
    {"ORCPT=utf-8;a\\x{}@example.org", false, ERR_SYNTAX, 0},
    {"ORCPT=utf-8;a\\x{E4", false, ERR_SYNTAX, 0},
    {"ORCPT=utf-8;a\\y{E4}", false, ERR_SYNTAX, 0},
    {"ORCPT=utf-8;a+41@example.org", false, ERR_SYNTAX, 0},
    {"RRVS=2014-04-03T23:01:00Z", false, ERR_UNSUPPORTED, 0},
};

static void parameters_of_rcpt_are_read_or_refused(void **state)
{
    struct arena *a = arena_new();

    for (size_t i = 0; i < sizeof rcpt_cases / sizeof *rcpt_cases; i++) {
        struct smtp_rcpt_params out;
        struct error err = {0};
        int status = read_rcpt(a, rcpt_cases[i].text, rcpt_cases[i].is_utf8, &out, &err);

        if (err.kind != rcpt_cases[i].kind)
            print_error("%s: %s\n", rcpt_cases[i].text, err.text);
        assert_int_equal(err.kind, rcpt_cases[i].kind);
        if (status == 0)
            assert_int_equal(out.notify, rcpt_cases[i].notify);
    }
    arena_free(&a);
}

/* Whatever it came as, every server may be given it, and it is read as one address. */
static void original_recipients_in_utf8_become_ascii(void **state)
{
    static const struct {
        const char *text, *orcpt;
    } cases[] = {
        {"ORCPT=rfc822;ani+2Bx@example.org", "rfc822;ani+2Bx@example.org"},
        {"ORCPT=utf-8;a\\x{E4}@example.org", "utf-8;a\\x{E4}@example.org"},
        {"ORCPT=utf-8;\xc3\xa4\\x{2B}@example.org", "utf-8;\\x{E4}\\x{2B}@example.org"},
        {"ORCPT=rfc822;\xc3\xa4+2B+41\\@example.org", "utf-8;\\x{E4}\\x{2B}A\\x{5C}@example.org"},
        {"ORCPT=rfc822;j+C3+BCrgen+2B@example.org", "utf-8;j\\x{FC}rgen\\x{2B}@example.org"},
        {"ORCPT=RFC822;\xe4\xb8\xad+20+3D@example.org",
         "utf-8;\\x{4E2D}\\x{20}\\x{3D}@example.org"},
    };
    struct arena *a = arena_new();

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct smtp_rcpt_params out;

        assert_int_equal(read_rcpt(a, cases[i].text, true, &out, NULL), 0);
        assert_string_equal(arena_c(a, out.orcpt), cases[i].orcpt);
    }
    arena_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parameters_of_mail_are_read_or_refused),
        cmocka_unit_test(values_arrive),
        cmocka_unit_test(strangers_are_not_believed),
        cmocka_unit_test(parameters_of_rcpt_are_read_or_refused),
        cmocka_unit_test(original_recipients_in_utf8_become_ascii),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
