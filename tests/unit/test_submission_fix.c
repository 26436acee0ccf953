/* test_submission_fix.c - what is read from a submitted message, what is refused, what becomes of its header; and
 * header_edit, on which it stands. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "mail/mime/header_edit.h"
#include "mail/queue/message_language.h"
#include "mail/queue/submission_fix.h"

static struct arena *arena;

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

static const struct submission_plan plan = {
    .now_us = INT64_C(1795428000000000),
    .message_id_left = {"0D4Z5KQ7R8S9T", 13},
    .message_id_domain = {"example.test", 12},
};

static void assert_str(struct str actual, const char *expected)
{
    if (!str_eq(actual, str_c(expected)))
        print_error("is   \"%.*s\"\nnot  \"%s\"\n", STR_ARG(actual), expected);
    assert_true(str_eq(actual, str_c(expected)));
}

static void what_cannot_be_one_author_is_refused(void **state)
{
    static const struct {
        const char *message;
        enum error_kind kind;
        const char *says;
    } cases[] = {
        {"", ERR_SYNTAX, "no header"},
        {"\r\nbody\r\n", ERR_SYNTAX, "no header"},
        {"hello world\r\n", ERR_SYNTAX, "no header"},
        {"Subject: x\r\n\r\n", ERR_SYNTAX, "no field From"},
        {"From: a@b.test\r\nfrom: c@d.test\r\n\r\n", ERR_SYNTAX, "2 fields From"},
        {"From: a@b.test\r\nSender: a@b.test\r\nSender: b@b.test\r\n\r\n", ERR_SYNTAX,
         "2 fields Sender"},
        {"From:\r\n\r\n", ERR_SYNTAX, "no address"},
        {"From: Ani\r\n\r\n", ERR_SYNTAX, "name@domain"},
        {"From: ani@b.test, Boss\r\n\r\n", ERR_SYNTAX, "name@domain"},
        {"From: friends:;\r\n\r\n", ERR_SYNTAX, "no address"},
        {"From: a@b.test\r\nSender: a@b.test, c@b.test\r\n\r\n", ERR_SYNTAX, "may hold 1"},
        {"From: a@b.test\r\nResent-From: x\r\n\r\n", ERR_SYNTAX, "Resent-From"},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct submission s;
        struct error err = {0};

        assert_int_equal(submission_read(arena, str_c(cases[i].message), &s, &err), -1);
        assert_int_equal(err.kind, cases[i].kind);
        if (str_find(str_c(err.text), str_c(cases[i].says)) < 0)
            print_error("%s: %s\n", cases[i].message, err.text);
        assert_true(str_find(str_c(err.text), str_c(cases[i].says)) >= 0);
    }
}

static struct submission read_message(const char *message)
{
    struct submission s;
    struct error err = {0};

    if (submission_read(arena, str_c(message), &s, &err) < 0)
        print_error("%s\n", err.text);
    assert_int_equal(err.kind, ERR_NONE);
    return s;
}

static void the_facts_are_read(void **state)
{
    struct submission s = read_message(
        "Resent-From: c@d.test\r\nFrom: \"Ani\" <ani@b.test>,\r\n\tbudi@b.test\r\n"
        "Sender: s@b.test\r\nSubject: x\r\nMessage-ID: <1@b.test>\r\nDate: today\r\n\r\n");

    assert_int_equal(s.from.n, 2);
    assert_str(submission_first(&s.from).local, "ani");
    assert_str(submission_first(&s.sender).local, "s");
    assert_str(submission_first(&s.resent_from).domain, "d.test");
    assert_int_equal(s.resent_sender.n, 0);
    assert_true(s.has_date && s.has_message_id);
    assert_str(s.message_id, "<1@b.test>");
    assert_str(s.subject, "x");
}

static void a_complete_message_stays_byte_for_byte(void **state)
{
    const char *message = "From: a@b.test\r\nDate: Mon, 23 Nov 2026 10:00:00 +0000\r\n"
                          "Message-ID: <1@b.test>\r\nX-Odd :  \tspace \r\n\r\nbody\r\n";
    struct submission s = read_message(message);
    struct str header = submission_fix(arena, &s, &plan);

    assert_ptr_equal(header.p, message);
    assert_str(s.header.body, "body\r\n");
}

static void what_is_missing_is_added(void **state)
{
    struct submission s = read_message("From: a@b.test\r\nSubject: x\r\n\r\nbody\r\n");
    struct str header = submission_fix(arena, &s, &plan);

    assert_true(str_starts(header, STR("From: a@b.test\r\nSubject: x\r\nDate: ")));
    assert_true(str_find(header, STR("\r\nMessage-ID: <0D4Z5KQ7R8S9T.")) > 0);
    assert_true(str_ends(header, STR("@example.test>\r\n\r\n")));
}

/* The fields of the result but Date and Message-ID, which vary. */
static void fields_are_taken_out_and_replaced(void **state)
{
    static const struct {
        const char *message, *sender, *expected;
    } cases[] = {
        {"From: a@b.test\r\nBcc: x@y.test,\r\n z@y.test\r\nTo: c@d.test\r\n\r\n", "",
         "From: a@b.test\r\nTo: c@d.test\r\n"},
        {"BCC: x@y.test\r\nresent-bcc: x@y.test\r\nReturn-Path: <q@y.test>\r\nFrom: "
         "a@b.test\r\n\r\n",
         "", "From: a@b.test\r\n"},
        {"From: boss@b.test\r\n\r\n", "ani@b.test",
         "From: boss@b.test\r\nSender: <ani@b.test>\r\n"},
        {"Sender: x@y.test\r\nFrom: boss@b.test\r\n\r\n", "ani@b.test",
         "Sender: <ani@b.test>\r\nFrom: boss@b.test\r\n"},
        {"From me Mon Nov 23 10:00:00 2026\r\nFrom: a@b.test\r\n\r\n", "", "From: a@b.test\r\n"},
        {"From: a@b.test\r\nBcc: only", "", "From: a@b.test\r\n"},
        {"From: a@b.test", "", "From: a@b.test\r\n"},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct submission s = read_message(cases[i].message);
        struct submission_plan p = plan;

        p.sender = str_c(cases[i].sender);
        submission_fix(arena, &s, &p);
        header_edit_remove(&s.header, STR("Date"));
        header_edit_remove(&s.header, STR("Message-ID"));
        assert_str(header_edit_header(&s.header),
                   arena_printf(arena, "%s\r\n", cases[i].expected).p);
    }
}

static void of_resendings_the_newest_names_who_sends(void **state)
{
    static const struct {
        const char *message, *was, *expected;
    } cases[] = {
        {"Resent-From: c@d.test\r\nFrom: a@b.test\r\n\r\n", "",
         "Resent-Sender: <me@b.test>\r\nResent-From: c@d.test\r\nFrom: a@b.test\r\n"},
        {"Resent-Date: d\r\nResent-From: c@d.test\r\nResent-To: x@y.test\r\nResent-Sender: "
         "q@b.test\r\nFrom: a@b.test\r\n\r\n",
         "q",
         "Resent-Date: d\r\nResent-From: c@d.test\r\nResent-To: x@y.test\r\nResent-Sender: "
         "<me@b.test>\r\nFrom: a@b.test\r\n"},
        {"Resent-From: c@d.test\r\nReceived: x\r\nResent-From: o@d.test\r\nResent-Sender: "
         "old@d.test\r\nFrom: a@b.test\r\n\r\n",
         "",
         "Resent-Sender: <me@b.test>\r\nResent-From: c@d.test\r\nReceived: x\r\nResent-From: "
         "o@d.test\r\nResent-Sender: old@d.test\r\nFrom: a@b.test\r\n"},
        {"Resent-Sender: q@b.test\r\nReceived: x\r\nResent-From: c@d.test\r\nFrom: "
         "a@b.test\r\n\r\n",
         "q",
         "Resent-Sender: <me@b.test>\r\nReceived: x\r\nResent-From: c@d.test\r\nFrom: "
         "a@b.test\r\n"},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct submission s = read_message(cases[i].message);
        struct submission_plan p = plan;

        assert_str(submission_first(&s.resent_sender).local, cases[i].was);
        p.resent_sender = STR("me@b.test");
        submission_fix(arena, &s, &p);
        header_edit_remove(&s.header, STR("Date"));
        header_edit_remove(&s.header, STR("Message-ID"));
        assert_str(header_edit_header(&s.header),
                   arena_printf(arena, "%s\r\n", cases[i].expected).p);
    }
}

static void without_a_readable_author_the_rest_can_be_completed(void **state)
{
    struct str message = STR("From: root\r\nDate: d\r\nMessage-ID: <1@b>\r\n\r\nbody\r\n");
    struct submission s;

    assert_int_equal(submission_read(arena, message, &s, NULL), -1);
    assert_true(s.header.count == 3);
    assert_ptr_equal(submission_fix(arena, &s, &plan).p, message.p);
}

static void repeated_dates_and_ids_are_cut_to_the_first(void **state)
{
    struct submission s =
        read_message("Date: one\r\nFrom: a@b.test\r\nDATE: two\r\nMessage-ID: <1@b>\r\n"
                     "Message-Id: <2@b>\r\nDate: three\r\n\r\n");

    assert_str(submission_fix(arena, &s, &plan),
               "Date: one\r\nFrom: a@b.test\r\nMessage-ID: <1@b>\r\n\r\n");
    s = read_message("Date:\r\nFrom: a@b.test\r\nDate: two\r\nMessage-ID: <1@b>\r\n\r\n");
    submission_fix(arena, &s, &plan);
    assert_int_equal(header_edit_count(&s.header, STR("Date")), 1);
    assert_true(str_find(header_edit_header(&s.header), STR("two")) < 0);
}

/* A line that is no field is the body's first: nothing hides, nothing is lost. */
static void a_forgotten_empty_line_is_put_in(void **state)
{
    struct submission s = read_message(
        "From: a@b.test\r\nDate: d\r\nMessage-ID: <1@b>\r\nHello there\r\nBcc: kept\r\n");

    assert_str(submission_fix(arena, &s, &plan),
               "From: a@b.test\r\nDate: d\r\nMessage-ID: <1@b>\r\n\r\n");
    assert_str(s.header.body, "Hello there\r\nBcc: kept\r\n");
}

static void huge_headers_are_refused(void **state)
{
    struct submission s;
    struct error err = {0};
    struct buf large;

    buf_init(&large, SIZE_MAX);
    buf_adds(&large, "From: a@b.test\r\n");
    while (large.n < 10 << 20)
        buf_adds(&large, "X-Filler: x\r\n");
    assert_int_equal(submission_read(arena, buf_str(&large), &s, &err), -1);
    assert_int_equal(err.kind, ERR_TOO_BIG);
    buf_truncate(&large, SUBMISSION_HEADER_SIZE_MAX + 1);
    error_clear(&err);
    assert_int_equal(submission_read(arena, buf_str(&large), &s, &err), -1);
    assert_int_equal(err.kind, ERR_TOO_BIG);
    buf_clear(&large);
    buf_adds(&large, "From: a@b.test\r\nX: ");
    while (large.n < 10 << 20)
        buf_adds(&large, "one field without an end ");
    error_clear(&err);
    assert_int_equal(submission_read(arena, buf_str(&large), &s, &err), -1);
    assert_int_equal(err.kind, ERR_TOO_BIG);
    buf_fini(&large);
}

static void a_large_body_is_not_copied(void **state)
{
    struct buf large;
    struct submission s;
    size_t before;

    buf_init(&large, SIZE_MAX);
    buf_adds(&large, "From: a@b.test\r\nBcc: x@y.test\r\n\r\n");
    while (large.n < 20 << 20)
        buf_adds(&large, "a line of the body, one of many\r\n");
    before = arena_size(arena);
    s = (struct submission){0};
    assert_int_equal(submission_read(arena, buf_str(&large), &s, NULL), 0);
    submission_fix(arena, &s, &plan);
    assert_true(s.header.body.p > large.p && s.header.body.p < large.p + 100);
    assert_true(arena_size(arena) - before < 1 << 20);
    buf_fini(&large);
}

/* ---- header_edit ------------------------------------------------------------------------------------------ */

static void fields_are_found_by_name_and_number(void **state)
{
    struct header_edit e;

    assert_int_equal(header_edit_open(&e, arena, STR("A: 1\r\nB: 2\r\na: 3\r\n\r\nbody"), NULL), 0);
    assert_int_equal(header_edit_count(&e, STR("a")), 2);
    assert_str(str_trim(header_edit_find(&e, STR("A"), 1)->value), "1");
    assert_str(str_trim(header_edit_find(&e, STR("A"), 2)->value), "3");
    assert_str(str_trim(header_edit_find(&e, STR("A"), 0)->value), "3");
    assert_null(header_edit_find(&e, STR("A"), 3));
    assert_null(header_edit_find(&e, STR("C"), 0));
    assert_true(header_edit_replace(&e, STR("a"), 2, STR("4")));
    assert_true(header_edit_remove_nth(&e, STR("A"), 1));
    assert_false(header_edit_remove_nth(&e, STR("A"), 2));
    header_edit_insert(&e, 0, STR("First"), STR("0"));
    header_edit_insert(&e, 99, STR("Last"), STR("9"));
    assert_str(header_edit_header(&e), "First: 0\r\nB: 2\r\na: 4\r\nLast: 9\r\n\r\n");
    assert_str(e.body, "body");
}

static void no_value_begins_a_field_or_ends_the_header(void **state)
{
    static const struct {
        const char *value, *written;
    } cases[] = {
        {"a\r\nBcc: x", "a Bcc: x"},
        {"a\r\n\r\nbody", "a  body"},
        {"a\nB: c", "a B: c"},
        {"folded\r\n here", "folded\r\n here"},
        {"folded\n\there", "folded\r\n\there"},
        {"a\rb", "a b"},
        {"end\r\n", "end"},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct header_edit e;

        assert_int_equal(header_edit_open(&e, arena, STR("\r\n"), NULL), 0);
        header_edit_append(&e, STR("X: y\r\n"), str_c(cases[i].value));
        assert_str(header_edit_header(&e),
                   arena_printf(arena, "X--y--: %s\r\n\r\n", cases[i].written).p);
    }
}

static void encoded_text_is_read_back(void **state)
{
    static const char *const texts[] = {
        "",
        "plain",
        "Grüße",
        "=?utf-8?q?no?=",
        "a long line of plain words that must be folded somewhere before it gets longer than it "
        "may be in mail",
        "ein langer Betreff mit Ümläuten, der in mehrere Wörter geschnitten werden muß, ohne ein "
        "Zeichen zu zerteilen",
        "日本語の件名はとても長いので、いくつかの符号化された語に分けられなければなりません。文字は"
        "切られません。",
    };

    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct str encoded = header_encode_text(arena, 7, str_c(texts[i])), rest = encoded, line;

        assert_true(str_is_ascii(encoded));
        assert_str(header_decode_text(arena, encoded), texts[i]);
        while (str_cut(rest, '\n', &line, &rest) || line.n > 0)
            assert_true(line.n <= 78);
    }
}

static void the_language_is_told_by_the_field_or_by_common_words(void **state)
{
    static const struct {
        const char *message, *language;
    } cases[] = {
        {"Content-Language: id\r\n\r\nthe and you with", "id"},
        {"Content-Language: en-GB, id\r\n\r\nyang dan untuk", "en"},
        {"Content-Language: idx\r\n\r\n", NULL},
        {"Subject: Laporan yang sudah selesai\r\n\r\nTerima kasih untuk bantuan Anda.", "id"},
        {"Subject: Report\r\n\r\nThank you for the help with this.", "en"},
        {"Subject: x\r\n\r\n", NULL},
        {"", NULL},
        {"Subject: the dan for untuk\r\n\r\n", NULL},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *language = message_language(str_c(cases[i].message));

        assert_true((language == NULL) == (cases[i].language == NULL));
        if (language != NULL)
            assert_string_equal(language, cases[i].language);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_cannot_be_one_author_is_refused),
        cmocka_unit_test(the_facts_are_read),
        cmocka_unit_test(a_complete_message_stays_byte_for_byte),
        cmocka_unit_test(what_is_missing_is_added),
        cmocka_unit_test(fields_are_taken_out_and_replaced),
        cmocka_unit_test(of_resendings_the_newest_names_who_sends),
        cmocka_unit_test(without_a_readable_author_the_rest_can_be_completed),
        cmocka_unit_test(repeated_dates_and_ids_are_cut_to_the_first),
        cmocka_unit_test(a_forgotten_empty_line_is_put_in),
        cmocka_unit_test(huge_headers_are_refused),
        cmocka_unit_test(a_large_body_is_not_copied),
        cmocka_unit_test(fields_are_found_by_name_and_number),
        cmocka_unit_test(no_value_begins_a_field_or_ends_the_header),
        cmocka_unit_test(encoded_text_is_read_back),
        cmocka_unit_test(the_language_is_told_by_the_field_or_by_common_words),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
