/* test_mime_body.c - transfer encodings, character sets, and the text of a part. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include "mail/mime/body.h"
#include "server/base/arena.h"
#include "server/base/utf8.h"

#define COUNT(rows) (sizeof(rows) / sizeof *(rows))
#define FFFD        "\xEF\xBF\xBD"

static void base64_is_read_through_noise(void **state)
{
    static const struct {
        const char *in, *out;
    } rows[] = {
        {"", ""},
        {"YQ==", "a"},
        {"YWI=", "ab"},
        {"YWJj", "abc"},
        {"YWJjZA==", "abcd"},
        {"YW\r\nJj\r\n", "abc"},
        {"Y W.J*j", "abc"},
        {"YWI", "ab"},
        {"YQ", "a"},
        {"Y", ""},
        {"=", ""},
        {"YQ==YQ==", "aa"},
        {"YWI=YWI=", "abab"},
        {"+/+/", "\xfb\xff\xbf"},
        {"-_-_", ""},
        {"!!!!", ""},
        {"YWJjYWJjYWJj\r\nYWJj\r\n\r\n", "abcabcabcabc"},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        struct buf out;
        buf_init(&out, 1000);
        mime_decode_base64(&out, str_c(rows[i].in));
        assert_string_equal(buf_c(&out), rows[i].out);
        buf_fini(&out);
    }
}

static void quoted_printable_is_read_through_noise(void **state)
{
    static const struct {
        const char *in, *out;
    } rows[] = {
        {"", ""},
        {"plain", "plain"},
        {"a=20b=3D=c3=A9", "a b=\xc3\xa9"},
        {"one=\r\ntwo", "onetwo"},
        {"one=\ntwo", "onetwo"},
        {"one= \t\r\ntwo", "onetwo"},
        {"one  \t\r\ntwo ", "one\r\ntwo"},
        {"one\ntwo\n", "one\ntwo\n"},
        {"one=20\r\n", "one \r\n"},
        {"end=", "end"},
        {"=", ""},
        {"=4", "=4"},
        {"=zz=4g=", "=zz=4g"},
        {"==41", "=A"},
        {"\r\n\r\n", "\r\n\r\n"},
        {"a\rb", "a\rb"},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        struct buf out;
        buf_init(&out, 1000);
        mime_decode_quoted_printable(&out, str_c(rows[i].in));
        assert_string_equal(buf_c(&out), rows[i].out);
        buf_fini(&out);
    }
}

static void other_encodings_are_copied(void **state)
{
    static const enum mime_encoding encodings[] = {MIME_7BIT, MIME_8BIT, MIME_BINARY,
                                                   MIME_ENCODING_UNKNOWN};

    for (size_t i = 0; i < COUNT(encodings); i++) {
        struct buf out;
        buf_init(&out, 1000);
        mime_decode(&out, encodings[i], STR("a=41\r\n\0"));
        assert_int_equal(out.n, 7);
        assert_memory_equal(out.p, "a=41\r\n\0", 7);
        buf_fini(&out);
    }
}

static void charsets_become_utf8(void **state)
{
    static const struct {
        const char *charset, *in, *out;
        bool is_known;
    } rows[] = {
        {"utf-8", "café", "café", true},
        {"UTF8", "caf\xc3", "caf" FFFD, true},
        {"us-ascii", "abc", "abc", true},
        {"us-ascii", "caf\xe9", "café", true},
        {"us-ascii", "café", "café", true},
        {"iso-8859-1", "caf\xe9 \x80", "café €", true},
        {"windows-1252", "\x93x\x94\x81", "“x”" FFFD, true},
        {"iso-8859-15", "\xa4", "€", true},
        {"ISO-8859-2", "\xb1", "ą", true},
        {"koi8-r", "\xd0\xd2\xc9", "при", true},
        {"windows-1251", "\xef\xf0\xe8", "при", true},
        {"iso-8859-8-i", "\xf9", "ש", true},
        {"gb2312", "\xd6\xd0\xb9\xfa", "中国", true},
        {"gb2312", "\x81\x40", "丂", true},
        {"big5", "\xa4\xa4", "中", true},
        {"shift_jis", "\x87\x40", "①", true},
        {"cp932", "\x87\x40", "①", true},
        {"euc-jp", "\xc6\xfc", "日", true},
        {"ks_c_5601-1987", "\xb0\xa1", "가", true},
        {"euc-kr", "\x81\x41", "갂", true},
        {"iso-2022-jp", "\033$BF|K\\\033(Bx", "日本x", true},
        {"iso-2022-jp", "\033$B-!\033(B", "①", true},
        {"iso-2022-jp", "\033(I1\033(B", "ｱ", true},
        {"iso-2022-jp", "\033$BF|\nab", "日\nab", true},
        {"iso-2022-jp", "\033$BF", "F", true},
        {"hz-gb-2312", "~{VP9z~}~~", "中国~", true},
        {"unicode-1-1-utf-7", "a+AOk-b", "aéb", true},
        {"utf-7", "+ZeVnLIqe-", "日本語", true},
        {"windows-874", "\xa1", "ก", true},
        {"macintosh", "\x8e", "é", true},
        {"ansi_x3.110-1983", "abc", "abc", true},
        {"euc-kr",
         "a\xff"
         "b",
         "a" FFFD "b", true},
        {"shift_jis", "a\x81", "a" FFFD, true},
        {"x-unknown", "caf\xe9", "café", false},
        {"no-such-charset", "caf\xe9", "café", false},
        {"", "caf\xe9", "café", false},
        {"utf-16//IGNORE", "a", "a", false},
        {"../../etc/passwd", "a", "a", false},
        {"a-name-that-is-much-too-long-to-be-any-character-set-at-all", "a", "a", false},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        struct buf out;
        buf_init(&out, 1000);
        assert_int_equal(charset_to_utf8(&out, str_c(rows[i].charset), str_c(rows[i].in)),
                         rows[i].is_known);
        assert_string_equal(buf_c(&out), rows[i].out);
        assert_true(utf8_valid(buf_str(&out)));
        buf_fini(&out);
    }
}

static void nul_never_comes_out(void **state)
{
    static const char *const charsets[] = {
        "utf-8", "us-ascii",    "iso-8859-1", "koi8-r", "gb2312",
        "hz",    "iso-2022-jp", "utf-16",     "utf-7",  "nonsense",
    };

    for (size_t i = 0; i < COUNT(charsets); i++) {
        struct buf out;
        buf_init(&out, 1000);
        charset_to_utf8(&out, str_c(charsets[i]), STR("a\0b\0\0\0\xff"));
        assert_true(utf8_valid(buf_str(&out)));
        assert_null(memchr(out.p, 0, out.n));
        buf_fini(&out);
    }
}

static void more_charsets_than_stay_open_take_turns(void **state)
{
    static const char *const charsets[] = {"koi8-r",       "iso-8859-2",   "iso-8859-5",
                                           "windows-1250", "windows-1253", "cp437"};

    for (int round = 0; round < 50; round++) {
        struct buf out;
        buf_init(&out, 1000);
        assert_true(charset_to_utf8(&out, str_c(charsets[round % 6]), STR("\xc1")));
        assert_in_range(out.n, 2, 3);
        buf_fini(&out);
    }
}

static void the_text_of_a_part_has_lf_and_utf8(void **state)
{
    static const struct {
        const char *message, *text;
    } rows[] = {
        {"Content-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: "
         "quoted-printable\r\n\r\n"
         "caf=E9=\r\n!\r\nx\r\n",
         "café!\nx\n"},
        {"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: "
         "base64\r\n\r\nY2Fmw6kNCg==\r\n",
         "café\n"},
        {"\r\na\rb\nc\r\n", "a\nb\nc\n"},
        {"Content-Type: text/plain\r\n\r\ncaf\xe9", "café"},
        {"Content-Type: text/plain; charset=nonsense\r\n\r\ncaf\xe9", "café"},
        {"", ""},
    };
    struct arena *a = arena_new();

    for (size_t i = 0; i < COUNT(rows); i++) {
        struct str message = str_c(rows[i].message);
        struct buf out;
        buf_init(&out, 1000);
        buf_adds(&out, "before\r");
        mime_part_text(&out, mime_parse(a, message), message);
        assert_memory_equal(out.p, "before\r", 7);
        assert_string_equal(buf_c(&out) + 7, rows[i].text);
        buf_fini(&out);
    }
    arena_free(&a);
}

/* ---- the shared collection ------------------------------------------------------------------- */

static bool read_file(struct buf *out, const char *dir, const char *name)
{
    char path[4096], chunk[16384];
    size_t n;
    FILE *f;

    snprintf(path, sizeof path, "%s/charset/cpython-cjkencodings/%s.txt", dir, name);
    f = fopen(path, "rb");
    if (f == NULL)
        return false;
    while ((n = fread(chunk, 1, sizeof chunk, f)) > 0)
        buf_add_bytes(out, chunk, n);
    fclose(f);
    return true;
}

static void asian_texts_become_the_expected_utf8(void **state)
{
    static const char *const charsets[] = {
        "big5", "big5hkscs", "cp949",      "euc_jp",     "gb18030", "gb2312",
        "gbk",  "hz",        "iso2022_jp", "iso2022_kr", "johab",   "shift_jis",
    };
    const char *dir =
        getenv("MERPATI_SHARED_DATA") != NULL ? getenv("MERPATI_SHARED_DATA") : "../shared/data";
    size_t count = 0;

    for (size_t i = 0; i < COUNT(charsets); i++) {
        struct buf in, wanted, out;
        char wanted_name[100];
        snprintf(wanted_name, sizeof wanted_name, "%s-utf8", charsets[i]);
        buf_init(&in, 1 << 20);
        buf_init(&wanted, 1 << 20);
        buf_init(&out, 1 << 20);
        if (read_file(&in, dir, charsets[i]) && read_file(&wanted, dir, wanted_name)) {
            charset_to_utf8(&out, str_c(charsets[i]), buf_str(&in));
            if (!str_eq(buf_str(&out), buf_str(&wanted)))
                fail_msg("%s is not as expected", charsets[i]);
            count++;
        }
        buf_fini(&in);
        buf_fini(&wanted);
        buf_fini(&out);
    }
    if (count == 0)
        skip();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(base64_is_read_through_noise),
        cmocka_unit_test(quoted_printable_is_read_through_noise),
        cmocka_unit_test(other_encodings_are_copied),
        cmocka_unit_test(charsets_become_utf8),
        cmocka_unit_test(nul_never_comes_out),
        cmocka_unit_test(more_charsets_than_stay_open_take_turns),
        cmocka_unit_test(the_text_of_a_part_has_lf_and_utf8),
        cmocka_unit_test(asian_texts_become_the_expected_utf8),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
