/* test_mime_part.c - the tree of a message: delimiters, defaults, limits, blocks, and the shared
 * collection of mail. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <dirent.h>
#include <sys/stat.h>
#include "server/base/buf.h"
#include "tests/unit/mime_check.h"

/* ---- a tree as text: type, then [body] of a leaf, {message} or (parts) ----------------------- */

static void add_body(struct buf *out, struct str body)
{
    for (size_t i = 0; i < body.n; i++)
        switch (body.p[i]) {
        case '\r':
            buf_adds(out, "\\r");
            break;
        case '\n':
            buf_adds(out, "\\n");
            break;
        case 0:
            buf_adds(out, "\\0");
            break;
        default:
            buf_addc(out, body.p[i]);
        }
}

static void add_tree(struct buf *out, const struct mime_part *part, struct str message)
{
    buf_addf(out, "%.*s/%.*s", STR_ARG(part->type), STR_ARG(part->subtype));
    buf_addc(out, part->is_multipart ? '(' : part->is_message ? '{' : '[');
    if (!part->is_multipart && !part->is_message)
        add_body(out, mime_part_body(part, message));
    for (const struct mime_part *child = part->first_child; child != NULL; child = child->next) {
        add_tree(out, child, message);
        if (child->next != NULL)
            buf_addc(out, ' ');
    }
    buf_addc(out, part->is_multipart ? ')' : part->is_message ? '}' : ']');
}

static void assert_tree(struct str message, const char *wanted)
{
    struct arena *a = arena_new();
    const struct mime_part *root = mime_parse(a, message);
    struct buf out;

    buf_init(&out, 1 << 20);
    add_tree(&out, root, message);
    assert_string_equal(buf_c(&out), wanted);
    assert_null(check_tree(root, message));
    for (size_t at = 0; at <= message.n; at++)
        assert_null(check_same_tree(root, parse_split(a, message, at)));
    assert_null(check_same_tree(root, parse_in_blocks(a, message, 1, 1)));
    buf_fini(&out);
    arena_free(&a);
}

struct row {
    struct str message;
    const char *tree;
};

static void assert_rows(const struct row *rows, size_t count)
{
    for (size_t i = 0; i < count; i++)
        assert_tree(rows[i].message, rows[i].tree);
}
#define ASSERT_ROWS(rows) assert_rows(rows, sizeof(rows) / sizeof *(rows))
#define M(literal)                                                                                 \
    {                                                                                              \
        (literal), sizeof(literal) - 1                                                             \
    }
#define MIXED "Content-Type: multipart/mixed; boundary=b\r\n\r\n"

/* ---- cases ----------------------------------------------------------------------------------- */

static void simple_messages_have_a_header_and_a_body(void **state)
{
    static const struct row rows[] = {
        {M(""), "text/plain[]"},
        {M("\r\n"), "text/plain[]"},
        {M("\n"), "text/plain[]"},
        {M("Subject: x"), "text/plain[]"},
        {M("Subject: x\r\n"), "text/plain[]"},
        {M("Subject: x\r\n\r\n"), "text/plain[]"},
        {M("Subject: x\r\n\r\nhello\r\n"), "text/plain[hello\\r\\n]"},
        {M("Subject: x\n\nhello\n"), "text/plain[hello\\n]"},
        {M("\r\nhello"), "text/plain[hello]"},
        {M("no colon here\r\n\r\nhello"), "text/plain[hello]"},
        {M("a: b\r\n\r\none\r\ntwo\rthree\0four\xff\n"),
         "text/plain[one\\r\\ntwo\\rthree\\0four\xff\\n]"},
        {M("a: b\r\rbody\r\r"), "text/plain[]"},
        {M("a: b\r\n\r\n--\r\n--x\r\n--"), "text/plain[--\\r\\n--x\\r\\n--]"},
        {M("From alice Mon Jan  1 00:00:00 2024\nContent-Type: text/html\n\nx"), "text/html[x]"},
    };

    ASSERT_ROWS(rows);
}

static void what_cannot_be_understood_is_plain_text(void **state)
{
    static const struct row rows[] = {
        {M("Content-Type: TEXT/HTML\r\n\r\n"), "text/html[]"},
        {M("content-type :\r\n text/html\r\n\r\n"), "text/html[]"},
        {M("Content-Type: (hi) text (a) / (b) html (c)\r\n\r\n"), "text/html[]"},
        {M("Content-Type: text/html charset=utf-8\r\n\r\n"), "text/html[]"},
        {M("Content-Type: text\r\n\r\n"), "text/plain[]"},
        {M("Content-Type: /html\r\n\r\n"), "text/plain[]"},
        {M("Content-Type:\r\n\r\n"), "text/plain[]"},
        {M("Content-Type: te\x01xt/html\r\n\r\n"), "text/plain[]"},
        {M("Content-Typ: text/html\r\n\r\n"), "text/plain[]"},
        {M("Content-Type: multipart/mixed\r\n\r\n--b\r\n\r\nx"), "text/plain[--b\\r\\n\\r\\nx]"},
        {M("Content-Type: multipart/mixed; boundary=\"\"\r\n\r\n--\r\n"), "text/plain[--\\r\\n]"},
        {M("Content-Type: text/html\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b"),
         "text/html[--b]"},
    };

    ASSERT_ROWS(rows);
}

static void the_line_end_before_a_delimiter_belongs_to_it(void **state)
{
    static const struct row rows[] = {
        {M(MIXED "pre\r\n--b\r\n\r\none\r\n--b\r\n\r\ntwo\r\n\r\n--b--\r\npost"),
         "multipart/mixed(text/plain[one] text/plain[two\\r\\n])"},
        {M("Content-Type: multipart/mixed; boundary=b\n\n--b\n\none\n--b\nContent-Type: "
           "text/html\n\n\n--b--\n"),
         "multipart/mixed(text/plain[one] text/html[])"},
        {M(MIXED "--b\r\n\r\none\n--b--"), "multipart/mixed(text/plain[one])"},
        {M(MIXED "--b\r\n\r\n\r\n\r\n--b--"), "multipart/mixed(text/plain[\\r\\n])"},
        {M(MIXED "--b\r\n\r\none\r\r\n--b--"), "multipart/mixed(text/plain[one\\r])"},
    };

    ASSERT_ROWS(rows);
}

static void a_delimiter_is_the_boundary_and_then_nothing_or_a_blank(void **state)
{
    static const struct row rows[] = {
        {M(MIXED "--b  \t\r\n\r\none\r\n--b--  \r\n"), "multipart/mixed(text/plain[one])"},
        {M(MIXED "--b ignored\r\n\r\none\r\n--b-- ignored\r\n--b\r\n"),
         "multipart/mixed(text/plain[one])"},
        {M(MIXED "--b\r\n\r\none\r\n--bb\r\n--b-\r\n -- b\r\n-b\r\n--b--x\r\n--b--"),
         "multipart/mixed(text/plain[one\\r\\n--bb\\r\\n--b-\\r\\n -- b\\r\\n-b\\r\\n--b--x])"},
        {M(MIXED "x--b\r\n"), "multipart/mixed()"},
        {M(MIXED "--B\r\n"), "multipart/mixed()"},
        {M("Content-Type: multipart/mixed; boundary=\"b  \"\r\n\r\n--b  \r\n\r\none\r\n--b  --"),
         "multipart/mixed(text/plain[one])"},
        {M("Content-Type: multipart/mixed; boundary*0=b; "
           "boundary*1=c\r\n\r\n--bc\r\n\r\none\r\n--bc--"),
         "multipart/mixed(text/plain[one])"},
        {M("Content-Type: multipart/mixed; boundary=\"a\\\"b\"\r\n\r\n--a\"b\r\n\r\none"),
         "multipart/mixed(text/plain[one])"},
        {M("Content-Type: multipart/mixed; boundary=\"\xe9\"\r\n\r\n--\xe9\r\n\r\none"),
         "multipart/mixed(text/plain[one])"},
    };

    ASSERT_ROWS(rows);
}

static void a_multipart_may_end_anywhere(void **state)
{
    static const struct row rows[] = {
        {M(MIXED), "multipart/mixed()"},
        {M(MIXED "--b--\r\n"), "multipart/mixed()"},
        {M(MIXED "--b"), "multipart/mixed(text/plain[])"},
        {M(MIXED "--b\r\n"), "multipart/mixed(text/plain[])"},
        {M(MIXED "--b\r\n\r\none\r\ntwo"), "multipart/mixed(text/plain[one\\r\\ntwo])"},
        {M(MIXED "--b\r\nContent-Type: text/html\r\n--b\r\n--b--"),
         "multipart/mixed(text/html[] text/plain[])"},
        {M(MIXED "--b\r\nContent-Type: text/html"), "multipart/mixed(text/html[])"},
        {M("Content-Type: multipart/mixed; boundary=b\r\n--b\r\n\r\nx\r\n"), "multipart/mixed()"},
    };

    ASSERT_ROWS(rows);
}

#define INNER(boundary) "--b\r\nContent-Type: multipart/alternative; boundary=" boundary "\r\n\r\n"

static void nested_boundaries_do_not_get_mixed_up(void **state)
{
    static const struct row rows[] = {
        {M(MIXED INNER("i") "--i\r\n\r\none\r\n--i\r\n\r\ntwo\r\n--i--\r\nepi\r\n--i\r\n--"
                            "b\r\n\r\nthree\r\n--b--"),
         "multipart/mixed(multipart/alternative(text/plain[one] text/plain[two]) "
         "text/plain[three])"},
        /* The inner end is missing. */
        {M(MIXED INNER("i") "--i\r\n\r\none\r\n--b\r\n\r\ntwo\r\n--i\r\n"),
         "multipart/mixed(multipart/alternative(text/plain[one]) text/plain[two\\r\\n--i\\r\\n])"},
        /* One boundary is the beginning of the other, either way. */
        {M(MIXED INNER("bb") "--bb\r\n\r\none\r\n--bb--\r\n--b\r\n\r\ntwo\r\n--b--"),
         "multipart/mixed(multipart/alternative(text/plain[one]) text/plain[two])"},
        {M(MIXED INNER("\"b x\"") "--b x\r\n\r\none\r\n--b x--\r\n--b\r\n\r\ntwo\r\n--b--"),
         "multipart/mixed(multipart/alternative(text/plain[one]) text/plain[two])"},
        {M(MIXED INNER("b--") "--b--\r\n\r\none\r\n--b----\r\n--b\r\n\r\ntwo\r\n--b--"),
         "multipart/mixed(multipart/alternative(text/plain[one]) text/plain[two])"},
        /* Both have the same: the inner one takes all until it ends. */
        {M(MIXED INNER("b") "--b\r\n\r\none\r\n--b--\r\n--b\r\n\r\ntwo\r\n--b--"),
         "multipart/mixed(multipart/alternative(text/plain[one]) text/plain[two])"},
        /* The outer one ends inside the header of an inner part. */
        {M(MIXED INNER("i") "--i\r\nContent-Type: text/html\r\n--b--\r\n"),
         "multipart/mixed(multipart/alternative(text/html[]))"},
        {M(MIXED INNER("i") "--i\r\nContent-Type: text/html\r\n\r\n--b--\r\n"),
         "multipart/mixed(multipart/alternative(text/html[]))"},
    };

    ASSERT_ROWS(rows);
}

static void an_enclosed_message_is_opened(void **state)
{
    static const struct row rows[] = {
        {M("Content-Type: message/rfc822\r\n\r\nSubject: x\r\n\r\nhello"),
         "message/rfc822{text/plain[hello]}"},
        {M("Content-Type: message/global\r\n\r\n\r\nhello"), "message/global{text/plain[hello]}"},
        {M("Content-Type: message/rfc822\r\n"), "message/rfc822{text/plain[]}"},
        {M("Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\nQTog"),
         "message/rfc822[QTog]"},
        {M("Content-Type: message/partial\r\n\r\nx"), "message/partial[x]"},
        {M(MIXED "--b\r\nContent-Type: message/rfc822\r\n\r\nContent-Type: multipart/mixed; "
                 "boundary=i\r\n\r\n--i\r\n\r\n"
                 "one\r\n--i--\r\n\r\n--b\r\n\r\ntwo\r\n--b--"),
         "multipart/mixed(message/rfc822{multipart/mixed(text/plain[one])} text/plain[two])"},
        {M(MIXED "--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: cut\r\n--b--"),
         "multipart/mixed(message/rfc822{text/plain[]})"},
        {M(MIXED "--b\r\nContent-Type: message/rfc822\r\n--b--"),
         "multipart/mixed(message/rfc822{text/plain[]})"},
    };

    ASSERT_ROWS(rows);
}

static void parts_of_a_digest_are_messages_by_default(void **state)
{
    static const struct row rows[] = {
        {M("Content-Type: multipart/digest; boundary=b\r\n\r\n--b\r\n\r\nSubject: x\r\n\r\none\r\n"
           "--b\r\nContent-Type: text/html\r\n\r\ntwo\r\n--b\r\nContent-Type: "
           "?\r\n\r\nthree\r\n--b--"),
         "multipart/digest(message/rfc822{text/plain[one]} text/html[two] text/plain[three])"},
    };

    ASSERT_ROWS(rows);
}

static void encodings_are_known_by_name(void **state)
{
    static const struct {
        const char *header;
        enum mime_encoding encoding;
    } rows[] = {
        {"", MIME_7BIT},
        {"Content-Transfer-Encoding: BASE64\n", MIME_BASE64},
        {"Content-Transfer-Encoding: 7bit (really)\n", MIME_7BIT},
        {"Content-Transfer-Encoding:\n 8Bit\n", MIME_8BIT},
        {"Content-Transfer-Encoding: binary;\n", MIME_BINARY},
        {"Content-Transfer-Encoding: quoted-printable\nContent-Transfer-Encoding: base64\n",
         MIME_QUOTED_PRINTABLE},
        {"Content-Transfer-Encoding: x-uuencode\n", MIME_ENCODING_UNKNOWN},
        {"Content-Transfer-Encoding: base 64\n", MIME_ENCODING_UNKNOWN},
        {"Content-Transfer-Encoding:\n", MIME_7BIT},
    };
    struct arena *a = arena_new();

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_int_equal(mime_parse(a, str_c(rows[i].header))->encoding, rows[i].encoding);
    arena_free(&a);
}

static void lines_of_a_body_are_counted(void **state)
{
    static const struct {
        const char *message;
        uint64_t root, first;
    } rows[] = {
        {"a: b\n\n", 0, 0},
        {"a: b\n\none", 1, 0},
        {"a: b\n\none\n", 1, 0},
        {"a: b\n\none\n\n", 2, 0},
        {MIXED "--b\r\n\r\none\r\n--b--\r\n", 4, 1},
        {MIXED "--b\r\n\r\none\r\n\r\n--b--\r\n", 5, 1},
        {MIXED "--b\r\n\r\none\r\n\r\ntwo\r\n--b--", 6, 3},
        {MIXED "--b\r\n\r\n--b--", 3, 0},
        {MIXED "--b\r\n\r\n\r\n--b--", 4, 0},
        {MIXED "--b\r\n\r\n\r\n\r\n--b--", 5, 1},
    };
    struct arena *a = arena_new();

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct mime_part *root = mime_parse(a, str_c(rows[i].message));
        assert_int_equal(root->body_lines, rows[i].root);
        if (root->first_child != NULL)
            assert_int_equal(root->first_child->body_lines, rows[i].first);
    }
    arena_free(&a);
}

static void section_numbers_lead_to_parts(void **state)
{
    /* 1 text, 2 message (2.1 and 2.2 are its parts, 2.2 holds 2.2.1), 3 message of text (3.1) */
    static const char message[] = MIXED
        "--b\r\n\r\none\r\n--b\r\nContent-Type: message/rfc822\r\n\r\n"
        "Content-Type: multipart/mixed; boundary=i\r\n\r\n--i\r\n\r\n2.1\r\n--i\r\n"
        "Content-Type: multipart/mixed; boundary=j\r\n\r\n--j\r\n\r\n2.2.1\r\n--j--\r\n--i--\r\n"
        "--b\r\nContent-Type: message/rfc822\r\n\r\n\r\n3.1\r\n--b--\r\n";
    static const struct {
        uint32_t numbers[4];
        unsigned count;
        const char *body;
    } rows[] = {
        {{1}, 1, "one"},         {{2, 1}, 2, "2.1"},      {{2, 2, 1}, 3, "2.2.1"},
        {{3, 1}, 2, "3.1"},      {{0}, 1, NULL},          {{4}, 1, NULL},
        {{1, 1}, 2, NULL},       {{2, 3}, 2, NULL},       {{2, 1, 1}, 3, NULL},
        {{3, 2}, 2, NULL},       {{3, 1, 1}, 3, NULL},    {{2, 2, 2}, 3, NULL},
        {{2, 2, 1, 1}, 4, NULL}, {{UINT32_MAX}, 1, NULL},
    };
    struct arena *a = arena_new();
    const struct mime_part *root = mime_parse(a, STR(message));

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct mime_part *part = mime_part_find(root, rows[i].numbers, rows[i].count);
        assert_int_equal(part == NULL, rows[i].body == NULL);
        if (part != NULL)
            assert_true(str_eq(mime_part_body(part, STR(message)), str_c(rows[i].body)));
    }
    assert_ptr_equal(mime_part_find(root, NULL, 0), root);
    arena_free(&a);
}

static void part_one_of_a_single_part_is_its_body(void **state)
{
    struct arena *a = arena_new();
    const struct mime_part *text = mime_parse(a, STR("a: b\n\nbody"));
    const struct mime_part *message =
        mime_parse(a, STR("Content-Type: message/rfc822\n\na: b\n\nbody"));

    assert_ptr_equal(mime_part_find(text, (uint32_t[]){1}, 1), text);
    assert_null(mime_part_find(text, (uint32_t[]){2}, 1));
    assert_null(mime_part_find(text, (uint32_t[]){1, 1}, 2));
    assert_ptr_equal(mime_part_find(message, (uint32_t[]){1}, 1), message);
    assert_ptr_equal(mime_part_find(message, (uint32_t[]){1, 1}, 2), message->first_child);
    assert_null(mime_part_find(message, (uint32_t[]){1, 1, 1}, 3));
    arena_free(&a);
}

/* ---- limits ---------------------------------------------------------------------------------- */

static size_t count_parts(const struct mime_part *root)
{
    size_t count = 0;

    for (const struct mime_part *part = root; part != NULL; part = next_part(part))
        count++;
    return count;
}

/* Whatever is too large still gives the same valid tree in blocks; answers with the number of
 * parts. */
static size_t assert_large(struct buf *message)
{
    struct arena *a = arena_new();
    const struct mime_part *root;
    size_t count;

    assert_true(buf_ok(message));
    root = mime_parse(a, buf_str(message));
    count = count_parts(root);
    assert_null(check_tree(root, buf_str(message)));
    assert_null(check_same_tree(root, parse_in_blocks(a, buf_str(message), 7, 5000)));
    arena_free(&a);
    return count;
}

static void the_number_of_parts_is_limited(void **state)
{
    struct buf m;

    buf_init(&m, 16 << 20);
    buf_adds(&m, MIXED);
    for (int i = 0; i < 100000; i++)
        buf_adds(&m, "--b\r\n");
    assert_in_range(assert_large(&m), MIME_PARTS_MAX - 1, MIME_PARTS_MAX);
    buf_fini(&m);
}

static void the_depth_is_limited(void **state)
{
    struct buf m;

    buf_init(&m, 16 << 20);
    for (int i = 0; i < 20000; i++)
        buf_addf(&m, "Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n", i, i);
    assert_int_equal(assert_large(&m), MIME_DEPTH_MAX + 1);
    buf_clear(&m);
    for (int i = 0; i < 100000; i++)
        buf_adds(&m, "Content-Type: message/rfc822\r\n\r\n");
    assert_int_equal(assert_large(&m), MIME_DEPTH_MAX + 1);
    buf_fini(&m);
}

static void a_header_that_is_too_large_becomes_body(void **state)
{
    struct arena *a = arena_new();
    struct buf m;

    buf_init(&m, 16 << 20);
    buf_adds(&m, "Content-Type: text/html\n");
    for (int i = 0; i < 200000; i++)
        buf_adds(&m, "X-Filler: abcdefg\n");
    assert_int_equal(assert_large(&m), 1);
    const struct mime_part *root = mime_parse(a, buf_str(&m));
    assert_in_range(root->header_size, MIME_HEADER_SIZE_MAX - 100, MIME_HEADER_SIZE_MAX);
    assert_true(str_eq(root->subtype, STR("html")));
    buf_fini(&m);
    arena_free(&a);
}

static void a_header_line_that_is_too_large_becomes_body(void **state)
{
    static const char *const begins[] = {
        "Content-Type: text/html\nX: ",
        "Content-Type: multipart/mixed; boundary=b\n--b ",
        "Content-Type: message/rfc822\nX: ",
        "",
    };
    struct buf m;

    buf_init(&m, 16 << 20);
    for (size_t i = 0; i < sizeof begins / sizeof *begins; i++) {
        buf_clear(&m);
        buf_adds(&m, begins[i]);
        for (int k = 0; k < 300000; k++)
            buf_adds(&m, "filling");
        buf_adds(&m, "\nA: b\n\nrest\n--b\n");
        assert_large(&m);
    }
    buf_fini(&m);
}

/* Quadratic work would not end within any test's patience. */
static void hostile_messages_take_linear_time(void **state)
{
    static const struct {
        const char *begin, *again;
        int count;
    } rows[] = {
        {MIXED "--b\r\n\r\n", "--b \r\n", 500000},
        {MIXED, "--\n", 2000000},
        {MIXED, "-", 5000000},
        {MIXED, "\n", 5000000},
        {"Content-Type: multipart/mixed", "; boundary=x", 1000000},
        {"Content-Type: multipart/mixed; ", "(", 1000000},
        {"Content-Type: ", "(a)", 1000000},
        {"Content-Type: ", "\n text", 1000000},
        {"", "Content-Type: text/html\n", 200000},
        {"", "X\n", 1000000},
    };
    struct buf m;

    buf_init(&m, 64 << 20);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        buf_clear(&m);
        buf_adds(&m, rows[i].begin);
        for (int k = 0; k < rows[i].count; k++)
            buf_adds(&m, rows[i].again);
        assert_large(&m);
    }
    buf_fini(&m);
}

/* ---- the shared collection ------------------------------------------------------------------- */

static const char *shared_data(void)
{
    const char *dir = getenv("MERPATI_SHARED_DATA");

    return dir != NULL ? dir : "../shared/data";
}

static bool read_file(struct buf *out, const char *path)
{
    FILE *f = fopen(path, "rb");
    size_t n;
    char chunk[16384];

    if (f == NULL)
        return false;
    while ((n = fread(chunk, 1, sizeof chunk, f)) > 0)
        buf_add_bytes(out, chunk, n);
    fclose(f);
    return buf_ok(out);
}

static size_t walk(const char *dir, void (*each)(const char *path))
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
            count += walk(path, each);
        } else {
            each(path);
            count++;
        }
    }
    if (d != NULL)
        closedir(d);
    return count;
}

static void try_message(const char *path)
{
    struct buf m;

    buf_init(&m, 64 << 20);
    assert_true(read_file(&m, path));
    assert_large(&m);
    buf_fini(&m);
}

static void real_mail_gives_valid_trees(void **state)
{
    char dir[4096];

    snprintf(dir, sizeof dir, "%s/mail", shared_data());
    if (walk(dir, try_message) == 0)
        skip();
}

/* Where another parser's answer differs and ours is meant. */
static const struct {
    const char *name, *reason;
} other_views[] = {
    {"malformed/000", "a delimiter that follows a delimiter makes an empty part"},
    {"malformed/001", "a boundary must match as a whole"},
    {"malformed/004", "a boundary must match as a whole"},
    {"malformed/007", "a delimiter counts only behind the header that names it"},
    {"malformed/008", "a boundary must match as a whole"},
    {"malformed/009", "the outer delimiter ends an inner multipart"},
    {"malformed/011", "the outer delimiter ends an inner multipart"},
    {"malformed/012", "the outer delimiter ends an inner multipart"},
    {"malformed/013", "a delimiter at the end makes an empty part"},
    {"malformed/014", "a delimiter at the end makes an empty part"},
    {"malformed/016", "a boundary must match as a whole, also beyond 70 characters"},
    {"malformed/020", "a delimiter in place of the last one makes an empty part"},
    {"malformed/021", "a delimiter in place of the last one makes an empty part"},
    {"malformed/022", "an enclosed message without fields is a message all the same"},
    {"rfc/008", "a message in base64 stays shut"},
    {"thirdparty/015", "an enclosed message whose header does not end is a message all the same"},
};

struct place {
    uint64_t header_at, body_at;
};
struct places {
    struct place v[1000];
    size_t n;
};

static void add_place(struct places *places, uint64_t header_at, uint64_t body_at)
{
    for (size_t i = 0; i < places->n; i++)
        if (places->v[i].header_at == header_at && places->v[i].body_at == body_at)
            return;
    assert_true(places->n < 1000);
    places->v[places->n++] = (struct place){header_at, body_at};
}

static bool is_same_places(const struct places *a, const struct places *b)
{
    struct places both = *a;

    for (size_t i = 0; i < b->n; i++)
        add_place(&both, b->v[i].header_at, b->v[i].body_at);
    return both.n == a->n && a->n == b->n;
}

/* The expected answers are JSON whose parts say "offset_header": N, "offset_body": N. */
static bool next_offset(struct str *json, const char *key, uint64_t *out)
{
    ptrdiff_t at = str_find(*json, str_c(key));
    size_t n = 0;

    if (at < 0)
        return false;
    *json = str_from(*json, (size_t)at + strlen(key));
    while (n < json->n && json->p[n] >= '0' && json->p[n] <= '9')
        n++;
    return str_to_u64(str_head(*json, n), out);
}

static void expected_places(struct str json, struct places *out)
{
    uint64_t header_at, body_at;

    while (next_offset(&json, "\"offset_header\": ", &header_at) &&
           next_offset(&json, "\"offset_body\": ", &body_at))
        add_place(out, header_at, body_at);
}

static void add_crlf(struct buf *out, struct str s)
{
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == '\n' && (i == 0 || s.p[i - 1] != '\r'))
            buf_addc(out, '\r');
        buf_addc(out, s.p[i]);
    }
}

static void our_places(struct str message, struct places *out)
{
    struct arena *a = arena_new();

    for (const struct mime_part *part = mime_parse(a, message); part != NULL;
         part = next_part(part))
        add_place(out, part->header_at, part->body_at);
    arena_free(&a);
}

static bool is_another_view(const char *name)
{
    for (size_t i = 0; i < sizeof other_views / sizeof *other_views; i++)
        if (strstr(name, other_views[i].name) != NULL)
            return true;
    return false;
}

static void compare_with_expected(const char *path)
{
    static struct places expected, ours;
    struct str name = str_c(path), mail;
    struct buf json, raw, crlf;
    char mail_path[4096];
    ptrdiff_t at = str_find(name, STR("mail-expected/"));

    if (at < 0 || !str_ends(name, STR(".crlf.json")))
        return;
    mail = str_head(str_from(name, (size_t)at + 14), name.n - (size_t)at - 14 - 10);
    snprintf(mail_path, sizeof mail_path, "%.*smail/%.*s.eml", (int)at, path, STR_ARG(mail));
    buf_init(&json, 64 << 20);
    buf_init(&raw, 64 << 20);
    buf_init(&crlf, 64 << 20);
    if (read_file(&json, path) && read_file(&raw, mail_path)) {
        add_crlf(&crlf, buf_str(&raw));
        expected.n = ours.n = 0;
        expected_places(buf_str(&json), &expected);
        our_places(buf_str(&crlf), &ours);
        if (is_same_places(&expected, &ours) == is_another_view(path))
            fail_msg("%s: the parts differ from what is expected", path);
    }
    buf_fini(&json);
    buf_fini(&raw);
    buf_fini(&crlf);
}

static void another_parser_sees_the_same_parts(void **state)
{
    char dir[4096];

    snprintf(dir, sizeof dir, "%s/mail-expected/mail-parser", shared_data());
    if (walk(dir, compare_with_expected) == 0)
        skip();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(simple_messages_have_a_header_and_a_body),
        cmocka_unit_test(what_cannot_be_understood_is_plain_text),
        cmocka_unit_test(the_line_end_before_a_delimiter_belongs_to_it),
        cmocka_unit_test(a_delimiter_is_the_boundary_and_then_nothing_or_a_blank),
        cmocka_unit_test(a_multipart_may_end_anywhere),
        cmocka_unit_test(nested_boundaries_do_not_get_mixed_up),
        cmocka_unit_test(an_enclosed_message_is_opened),
        cmocka_unit_test(parts_of_a_digest_are_messages_by_default),
        cmocka_unit_test(encodings_are_known_by_name),
        cmocka_unit_test(lines_of_a_body_are_counted),
        cmocka_unit_test(section_numbers_lead_to_parts),
        cmocka_unit_test(part_one_of_a_single_part_is_its_body),
        cmocka_unit_test(the_number_of_parts_is_limited),
        cmocka_unit_test(the_depth_is_limited),
        cmocka_unit_test(a_header_that_is_too_large_becomes_body),
        cmocka_unit_test(a_header_line_that_is_too_large_becomes_body),
        cmocka_unit_test(hostile_messages_take_linear_time),
        cmocka_unit_test(real_mail_gives_valid_trees),
        cmocka_unit_test(another_parser_sees_the_same_parts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
