/* test_dsn.c - delivery reports: what stands in them is read back with mail/mime. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>

#include "mail/mime/body.h"
#include "mail/mime/body_encode.h"
#include "mail/mime/header.h"
#include "mail/mime/part.h"
#include "mail/queue/dsn.h"
#include "mail/queue/dsn_text.h"

static struct arena *arena;

static const char plain_message[] = "From: Ani <ani@example.test>\r\n"
                                    "To: budi@example.net\r\n"
                                    "Subject: Laporan =?utf-8?q?keu=C3=A4?= bulan ini\r\n"
                                    "Message-ID: <one@example.test>\r\n"
                                    "\r\n"
                                    "Halo\r\n";

static int set_up(void **state)
{
    arena = arena_new();
    return 0;
}

static int tear_down(void **state)
{
    arena_free(&arena);
    return 0;
}

static struct dsn_recipient unknown_user(void)
{
    return (struct dsn_recipient){.action = DSN_FAILED,
                                  .address = STR("budi@example.net"),
                                  .orcpt = STR("rfc822;Budi@example.net"),
                                  .status = STR("5.1.1"),
                                  .remote_host = STR("mx1.example.net [192.0.2.1]:25"),
                                  .code = 550,
                                  .text = STR("5.1.1 User unknown"),
                                  .last_attempt_us = INT64_C(1795428000000000)};
}

static struct dsn report_of(const struct dsn_recipient *v, size_t count)
{
    return (struct dsn){.reporting_host = STR("mail.example.test"),
                        .recipient = STR("ani@example.test"),
                        .envid = STR("E-17"),
                        .trace_id = STR("0D4Z5KQ7R8S9T"),
                        .arrival_us = INT64_C(1795424400000000),
                        .now_us = INT64_C(1795428000000000),
                        .language = "en",
                        .v = v,
                        .count = count,
                        .original = STR(plain_message)};
}

struct parsed {
    struct str message;
    const struct mime_part *root, *text, *status, *original;
};

/* Three parts of a multipart/report, and nothing that may not be sent. */
static struct parsed build(const struct dsn *d)
{
    struct parsed p = {.message = dsn_build(arena, d)};

    p.root = mime_parse(arena, p.message);
    assert_true(mime_is_8bit(p.message));
    assert_true(p.root->is_multipart);
    assert_true(str_eq(p.root->subtype, STR("report")));
    p.text = p.root->first_child;
    p.status = p.text->next;
    p.original = p.status->next;
    assert_non_null(p.original);
    assert_null(p.original->next);
    return p;
}

static struct str text_of(const struct parsed *p)
{
    struct buf text;
    struct str out;

    buf_init(&text, 1 << 20);
    mime_part_text(&text, p->text, p->message);
    out = arena_str(arena, buf_str(&text));
    buf_fini(&text);
    return out;
}

static struct str status_of(const struct parsed *p)
{
    return mime_part_body(p->status, p->message);
}

static void assert_holds(struct str text, const char *what)
{
    if (str_find(text, str_c(what)) < 0)
        print_error("\"%s\" is not in:\n%.*s\n", what, STR_ARG(text));
    assert_true(str_find(text, str_c(what)) >= 0);
}

static void assert_lacks(struct str text, const char *what)
{
    assert_true(str_find(text, str_c(what)) < 0);
}

static struct str field(const struct parsed *p, const char *name)
{
    struct header_field f;

    assert_true(header_find(mime_part_header(p->root, p->message), str_c(name), &f));
    return str_trim(f.value);
}

static void a_failure_says_who_what_and_why(void **state)
{
    struct dsn_recipient v = unknown_user();
    struct dsn d = report_of(&v, 1);
    struct parsed p = build(&d);

    assert_true(mime_is_7bit(p.message));
    assert_true(str_eq(p.status->subtype, STR("delivery-status")));
    assert_holds(status_of(&p), "Original-Envelope-Id: E-17\r\n");
    assert_holds(status_of(&p), "Reporting-MTA: dns; mail.example.test\r\n");
    assert_holds(status_of(&p), "\r\n\r\nOriginal-Recipient: rfc822; Budi@example.net\r\n"
                                "Final-Recipient: rfc822; budi@example.net\r\n"
                                "Action: failed\r\nStatus: 5.1.1\r\n"
                                "Remote-MTA: dns; mx1.example.net\r\n"
                                "Diagnostic-Code: smtp; 550 5.1.1 User unknown\r\n");
    assert_holds(text_of(&p), "NOT delivered");
    assert_holds(text_of(&p), "There is no such address.");
    assert_holds(text_of(&p), "mx1.example.net [192.0.2.1]:25");
    assert_holds(text_of(&p), "550 5.1.1 User unknown");
    assert_holds(text_of(&p), "0D4Z5KQ7R8S9T");
}

static void the_header_stops_loops_and_finds_the_thread(void **state)
{
    struct dsn_recipient v = unknown_user();
    struct dsn d = report_of(&v, 1);
    struct parsed p = build(&d);

    assert_true(str_eq(field(&p, "Auto-Submitted"), STR("auto-replied")));
    assert_true(str_eq(field(&p, "In-Reply-To"), STR("<one@example.test>")));
    assert_true(str_eq(field(&p, "To"), STR("<ani@example.test>")));
    assert_holds(field(&p, "Content-Type"), "report-type=delivery-status");
    assert_true(str_eq(header_decode_text(arena, field(&p, "Subject")),
                       STR("Not delivered: Laporan keu\xC3\xA4 bulan ini")));
}

static void indonesians_read_indonesian(void **state)
{
    struct dsn_recipient v = unknown_user();
    struct dsn d = report_of(&v, 1);
    struct parsed p;

    d.language = "id";
    p = build(&d);
    assert_holds(text_of(&p), "TIDAK terkirim");
    assert_holds(text_of(&p), "Alamat ini tidak ada.");
    assert_true(str_eq(field(&p, "Content-Language"), STR("id")));
}

static void one_report_tells_of_several_outcomes(void **state)
{
    struct dsn_recipient v[] = {unknown_user(), unknown_user(), unknown_user()};
    struct dsn d = report_of(v, 3);
    struct parsed p;

    v[0] = (struct dsn_recipient){.action = DSN_DELIVERED, .address = STR("c@example.test")};
    v[2] = (struct dsn_recipient){.action = DSN_DELAYED,
                                  .address = STR("d@example.org"),
                                  .status = STR("4.4.1"),
                                  .retry_until_us = INT64_C(1795828000000000)};
    p = build(&d);
    assert_holds(status_of(&p), "Action: delivered\r\nStatus: 2.0.0\r\n");
    assert_holds(status_of(&p), "Action: delayed\r\nStatus: 4.4.1\r\n");
    assert_holds(status_of(&p), "Will-Retry-Until: ");
    assert_holds(text_of(&p), "We try until");
    assert_holds(header_decode_text(arena, field(&p, "Subject")), "Not delivered");
}

/* RFC 3461, 4.3 and 6.2: RET, and what it does not say. */
static void what_comes_back_follows_ret(void **state)
{
    static const struct {
        enum dsn_action action;
        enum dsn_ret ret;
        const char *subtype;
    } cases[] = {
        {DSN_FAILED, DSN_RET_ANY, "rfc822"},
        {DSN_FAILED, DSN_RET_FULL, "rfc822"},
        {DSN_FAILED, DSN_RET_HDRS, "rfc822-headers"},
        {DSN_DELAYED, DSN_RET_FULL, "rfc822-headers"},
        {DSN_DELIVERED, DSN_RET_FULL, "rfc822-headers"},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct dsn_recipient v = unknown_user();
        struct dsn d = report_of(&v, 1);
        struct parsed p;

        v.action = cases[i].action;
        d.ret = cases[i].ret;
        p = build(&d);
        assert_true(str_eq(p.original->subtype, str_c(cases[i].subtype)));
        assert_holds(mime_part_body(p.original, p.message), "Message-ID: <one@example.test>\r\n");
    }
}

static void of_a_large_message_the_header_comes_back(void **state)
{
    struct dsn_recipient v = unknown_user();
    struct dsn d = report_of(&v, 1);
    struct buf large;
    struct parsed p;

    buf_init(&large, SIZE_MAX);
    buf_adds(&large, plain_message);
    while (large.n <= DSN_ORIGINAL_SIZE_MAX)
        buf_adds(&large, "one more line of this\r\n");
    d.original = buf_str(&large);
    d.ret = DSN_RET_FULL;
    p = build(&d);
    assert_true(str_eq(p.original->subtype, STR("rfc822-headers")));
    assert_lacks(mime_part_body(p.original, p.message), "one more line");
    buf_fini(&large);
}

static void a_huge_header_comes_back_in_part(void **state)
{
    struct dsn_recipient v = unknown_user();
    struct dsn d = report_of(&v, 1);
    struct buf large;
    struct parsed p;

    buf_init(&large, SIZE_MAX);
    while (large.n < 10 << 20)
        buf_adds(&large, "X-Filler: nothing at all to be said\r\n");
    d.original = buf_str(&large);
    p = build(&d);
    assert_true(p.original->body_size <= DSN_HEADER_SIZE_MAX);
    buf_fini(&large);
}

/* What a server said is one bounded line, whatever it is. */
static void remote_text_is_tamed(void **state)
{
    char many_bad_bytes[2000];
    const char *const texts[] = {
        "no\r\n\r\nAction: delivered\r\n.\r\n",
        "esc \x1b[31m and NUL and \x07 bell",
        "\xff\xfe bad utf-8 \xc3",
        many_bad_bytes,
        "--boundary--\r\nContent-Type: text/html\r\n\r\n<script>",
    };
    struct buf big;

    memset(many_bad_bytes, 0xff, sizeof many_bad_bytes); /* each is three bytes when repaired */
    many_bad_bytes[sizeof many_bad_bytes - 1] = '\0';
    for (size_t i = 0; i < 2 * sizeof texts / sizeof texts[0]; i++) {
        struct dsn_recipient v = unknown_user();
        struct dsn d = report_of(&v, 1);
        struct parsed p;

        d.is_utf8 = i % 2 == 1;
        v.text = v.remote_host = str_c(texts[i / 2]);
        p = build(&d);
        assert_lacks(status_of(&p), "\r\nAction: delivered");
        assert_lacks(p.message, "\x1b");
        assert_lacks(p.message, "\x07");
        assert_true(d.is_utf8 || str_is_ascii(status_of(&p)));
    }
    buf_init(&big, SIZE_MAX);
    while (big.n < 4 << 20)
        buf_adds(&big, "blahblah");
    struct dsn_recipient v = unknown_user();
    struct dsn d = report_of(&v, 1);
    v.text = v.address = v.orcpt = v.status = buf_str(&big);
    assert_true(build(&d).message.n < 16384);
    buf_fini(&big);
}

static void many_recipients_are_counted_not_listed(void **state)
{
    enum { COUNT = 5000 };
    struct dsn_recipient *v = calloc(COUNT, sizeof *v);
    struct dsn d = report_of(v, COUNT);
    struct parsed p;

    for (size_t i = 0; i < COUNT; i++)
        v[i] = unknown_user();
    p = build(&d);
    assert_holds(text_of(&p), "and 4900 more recipients");
    assert_true(p.message.n < 1 << 20);
    free(v);
}

static const char utf8_message[] = "From: =?utf-8?q?D?= <d\xC3\xBCrst@example.test>\r\n"
                                   "Subject: Gr\xC3\xBC\xC3\x9F"
                                   "e\r\n\r\nkl\xC3\xA4r\r\n";

/* RFC 6533. */
static void internationalized_mail_comes_back_as_it_is(void **state)
{
    struct dsn_recipient v = unknown_user();
    struct dsn d = report_of(&v, 1);
    struct parsed p;

    v.address = STR("j\xC3\xB6rg@example.net");
    v.orcpt = STR("utf-8;j\\x{F6}rg@example.net");
    d.original = STR(utf8_message);
    d.is_utf8 = true;
    p = build(&d);
    assert_true(str_eq(p.status->subtype, STR("global-delivery-status")));
    assert_holds(status_of(&p), "Original-Recipient: utf-8; j\xC3\xB6rg@example.net\r\n");
    assert_holds(status_of(&p), "Final-Recipient: utf-8; j\xC3\xB6rg@example.net\r\n");
    assert_true(str_eq(p.original->subtype, STR("global")));
    assert_true(str_eq(field(&p, "Content-Transfer-Encoding"), STR("8bit")));
}

static void for_seven_bits_everything_is_ascii(void **state)
{
    struct dsn_recipient v = unknown_user();
    struct dsn d = report_of(&v, 1);
    struct parsed p;

    v.address = STR("j\xC3\xB6rg@example.net");
    v.orcpt = STR("utf-8;j\\x{F6}rg@example.net");
    v.text = STR("unbekannter Empf\xC3\xA4nger");
    d.original = STR(utf8_message);
    d.is_utf8 = d.is_7bit = true;
    p = build(&d);
    assert_true(mime_is_7bit(p.message));
    assert_true(str_eq(p.status->subtype, STR("delivery-status")));
    assert_holds(status_of(&p), "Final-Recipient: utf-8; j\\x{F6}rg@example.net\r\n");
    assert_true(str_eq(p.original->subtype, STR("global-headers")));
    assert_holds(text_of(&p), "Empf\xC3\xA4nger");
}

static void eight_bit_mail_comes_back_where_it_may(void **state)
{
    struct dsn_recipient v = unknown_user();
    struct dsn d = report_of(&v, 1);

    d.original = STR("From: a@b.test\r\n\r\nkl\xC3\xA4r\r\n");
    assert_int_equal(build(&d).original->encoding, MIME_8BIT);
    d.is_7bit = true;
    assert_true(str_eq(build(&d).original->subtype, STR("rfc822-headers")));
}

/* NULs, bare line ends and endless lines may not be sent on as 8bit. */
static void binary_mail_comes_back_as_its_header(void **state)
{
    static const char *const bodies[] = {"a\nb\r\n", "a\rb\r\n"};

    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
        struct dsn_recipient v = unknown_user();
        struct dsn d = report_of(&v, 1);

        d.original = arena_printf(arena, "From: a@b.test\r\n\r\n%s", bodies[i]);
        assert_true(str_eq(build(&d).original->subtype, STR("rfc822-headers")));
    }
}

static void every_code_has_advice_in_both_languages(void **state)
{
    for (int subject = 0; subject < 9; subject++)
        for (int detail = 0; detail < 32; detail++) {
            struct str status = arena_printf(arena, "5.%d.%d", subject, detail);
            const char *en = dsn_advice("en", DSN_FAILED, status);
            const char *id = dsn_advice("id", DSN_FAILED, status);

            assert_non_null(en);
            assert_non_null(id);
            assert_true(strlen(en) > 20);
            assert_true(strlen(id) > 20);
            assert_string_not_equal(en, id);
        }
    assert_string_equal(dsn_advice("en", DSN_FAILED, STR("garbage")),
                        dsn_advice("en", DSN_FAILED, STR("5.0.0")));
}

static void quoted_printable_comes_back_as_it_went(void **state)
{
    static const char *const texts[] = {
        "",
        "plain",
        "tail \r\nblank\t\r\n",
        "=3D=\r\n",
        "\xC3\xA4\x01",
        "a very long line that does not end where a line of mail should end, and goes on and on "
        "and on and on\r\n",
    };

    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct buf encoded, decoded;

        buf_init(&encoded, 4096);
        buf_init(&decoded, 4096);
        mime_encode_quoted_printable(&encoded, str_c(texts[i]));
        mime_decode_quoted_printable(&decoded, buf_str(&encoded));
        assert_true(str_eq(buf_str(&decoded), str_c(texts[i])));
        assert_true(mime_is_7bit(buf_str(&encoded)));
        buf_fini(&encoded);
        buf_fini(&decoded);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_failure_says_who_what_and_why),
        cmocka_unit_test(the_header_stops_loops_and_finds_the_thread),
        cmocka_unit_test(indonesians_read_indonesian),
        cmocka_unit_test(one_report_tells_of_several_outcomes),
        cmocka_unit_test(what_comes_back_follows_ret),
        cmocka_unit_test(of_a_large_message_the_header_comes_back),
        cmocka_unit_test(a_huge_header_comes_back_in_part),
        cmocka_unit_test(remote_text_is_tamed),
        cmocka_unit_test(many_recipients_are_counted_not_listed),
        cmocka_unit_test(internationalized_mail_comes_back_as_it_is),
        cmocka_unit_test(for_seven_bits_everything_is_ascii),
        cmocka_unit_test(eight_bit_mail_comes_back_where_it_may),
        cmocka_unit_test(binary_mail_comes_back_as_its_header),
        cmocka_unit_test(every_code_has_advice_in_both_languages),
        cmocka_unit_test(quoted_printable_comes_back_as_it_went),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
