/* test_utf8.c - UTF-8 and the modified UTF-7 of IMAP. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "server/base/utf8.h"

static void only_well_formed_text_is_valid(void **state)
{
    static const struct {
        const char *s;
        bool ok;
        const char *repaired;
    } rows[] = {
        {"", true, ""},
        {"plain", true, "plain"},
        {"\xc2\x80\xdf\xbf", true, "\xc2\x80\xdf\xbf"},
        {"\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80", true, "\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80"},
        {"\xf0\x90\x80\x80\xf4\x8f\xbf\xbf", true, "\xf0\x90\x80\x80\xf4\x8f\xbf\xbf"},
        {"a\x80z", false, "a\xef\xbf\xbdz"},
        {"\xc0\xaf", false, "\xef\xbf\xbd\xef\xbf\xbd"},
        {"\xe0\x9f\xbf", false, "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
        {"\xed\xa0\x80", false, "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
        {"\xf0\x8f\xbf\xbf", false, "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
        {"\xf4\x90\x80\x80", false, "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
        {"\xf5", false, "\xef\xbf\xbd"},
        {"\xe2\x82", false, "\xef\xbf\xbd\xef\xbf\xbd"},
        {"\xe2\x82z", false, "\xef\xbf\xbd\xef\xbf\xbdz"},
        {"caf\xe9", false, "caf\xef\xbf\xbd"},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct buf b;

        buf_init(&b, 100);
        assert_int_equal(utf8_valid(str_c(rows[i].s)), rows[i].ok);
        utf8_add_repaired(&b, str_c(rows[i].s));
        assert_string_equal(buf_c(&b), rows[i].repaired);
        assert_true(utf8_valid(buf_str(&b)));
        buf_fini(&b);
    }
}

static void nul_is_repaired_too(void **state)
{
    struct buf b;

    buf_init(&b, 100);
    utf8_add_repaired(&b, str_of("a\0b", 3));
    assert_string_equal(buf_c(&b), "a\xef\xbf\xbd"
                                   "b");
    buf_fini(&b);
}

static void every_code_point_survives_the_round_trip(void **state)
{
    struct buf b;

    buf_init(&b, 100);
    for (uint32_t c = 0; c < 0x110400; c++) {
        bool is_scalar = c <= 0x10ffff && (c < 0xd800 || c > 0xdfff);
        struct str s;
        uint32_t again = 0;

        buf_clear(&b);
        utf8_add(&b, c);
        s = buf_str(&b);
        assert_true(utf8_valid(s));
        assert_true(utf8_next(&s, &again));
        assert_int_equal(again, is_scalar ? c : 0xfffd);
        assert_false(utf8_next(&s, &again));
    }
    buf_fini(&b);
}

static void mailbox_names_go_both_ways(void **state)
{
    static const struct {
        const char *utf7, *utf8;
    } rows[] = {
        {"", ""},
        {"INBOX", "INBOX"},
        {"&-", "&"},
        {"Q&-A", "Q&A"},
        {"~peter/mail/&U,BTFw-/&ZeVnLIqe-",
         "~peter/mail/\xe5\x8f\xb0\xe5\x8c\x97/\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e"},
        {"Entw&APw-rfe", "Entw\xc3\xbcrfe"},
        {"&2D3eAA-", "\xf0\x9f\x98\x80"},
        {"&AOQA9gD8-", "\xc3\xa4\xc3\xb6\xc3\xbc"},
        {"&AOQ-&-", "\xc3\xa4&"},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct buf b;

        buf_init(&b, 200);
        assert_true(utf7_imap_decode(&b, str_c(rows[i].utf7)));
        assert_string_equal(buf_c(&b), rows[i].utf8);
        buf_clear(&b);
        utf7_imap_encode(&b, str_c(rows[i].utf8));
        assert_string_equal(buf_c(&b), rows[i].utf7);
        buf_fini(&b);
    }
}

static void malformed_mailbox_names_are_refused(void **state)
{
    static const char *const rows[] = {
        "&",          "&A",       "&AOQ",
        "a&b",        "&AA-",                 /* not closed, or half a character */
        "&AGE-",      "&AOQAYQ-",             /* what could stand for itself     */
        "&AOQ-&APY-",                         /* a null shift                    */
        "&AOR-",      "&AOQA-",               /* bits left over                  */
        "&2D0-",      "&3gA-",    "&2D0A5A-", /* lone surrogates                 */
        "&AO/-",      "&A Q-",    "caf\xc3\xa9",
        "tab\t",      "\x7f",
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct buf b;

        buf_init(&b, 200);
        assert_false(utf7_imap_decode(&b, str_c(rows[i])));
        buf_fini(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_well_formed_text_is_valid),
        cmocka_unit_test(nul_is_repaired_too),
        cmocka_unit_test(every_code_point_survives_the_round_trip),
        cmocka_unit_test(mailbox_names_go_both_ways),
        cmocka_unit_test(malformed_mailbox_names_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
