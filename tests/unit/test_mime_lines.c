/* test_mime_lines.c - messages as lines: exact bytes, however they are cut, and sizes that fit. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>

#include "mail/mime/lines.h"
#include "server/base/buf.h"

static const struct {
    struct str raw, sent;
    size_t dots; /* stuffed */
} cases[] = {
    {{"", 0}, {"", 0}, 0},
    {{"a", 1}, {"a\r\n", 3}, 0},
    {{"a\r\n", 3}, {"a\r\n", 3}, 0},
    {{"a\n", 2}, {"a\r\n", 3}, 0},
    {{"\n", 1}, {"\r\n", 2}, 0},
    {{"\n\n", 2}, {"\r\n\r\n", 4}, 0},
    {{"a\r", 2}, {"a\r\r\n", 4}, 0},
    {{"a\rb\r\n", 5}, {"a\rb\r\n", 5}, 0},
    {{"a\r\r\n", 4}, {"a\r\r\n", 4}, 0},
    {{".", 1}, {"..\r\n", 4}, 1},
    {{".\r\n", 3}, {"..\r\n", 4}, 1},
    {{"..\r\n", 4}, {"...\r\n", 5}, 1},
    {{"a.\r\n.b\r\n", 8}, {"a.\r\n..b\r\n", 9}, 1},
    {{"a\n.\n.", 5}, {"a\r\n..\r\n..\r\n", 11}, 2},
    {{"a\r.\r\n", 5}, {"a\r.\r\n", 5}, 0},
    {{"a\0b\r\n", 5},
     {"a\x80"
      "b\r\n",
      5},
     0},
    {{"\0\n", 2}, {"\x80\r\n", 3}, 0},
    {{"\r\0\n", 3}, {"\r\x80\r\n", 4}, 0},
    {{"\0", 1}, {"\x80\r\n", 3}, 0},
};

static void send_in_parts(struct str raw, size_t part_size, uint64_t body_lines, struct buf *out)
{
    struct mime_lines l;
    struct str piece;

    mime_lines_init(&l, body_lines);
    for (size_t at = 0; at < raw.n; at += part_size) {
        mime_lines_feed(&l, str_head(str_from(raw, at), part_size));
        while (mime_lines_next(&l, &piece)) {
            assert_true(piece.n > 0);
            buf_add(out, piece);
        }
    }
    buf_add(out, mime_lines_end(&l));
}

static void assert_sent(struct str raw, size_t part_size, uint64_t body_lines, struct str expected)
{
    struct buf out;

    buf_init(&out, SIZE_MAX);
    send_in_parts(raw, part_size, body_lines, &out);
    assert_int_equal(out.n, expected.n);
    if (out.n > 0)
        assert_memory_equal(out.p, expected.p, out.n);
    buf_fini(&out);
}

static void every_line_ends_in_crlf_however_the_message_is_cut(void **state)
{
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (size_t part_size = 1; part_size <= cases[i].raw.n + 1; part_size++)
            assert_sent(cases[i].raw, part_size, MIME_LINES_ALL, cases[i].sent);
}

static void growth_is_what_is_sent_without_stuffed_dots(void **state)
{
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(cases[i].raw.n + mime_lines_growth(cases[i].raw) + cases[i].dots,
                         cases[i].sent.n);
}

static void a_message_without_faults_is_one_piece(void **state)
{
    struct str raw = STR("Subject: x\r\n\r\nOne.\r\nTwo.\r\n"), piece;
    struct mime_lines l;

    mime_lines_init(&l, MIME_LINES_ALL);
    mime_lines_feed(&l, raw);
    assert_true(mime_lines_next(&l, &piece));
    assert_ptr_equal(piece.p, raw.p);
    assert_int_equal(piece.n, raw.n);
    assert_false(mime_lines_next(&l, &piece));
}

static void the_top_is_the_header_and_so_many_lines(void **state)
{
    struct str raw = STR("A: b\r\nC: d\r\n\r\none\r\n\r\n.three\r\nfour");
    static const struct {
        uint64_t lines;
        struct str sent;
    } tops[] = {
        {0, {"A: b\r\nC: d\r\n\r\n", 14}},
        {1, {"A: b\r\nC: d\r\n\r\none\r\n", 19}},
        {2, {"A: b\r\nC: d\r\n\r\none\r\n\r\n", 21}},
        {3, {"A: b\r\nC: d\r\n\r\none\r\n\r\n..three\r\n", 30}},
        {4, {"A: b\r\nC: d\r\n\r\none\r\n\r\n..three\r\nfour\r\n", 36}},
        {5, {"A: b\r\nC: d\r\n\r\none\r\n\r\n..three\r\nfour\r\n", 36}},
    };

    for (size_t i = 0; i < sizeof tops / sizeof *tops; i++)
        for (size_t part_size = 1; part_size <= raw.n; part_size++)
            assert_sent(raw, part_size, tops[i].lines, tops[i].sent);
    assert_sent(STR("A: b\nC: d\n\none\ntwo\n"), 3, 1, STR("A: b\r\nC: d\r\n\r\none\r\n"));
    assert_sent(STR("A: only a header"), 5, 0, STR("A: only a header\r\n"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_line_ends_in_crlf_however_the_message_is_cut),
        cmocka_unit_test(growth_is_what_is_sent_without_stuffed_dots),
        cmocka_unit_test(a_message_without_faults_is_one_piece),
        cmocka_unit_test(the_top_is_the_header_and_so_many_lines),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
