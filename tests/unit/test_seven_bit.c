/* test_seven_bit.c - 8-bit bodies re-encoded: what they mean stays, and what cannot be done is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "mail/mime/body.h"
#include "mail/queue/seven_bit.h"
#include "server/base/arena.h"

#define TEXT_HEADER                                                                                \
    "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"                             \
    "Content-Transfer-Encoding: 8bit\r\n\r\n"

static void check_lines(struct str message)
{
    struct str line;

    while (message.n > 0) {
        str_cut(message, '\n', &line, &message);
        assert_true(line.n <= 77); /* with its CR */
    }
}

static void check_text(struct str body)
{
    struct arena *a = arena_new();
    struct str whole = arena_printf(a, TEXT_HEADER "%.*s", STR_ARG(body)), sent;
    struct buf out, back;
    const struct mime_part *part;

    buf_init(&out, SIZE_MAX);
    buf_init(&back, SIZE_MAX);
    assert_true(seven_bit_encode(&out, whole));
    sent = buf_str(&out);
    assert_true(seven_bit_is(sent));
    check_lines(sent);
    assert_true(str_find(sent, STR("\r\n.")) < 0);
    part = mime_parse(a, sent);
    assert_int_equal(part->encoding, MIME_QUOTED_PRINTABLE);
    mime_decode(&back, part->encoding, mime_part_body(part, sent));
    assert_true(str_eq(buf_str(&back), body));
    buf_fini(&out);
    buf_fini(&back);
    arena_free(&a);
}

static void text_means_the_same_afterwards(void **state)
{
    static const char *const bodies[] = {
        "caf\xc3\xa9\r\n",
        "\xc3\xa9 \r\n\t\r\n. dot\r\nFrom here\r\n=3D = \x7f",
        "\xc3\xa9 no end",
        "\xc3\xa9\r\r\n",
        "\xc3\xa9 "
        "012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"
        "0"
        "123456789 .. F. .. "
        "0123456789\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9"
        "\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9 \r\n",
    };

    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++)
        check_text(str_c(bodies[i]));
}

static void seven_bits_are_left_alone(void **state)
{
    struct str message = STR("Subject: x\r\nContent-Type: text/plain\r\n\r\nplain = text\r\n");
    struct buf out;

    buf_init(&out, SIZE_MAX);
    assert_true(seven_bit_encode(&out, message));
    assert_true(str_eq(buf_str(&out), message));
    buf_fini(&out);
}

static void what_cannot_be_done_is_refused(void **state)
{
    static const char *const messages[] = {
        "Content-Type: text/plain\r\nContent-Transfer-Encoding: x-unknown\r\n\r\n\xc3\xa9\r\n",
        "Content-Type: multipart/mixed; boundary=b\r\n\r\npreamble "
        "\xc3\xa9\r\n--b\r\n\r\nx\r\n--b--\r\n",
        "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b--\r\nepilogue "
        "\xc3\xa9\r\n",
    };

    for (size_t i = 0; i < sizeof messages / sizeof messages[0]; i++) {
        struct buf out;

        buf_init(&out, SIZE_MAX);
        assert_false(seven_bit_encode(&out, str_c(messages[i])));
        buf_fini(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_means_the_same_afterwards),
        cmocka_unit_test(seven_bits_are_left_alone),
        cmocka_unit_test(what_cannot_be_done_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
