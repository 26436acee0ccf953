/* test_mime_imap_form.c - ENVELOPE and BODYSTRUCTURE: exact forms, and well-formed ones for
 * anything. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <dirent.h>
#include <sys/stat.h>
#include "mail/mime/imap_form.h"
#include "tests/unit/mime_check.h"

#define COUNT(rows) (sizeof(rows) / sizeof *(rows))

static void strings_are_quoted_or_literal(void **state)
{
    static const struct {
        struct str in;
        const char *form;
    } rows[] = {
        {{NULL, 0}, "NIL"},
        {{"", 0}, "\"\""},
        {{"abc", 3}, "\"abc\""},
        {{"a\"b\\c", 5}, "\"a\\\"b\\\\c\""},
        {{"a\tb", 3}, "\"a\tb\""},
        {{"a\r\nb", 4}, "{4}\r\na\r\nb"},
        {{"\xc3\xa9", 2}, "{2}\r\n\xc3\xa9"},
        {{"a\0b", 3}, "\"ab\""},
        {{"\0\xe9\0", 3}, "{1}\r\n\xe9"},
        {{"\0", 1}, "\"\""},
        {{"NIL", 3}, "\"NIL\""},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        struct buf out;
        buf_init(&out, 1000);
        imap_form_string(&out, rows[i].in);
        assert_string_equal(buf_c(&out), rows[i].form);
        buf_fini(&out);
    }
}

#define A "((\"A\" NIL \"a\" \"x\"))"
#define B "((NIL NIL \"b\" \"x\"))"

static void envelopes_are_exact(void **state)
{
    static const struct {
        const char *header, *form;
    } rows[] = {
        {"", "(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)"},
        {"Date: Mon, 1 Jan 2024 00:00:00 +0000\r\nSubject: a\r\n b\r\nFrom: A <a@x>\r\nTo: "
         "b@x\r\nMessage-ID: <1@x>\r\n\r\n",
         "(\"Mon, 1 Jan 2024 00:00:00 +0000\" \"a b\" " A " " A " " A " " B
         " NIL NIL NIL \"<1@x>\")"},
        {"From: A <a@x>\nSender: b@x\nReply-To: b@x\n",
         "(NIL NIL " A " " B " " B " NIL NIL NIL NIL NIL)"},
        {"From: A <a@x>\nSender:\nReply-To: ,\n",
         "(NIL NIL " A " " A " " A " NIL NIL NIL NIL NIL)"},
        {"From: A <a@x>\nFrom: b@x\n", "(NIL NIL " A " " A " " A " NIL NIL NIL NIL NIL)"},
        {"Sender: b@x\n", "(NIL NIL NIL " B " NIL NIL NIL NIL NIL NIL)"},
        {"Subject:\nTo:\nIn-Reply-To: \n", "(NIL \"\" NIL NIL NIL NIL NIL NIL \"\" NIL)"},
        {"To: b@x\nto: c@x\nTO: d@x\nCc: b@x\nBcc: b@x\n",
         "(NIL NIL NIL NIL NIL ((NIL NIL \"b\" \"x\")(NIL NIL \"c\" \"x\")(NIL NIL \"d\" \"x\")) " B
         " " B " NIL NIL)"},
        {"To: g: A <a@x>;, <@r,@s:b@x>\n",
         "(NIL NIL NIL NIL NIL ((NIL NIL \"g\" NIL)(\"A\" NIL \"a\" \"x\")(NIL NIL NIL NIL)"
         "(NIL \"@r,@s\" \"b\" \"x\")) NIL NIL NIL NIL)"},
        {"To: root, \"q\\\"q\" <\"l l\"@x>\n",
         "(NIL NIL NIL NIL NIL ((NIL NIL \"root\" \"\")(\"q\\\"q\" NIL \"l l\" \"x\")) NIL NIL NIL "
         "NIL)"},
        {"Subject: caf\xe9\n", "(NIL {4}\r\ncaf\xe9 NIL NIL NIL NIL NIL NIL NIL NIL)"},
        {"Subject: =?utf-8?q?caf=C3=A9?=\n",
         "(NIL \"=?utf-8?q?caf=C3=A9?=\" NIL NIL NIL NIL NIL NIL NIL NIL)"},
        {"garbage\nSubject x\n\nSubject: not here\n", "(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)"},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        struct buf out;
        buf_init(&out, 10000);
        imap_form_envelope(&out, str_c(rows[i].header));
        assert_string_equal(buf_c(&out), rows[i].form);
        assert_null(check_envelope(buf_str(&out)));
        buf_fini(&out);
    }
}

#define TEXT(size, lines)                                                                          \
    "(\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" " #size " " #lines
#define NO_ENVELOPE "(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)"
#define MIXED       "Content-Type: multipart/mixed; boundary=b\r\n\r\n"

static const struct {
    const char *message, *body, *structure;
} structures[] = {
    {"", TEXT(0, 0) ")", TEXT(0, 0) " NIL NIL NIL NIL)"},
    {"a: b\n\none\ntwo\n", TEXT(8, 2) ")", TEXT(8, 2) " NIL NIL NIL NIL)"},
    {"Content-Type: TEXT/HTML; Charset=\"utf-8\"; format=flowed\nContent-Transfer-Encoding: "
     "Quoted-Printable\n"
     "Content-ID: <i@x>\nContent-Description: d\n e\n\nx",
     "(\"text\" \"html\" (\"charset\" \"utf-8\" \"format\" \"flowed\") \"<i@x>\" \"d e\" "
     "\"Quoted-Printable\" 1 1)",
     "(\"text\" \"html\" (\"charset\" \"utf-8\" \"format\" \"flowed\") \"<i@x>\" \"d e\" "
     "\"Quoted-Printable\" 1 1"
     " NIL NIL NIL NIL)"},
    {"Content-Type: image/png\nContent-Transfer-Encoding: base64\nContent-Disposition: Attachment; "
     "filename=\"a.png\"\n"
     "Content-MD5: Q2hlY2s=\nContent-Language: en\nContent-Location: http://x/\n\nAAAA\n",
     "(\"image\" \"png\" NIL NIL NIL \"base64\" 5)",
     "(\"image\" \"png\" NIL NIL NIL \"base64\" 5 \"Q2hlY2s=\" (\"attachment\" (\"filename\" "
     "\"a.png\")) \"en\" \"http://x/\")"},
    {"Content-Type: image/png\nContent-Language: en, de ,\nContent-Disposition: inline\n\n",
     "(\"image\" \"png\" NIL NIL NIL \"7bit\" 0)",
     "(\"image\" \"png\" NIL NIL NIL \"7bit\" 0 NIL (\"inline\" NIL) (\"en\" \"de\") NIL)"},
    {"Content-Type: image/png\nContent-Language:\nContent-Disposition: ;x=y\nContent-Location:\n\n",
     "(\"image\" \"png\" NIL NIL NIL \"7bit\" 0)",
     "(\"image\" \"png\" NIL NIL NIL \"7bit\" 0 NIL NIL NIL \"\")"},
    /* What is not ASCII is one extended value, however it came; what is ASCII is plain. */
    {"Content-Type: a/b; name*0*=utf-8''caf%C3%A9; name*1=\".txt\"; x*=utf-8''abc\n\n",
     "(\"a\" \"b\" (\"name*\" \"utf-8''caf%C3%A9.txt\" \"x\" \"abc\") NIL NIL \"7bit\" 0)",
     "(\"a\" \"b\" (\"name*\" \"utf-8''caf%C3%A9.txt\" \"x\" \"abc\") NIL NIL \"7bit\" 0 NIL NIL "
     "NIL NIL)"},
    {"Content-Type: broken; name=x\n\n", TEXT(0, 0) ")", TEXT(0, 0) " NIL NIL NIL NIL)"},
    {MIXED "--b\r\n\r\none\r\n--b\r\nContent-Type: image/png\r\n\r\n\r\n--b--",
     "(" TEXT(3, 1) ")(\"image\" \"png\" NIL NIL NIL \"7bit\" 0) \"mixed\")",
     "(" TEXT(
         3,
         1) " NIL NIL NIL NIL)(\"image\" \"png\" NIL NIL NIL \"7bit\" 0 NIL NIL NIL NIL) \"mixed\""
            " (\"boundary\" \"b\") NIL NIL NIL)"},
    {MIXED, "(" TEXT(0, 0) ") \"mixed\")",
     "(" TEXT(0, 0) " NIL NIL NIL NIL) \"mixed\" (\"boundary\" \"b\") NIL NIL NIL)"},
    {"Content-Type: message/rfc822\n\nSubject: s\n\none\n",
     "(\"message\" \"rfc822\" NIL NIL NIL \"7bit\" 16 (NIL \"s\" NIL NIL NIL NIL NIL NIL NIL "
     "NIL) " TEXT(4, 1) ") 3)",
     "(\"message\" \"rfc822\" NIL NIL NIL \"7bit\" 16 (NIL \"s\" NIL NIL NIL NIL NIL NIL NIL "
     "NIL) " TEXT(4, 1) " NIL NIL NIL NIL) 3 NIL NIL NIL NIL)"},
    {"Content-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\nQTog\n",
     "(\"message\" \"rfc822\" NIL NIL NIL \"base64\" 5 " NO_ENVELOPE " " TEXT(0, 0) ") 1)",
     "(\"message\" \"rfc822\" NIL NIL NIL \"base64\" 5 " NO_ENVELOPE
     " " TEXT(0, 0) " NIL NIL NIL NIL) 1 NIL NIL NIL NIL)"},
    {"Content-Type: message/rfc822\n\nContent-Type: multipart/mixed; "
     "boundary=b\n\n--b\n\nx\n--b--\n",
     "(\"message\" \"rfc822\" NIL NIL NIL \"7bit\" 56 " NO_ENVELOPE
     " (" TEXT(1, 1) ") \"mixed\") 6)",
     "(\"message\" \"rfc822\" NIL NIL NIL \"7bit\" 56 " NO_ENVELOPE
     " (" TEXT(1, 1) " NIL NIL NIL NIL) \"mixed\""
                     " (\"boundary\" \"b\") NIL NIL NIL) 6 NIL NIL NIL NIL)"},
};

static void structures_are_exact(void **state)
{
    struct arena *a = arena_new();

    for (size_t i = 0; i < COUNT(structures); i++) {
        struct str message = str_c(structures[i].message);
        struct buf out;
        buf_init(&out, 10000);
        for (int extended = 0; extended < 2; extended++) {
            buf_clear(&out);
            imap_form_structure(&out, mime_parse(a, message), message, extended);
            assert_string_equal(buf_c(&out),
                                extended ? structures[i].structure : structures[i].body);
            assert_null(check_structure(buf_str(&out), extended));
        }
        buf_fini(&out);
    }
    arena_free(&a);
}

static void the_checker_refuses_what_is_not_well_formed(void **state)
{
    static const char *const envelopes[] = {
        "",
        "NIL",
        "()",
        "(NIL)",
        NO_ENVELOPE " ",
        "(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL",
        "(NIL NIL () NIL NIL NIL NIL NIL NIL NIL)",
        "(x NIL NIL NIL NIL NIL NIL NIL NIL NIL)",
        "(\"a\nb\" NIL NIL NIL NIL NIL NIL NIL NIL NIL)",
        "({3}\r\na NIL NIL NIL NIL NIL NIL NIL NIL NIL)",
        "(\"\xe9\" NIL NIL NIL NIL NIL NIL NIL NIL NIL)",
        "(\"a NIL NIL NIL NIL NIL NIL NIL NIL NIL)",
    };
    static const char *const bodies[] = {
        "",
        "()",
        "(\"text\" \"plain\" NIL NIL NIL \"7bit\" 0)",
        "(\"image\" \"png\" NIL NIL NIL \"7bit\" 0 0)",
        "(\"image\" \"png\" (\"a\") NIL NIL \"7bit\" 0)",
        "(\"image\" \"png\" () NIL NIL \"7bit\" 0)",
        "(\"image\" \"png\" NIL NIL NIL NIL 0)",
        "(\"image\" \"png\" NIL NIL NIL \"7bit\" 00)",
        "( \"mixed\")",
        "(\"message\" \"rfc822\" NIL NIL NIL \"7bit\" 0)",
    };

    for (size_t i = 0; i < COUNT(envelopes); i++)
        assert_non_null(check_envelope(str_c(envelopes[i])));
    for (size_t i = 0; i < COUNT(bodies); i++)
        assert_non_null(check_structure(str_c(bodies[i]), false));
}

static void assert_well_formed(struct str message)
{
    struct arena *a = arena_new();
    const struct mime_part *root = mime_parse(a, message);
    struct buf out;

    buf_init(&out, 256 << 20);
    imap_form_envelope(&out, mime_part_header(root, message));
    assert_true(buf_ok(&out));
    assert_null(check_envelope(buf_str(&out)));
    for (int extended = 0; extended < 2; extended++) {
        buf_clear(&out);
        imap_form_structure(&out, root, message, extended);
        assert_true(buf_ok(&out));
        assert_null(check_structure(buf_str(&out), extended));
    }
    buf_fini(&out);
    arena_free(&a);
}

static void hostile_messages_have_well_formed_forms(void **state)
{
    static const struct {
        const char *begin, *again;
        int count;
    } rows[] = {
        {MIXED, "--b\r\n", 20000},
        {"", "Content-Type: message/rfc822\r\n\r\n", 1000},
        {"", "To: a@b\n", 50000},
        {"To: ", "a:b;", 50000},
        {"From: ", "<", 100000},
        {"From: ", "\"", 100000},
        {"Content-Type: text/plain", "; a=b", 50000},
        {"Content-Type: text/plain", "; a*0=b", 50000},
        {"Content-Language: ", "en,", 50000},
        {"Content-Language: ", ",", 50000},
        {"Subject: ", "\\", 50000},
    };
    struct buf m;

    buf_init(&m, 64 << 20);
    for (size_t i = 0; i < COUNT(rows); i++) {
        buf_clear(&m);
        buf_adds(&m, rows[i].begin);
        for (int k = 0; k < rows[i].count; k++)
            buf_adds(&m, rows[i].again);
        assert_well_formed(buf_str(&m));
    }
    buf_fini(&m);
}

/* ---- the shared collection ------------------------------------------------------------------- */

static void try_file(const char *path)
{
    char chunk[16384];
    struct buf m;
    size_t n;
    FILE *f = fopen(path, "rb");

    assert_non_null(f);
    buf_init(&m, 64 << 20);
    while ((n = fread(chunk, 1, sizeof chunk, f)) > 0)
        buf_add_bytes(&m, chunk, n);
    fclose(f);
    assert_well_formed(buf_str(&m));
    buf_fini(&m);
}

static size_t walk(const char *dir)
{
    struct dirent *entry;
    size_t count = 0;
    DIR *d = opendir(dir);

    while (d != NULL && (entry = readdir(d)) != NULL) {
        char path[4096];
        struct stat st;
        snprintf(path, sizeof path, "%s/%s", dir, entry->d_name);
        if (entry->d_name[0] == '.' || stat(path, &st) < 0)
            continue;
        if (S_ISDIR(st.st_mode)) {
            count += walk(path);
        } else {
            try_file(path);
            count++;
        }
    }
    if (d != NULL)
        closedir(d);
    return count;
}

static void real_mail_has_well_formed_forms(void **state)
{
    const char *shared = getenv("MERPATI_SHARED_DATA");
    char dir[4096];

    snprintf(dir, sizeof dir, "%s/mail", shared != NULL ? shared : "../shared/data");
    if (walk(dir) == 0)
        skip();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(strings_are_quoted_or_literal),
        cmocka_unit_test(envelopes_are_exact),
        cmocka_unit_test(structures_are_exact),
        cmocka_unit_test(the_checker_refuses_what_is_not_well_formed),
        cmocka_unit_test(hostile_messages_have_well_formed_forms),
        cmocka_unit_test(real_mail_has_well_formed_forms),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
