/* test_conn.c - connections end to end: a small line service on one side, a client fiber on the other. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <cmocka.h>
#include <zlib.h>

#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#else
#define RUNNING_ON_VALGRIND 0
#endif

#include "server/base/memory.h"
#include "server/run/admission.h"
#include "server/run/config.h"
#include "server/run/conn_internal.h"
#include "server/run/listener.h"
#include "server/run/proxy.h"

/* cmocka's fail_msg() cannot live beside our fail(). */
#define CLAIM(claim, ...)                                                                          \
    do {                                                                                           \
        if (!(claim)) {                                                                            \
            print_error(__VA_ARGS__);                                                              \
            assert_true(claim);                                                                    \
        }                                                                                          \
    } while (0)

/* ---- the service ---------------------------------------------------------------------------- */

#define LINE_MAX_SIZE 100

struct session {
    struct conn *conn;
    bool is_stubborn; /* never reads: the runtime must cope */
};

static struct conn *served; /* the connection of the last session */
static int opened_count, closed_count, step_count, wake_count;
static enum error_kind ended_by;

static void *test_open(struct conn *c, int tag)
{
    struct session *s;

    opened_count++;
    served = c;
    if (tag == 13)
        return NULL;
    s = memory_alloc(sizeof *s);
    s->conn = c;
    s->is_stubborn = tag == 14;
    conn_set_deadline(c, 2000);
    if (tag == 15)
        conn_set_rest_timeout(c, 20);
    conn_write(c, STR("hello\r\n"));
    return s;
}

static void test_close(void *session)
{
    closed_count++;
    served = NULL;
    free(session);
}

static void do_literal(struct conn *c, size_t size, struct error *err)
{
    char *p = memory_alloc(size + 1);
    uint64_t sum = 0;

    if (conn_read_exact(c, p, size, err) == 0) {
        for (size_t i = 0; i < size; i++)
            sum += (unsigned char)p[i];
        conn_printf(c, "sum %llu\r\n", (unsigned long long)sum);
    }
    free(p);
}

/* Blocks until one holds a '.'; a byte is left behind each time, so that fill must show only new ones. */
static void do_blocks(struct conn *c, struct error *err)
{
    size_t size = 0;

    while (conn_fill(c, err) == 0) {
        struct str s = conn_peek(c);
        ptrdiff_t end = str_index(s, '.');

        if (end >= 0) {
            conn_consume(c, (size_t)end + 1);
            conn_printf(c, "size %zu\r\n", size + (size_t)end);
            return;
        }
        size += s.n - 1;
        conn_consume(c, s.n - 1);
    }
}

static void do_big(struct conn *c, size_t size)
{
    char block[1000];

    for (size_t i = 0; i < sizeof block; i++)
        block[i] = (char)('a' + i % 26);
    for (size_t i = 0; i < size; i += sizeof block)
        conn_write(c, str_of(block, sizeof block));
    conn_write(c, STR("\r\n"));
}

static void do_wait(struct conn *c, struct error *err)
{
    conn_write(c, STR("waiting\r\n"));
    if (conn_wait_event(c, err) == 0)
        conn_write(c, conn_take_wake(c) ? STR("woken\r\n") : STR("input\r\n"));
}

static enum step obey(struct session *s, struct str line, struct error *err)
{
    struct conn *c = s->conn;
    struct str verb, argument;
    uint32_t number = 0;

    str_cut(line, ' ', &verb, &argument);
    str_to_u32(argument, &number);
    if (str_eq(verb, STR("quit"))) {
        conn_write(c, STR("bye\r\n"));
        return STEP_END;
    }
    if (str_eq(verb, STR("literal")))
        do_literal(c, number, err);
    else if (str_eq(verb, STR("blocks")))
        do_blocks(c, err);
    else if (str_eq(verb, STR("big")))
        do_big(c, number);
    else if (str_eq(verb, STR("wait")))
        do_wait(c, err);
    else if (str_eq(verb, STR("zip"))) {
        conn_write(c, STR("zipped\r\n"));
        conn_start_compression(c, err);
    } else if (str_eq(verb, STR("line"))) {
        conn_write(c, STR("go\r\n"));
        if (conn_read_line(c, LINE_MAX_SIZE, &line, err) == 0)
            conn_printf(c, "line %.*s\r\n", STR_ARG(line));
    } else
        conn_printf(c, "%.*s%s\r\n", STR_ARG(line), conn_line_had_cr(c) ? "" : " bare");
    return STEP_REST;
}

static enum step test_step(void *session)
{
    struct session *s = session;
    struct error err = {0};
    struct str line;
    enum step step = STEP_REST;

    step_count++;
    if (conn_take_wake(s->conn)) {
        wake_count++;
        conn_write(s->conn, STR("* news\r\n"));
        if (!conn_has_input(s->conn))
            return STEP_REST;
    }
    if (s->is_stubborn)
        return STEP_REST;
    if (conn_read_line(s->conn, LINE_MAX_SIZE, &line, &err) == 0)
        step = obey(s, line, &err);
    if (err.kind == ERR_NONE)
        return step;
    ended_by = err.kind;
    if (err.kind == ERR_TOO_BIG || err.kind == ERR_SYNTAX) {
        conn_printf(s->conn, "bad: %s\r\n", err.text);
        return STEP_REST;
    }
    conn_printf(s->conn, "ended: %s\r\n", error_kind_name(err.kind));
    return STEP_END;
}

static const struct service test_service = {
    .name = "test",
    .open = test_open,
    .step = test_step,
    .close = test_close,
    .busy = "busy",
};

static struct endpoint plain = {
    .service = &test_service, .setting = "listen_test", .addresses = "127.0.0.1:0"};

/* ---- the client ------------------------------------------------------------------------------ */

static void say(int fd, const char *s, size_t n)
{
    while (n > 0) {
        ssize_t sent = send(fd, s, n, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (sent < 0) {
            assert_int_equal(errno, EAGAIN);
            assert_int_equal(loop_wait_fd(fd, EPOLLOUT, NO_DEADLINE), WAKE_READY);
            continue;
        }
        s += sent;
        n -= (size_t)sent;
    }
}

static void say_c(int fd, const char *s)
{
    say(fd, s, strlen(s));
}

static ssize_t hear(int fd, char *to, size_t size)
{
    ssize_t got;

    while ((got = recv(fd, to, size, MSG_DONTWAIT)) < 0) {
        if (errno != EAGAIN)
            return -1;
        assert_int_equal(loop_wait_fd(fd, EPOLLIN, loop_deadline(10000)), WAKE_READY);
    }
    return got;
}

static void expect(int fd, const char *wanted)
{
    char got[512];
    size_t n = 0, size = strlen(wanted);

    assert_true(size < sizeof got);
    while (n < size) {
        ssize_t more = hear(fd, got + n, size - n);

        assert_true(more > 0);
        n += (size_t)more;
    }
    got[n] = '\0';
    assert_string_equal(got, wanted);
}

static void expect_end(int fd)
{
    char c;

    assert_true(hear(fd, &c, 1) <= 0);
    close(fd);
}

static int connect_pair_to(int tag, bool expects_proxy)
{
    struct endpoint *e = &plain;
    int fds[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    e->tag = tag;
    conn_start(conn_new(fds[0], e, expects_proxy));
    return fds[1];
}

static int connect_pair(void)
{
    int fd = connect_pair_to(0, false);

    expect(fd, "hello\r\n");
    return fd;
}

static void wait_all_closed(void)
{
    while (conn_count() > 0)
        fiber_sleep(1);
    assert_int_equal(opened_count, closed_count);
}

static void quit(int fd)
{
    say_c(fd, "quit\r\n");
    expect(fd, "bye\r\n");
    expect_end(fd);
    wait_all_closed();
}

static int setup(void **state)
{
    config_defaults();
    loop_init();
    conn_undrain();
    opened_count = closed_count = step_count = wake_count = 0;
    ended_by = ERR_NONE;
    return 0;
}

static int teardown(void **state)
{
    assert_int_equal(conn_count(), 0);
    listener_fini();
    loop_fini();
    fiber_pool_fini();
    config_fini();
    return 0;
}

/* ---- lines ------------------------------------------------------------------------------------ */

static void body_lines(void *arg)
{
    int fd = connect_pair();

    say_c(fd, "one\r\ntwo\nthr");
    expect(fd, "one\r\ntwo bare\r\n");
    say_c(fd, "ee\r");
    say_c(fd, "\n\r\n\r\r\n");
    expect(fd, "three\r\n\r\n\r\r\n");
    quit(fd);
}

static void lines_end_at_lf_and_lose_one_cr(void **state)
{
    loop_run_fiber("client", body_lines, NULL);
}

static void body_long_lines(void *arg)
{
    char line[LINE_MAX_SIZE + 3], *huge = memory_alloc(1 << 20);
    int fd = connect_pair();

    memset(line, 'x', LINE_MAX_SIZE);
    memcpy(line + LINE_MAX_SIZE, "\r\n", 3);
    say_c(fd, line);
    expect(fd, line);
    memcpy(line + LINE_MAX_SIZE, "x\n", 3);
    say_c(fd, line);
    expect(fd, "bad: the line is longer than 100 bytes\r\n");
    memset(huge, 'y', 1 << 20);
    say(fd, huge, 1 << 20);
    say_c(fd, "\nnext\r\n");
    expect(fd, "bad: the line is longer than 100 bytes\r\nnext\r\n");
    free(huge);
    quit(fd);
}

static void a_line_that_is_too_long_is_skipped_and_the_next_one_read(void **state)
{
    loop_run_fiber("client", body_long_lines, NULL);
}

static void body_endless(void *arg)
{
    char *block = memory_alloc(1 << 20);
    int fd = connect_pair();
    ssize_t sent = 0;

    for (size_t total = 0; total < 40 << 20; total += (size_t)sent) {
        sent = send(fd, block, 1 << 20, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno == EAGAIN) {
            loop_wait_fd(fd, EPOLLOUT, NO_DEADLINE);
            sent = 0;
        }
        if (sent < 0)
            break;
    }
    assert_true(sent < 0);
    free(block);
    close(fd);
    wait_all_closed();
    assert_int_equal(ended_by, ERR_CLOSED);
}

static void a_line_without_end_closes_the_connection(void **state)
{
    loop_run_fiber("client", body_endless, NULL);
}

/* ---- literals and blocks ------------------------------------------------------------------------ */

static void body_literals(void *arg)
{
    static const size_t sizes[] = {0, 1, 4095, 4096, 16384, 16385, 300000};
    char *data = memory_alloc(300000), text[64];
    int fd = connect_pair();

    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        memset(data, (int)i + 1, sizes[i]);
        snprintf(text, sizeof text, "literal %zu\r\n", sizes[i]);
        say_c(fd, text);
        say(fd, data, sizes[i]);
        say_c(fd, "after\r\n");
        snprintf(text, sizeof text, "sum %zu\r\nafter\r\n", sizes[i] * (i + 1));
        expect(fd, text);
    }
    free(data);
    quit(fd);
}

static void a_literal_of_any_size_is_read_exactly(void **state)
{
    loop_run_fiber("client", body_literals, NULL);
}

static void body_blocks(void *arg)
{
    char *data = memory_alloc(100000);
    int fd = connect_pair();

    memset(data, 'd', 100000);
    say_c(fd, "blocks\r\nab");
    fiber_sleep(2);
    say(fd, data, 100000);
    fiber_sleep(2);
    say_c(fd, "cd.tail\r\n");
    expect(fd, "size 100004\r\ntail\r\n");
    free(data);
    quit(fd);
}

static void blocks_show_each_byte_once_and_keep_what_is_not_consumed(void **state)
{
    loop_run_fiber("client", body_blocks, NULL);
}

/* ---- compression ---------------------------------------------------------------------------------- */

static struct {
    z_stream out, in;
} zip;

static void say_zipped(int fd, struct str text, int flush)
{
    char wire[4096];

    zip.out.next_in = (unsigned char *)(uintptr_t)text.p;
    zip.out.avail_in = (unsigned)text.n;
    do {
        zip.out.next_out = (unsigned char *)wire;
        zip.out.avail_out = sizeof wire;
        deflate(&zip.out, flush);
        say(fd, wire, sizeof wire - zip.out.avail_out);
    } while (zip.out.avail_out == 0);
}

/* Reads byte by byte, so as not to read more than is wanted; size bytes into `to`, which may be NULL. */
static void hear_zipped(int fd, char *to, size_t size)
{
    char byte, scrap[1000];

    while (size > 0) {
        size_t room = to != NULL ? size : size < sizeof scrap ? size : sizeof scrap;

        zip.in.next_out = (unsigned char *)(to != NULL ? to : scrap);
        zip.in.avail_out = (unsigned)room;
        if (inflate(&zip.in, Z_SYNC_FLUSH) == Z_BUF_ERROR && zip.in.avail_out == room) {
            assert_int_equal(hear(fd, &byte, 1), 1);
            zip.in.next_in = (unsigned char *)&byte;
            zip.in.avail_in = 1;
            inflate(&zip.in, Z_SYNC_FLUSH);
        }
        size -= room - zip.in.avail_out;
        if (to != NULL)
            to += room - zip.in.avail_out;
    }
}

static void expect_zipped(int fd, const char *wanted)
{
    char got[512] = {0};

    hear_zipped(fd, got, strlen(wanted));
    assert_string_equal(got, wanted);
}

static int connect_zipped(void)
{
    int fd = connect_pair();

    zip.out = zip.in = (z_stream){0};
    deflateInit2(&zip.out, 6, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY);
    inflateInit2(&zip.in, -15);
    say_c(fd, "zip\r\n");
    expect(fd, "zipped\r\n");
    return fd;
}

/* The end of the flush may still be on its way, or last words. */
static void zip_end(int fd)
{
    char scrap[100];

    while (hear(fd, scrap, sizeof scrap) > 0)
        ;
    close(fd);
    deflateEnd(&zip.out);
    inflateEnd(&zip.in);
    wait_all_closed();
}

static void body_zipped(void *arg)
{
    int fd = connect_zipped();

    for (int i = 0; i < 20; i++) {
        say_zipped(fd, STR("one\r\ntwo\r\nliteral 5\r\nab"), Z_SYNC_FLUSH);
        expect_zipped(fd, "one\r\ntwo\r\n");
        say_zipped(fd, STR("cdethree\r\n"), Z_PARTIAL_FLUSH);
        expect_zipped(fd, "sum 495\r\nthree\r\n");
    }
    say_zipped(fd, STR("literal 3000000\r\n"), Z_NO_FLUSH);
    for (int i = 0; i < 30000; i++)
        say_zipped(fd,
                   str_of("x1x2x3x4x5x6x7x8x9x0x1x2x3x4x5x6x7x8x9x0x1x2x3x4x5x6x7x8x9x0x1x2x3x4x5x6"
                          "x7x8x9x0x1x2x3x4x5x6x7x8x9x0",
                          100),
                   Z_NO_FLUSH);
    say_zipped(fd, STR("quit\r\n"), Z_SYNC_FLUSH);
    expect_zipped(fd, "sum 258750000\r\nbye\r\n");
    zip_end(fd);
}

static void compressed_commands_are_answered_compressed(void **state)
{
    loop_run_fiber("client", body_zipped, NULL);
}

static void body_zipped_rest(void *arg)
{
    int fd = connect_zipped();

    for (int i = 0; i < 3; i++) {
        say_zipped(fd, STR("x\r\n"), Z_SYNC_FLUSH);
        expect_zipped(fd, "x\r\n");
        fiber_sleep(2);
        assert_null(served->fiber);
        assert_null(served->in.p);
        assert_null(served->zip->in.p);
        assert_null(served->zip->out.p);
        assert_null(served->zip->inflater);
    }
    conn_wake(served);
    expect_zipped(fd, "* news\r\n");
    say_zipped(fd, STR(""), Z_FULL_FLUSH); /* bytes, but no input */
    fiber_sleep(2);
    say_zipped(fd, STR("quit\r\n"), Z_SYNC_FLUSH);
    expect_zipped(fd, "bye\r\n");
    zip_end(fd);
}

static void a_compressed_connection_at_rest_keeps_what_it_must_remember(void **state)
{
    loop_run_fiber("client", body_zipped_rest, NULL);
}

static void body_zipped_slowly_read(void *arg)
{
    int fd = connect_zipped();

    say_zipped(fd, STR("big 30000000\r\nquit\r\n"), Z_SYNC_FLUSH);
    fiber_sleep(20);
    assert_true(conn_unsent(served) <= 600 * 1024);
    hear_zipped(fd, NULL, 30000002);
    expect_zipped(fd, "bye\r\n");
    zip_end(fd);
}

static void a_slow_reader_of_compressed_answers_makes_the_writer_wait(void **state)
{
    loop_run_fiber("client", body_zipped_slowly_read, NULL);
}

static void body_zipped_broken(void *arg)
{
    static const char garbage[] = "\xff\xff\xff";

    for (int i = 0; i < 2; i++) {
        int fd = connect_zipped();

        say_zipped(fd, STR("x\r\n"), i == 0 ? Z_SYNC_FLUSH : Z_FINISH);
        expect_zipped(fd, "x\r\n");
        if (i == 0)
            say(fd, garbage, sizeof garbage - 1);
        zip_end(fd);
    }
}

static void a_broken_stream_closes_the_connection(void **state)
{
    loop_run_fiber("client", body_zipped_broken, NULL);
}

/* ---- rest ---------------------------------------------------------------------------------------- */

static void body_rest(void *arg)
{
    int fd = connect_pair();

    fiber_sleep(2);
    assert_int_equal(fiber_count(), 1);
    assert_null(served->fiber);
    assert_null(served->in.p);
    assert_null(served->out.p);
    say_c(fd, "x\r\n");
    expect(fd, "x\r\n");
    fiber_sleep(2);
    assert_null(served->fiber);
    assert_null(served->in.p);
    assert_null(served->out.p);
    quit(fd);
}

static void a_connection_at_rest_owns_no_fiber_and_no_buffer(void **state)
{
    loop_run_fiber("client", body_rest, NULL);
}

static void body_pipeline(void *arg)
{
    char got[64];
    int fd = connect_pair();

    say_c(fd, "a\r\nb\r\nc\r\n");
    fiber_sleep(5);
    assert_int_equal(hear(fd, got, sizeof got), 9); /* one segment would hold them all */
    assert_memory_equal(got, "a\r\nb\r\nc\r\n", 9);
    assert_int_equal(step_count, 3);
    quit(fd);
}

static void pipelined_commands_are_answered_in_order(void **state)
{
    loop_run_fiber("client", body_pipeline, NULL);
}

static void body_rest_timeout(void *arg)
{
    int fd = connect_pair_to(15, false);

    expect(fd, "hello\r\nended: timed_out\r\n");
    expect_end(fd);
    wait_all_closed();
    assert_int_equal(step_count, 1);
}

static void a_rest_that_lasts_too_long_is_told_by_the_next_read(void **state)
{
    loop_run_fiber("client", body_rest_timeout, NULL);
}

static void body_wakes_do_not_prolong(void *arg)
{
    int fd = connect_pair_to(15, false);
    int64_t start_ms = loop_now_ms();

    while (closed_count == 0 && loop_now_ms() - start_ms < 10000) {
        if (served != NULL)
            conn_wake(served);
        fiber_sleep(1);
    }
    assert_int_equal(ended_by, ERR_TIMED_OUT);
    close(fd);
    wait_all_closed();
}

static void wakes_do_not_prolong_the_rest(void **state)
{
    loop_run_fiber("client", body_wakes_do_not_prolong, NULL);
}

static void body_slow_command(void *arg)
{
    int fd = connect_pair();

    conn_set_deadline(served, 10);
    say_c(fd, "half a comm");
    expect(fd, "ended: timed_out\r\n");
    expect_end(fd);
    wait_all_closed();
}

static void half_a_command_runs_into_the_deadline(void **state)
{
    loop_run_fiber("client", body_slow_command, NULL);
}

/* ---- wakes ------------------------------------------------------------------------------------- */

static void body_wake(void *arg)
{
    int fd = connect_pair();

    conn_wake(served);
    conn_wake(served);
    expect(fd, "* news\r\n");
    assert_int_equal(wake_count, 1);
    assert_int_equal(step_count, 1);
    say_c(fd, "wait\r\n");
    expect(fd, "waiting\r\n");
    conn_wake(served);
    expect(fd, "woken\r\n");
    say_c(fd, "wait\r\n");
    expect(fd, "waiting\r\n");
    say_c(fd, "x\r\n");
    expect(fd, "input\r\nx\r\n");
    quit(fd);
}

static void a_wake_calls_the_step_once_however_often_it_came(void **state)
{
    loop_run_fiber("client", body_wake, NULL);
}

static void body_wake_while_busy(void *arg)
{
    int fd = connect_pair();

    say_c(fd, "literal 3\r\nab");
    fiber_sleep(2);
    conn_wake(served);
    fiber_sleep(2);
    assert_int_equal(wake_count, 0);
    say_c(fd, "c");
    expect(fd, "sum 294\r\n* news\r\n");
    quit(fd);
}

static void a_wake_during_a_command_is_delivered_after_it(void **state)
{
    loop_run_fiber("client", body_wake_while_busy, NULL);
}

static void body_untaken(void *arg)
{
    int fd = connect_pair_to(14, false);

    expect(fd, "hello\r\n");
    step_count = 0;
    conn_wake(served);
    fiber_sleep(5);
    assert_int_equal(step_count, 1);
    close(fd);
    wait_all_closed(); /* it never reads, and is ended all the same */
}

static void a_session_that_ignores_everything_neither_spins_nor_stays(void **state)
{
    loop_run_fiber("client", body_untaken, NULL);
}

/* ---- writing ------------------------------------------------------------------------------------ */

static void hear_bytes(int fd, size_t size)
{
    char *block = memory_alloc(65536);

    while (size > 0) {
        ssize_t got = hear(fd, block, size < 65536 ? size : 65536);

        assert_true(got > 0);
        size -= (size_t)got;
    }
    free(block);
}

static void body_big(void *arg)
{
    int fd = connect_pair();

    say_c(fd, "big 5000000\r\n");
    fiber_sleep(10);
    assert_non_null(served->waiter); /* the writer waits, with bounded memory */
    assert_true(served->out.cap <= 256 << 10);
    hear_bytes(fd, 5000000 + 2);
    quit(fd);
}

static void a_slow_reader_makes_the_writer_wait(void **state)
{
    loop_run_fiber("client", body_big, NULL);
}

static void body_never_reads(void *arg)
{
    int fd = connect_pair();

    conn_set_deadline(served, 20);
    say_c(fd, "big 5000000\r\n");
    wait_all_closed();
    close(fd);
    assert_int_equal(ended_by, ERR_TIMED_OUT);
}

static void a_client_that_never_reads_runs_into_the_deadline(void **state)
{
    loop_run_fiber("client", body_never_reads, NULL);
}

/* Both sides send without reading: what the service cannot send yet must not stop it from reading. */
static void body_no_deadlock(void *arg)
{
    int fd = connect_pair();
    size_t count = 5000; /* 250 kB: more than the sockets hold, less than we do */
    char line[51];

    memset(line, 'z', 48);
    memcpy(line + 48, "\r\n", 3);
    for (size_t i = 0; i < count; i++)
        say_c(fd, line);
    hear_bytes(fd, count * 50);
    quit(fd);
}

static void a_client_that_pipelines_much_is_not_locked_up(void **state)
{
    loop_run_fiber("client", body_no_deadlock, NULL);
}

static void body_gone_writer(void *arg)
{
    int fd = connect_pair();

    say_c(fd, "big 5000000\r\n");
    fiber_sleep(5);
    close(fd);
    wait_all_closed();
    assert_int_equal(ended_by, ERR_CLOSED);
}

static void a_client_that_leaves_during_an_answer_ends_its_session_only(void **state)
{
    loop_run_fiber("client", body_gone_writer, NULL);
}

static void body_half_closed(void *arg)
{
    int fd = connect_pair();

    say_c(fd, "one\r\ntwo\r\nlost");
    shutdown(fd, SHUT_WR);
    expect(fd, "one\r\ntwo\r\nended: closed\r\n");
    expect_end(fd);
    wait_all_closed();
}

static void a_half_closed_client_hears_the_answers_to_what_it_sent(void **state)
{
    loop_run_fiber("client", body_half_closed, NULL);
}

static void body_refused_by_open(void *arg)
{
    int fd = connect_pair_to(13, false);

    expect_end(fd);
    while (conn_count() > 0)
        fiber_sleep(1);
    assert_int_equal(closed_count, 0);
}

static void a_session_may_refuse_in_open(void **state)
{
    loop_run_fiber("client", body_refused_by_open, NULL);
}

/* ---- draining ------------------------------------------------------------------------------------- */

static void body_drain(void *arg)
{
    int resting = connect_pair(), busy;

    busy = connect_pair();
    say_c(busy, "line\r\n");
    expect(busy, "go\r\n");
    listener_drain();
    expect(resting, "ended: cancelled\r\n");
    expect_end(resting);
    say_c(busy, "in the middle\r\n");
    expect(busy, "line in the middle\r\nended: cancelled\r\n");
    expect_end(busy);
    wait_all_closed();
}

static void draining_ends_sessions_at_rest_and_lets_commands_finish(void **state)
{
    loop_run_fiber("client", body_drain, NULL);
}

/* ---- the PROXY protocol ------------------------------------------------------------------------------ */

#define SIG "\r\n\r\n\0\r\nQUIT\n"
#define V4  "\xc0\x00\x02\x07\xc6\x33\x64\x01\x30\x39\x00\x19"
#define V6                                                                                         \
    "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x07\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x30\x39" \
    "\x00\x19"

static const struct proxy_row {
    const char *what;
    struct str header;
    enum proxy_result result;
    const char *source;
} proxy_rows[] = {
#define ROW(what, header, result, source)                                                          \
    {                                                                                              \
        what, {header, sizeof header - 1}, result, source                                          \
    }
    ROW("nothing yet", "", PROXY_INCOMPLETE, NULL),
    ROW("half a signature", "\r\n\r\n\0\r\n", PROXY_INCOMPLETE, NULL),
    ROW("no size yet", SIG "\x21\x11\x00", PROXY_INCOMPLETE, NULL),
    ROW("half the addresses", SIG "\x21\x11\x00\x0c\xc0\x00", PROXY_INCOMPLETE, NULL),
    ROW("tcp4", SIG "\x21\x11\x00\x0c" V4, PROXY_ADDRESSES, "192.0.2.7"),
    ROW("tcp4 with a TLV", SIG "\x21\x11\x00\x10" V4 "\x04\x00\x01\x00", PROXY_ADDRESSES,
        "192.0.2.7"),
    ROW("tcp6", SIG "\x21\x21\x00\x24" V6, PROXY_ADDRESSES, "2001:db8::7"),
    ROW("local", SIG "\x20\x00\x00\x00", PROXY_LOCAL, NULL),
    ROW("local with an address", SIG "\x20\x11\x00\x0c" V4, PROXY_LOCAL, NULL),
    ROW("unspecified", SIG "\x21\x00\x00\x00", PROXY_LOCAL, NULL),
    ROW("unix", SIG "\x21\x31\x00\x02xx", PROXY_LOCAL, NULL),
    ROW("version 1", "PROXY TCP4 192.0.2.7 198.51.100.1 1 2\r\n", PROXY_MALFORMED, NULL),
    ROW("a plain client", "EHLO example.org\r\n", PROXY_MALFORMED, NULL),
    ROW("version 3", SIG "\x31\x11\x00\x0c" V4, PROXY_MALFORMED, NULL),
    ROW("unknown command", SIG "\x22\x11\x00\x0c" V4, PROXY_MALFORMED, NULL),
    ROW("datagram", SIG "\x21\x12\x00\x0c" V4, PROXY_MALFORMED, NULL),
    ROW("tcp4 too short", SIG "\x21\x11\x00\x0b\xc0\x00\x02\x07\xc6\x33\x64\x01\x30\x39\x00",
        PROXY_MALFORMED, NULL),
    ROW("tcp6 too short", SIG "\x21\x21\x00\x0c" V4, PROXY_MALFORMED, NULL),
    ROW("absurd size", SIG "\x21\x11\xff\xff" V4, PROXY_MALFORMED, NULL),
};
#define PROXY_ROW_COUNT (sizeof proxy_rows / sizeof proxy_rows[0])

static void text_of(const struct sockaddr_storage *address, char *to, socklen_t size)
{
    const void *at = address->ss_family == AF_INET
                         ? (const void *)&((const struct sockaddr_in *)address)->sin_addr
                         : (const void *)&((const struct sockaddr_in6 *)address)->sin6_addr;

    assert_non_null(inet_ntop(address->ss_family, at, to, size));
}

static void proxy_headers_are_understood_or_refused(void **state)
{
    for (size_t i = 0; i < PROXY_ROW_COUNT; i++) {
        const struct proxy_row *row = &proxy_rows[i];
        struct proxy_header header;
        char text[64];

        CLAIM(proxy_header_parse(row->header, &header) == row->result, "%s\n", row->what);
        if (row->result == PROXY_ADDRESSES || row->result == PROXY_LOCAL)
            assert_int_equal(header.size, row->header.n);
        if (row->source == NULL)
            continue;
        text_of(&header.source, text, sizeof text);
        assert_string_equal(text, row->source);
    }
}

static void body_proxy(void *arg)
{
    static const char header[] = SIG "\x21\x11\x00\x0c" V4;
    int fd = connect_pair_to(0, true);

    say(fd, header, 10);
    fiber_sleep(2);
    say(fd, header + 10, sizeof header - 1 - 10);
    say_c(fd, "first\r\n");
    expect(fd, "hello\r\nfirst\r\n");
    assert_string_equal(served->peer_text, "192.0.2.7");
    assert_false(conn_is_loopback(served));
    quit(fd);

    fd = connect_pair_to(0, true);
    say_c(fd, "EHLO without a header\r\n");
    expect_end(fd);
    wait_all_closed();
    assert_int_equal(opened_count, 1);
}

static void the_peer_is_whom_the_proxy_header_names(void **state)
{
    loop_run_fiber("client", body_proxy, NULL);
}

/* ---- listeners ---------------------------------------------------------------------------------------- */

static unsigned listen_on(const char *addresses)
{
    struct listener_info info;
    struct error err = {0};

    plain.addresses = addresses;
    plain.tag = 0;
    CLAIM(listener_bind_all(&plain, 1, 2, &err) == 0, "%s\n", err.text);
    assert_int_equal(listener_start(0, &err), 0);
    assert_true(listener_info(0, &info));
    assert_ptr_equal(info.endpoint, &plain);
    return info.port;
}

static int connect_port(unsigned port)
{
    struct sockaddr_in in = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(connect(fd, (struct sockaddr *)&in, sizeof in), 0);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

static bool has_option(int fd, int level, int option)
{
    int value = 0;
    socklen_t size = sizeof value;

    assert_int_equal(getsockopt(fd, level, option, &value, &size), 0);
    return value != 0;
}

static void body_tcp(void *arg)
{
    int fd;

    config.port_offset = 0;
    fd = connect_port(listen_on("127.0.0.1:0"));
    expect(fd, "hello\r\n");
    assert_true(has_option(served->io.fd, IPPROTO_TCP, TCP_NODELAY));
    assert_true(has_option(served->io.fd, SOL_SOCKET, SO_KEEPALIVE));
    assert_string_equal(served->peer_text, "127.0.0.1");
    assert_true(conn_is_loopback(served));
    assert_false(conn_is_secure(served));
    config.login_plaintext_loopback = true;
    assert_true(conn_is_secure(served));
    say_c(fd, "a\r\n");
    expect(fd, "a\r\n");
    assert_int_equal(listener_connection_count(), 1);
    say_c(fd, "quit\r\n");
    expect(fd, "bye\r\n");
    expect_end(fd);
    wait_all_closed();
}

static void a_tcp_client_is_served_by_one_of_the_workers_sockets(void **state)
{
    loop_run_fiber("client", body_tcp, NULL);
}

static int connect_unix(const char *path)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    snprintf(un.sun_path, sizeof un.sun_path, "%s", path);
    assert_int_equal(connect(fd, (struct sockaddr *)&un, sizeof un), 0);
    return fd;
}

static void body_unix(void *arg)
{
    char path[] = "/tmp/test_conn.XXXXXX", addresses[100];
    int fd;

    assert_non_null(mkdtemp(path));
    snprintf(addresses, sizeof addresses, "unix:%s/s", path);
    listen_on(addresses);
    listener_fini();
    listen_on(addresses); /* the socket file of the first is stale */
    fd = connect_unix(addresses + 5);
    expect(fd, "hello\r\n");
    assert_string_equal(served->peer_text, "unix");
    assert_true(conn_is_secure(served));
    quit(fd);
    unlink(addresses + 5);
    rmdir(path);
}

static void a_unix_socket_replaces_a_stale_file(void **state)
{
    loop_run_fiber("client", body_unix, NULL);
}

static void body_connections_max(void *arg)
{
    int first, second;

    config.connections_max = 1;
    first = connect_pair();
    second = connect_pair_to(0, false);
    expect(second, "busy\r\n");
    expect_end(second);
    quit(first);
    first = connect_pair();
    quit(first);
}

static void one_client_too_many_hears_that_we_are_busy(void **state)
{
    loop_run_fiber("client", body_connections_max, NULL);
}

static void body_headers_held_back(void *arg)
{
    static const char header[] = SIG "\x21\x11\x00\x0c" V4;
    int first, second;

    config.connections_max = 1;
    first = connect_pair_to(0, true);
    fiber_yield(); /* it has its place, and waits for the header */
    second = connect_pair_to(0, true);
    expect(second, "busy\r\n");
    expect_end(second);
    say(first, header, sizeof header - 1);
    expect(first, "hello\r\n");
    quit(first);
}

static void whoever_holds_a_proxy_header_back_takes_up_a_place(void **state)
{
    loop_run_fiber("client", body_headers_held_back, NULL);
}

static void body_deaf(void *arg)
{
    int fd = connect_pair();

    shutdown(fd, SHUT_RD); /* it sends on, and no event tells the server */
    say_c(fd, "line\r\n");
    wait_all_closed();
    assert_int_equal(ended_by, ERR_CLOSED);
    close(fd);
}

static void a_read_ends_when_sending_finds_the_client_deaf(void **state)
{
    loop_run_fiber("client", body_deaf, NULL);
}

static void addresses_are_counted_each_and_v6_by_64(void **state)
{
    static const struct {
        const char *text;
        bool is_admitted;
    } rows[] = {
        {"192.0.2.1", true},
        {"192.0.2.1", true},
        {"192.0.2.1", false},
        {"192.0.2.2", true},
        {"2001:db8:0:1::1", true},
        {"2001:db8:0:1::2", true},
        {"2001:db8:0:1:ffff::3", false},
        {"2001:db8:0:2::1", true},
        {"127.0.0.1", true},
        {"127.0.0.1", true},
        {"127.0.0.1", true},
        {"::1", true},
        {"::1", true},
        {"::1", true},
    };

    config.connections_per_address_max = 2;
    for (int round = 0; round < 2; round++) { /* leaving makes room again */
        for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
            struct sockaddr_storage a = {0};

            a.ss_family = strchr(rows[i].text, ':') != NULL ? AF_INET6 : AF_INET;
            inet_pton(a.ss_family, rows[i].text,
                      a.ss_family == AF_INET ? (void *)&((struct sockaddr_in *)&a)->sin_addr
                                             : (void *)&((struct sockaddr_in6 *)&a)->sin6_addr);
            assert_int_equal(admission_enter(&a), rows[i].is_admitted);
        }
        for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
            struct sockaddr_storage a = {0};

            a.ss_family = strchr(rows[i].text, ':') != NULL ? AF_INET6 : AF_INET;
            inet_pton(a.ss_family, rows[i].text,
                      a.ss_family == AF_INET ? (void *)&((struct sockaddr_in *)&a)->sin_addr
                                             : (void *)&((struct sockaddr_in6 *)&a)->sin6_addr);
            if (rows[i].is_admitted)
                admission_leave(&a);
        }
    }
}

static void body_no_descriptors(void *arg)
{
    struct rlimit limit, before;
    unsigned port = listen_on("127.0.0.1:0");
    int fd = connect_port(port), spare = dup(fd);

    /* Every number below `spare` is taken; so accept(2) finds none. */
    getrlimit(RLIMIT_NOFILE, &before);
    limit = before;
    limit.rlim_cur = (rlim_t)spare + 1;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    fiber_sleep(20);
    assert_int_equal(conn_count(), 0);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    close(spare);
    expect(fd, "hello\r\n");
    quit(fd);
}

static void without_descriptors_accepting_pauses_and_goes_on(void **state)
{
    if (RUNNING_ON_VALGRIND) /* it takes the client from the queue and closes it */
        skip();
    loop_run_fiber("client", body_no_descriptors, NULL);
}

static void bad_listener_settings_name_the_setting_and_the_mend(void **state)
{
    static const struct {
        const char *addresses, *text;
    } rows[] = {
        {"example.org", "names are not looked up"},
        {"192.0.2.1:99999", "the port must be a number"},
        {"192.0.2.1:", "write 192.0.2.1"},
        {"[::1", "write 192.0.2.1"},
        {"[::1]25", "write 192.0.2.1"},
        {"127.0.0.1 prxy", "only the word \"proxy\""},
        {"127.0.0.1,,::1", "an address is missing"},
        {"unix:relative", "absolute path"},
        {"unix:/nowhere/at/all", "the folder must exist"},
        {"203.0.113.77:2", "this machine has no such address"},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct error err = {0};

        config.port_offset = 20000;
        plain.addresses = rows[i].addresses;
        assert_int_equal(listener_bind_all(&plain, 1, 1, &err), -1);
        CLAIM(strstr(err.text, rows[i].text) != NULL && strstr(err.text, "listen_test") != NULL,
              "%s: %s\n", rows[i].addresses, err.text);
    }
}

static void an_empty_setting_listens_nowhere(void **state)
{
    struct listener_info info;
    struct error err = {0};

    plain.addresses = " ";
    assert_int_equal(listener_bind_all(&plain, 1, 1, &err), 0);
    assert_false(listener_info(0, &info));
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(lines_end_at_lf_and_lose_one_cr),
        CASE(a_line_that_is_too_long_is_skipped_and_the_next_one_read),
        CASE(a_line_without_end_closes_the_connection),
        CASE(a_literal_of_any_size_is_read_exactly),
        CASE(blocks_show_each_byte_once_and_keep_what_is_not_consumed),
        CASE(compressed_commands_are_answered_compressed),
        CASE(a_compressed_connection_at_rest_keeps_what_it_must_remember),
        CASE(a_slow_reader_of_compressed_answers_makes_the_writer_wait),
        CASE(a_broken_stream_closes_the_connection),
        CASE(a_connection_at_rest_owns_no_fiber_and_no_buffer),
        CASE(pipelined_commands_are_answered_in_order),
        CASE(a_rest_that_lasts_too_long_is_told_by_the_next_read),
        CASE(wakes_do_not_prolong_the_rest),
        CASE(half_a_command_runs_into_the_deadline),
        CASE(a_wake_calls_the_step_once_however_often_it_came),
        CASE(a_wake_during_a_command_is_delivered_after_it),
        CASE(a_session_that_ignores_everything_neither_spins_nor_stays),
        CASE(a_slow_reader_makes_the_writer_wait),
        CASE(a_client_that_never_reads_runs_into_the_deadline),
        CASE(a_client_that_pipelines_much_is_not_locked_up),
        CASE(a_client_that_leaves_during_an_answer_ends_its_session_only),
        CASE(a_half_closed_client_hears_the_answers_to_what_it_sent),
        CASE(a_session_may_refuse_in_open),
        CASE(draining_ends_sessions_at_rest_and_lets_commands_finish),
        CASE(proxy_headers_are_understood_or_refused),
        CASE(the_peer_is_whom_the_proxy_header_names),
        CASE(a_tcp_client_is_served_by_one_of_the_workers_sockets),
        CASE(a_unix_socket_replaces_a_stale_file),
        CASE(one_client_too_many_hears_that_we_are_busy),
        CASE(whoever_holds_a_proxy_header_back_takes_up_a_place),
        CASE(a_read_ends_when_sending_finds_the_client_deaf),
        CASE(addresses_are_counted_each_and_v6_by_64),
        CASE(without_descriptors_accepting_pauses_and_goes_on),
        CASE(bad_listener_settings_name_the_setting_and_the_mend),
        CASE(an_empty_setting_listens_nowhere),
    };

    return cmocka_run_group_tests_name("conn", tests, NULL, NULL);
}
