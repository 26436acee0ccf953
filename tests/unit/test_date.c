/* test_date.c - the dates of mail. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>
#include <cmocka.h>
#include "server/base/date.h"

#define NOON 1795402800 /* 2026-11-23T03:00:00Z */

static void mail_dates_are_understood_in_all_their_forms(void **state)
{
    static const struct {
        const char *text;
        int64_t unix_s;
        int offset_min;
    } rows[] = {
        {"Mon, 23 Nov 2026 10:00:00 +0700", NOON, 420},
        {"Mon, 23 Nov 2026 10:00:00 +0700 (WIB)", NOON, 420},
        {"23 Nov 2026 03:00 +0000", NOON, 0},
        {"Mon , 23 NOV 2026 03:00:00 GMT", NOON, 0},
        {"Mon 23 Nov 2026 03:00:00 -0000", NOON, 0},
        {"  Mon,\r\n 23 (the (nested \\) one)) Nov 2026 (c) 03 : 00 : 00 UT", NOON, 0},
        {"Sun, 22 Nov 2026 22:00:00 EST", NOON, -300},
        {"Sun, 22 Nov 2026 20:00:00 PDT", NOON, -420},
        {"Mon, 23 Nov 2026 03:00:00 Z", NOON, 0},
        {"Mon, 23 Nov 2026 03:00:00 K", NOON, 0},
        {"Mon, 23 Nov 2026 03:00:00", NOON, 0},
        {"Mon, 23 Nov 2026 10:00:00 GMT+0700", NOON, 420},
        {"Mon, 23 Nov 2026 10:00:00 +07:00", NOON, 420},
        {"Mon, 23 Nov 2026 10:00:00 +07", NOON, 420},
        {"Monday, 23-Nov-26 03:00:00 GMT", NOON, 0},
        {"Mon, 23 November 2026 03:00:00 +0000", NOON, 0},
        {"Sun, 22 Nov 2026 23:30:00 -0330", NOON, -210},
        {"Thu, 1 Jan 70 00:00:00 +0000", 0, 0},
        {"Wed, 31 Dec 1969 23:59:59 +0000", -1, 0},
        {"Tue, 29 Feb 2000 00:00:00 +0000", 951782400, 0},
        {"29 Feb 100 00:00:00 +0000", 951782400, 0},
        {"Sat, 31 Dec 2016 23:59:60 +0000", 1483228800, 0},
        {"Fri, 31 Dec 9999 23:59:59 +0000", 253402300799, 0},
        {"Mon, 23 Nov 2026 03:00:00 +0000 and more", NOON, 0},
        {"Mon, 23 Nov 2026 03:00:00 (never closed", NOON, 0},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        int64_t unix_s = -99;
        int offset_min = -99;

        if (!date_parse_rfc5322(str_c(rows[i].text), &unix_s, &offset_min))
            fail_msg("refused: %s", rows[i].text);
        if (unix_s != rows[i].unix_s || offset_min != rows[i].offset_min)
            fail_msg("%s: %lld %d", rows[i].text, (long long)unix_s, offset_min);
        assert_true(date_parse_rfc5322(str_c(rows[i].text), &unix_s, NULL));
    }
}

static void what_is_no_mail_date_is_refused(void **state)
{
    static const char *const rows[] = {
        "",
        " ",
        "(only a comment)",
        "Whenever",
        "Mon,",
        "Mon, 23",
        "Mon, 23 Nov",
        "23 Nov 2026",
        "Mon, 23 Nov 2026 10",
        "32 Nov 2026 10:00:00 +0000",
        "0 Nov 2026 10:00:00 +0000",
        "31 Nov 2026 10:00:00 +0000",
        "29 Feb 2026 10:00:00 +0000",
        "29 Feb 1900 10:00:00 +0000",
        "23 Foo 2026 10:00:00 +0000",
        "23 Nov 2026 24:00:00 +0000",
        "23 Nov 2026 10:60:00 +0000",
        "23 Nov 2026 10:00:61 +0000",
        "23 Nov 2026 10:00:00 +0060",
        "23 Nov 2026 10:00:00 +",
        "23 Nov 12026 10:00:00 +0000",
        "23 Nov 2026 100:00:00 +0000",
        "-23 Nov 2026 10:00 +0000",
        "23 Nov 2026 10:00:00 +07:",
        "99999999999999999999 Nov 2026 10:00",
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        int64_t unix_s;

        if (date_parse_rfc5322(str_c(rows[i]), &unix_s, NULL))
            fail_msg("accepted: %s", rows[i]);
    }
}

static void mail_dates_are_printed_in_the_zone_asked_for(void **state)
{
    static const struct {
        int64_t unix_s;
        int offset_min;
        const char *text;
    } rows[] = {
        {NOON, 420, "Mon, 23 Nov 2026 10:00:00 +0700"},
        {NOON, -210, "Sun, 22 Nov 2026 23:30:00 -0330"},
        {0, 0, "Thu, 1 Jan 1970 00:00:00 +0000"},
        {-1, 0, "Wed, 31 Dec 1969 23:59:59 +0000"},
        {951782400, 0, "Tue, 29 Feb 2000 00:00:00 +0000"},
        {INT64_MAX, 0, "Fri, 31 Dec 9999 23:59:59 +0000"},
        {INT64_MIN, 0, "Sat, 1 Jan 0000 00:00:00 +0000"},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct buf b;

        buf_init(&b, 100);
        date_add_rfc5322(&b, rows[i].unix_s, rows[i].offset_min);
        assert_string_equal(buf_c(&b), rows[i].text);
        buf_fini(&b);
    }
}

static void internet_dates_are_strict(void **state)
{
    static const struct {
        const char *text;
        bool ok;
        int64_t us;
        const char *again;
    } rows[] = {
        {"2026-11-23T03:00:00Z", true, NOON * 1000000LL, "2026-11-23T03:00:00.000Z"},
        {"2026-11-23t10:00:00.5+07:00", true, NOON * 1000000LL + 500000,
         "2026-11-23T03:00:00.500Z"},
        {"2026-11-22T23:30:00-03:30", true, NOON * 1000000LL, "2026-11-23T03:00:00.000Z"},
        {"1969-12-31T23:59:59.123456789Z", true, -876544, "1969-12-31T23:59:59.123Z"},
        {"2026-11-23T03:00:00z", true, NOON * 1000000LL, "2026-11-23T03:00:00.000Z"},
        {"2026-11-23T03:00:00", false, 0, NULL},
        {"2026-11-23 03:00:00Z", false, 0, NULL},
        {"2026-11-23T03:00:00.Z", false, 0, NULL},
        {"2026-11-23T03:00:00+0700", false, 0, NULL},
        {"2026-11-23T03:00:00+24:00", false, 0, NULL},
        {"2026-11-23T03:00:00Zx", false, 0, NULL},
        {"2026-11-31T03:00:00Z", false, 0, NULL},
        {"2026-11-23T03:00Z", false, 0, NULL},
        {"26-11-23T03:00:00Z", false, 0, NULL},
        {"+026-11-23T03:00:00Z", false, 0, NULL},
        {"", false, 0, NULL},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        int64_t us = 0;
        struct buf b;

        if (date_parse_rfc3339(str_c(rows[i].text), &us) != rows[i].ok || us != rows[i].us)
            fail_msg("%s: %lld", rows[i].text, (long long)us);
        if (!rows[i].ok)
            continue;
        buf_init(&b, 100);
        date_add_rfc3339(&b, us);
        assert_string_equal(buf_c(&b), rows[i].again);
        buf_fini(&b);
    }
}

static void imap_dates_are_strict(void **state)
{
    static const struct {
        const char *text;
        bool ok;
        int64_t unix_s;
        const char *again;
    } rows[] = {
        {"23-Nov-2026 10:00:00 +0700", true, NOON, "23-Nov-2026 03:00:00 +0000"},
        {" 3-nov-2026 00:00:00 +0000", true, 1793664000, " 3-Nov-2026 00:00:00 +0000"},
        {"03-Nov-2026 00:00:00 -0000", true, 1793664000, " 3-Nov-2026 00:00:00 +0000"},
        {"22-Nov-2026 23:30:00 -0330", true, NOON, "23-Nov-2026 03:00:00 +0000"},
        {"3-Nov-2026 00:00:00 +0000", false, 0, NULL},
        {"23-Nov-2026 10:00:00", false, 0, NULL},
        {"23-Nov-2026 10:00:00 0700", false, 0, NULL},
        {"23-Nov-2026 10:00:00 +0760", false, 0, NULL},
        {"23-Nov-2026T10:00:00 +0700", false, 0, NULL},
        {"23-Nov-2026 10:00:00x+0700", false, 0, NULL},
        {"23-Nov-2026 25:00:00 +0700", false, 0, NULL},
        {"31-Nov-2026 10:00:00 +0700", false, 0, NULL},
        {"23-Nox-2026 10:00:00 +0700", false, 0, NULL},
        {"23/Nov/2026 10:00:00 +0700", false, 0, NULL},
        {"\"3-Nov-2026 00:00:00 +000\"", false, 0, NULL},
        {"", false, 0, NULL},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        int64_t unix_s = 0;
        struct buf b;

        if (date_parse_imap(str_c(rows[i].text), &unix_s) != rows[i].ok || unix_s != rows[i].unix_s)
            fail_msg("%s: %lld", rows[i].text, (long long)unix_s);
        if (!rows[i].ok)
            continue;
        buf_init(&b, 100);
        date_add_imap(&b, unix_s);
        assert_string_equal(buf_c(&b), rows[i].again);
        buf_fini(&b);
    }
}

static void search_days_are_counted_from_1970(void **state)
{
    static const struct {
        const char *text;
        bool ok;
        int64_t day;
    } rows[] = {
        {"1-Jan-1970", true, 0},
        {"01-Jan-1970", true, 0},
        {"31-Dec-1969", true, -1},
        {"23-Nov-2026", true, 20780},
        {"001-Jan-1970", false, 0},
        {"1-Jan-70", false, 0},
        {"30-Feb-2024", false, 0},
        {"1-January-1970", false, 0},
        {"1-Jan-1970 ", false, 0},
        {"-Jan-1970", false, 0},
        {"", false, 0},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        int64_t day = 0;

        if (date_parse_imap_day(str_c(rows[i].text), &day) != rows[i].ok || day != rows[i].day)
            fail_msg("%s: %lld", rows[i].text, (long long)day);
    }
}

static void the_calendar_agrees_with_libc(void **state)
{
    for (int64_t day = -800000; day < 2900000; day += 13) {
        time_t t = (time_t)day * 86400;
        int year, month, date;
        struct tm tm;

        gmtime_r(&t, &tm);
        civil_from_days(day, &year, &month, &date);
        assert_int_equal(year, tm.tm_year + 1900);
        assert_int_equal(month, tm.tm_mon + 1);
        assert_int_equal(date, tm.tm_mday);
        assert_int_equal(days_from_civil(year, month, date), day);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mail_dates_are_understood_in_all_their_forms),
        cmocka_unit_test(what_is_no_mail_date_is_refused),
        cmocka_unit_test(mail_dates_are_printed_in_the_zone_asked_for),
        cmocka_unit_test(internet_dates_are_strict),
        cmocka_unit_test(imap_dates_are_strict),
        cmocka_unit_test(search_days_are_counted_from_1970),
        cmocka_unit_test(the_calendar_agrees_with_libc),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
