/* test_conn_zip.c - compressed streams: read and written in pieces, across rests and lent compressors. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>
#include <zlib.h>

#include "server/base/buf.h"
#include "server/base/encode.h"
#include "server/run/conn_zip.h"

/* ---- the other side, with zlib as its manual has it ------------------------------------------- */

struct peer {
    z_stream out, in;
    char text[8192]; /* what was compressed or decompressed last */
    size_t size;
};

static void peer_init(struct peer *p)
{
    *p = (struct peer){.size = 0};
    assert_int_equal(deflateInit2(&p->out, 9, Z_DEFLATED, -15, 9, Z_DEFAULT_STRATEGY), Z_OK);
    assert_int_equal(inflateInit2(&p->in, -15), Z_OK);
}

static void peer_fini(struct peer *p)
{
    deflateEnd(&p->out);
    inflateEnd(&p->in);
}

static void add_in(struct conn_zip *z, const char *p, size_t n)
{
    while (n > 0) {
        size_t room = conn_buffer_room(&z->in, 1 << 20);

        if (room > n)
            room = n;
        memcpy(conn_buffer_end(&z->in), p, room);
        conn_buffer_added(&z->in, room);
        p += room;
        n -= room;
    }
}

static void peer_says(struct peer *p, struct conn_zip *z, struct str text, int flush)
{
    char wire[8192];

    p->out.next_in = (unsigned char *)(uintptr_t)text.p;
    p->out.avail_in = (unsigned)text.n;
    do {
        p->out.next_out = (unsigned char *)wire;
        p->out.avail_out = sizeof wire;
        deflate(&p->out, flush);
        add_in(z, wire, sizeof wire - p->out.avail_out);
    } while (p->out.avail_out == 0);
}

static void peer_hears(struct peer *p, struct conn_zip *z, struct str expected)
{
    struct str wire = conn_buffer_str(&z->out);

    p->in.next_in = (unsigned char *)(uintptr_t)wire.p;
    p->in.avail_in = (unsigned)wire.n;
    p->in.next_out = (unsigned char *)p->text;
    p->in.avail_out = sizeof p->text;
    assert_int_equal(inflate(&p->in, Z_SYNC_FLUSH), Z_OK);
    assert_int_equal(p->in.avail_in, 0);
    assert_int_equal(sizeof p->text - p->in.avail_out, expected.n);
    assert_memory_equal(p->text, expected.p, expected.n);
    conn_buffer_drop(&z->out, wire.n);
}

static void assert_reads(struct conn_zip *z, struct str expected, size_t room)
{
    char text[4096];
    size_t got, done = 0;

    while (done < expected.n) {
        assert_int_equal(conn_zip_read(z, text, room, &got), CONN_ZIP_DONE);
        assert_true(got <= expected.n - done);
        assert_memory_equal(text, expected.p + done, got);
        done += got;
    }
    assert_int_equal(conn_zip_read(z, text, room, &got), CONN_ZIP_HUNGRY);
}

static void zip_write(struct conn_zip *z, struct str text)
{
    struct conn_buffer plain = {0};

    assert_true(conn_buffer_room(&plain, 1 << 20) >= text.n);
    memcpy(conn_buffer_end(&plain), text.p, text.n);
    conn_buffer_added(&plain, text.n);
    conn_zip_write(z, &plain);
    assert_int_equal(plain.n, 0);
    conn_buffer_release(&plain);
}

/* Empty blocks of ten bits each: 2, 0, and so on. Whole numbers of five bytes end at a byte. */
static void peer_says_nothing(struct conn_zip *z, size_t size)
{
    static const char four_blocks[] = {0x02, 0x08, 0x20, (char)0x80, 0x00};

    for (size_t n = 0; n < size; n += sizeof four_blocks)
        add_in(z, four_blocks, sizeof four_blocks);
}

/* ---- cases ------------------------------------------------------------------------------------ */

static void what_was_said_before_a_rest_is_remembered_and_nothing_else_kept(void **state)
{
    struct conn_zip *z = conn_zip_new();
    struct peer p;

    peer_init(&p);
    for (int i = 0; i < 50; i++) {
        char line[100];
        struct str s =
            str_of(line, (size_t)snprintf(line, sizeof line, "a%d UID FETCH 1:* (FLAGS)\r\n", i));

        peer_says(&p, z, s, i % 2 ? Z_SYNC_FLUSH : Z_FULL_FLUSH);
        assert_reads(z, s, 1 + (size_t)i * 7);
        conn_zip_rest(z);
        assert_null(z->inflater);
        assert_null(z->in.p);
        assert_true(z->history_size > 0 && z->history_size < 50 * 40);
    }
    peer_fini(&p);
    conn_zip_free(&z);
}

static void the_memory_of_much_that_was_said_is_bounded(void **state)
{
    struct conn_zip *z = conn_zip_new();
    struct peer p;
    char noise[1000];

    peer_init(&p);
    for (int i = 0; i < 200; i++) {
        random_bytes(noise, sizeof noise);
        peer_says(&p, z, str_of(noise, sizeof noise), Z_SYNC_FLUSH);
        assert_reads(z, str_of(noise, sizeof noise), sizeof noise);
        conn_zip_rest(z);
        assert_true(z->history_size <= 32768);
    }
    peer_says(&p, z, str_of(noise, sizeof noise), Z_SYNC_FLUSH); /* a reference across the rest */
    assert_reads(z, str_of(noise, sizeof noise), 100);
    peer_fini(&p);
    conn_zip_free(&z);
}

static void a_client_that_stops_within_a_block_is_understood_all_the_same(void **state)
{
    struct conn_zip *z = conn_zip_new();
    struct peer p;

    peer_init(&p);
    for (int i = 0; i < 20; i++) {
        peer_says(&p, z, STR("a NOOP\r\n"), Z_PARTIAL_FLUSH);
        assert_reads(z, STR("a NOOP\r\n"), 64);
        conn_zip_rest(z);
    }
    peer_fini(&p);
    conn_zip_free(&z);
}

static void more_connections_than_compressors_write_in_turn(void **state)
{
    enum { COUNT = CONN_ZIP_COMPRESSORS_MAX + 9 };
    static struct peer peers[COUNT];
    struct conn_zip *z[COUNT];

    for (int i = 0; i < COUNT; i++) {
        z[i] = conn_zip_new();
        peer_init(&peers[i]);
    }
    for (int round = 0; round < 5; round++)
        for (int i = 0; i < COUNT; i++)
            for (int again = 0; again <= i % 3; again++) {
                zip_write(z[i], STR("* 1 FETCH (FLAGS (\\Seen) UID 1)\r\n* 2 FETCH (FLAGS (\\Seen) "
                                    "UID 2)\r\n"));
                peer_hears(&peers[i], z[i],
                           STR("* 1 FETCH (FLAGS (\\Seen) UID 1)\r\n* 2 FETCH (FLAGS (\\Seen) UID "
                               "2)\r\n"));
                conn_zip_rest(z[i]);
            }
    for (int i = 0; i < COUNT; i++) {
        conn_zip_free(&z[i]);
        peer_fini(&peers[i]);
    }
    conn_zip_pool_fini();
}

static void answers_that_repeat_themselves_become_small(void **state)
{
    struct conn_zip *z = conn_zip_new();
    size_t first, second;

    zip_write(z, STR("* LIST (\\HasNoChildren) \"/\" \"Archive/2026/November\"\r\n"));
    first = z->out.n;
    zip_write(z, STR("* LIST (\\HasNoChildren) \"/\" \"Archive/2026/November\"\r\n"));
    second = z->out.n - first;
    assert_true(second < 20);
    conn_zip_free(&z);
    conn_zip_pool_fini();
}

static void a_bomb_gives_no_more_than_there_is_room_for(void **state)
{
    struct conn_zip *z = conn_zip_new();
    static char zeros[100000];
    char room[4096];
    struct peer p;
    size_t got, total = 0;

    peer_init(&p);
    for (int i = 0; i < 100; i++)
        peer_says(&p, z, str_of(zeros, sizeof zeros), i < 99 ? Z_NO_FLUSH : Z_SYNC_FLUSH);
    assert_true(z->in.n < 20000);
    while (conn_zip_read(z, room, sizeof room, &got) == CONN_ZIP_DONE) {
        assert_true(got <= sizeof room);
        total += got;
    }
    assert_int_equal(total, 100 * sizeof zeros);
    peer_fini(&p);
    conn_zip_free(&z);
}

static void hear_to_the_end(const char *behind)
{
    struct conn_zip *z = conn_zip_new();
    char text[100];
    size_t got;
    struct peer p;

    peer_init(&p);
    peer_says(&p, z, STR("a LOGOUT\r\n"), Z_FINISH);
    add_in(z, behind, strlen(behind));
    assert_int_equal(conn_zip_read(z, text, sizeof text, &got), CONN_ZIP_DONE);
    assert_int_equal(got, 10);
    assert_int_equal(conn_zip_read(z, text, sizeof text, &got), CONN_ZIP_END);
    assert_int_equal(conn_zip_read(z, text, sizeof text, &got), CONN_ZIP_END);
    peer_fini(&p);
    conn_zip_free(&z);
}

static void the_end_of_the_stream_is_told_after_what_came_before(void **state)
{
    hear_to_the_end("");
    hear_to_the_end("garbage");
}

static void what_is_no_deflate_is_broken(void **state)
{
    static const struct str bad[] = {
        {"\xff\xff\xff\xff", 4},
        {"a NOOP\r\na NOOP\r\n", 16},
        {"\x78\x9c\x4b\x54\x01", 5},
        {"\x05\x00\xff", 3},
    };
    char text[100];
    size_t got;

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct conn_zip *z = conn_zip_new();
        enum conn_zip_result result;

        add_in(z, bad[i].p, bad[i].n);
        while ((result = conn_zip_read(z, text, sizeof text, &got)) == CONN_ZIP_DONE)
            ;
        if (i < 2)
            assert_int_equal(result, CONN_ZIP_BROKEN);
        conn_zip_free(&z);
    }
}

static void input_that_never_becomes_anything_is_broken(void **state)
{
    struct conn_zip *z = conn_zip_new();
    struct peer p;
    char text[100];
    size_t got;

    peer_init(&p);
    for (int i = 0; i < 3; i++) { /* what comes in between makes it harmless */
        peer_says_nothing(z, CONN_ZIP_FRUITLESS_MAX - 10);
        assert_int_equal(conn_zip_read(z, text, sizeof text, &got), CONN_ZIP_HUNGRY);
        peer_says(&p, z, STR("a NOOP\r\n"), Z_SYNC_FLUSH);
        assert_reads(z, STR("a NOOP\r\n"), sizeof text);
    }
    peer_says_nothing(z, CONN_ZIP_FRUITLESS_MAX + 10);
    assert_int_equal(conn_zip_read(z, text, sizeof text, &got), CONN_ZIP_BROKEN);
    peer_fini(&p);
    conn_zip_free(&z);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_said_before_a_rest_is_remembered_and_nothing_else_kept),
        cmocka_unit_test(the_memory_of_much_that_was_said_is_bounded),
        cmocka_unit_test(a_client_that_stops_within_a_block_is_understood_all_the_same),
        cmocka_unit_test(more_connections_than_compressors_write_in_turn),
        cmocka_unit_test(answers_that_repeat_themselves_become_small),
        cmocka_unit_test(a_bomb_gives_no_more_than_there_is_room_for),
        cmocka_unit_test(the_end_of_the_stream_is_told_after_what_came_before),
        cmocka_unit_test(what_is_no_deflate_is_broken),
        cmocka_unit_test(input_that_never_becomes_anything_is_broken),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
