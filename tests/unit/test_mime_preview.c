/* Previews: which words of a message stand for it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include "mail/mime/preview.h"
#include "server/base/utf8.h"

static struct str preview_of(struct arena *a, struct str message)
{
    struct buf out;
    struct str text;

    buf_init(&out, SIZE_MAX);
    mime_preview(&out, mime_parse(a, message), message);
    text = arena_str(a, buf_str(&out));
    buf_fini(&out);
    return text;
}

static void expect(const char *message, const char *wanted)
{
    struct arena *a = arena_new();
    struct str got = preview_of(a, str_c(message));

    if (!str_eq(got, str_c(wanted)))
        print_error("%s\n-> %.*s\n", message, STR_ARG(got));
    assert_true(str_eq(got, str_c(wanted)));
    arena_free(&a);
}

#define TEXT "Subject: x\r\n\r\n"
#define HTML "Content-Type: text/html; charset=utf-8\r\n\r\n"

static void plain_text_becomes_one_line(void **state)
{
    expect(TEXT "Hello  you,\r\n\r\n\tall   of you.\r\n", "Hello you, all of you.");
    expect(TEXT, "");
    expect("Subject: x\r\n", "");
    expect(TEXT " \r\n \xC2\xA0\r\n", "");
    expect("Content-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: "
           "quoted-printable\r\n\r\nGr=FC=DFe",
           "Gr\xC3\xBC\xC3\x9F"
           "e");
    expect("Content-Transfer-Encoding: base64\r\n\r\nSGFsbG8=\r\n", "Hallo");
}

static void what_cannot_be_seen_is_left_out(void **state)
{
    expect("Content-Type: text/plain; charset=utf-8\r\n\r\nA\xE2\x80\x8B"
           "b\xC2\xAD"
           "c\xEF\xBB\xBF \xCD\x8F \xE2\x80\xAE"
           "d\x07"
           "e\xE3\x80\x80"
           "f",
           "Abc d e f");
    expect(TEXT "==========\r\nNews\r\n----------\r\ntoday\r\n* * *\r\n", "News today");
}

static void quotations_and_signatures_are_passed_over(void **state)
{
    expect(TEXT
           "On Monday, Ani wrote:\r\n> old words\r\n>> older\r\n\r\nMy answer\r\n-- \r\nBob\r\n",
           "My answer");
    expect(TEXT "On Monday, at noon,\r\nAni <a@x> wrote:\r\n\r\n> old\r\nYes.\r\n", "Yes.");
    expect(TEXT "Yes.\r\n-----Original Message-----\r\nFrom: Ani\r\n", "Yes.");
    expect(TEXT "Note this:\r\nit matters\r\n", "Note this: it matters");
    expect(TEXT "> all there is\r\n> is quoted\r\n", "> all there is > is quoted");
    expect(TEXT "-----Original Message-----\r\nFrom: Ani\r\n",
           "-----Original Message----- From: Ani");
}

static void html_is_read_without_its_markup(void **state)
{
    expect(HTML "<html><head><title>T</title><style>p {color: red}</style></head><body><p>Hello "
                "<b>w</b>orld &amp; all&nbsp;&lt;3</p></body></html>",
           "Hello world & all <3");
    expect(HTML "<p>Answer</p><blockquote type=cite><p>question</p></blockquote>", "Answer");
    expect(HTML "<blockquote><p>question</p></blockquote>", "question");
    expect(HTML "<div>Ja</div><div class=\"gmail_quote\">On Monday wrote:<blockquote>x", "Ja");
    expect(HTML "<p></p>", "");
}

static void the_first_text_that_is_no_attachment_counts(void **state)
{
    expect("Content-Type: multipart/alternative; boundary=b\r\n\r\n--b\r\n\r\nplain\r\n--b\r\n" HTML
           "<p>html</p>\r\n--b--\r\n",
           "plain");
    expect("Content-Type: multipart/alternative; boundary=b\r\n\r\n--b\r\n\r\n \r\n--b\r\n" HTML
           "<p>html</p>\r\n--b--\r\n",
           "html");
    expect("Content-Type: multipart/mixed; boundary=b\r\n\r\npreamble\r\n--b\r\n"
           "Content-Disposition: attachment; filename=a.txt\r\n\r\nattached\r\n--b\r\n"
           "Content-Type: text/calendar\r\n\r\nBEGIN:VCALENDAR\r\n--b\r\n\r\nbody\r\n--b--\r\n",
           "body");
    expect("Content-Type: message/rfc822\r\n\r\nSubject: inner\r\n\r\ninner words\r\n",
           "inner words");
    expect("Content-Type: image/png\r\n\r\nxxxx", "");
    expect("Content-Type: multipart/encrypted; boundary=b\r\n\r\n--b\r\nContent-Type: "
           "application/pgp-encrypted\r\n\r\nVersion: 1\r\n--b--\r\n",
           "");
}

static void it_ends_after_200_characters(void **state)
{
    struct arena *a = arena_new();
    struct buf message;
    struct str got;
    uint32_t c;
    size_t count = 0;

    buf_init(&message, SIZE_MAX);
    buf_adds(&message, "Content-Type: text/plain; charset=utf-8\r\n\r\n");
    for (int i = 0; i < 500; i++)
        buf_adds(&message, "\xF0\x9F\x93\xA7\xC3\xA4 ");
    got = preview_of(a, buf_str(&message));
    assert_true(utf8_valid(got));
    while (utf8_next(&got, &c))
        count++;
    assert_int_equal(count, PREVIEW_CHARS_MAX);
    buf_fini(&message);
    arena_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_text_becomes_one_line),
        cmocka_unit_test(what_cannot_be_seen_is_left_out),
        cmocka_unit_test(quotations_and_signatures_are_passed_over),
        cmocka_unit_test(html_is_read_without_its_markup),
        cmocka_unit_test(the_first_text_that_is_no_attachment_counts),
        cmocka_unit_test(it_ends_after_200_characters),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
