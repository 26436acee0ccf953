/* test_mime_header.c - fields, unfolding, encoded words, parameters, message ids, subjects. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include "mail/mime/header.h"
#include "server/base/utf8.h"

#define COUNT(rows) (sizeof(rows) / sizeof *(rows))

static void assert_str(struct str got, const char *wanted)
{
    char *text = strndup(got.p != NULL ? got.p : "", got.n);

    assert_string_equal(text, wanted);
    assert_int_equal(got.n, strlen(wanted));
    free(text);
}

static void fields_are_cut_byte_for_byte(void **state)
{
    static const struct {
        const char *header, *names, *values;
    } rows[] = {
        {"", "", ""},
        {"\r\nA: b", "", ""},
        {"A: b", "A|", " b|"},
        {"A: b\r\n", "A|", " b|"},
        {"A:b\nC:d\n\nE: f\n", "A|C|", "b|d|"},
        {"A: b\r\n c\r\n\td\r\nE:\r\n", "A|E|", " b\r\n c\r\n\td||"},
        {"A \t: b\n", "A|", " b|"},
        {"no colon\nA: b\n", "|A|", "| b|"},
        {"From me Mon Jan  1 00:00:00 2024\n a: b\nA: b\n", "|A|", "| b|"},
        {" x: y\nA: b\n", "|A|", "| b|"},
        {": b\n", "|", "|"},
        {"A\x01: b\n", "|", "|"},
        {"A\xc3: b\n", "|", "|"},
        {"A: b\r\r\nC: d\r", "A|C|", " b\r| d\r|"},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        struct str rest = str_c(rows[i].header);
        struct header_field field;
        struct buf names, values;
        size_t size = 0;
        buf_init(&names, 1000);
        buf_init(&values, 1000);
        while (header_next(&rest, &field)) {
            size += field.whole.n;
            buf_add(&names, field.name);
            buf_addc(&names, '|');
            buf_add(&values, field.value);
            buf_addc(&values, '|');
        }
        assert_str(buf_str(&names), rows[i].names);
        assert_str(buf_str(&values), rows[i].values);
        assert_int_equal(size + rest.n, strlen(rows[i].header));
        buf_fini(&names);
        buf_fini(&values);
    }
}

static void the_first_field_of_a_name_is_found(void **state)
{
    struct header_field field;
    struct str header = STR("Subject: a\nsubject: b\n\nTo: c\n");

    assert_true(header_find(header, STR("SUBJECT"), &field));
    assert_str(field.value, " a");
    assert_false(header_find(header, STR("To"), &field));
    assert_false(header_find(header, STR("Subj"), &field));
    assert_false(header_find(STR_NULL, STR("To"), &field));
}

static void text_is_decoded_to_utf8(void **state)
{
    static const struct {
        const char *value, *text;
    } rows[] = {
        {"", ""},
        {" plain \r\n text ", "plain  text"},
        {"=?utf-8?Q?caf=C3=A9?=", "café"},
        {"=?UTF-8?q?a_b?=", "a b"},
        {"=?iso-8859-1?Q?caf=E9?= noir", "café noir"},
        {"=?utf-8?B?Y2Fmw6k=?=", "café"},
        {"=?utf-8*en?Q?x?=", "x"},
        {"a =?utf-8?q?b?= c", "a b c"},
        {"=?utf-8?q?a?= =?utf-8?q?b?=", "ab"},
        {"=?utf-8?q?a?=\r\n =?iso-8859-1?q?b?= =?us-ascii?b?Yw==?=", "abc"},
        {"=?utf-8?q?caf=C3?= =?utf-8?q?=A9?=", "café"},
        {"=?utf-8?B?Y2Fmww==?= =?utf-8?Q?=A9?=", "café"},
        {"=?utf-8?q?a?=b=?utf-8?q?c?=", "abc"},
        {"=?utf-8?q?a b?=", "a b"},
        {"=?utf-8?q?"
         "?=x",
         "x"},
        {"=?iso-2022-jp?B?GyRCRnxLXBsoQg==?=", "日本"},
        {"=?gb2312?B?1tC5+g==?=", "中国"},
        {"=?utf-8?q?a=0D=0Ab=1Bc?=", "a bc"},
        {"=?x-unheard-of?q?caf=E9?=", "café"},
        {"caf\xc3\xa9", "café"},
        {"caf\xe9", "café"},
        {"a\tb\x01\x7f", "a b"},
        {"\xc2\x85x", "x"},
        /* broken words are left as they are */
        {"=?utf-8?q?abc", "=?utf-8?q?abc"},
        {"=?utf-8?x?abc?=", "=?utf-8?x?abc?="},
        {"=??q?abc?=", "=??q?abc?="},
        {"=?utf-8?=", "=?utf-8?="},
        {"=?utf-8", "=?utf-8"},
        {"=?", "=?"},
        {"=?utf-8?q?a?= =?utf-8?q?b", "a =?utf-8?q?b"},
        {"=?utf-8?q?=ZZ=4?=", "=ZZ=4"},
    };
    struct arena *a = arena_new();

    for (size_t i = 0; i < COUNT(rows); i++) {
        struct str text = header_decode_text(a, str_c(rows[i].value));
        assert_str(text, rows[i].text);
        assert_true(utf8_valid(text));
    }
    assert_str(header_decode_text(a, STR("a\0b")), "ab");
    arena_free(&a);
}

static void unfolding_removes_line_ends_only(void **state)
{
    static const struct {
        const char *value, *text;
    } rows[] = {
        {" a", "a"},         {"a\r\n b", "a b"}, {"a\n\tb ", "a\tb"},
        {"\r\n a\r\n", "a"}, {"", ""},           {"a  b", "a  b"},
    };
    struct arena *a = arena_new();

    for (size_t i = 0; i < COUNT(rows); i++)
        assert_str(header_unfold(a, str_c(rows[i].value)), rows[i].text);
    arena_free(&a);
}

static void parameters_are_read(void **state)
{
    static const struct {
        const char *value, *form;
    } rows[] = {
        {"text/html", "text/html"},
        {"Text/HTML; Charset=UTF-8", "text/html charset=[UTF-8]"},
        {"text/plain; charset=us-ascii (Plain text)", "text/plain charset=[us-ascii]"},
        {"text/plain; charset=\"us-ascii\" ; format=flowed;",
         "text/plain charset=[us-ascii] format=[flowed]"},
        {"text/plain charset=a format=b", "text/plain charset=[a] format=[b]"},
        {"text/plain; name=\"a\\\"b\\\\c;d\"", "text/plain name=[a\"b\\c;d]"},
        {"text/plain; name=\"a\r\n b\"", "text/plain name=[a b]"},
        {"text/plain; name=two words.txt; x=y", "text/plain name=[two words.txt] x=[y]"},
        {"text/plain; name=\"never closed", "text/plain name=[never closed]"},
        {"text/plain; name=\"a\"junk; x=y", "text/plain name=[a] x=[y]"},
        {"text/plain; (c) name (c) = (c) \"a\" (c)", "text/plain name=[a]"},
        {"text/plain; name=", "text/plain name=[]"},
        {"text/plain;;; ; =x; name", "text/plain"},
        {"text/plain; name=a; NAME=b", "text/plain name=[a]"},
        {"attachment; filename=a.txt", "attachment/ filename=[a.txt]"},
        {"text", "text/"},
        {"", "/"},
        {"; a=b", "/ a=[b]"},
        {"/; a=b", "/ a=[b]"},
        {"t\xc3xt/plain", "/plain"},
        /* RFC 2231 */
        {"a/b; name*=utf-8''caf%C3%A9", "a/b name=[café]"},
        {"a/b; name*=iso-8859-1'en'caf%e9", "a/b name=[café]"},
        {"a/b; name*=''caf%e9", "a/b name=[café]"},
        {"a/b; name*=caf%C3%A9", "a/b name=[café]"},
        {"a/b; name*0=one; name*1=\" two\"; x=y", "a/b name=[one two] x=[y]"},
        {"a/b; name*1=two; x=y; name*0=one", "a/b name=[onetwo] x=[y]"},
        {"a/b; name*0*=utf-8''caf%C3; name*1*=%A9; name*2=%41", "a/b name=[café%41]"},
        {"a/b; name*0=a; name*2=c", "a/b name=[a]"},
        {"a/b; name=plain; name*=utf-8''extended", "a/b name=[extended]"},
        {"a/b; name*0=sections; name=plain", "a/b name=[sections]"},
        {"a/b; name*x=y", "a/b name*x=[y]"},
        {"a/b; name*99999999999=y", "a/b name*99999999999=[y]"},
        {"a/b; name*=utf-8''%zz%", "a/b name=[%zz%]"},
        {"a/b; name*=utf-8''a%0D%0Ab", "a/b name=[a b]"},
        /* what RFC 2047 forbids and mailers do */
        {"a/b; name=\"=?utf-8?Q?caf=C3=A9?=\"", "a/b name=[café]"},
        {"a/b; name==?utf-8?Q?caf=C3=A9?=", "a/b name=[café]"},
        {"a/b; name*0=\"=?utf-8?Q?caf\"; name*1=\"=C3=A9?=\"", "a/b name=[café]"},
        {"a/b; name=caf\xe9", "a/b name=[café]"},
    };
    struct arena *a = arena_new();

    for (size_t i = 0; i < COUNT(rows); i++) {
        struct header_params params;
        struct buf form;
        header_parse_params(a, str_c(rows[i].value), &params);
        buf_init(&form, 1000);
        buf_addf(&form, "%.*s/%.*s", STR_ARG(params.type), STR_ARG(params.subtype));
        for (size_t k = 0; k < params.n; k++)
            buf_addf(&form, " %.*s=[%.*s]", STR_ARG(params.v[k].name), STR_ARG(params.v[k].value));
        assert_str(buf_str(&form), rows[i].form);
        buf_fini(&form);
    }
    arena_free(&a);
}

static void a_parameter_is_found_by_name(void **state)
{
    struct arena *a = arena_new();
    struct header_params params;

    header_parse_params(a, STR("text/plain; charset=x; name=y"), &params);
    assert_str(header_param(&params, STR("Name")), "y");
    assert_str(header_param(&params, STR("nam")), "");
    arena_free(&a);
}

static void message_ids_are_found_in_order(void **state)
{
    static const struct {
        const char *value, *ids;
        size_t max;
    } rows[] = {
        {"<a@b>", "<a@b>", 9},
        {" <a@b>\r\n <c@d><e@f>", "<a@b><c@d><e@f>", 9},
        {"<a@b> <c@d> <e@f>", "<a@b><c@d>", 2},
        {"<a@\r\n b>", "<a@b>", 9},
        {"Your mail of Monday <a@b> (thanks)", "<a@b>", 9},
        {"<x <a@b>", "<a@b>", 9},
        {"a@b", "<a@b>", 9},
        {"a@b c@d", "", 9},
        {"<a@b", "", 9},
        {"a@b>", "", 9},
        {"<>", "", 9},
        {"words only", "", 9},
        {"", "", 9},
        {"<a@b>", "", 0},
    };
    struct arena *a = arena_new();

    for (size_t i = 0; i < COUNT(rows); i++) {
        struct str ids[9];
        struct buf form;
        size_t n = header_parse_msgids(a, str_c(rows[i].value), ids, rows[i].max);
        buf_init(&form, 1000);
        for (size_t k = 0; k < n; k++)
            buf_add(&form, ids[k]);
        assert_str(buf_str(&form), rows[i].ids);
        buf_fini(&form);
    }
    arena_free(&a);
}

static void base_subjects_follow_rfc_5256(void **state)
{
    static const struct {
        const char *subject, *base;
        bool is_reply;
    } rows[] = {
        {"hello", "hello", false},
        {"Re: hello", "hello", true},
        {"RE : hello", "hello", true},
        {"re:re:Fw: FWD:hello", "hello", true},
        {"Re[2]: hello", "hello", true},
        {"Re: [list] hello", "hello", true},
        {"[list] Re: hello", "hello", true},
        {"[a] [b] hello", "hello", false},
        {"[list] hello (fwd)", "hello", true},
        {"hello (fwd) (FWD) ", "hello", true},
        {"[fwd: hello]", "hello", true},
        {"[Fwd: Re: [list] hello (fwd)]", "hello", true},
        {"  a \t b  ", "a b", false},
        {"[list]", "[list]", false},
        {"Re: [list]", "[list]", true},
        {"Re:", "", true},
        {"", "", false},
        {"Reply: hello", "Reply: hello", false},
        {"Re hello", "Re hello", false},
        {"[list hello", "[list hello", false},
        {"[fwd: hello", "[fwd: hello", false},
        {"Rechnung: x", "Rechnung: x", false},
        {"hello fwd)", "hello fwd)", false},
    };
    struct arena *a = arena_new();

    for (size_t i = 0; i < COUNT(rows); i++) {
        bool is_reply;
        assert_str(header_base_subject(a, str_c(rows[i].subject), &is_reply), rows[i].base);
        assert_int_equal(is_reply, rows[i].is_reply);
    }
    arena_free(&a);
}

/* Quadratic work would not end within any test's patience. */
static void hostile_fields_take_linear_time(void **state)
{
    static const char *const again[] = {
        "=?",
        "=?utf-8?q?",
        "=?utf-8?q?a?= ",
        "=?a?q?x?= =?b?q?",
        "; a=b",
        "; a*0=b",
        "; a*=b",
        "(",
        "()",
        "<",
        "<a@b>",
        "[",
        "[a]",
        "[a] ",
        "re:",
        "re: [a] ",
        "(fwd)",
        "[fwd: ",
        "\"",
        "\\",
        "; x=\"",
        " a",
        "a =",
        "=?iso-2022-jp?b?GyRC?=",
        "\xff",
        "%41'",
        "]",
    };
    struct str ids[10];
    struct buf m;
    bool is_reply;

    buf_init(&m, 64 << 20);
    for (size_t i = 0; i < COUNT(again); i++) {
        struct arena *a = arena_new();
        struct header_params params;
        buf_clear(&m);
        while (m.n < 300000)
            buf_adds(&m, again[i]);
        header_base_subject(a, header_decode_text(a, buf_str(&m)), &is_reply);
        header_base_subject(a, buf_str(&m), &is_reply);
        header_parse_params(a, buf_str(&m), &params);
        header_parse_msgids(a, buf_str(&m), ids, 10);
        arena_free(&a);
    }
    buf_fini(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fields_are_cut_byte_for_byte),
        cmocka_unit_test(the_first_field_of_a_name_is_found),
        cmocka_unit_test(unfolding_removes_line_ends_only),
        cmocka_unit_test(text_is_decoded_to_utf8),
        cmocka_unit_test(parameters_are_read),
        cmocka_unit_test(a_parameter_is_found_by_name),
        cmocka_unit_test(message_ids_are_found_in_order),
        cmocka_unit_test(base_subjects_follow_rfc_5256),
        cmocka_unit_test(hostile_fields_take_linear_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
