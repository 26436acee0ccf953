/* test_message_text.c - what searches see of a message: folded, decoded, without markup. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "mail/mime/html_text.h"
#include "mail/mime/message_text.h"
#include "mail/mime/text_fold.h"
#include "server/base/utf8.h"
#include "mail/store/kept_text.h"
#include "server/base/utf8.h"

static void assert_text(struct str actual, const char *expected)
{
    struct str e = str_c(expected);

    if (!str_eq(actual, e))
        print_error("\"%.*s\" is not \"%s\"\n", STR_ARG(actual), expected);
    assert_true(str_eq(actual, e));
}

static void texts_that_differ_in_case_or_form_fold_alike(void **state)
{
    static const struct {
        const char *text, *folded;
    } cases[] = {
        {"Hello World 123", "hello world 123"},
        {"\xC3\x89t\xC3\xA9", "e\xCC\x81te\xCC\x81"},             /* É é */
        {"E\xCC\x81te\xCC\x81", "e\xCC\x81te\xCC\x81"},           /* taken apart already */
        {"\xC2\xA0", " "},                                        /* no-break space */
        {"\xEF\xBC\xA1\xEF\xBD\x82", "ab"},                       /* full-width letters */
        {"\xEF\xAC\x81n", "fin"},                                 /* the ligature fi */
        {"\xE2\x84\xAB", "a\xCC\x8A"},                            /* the angstrom sign */
        {"\xEA\xB0\x80\xEB\x82\x98", "\xEA\xB0\x80\xEB\x82\x98"}, /* Hangul stays whole */
        {"a\xFF"
         "b",
         "a\xEF\xBF\xBD"
         "b"},
        {"", ""},
    };
    struct arena *a = arena_new();

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_text(text_fold_arena(a, str_c(cases[i].text)), cases[i].folded);
    assert_true(str_eq(text_fold_arena(a, STR("\xCE\xA3")), text_fold_arena(a, STR("\xCF\x83"))));
    assert_true(str_eq(text_fold_arena(a, STR("\xCF\x82")), text_fold_arena(a, STR("\xCF\x83"))));
    assert_true(str_eq(text_fold_arena(a, STR("\xD0\x96")), text_fold_arena(a, STR("\xD0\xB6"))));
    arena_free(&a);
}

static void folding_twice_changes_nothing(void **state)
{
    struct buf text, once, twice;

    buf_init(&text, SIZE_MAX);
    buf_init(&once, SIZE_MAX);
    buf_init(&twice, SIZE_MAX);
    for (uint32_t c = 1; c <= 0x10FFFF; c++) {
        buf_clear(&text);
        buf_clear(&once);
        buf_clear(&twice);
        utf8_add(&text, c);
        text_fold(&once, buf_str(&text));
        text_fold(&twice, buf_str(&once));
        assert_true(str_eq(buf_str(&once), buf_str(&twice)));
    }
    buf_fini(&text);
    buf_fini(&once);
    buf_fini(&twice);
}

static void a_field_name_has_no_colon(void **state)
{
    static const struct str lines = STR("subject: x: hello\nto: \n");

    assert_true(header_text_contains(lines, STR("subject"), STR("x: he")));
    assert_false(header_text_contains(lines, STR("subject: x"), STR("hello")));
    assert_false(header_text_contains(lines, STR("subj"), STR("hello")));
    assert_true(header_text_contains(lines, STR("to"), STR("")));
    assert_false(header_text_contains(lines, STR("cc"), STR("")));
}

static void accents_can_be_dropped(void **state)
{
    struct buf out;

    buf_init(&out, SIZE_MAX);
    text_drop_accents(&out, STR("e\xCC\x81"
                                "a\xCD\xAF\xCD\xB0z\xCC\x80"));
    assert_text(buf_str(&out), "ea\xCD\xB0z");
    buf_fini(&out);
}

static void html_is_read_as_people_do(void **state)
{
    static const struct {
        const char *html, *text;
    } cases[] = {
        {"plain", "plain\n"},
        {"", ""},
        {"<p>one</p><p>two</p>", "one\ntwo\n"},
        {"<b>f</b>oo <i>b</i>ar", "foo bar\n"},
        {"a  \r\n  b", "a b\n"},
        {"x<br>y<td>1</td><td>2</td>", "x\ny 1 2\n"},
        {"&lt;a&gt; &amp; &auml;&#228;&#xE4; &nbsp;x", "<a> & \xC3\xA4\xC3\xA4\xC3\xA4 x\n"},
        {"R&D &unknown; &", "R&D &unknown; &\n"},
        {"<style>p { color: red }</style>seen<script>if (a < b) x()</script>", "seen\n"},
        {"<!-- <b>no</b> -->yes<!DOCTYPE html>", "yes\n"},
        {"<a title=\"a > b\" href='x'>link</a>", "link\n"},
        {"1 < 2 and 3<4", "1 < 2 and 3<4\n"},
        {"open <b", "open\n"},
        {"cut <!-- here", "cut\n"},
        {"<script>never closed", ""},
        {"<!-->no comment<!--->none<!-- one -->", "no commentnone\n"},
        {"it&#146;s &#x96; &#0000000000065;", "it\xE2\x80\x99s \xE2\x80\x93 A\n"},
        {"&#0;&#1114112;", "\xEF\xBF\xBD\xEF\xBF\xBD\n"},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buf out;
        buf_init(&out, SIZE_MAX);
        html_text(&out, str_c(cases[i].html));
        assert_text(buf_str(&out), cases[i].text);
        buf_fini(&out);
    }
}

static const char message[] =
    "Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n an alle\r\n"
    "From: Ani <ani@example.org>\r\n"
    "Content-Type: multipart/mixed; boundary=B\r\n"
    "\r\n"
    "preamble\r\n"
    "--B\r\n"
    "Content-Type: text/plain; charset=iso-8859-1\r\n"
    "Content-Transfer-Encoding: quoted-printable\r\n"
    "\r\n"
    "Caf=E9 am\r\nMorgen\r\n"
    "--B\r\n"
    "Content-Type: text/html; charset=utf-8\r\n"
    "\r\n"
    "<p>Only <b>HT</b>ML</p>\r\n"
    "--B\r\n"
    "Content-Type: application/pdf\r\n"
    "Content-Disposition: attachment; filename*0*=utf-8''R%C3%A9sum; filename*1*=%C3%A9.pdf\r\n"
    "\r\n"
    "binary words\r\n"
    "--B\r\n"
    "Content-Type: message/rfc822\r\n"
    "\r\n"
    "Subject: Enclosed\r\n"
    "\r\n"
    "inner text\r\n"
    "--B--\r\n";

static void each_text_stands_in_its_place(void **state)
{
    struct arena *a = arena_new();
    struct message_text t;

    message_text_init(&t);
    message_text_extract(&t, mime_parse(a, STR(message)), STR(message));
    assert_text(buf_str(&t.header), "subject: gru\xCC\x88\xC3\x9F"
                                    "e an alle\n"
                                    "from: ani <ani@example.org>\n"
                                    "content-type: multipart/mixed; boundary=b\n");
    assert_text(buf_str(&t.body), "cafe\xCC\x81 am\nmorgen\nonly html\n\nsubject: enclosed\n"
                                  "inner text\n");
    assert_true(str_find(buf_str(&t.parts), STR("; filename=re\xCC\x81sume\xCC\x81.pdf\n")) >= 0);
    assert_true(str_find(buf_str(&t.parts), STR("content-type: message/rfc822\n")) >= 0);
    message_text_fini(&t);
    arena_free(&a);
}

static void a_field_is_found_by_name_and_value(void **state)
{
    struct str lines = STR("subject: one\nx-a: two subject: three\nx-empty: \n");

    assert_true(header_text_contains(lines, STR("subject"), STR("one")));
    assert_false(header_text_contains(lines, STR("subject"), STR("two")));
    assert_false(header_text_contains(lines, STR("subject"), STR("three")));
    assert_true(header_text_contains(lines, STR("x-a"), STR("subject: th")));
    assert_true(header_text_contains(lines, STR("x-a"), STR("")));
    assert_false(header_text_contains(lines, STR("x"), STR("")));
    assert_true(header_text_contains(lines, STR("x-empty"), STR("")));
    assert_false(header_text_contains(lines, STR("x-empty"), STR("a")));
}

static void a_kept_text_comes_back(void **state)
{
    struct kept_text texts[] = {{STR("header"), STR(""), STR("body body body body body"), false},
                                {STR(""), STR(""), STR(""), false},
                                {STR("a"), STR("b"), STR("c"), true}};
    struct arena *a = arena_new();
    struct buf room;

    buf_init(&room, SIZE_MAX);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct str packed = kept_text_pack(a, &texts[i]);
        struct kept_text back;
        assert_true(kept_text_unpack(packed, &room, &back));
        assert_true(str_eq(back.header, texts[i].header));
        assert_true(str_eq(back.parts, texts[i].parts));
        assert_true(str_eq(back.body, texts[i].body));
        assert_int_equal(back.is_cut, texts[i].is_cut);
        assert_int_equal(kept_text_is_cut(packed), texts[i].is_cut);
        for (size_t n = 0; n < packed.n; n++)
            assert_false(kept_text_unpack(str_head(packed, n), &room, &back));
    }
    buf_fini(&room);
    arena_free(&a);
}

static void a_huge_text_is_cut(void **state)
{
    size_t n = KEPT_TEXT_SIZE_MAX + 100;
    struct arena *a = arena_new();
    struct buf raw, room;
    struct message_text t;
    struct kept_text kept, back;

    buf_init(&raw, SIZE_MAX);
    buf_init(&room, SIZE_MAX);
    buf_adds(&raw, "Subject: huge\r\n\r\n");
    for (size_t i = 0; i < n / 10; i++)
        buf_adds(&raw, "nine lets ");
    buf_adds(&raw, "at last\r\n");
    message_text_init(&t);
    message_text_extract(&t, mime_parse(a, buf_str(&raw)), buf_str(&raw));
    kept = kept_text_of(&t);
    assert_true(kept.is_cut);
    assert_true(kept_text_unpack(kept_text_pack(a, &kept), &room, &back));
    assert_int_equal(back.body.n, KEPT_TEXT_SIZE_MAX);
    assert_true(back.is_cut);
    message_text_fini(&t);
    buf_fini(&raw);
    buf_fini(&room);
    arena_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_that_differ_in_case_or_form_fold_alike),
        cmocka_unit_test(folding_twice_changes_nothing),
        cmocka_unit_test(a_field_name_has_no_colon),
        cmocka_unit_test(accents_can_be_dropped),
        cmocka_unit_test(html_is_read_as_people_do),
        cmocka_unit_test(each_text_stands_in_its_place),
        cmocka_unit_test(a_field_is_found_by_name_and_value),
        cmocka_unit_test(a_kept_text_comes_back),
        cmocka_unit_test(a_huge_text_is_cut),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
