/* conn.c - the bytes of a connection: reading, writing, waiting.
 *
 * The socket is registered once, edge-triggered. may_read and may_write remember what is known:
 * an attempt that says EAGAIN clears them, an edge sets them, and nobody calls the system in
 * vain. A short read of TCP says EAGAIN in advance (epoll(7)) unless the peer has hung up. TLS
 * (conn_tls.c) and compression (conn_zip.c) lie between.
 *
 * Waiting for input also sends what is pending, and goes on reading when the client is slow to
 * take it; so a client that pipelines more than it reads cannot lock the two of us up. */
#include "server/run/conn.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/base/memory.h"
#include "server/base/object.h"
#include "server/run/admission.h"
#include "server/run/config.h"
#include "server/run/conn_internal.h"

#define INPUT_MAX        (17u << 20)  /* the longest line a setting allows, and its end */
#define OUTPUT_MAX       (256u << 10) /* beyond, the writer waits ... */
#define OUTPUT_LOW_SHARE 4            /* ... until only this share of it is left */
#define OUTPUT_BATCH     (64u << 10)  /* so much is sent without waiting for the end of a batch */
#define DISCARD_MAX      (16u << 20)
#define DURATION_MAX_MS  (365 * 86400000LL)
#define DIRECT_MIN       4096 /* a read of so much goes past the buffer */

/* ---- the socket ---------------------------------------------------------------------------- */

ssize_t conn_socket_receive(struct conn *c, void *to, size_t size)
{
    ssize_t got;

    if (!c->may_read) {
        errno = EAGAIN;
        return -1;
    }
    do
        got = recv(c->io.fd, to, size, MSG_DONTWAIT);
    while (got < 0 && errno == EINTR);
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        c->may_read = false;
    else if (got > 0 && (size_t)got < size && c->is_tcp && !c->peer_hung_up)
        c->may_read = false;
    return got;
}

ssize_t conn_socket_send(struct conn *c, const void *p, size_t size)
{
    ssize_t sent;

    if (!c->may_write) {
        errno = EAGAIN;
        return -1;
    }
    do
        sent = send(c->io.fd, p, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        c->may_write = false;
    return sent;
}

void conn_break(struct conn *c, enum error_kind why)
{
    if (c->failure == ERR_NONE)
        c->failure = why;
}

/* ---- one attempt --------------------------------------------------------------------------- */

static enum io plain_receive(struct conn *c, void *to, size_t size, size_t *got)
{
    ssize_t n = conn_socket_receive(c, to, size);

    if (n > 0) {
        *got = (size_t)n;
        return IO_DONE;
    }
    if (n == 0)
        return IO_END;
    if (errno == EAGAIN || errno == EWOULDBLOCK)
        return IO_WANTS_READ;
    conn_break(c, ERR_CLOSED);
    return IO_BROKEN;
}

static enum io plain_send(struct conn *c, struct str s, size_t *sent)
{
    ssize_t n = conn_socket_send(c, s.p, s.n);

    if (n >= 0) {
        *sent = (size_t)n;
        return IO_DONE;
    }
    if (errno == EAGAIN || errno == EWOULDBLOCK)
        return IO_WANTS_WRITE;
    conn_break(c, ERR_CLOSED);
    return IO_BROKEN;
}

static enum io receive_wire(struct conn *c, void *to, size_t size, size_t *got)
{
    enum io io;

    if (c->is_eof)
        return IO_END;
    io = c->ssl != NULL ? conn_tls_receive(c, to, size, got) : plain_receive(c, to, size, got);
    c->is_eof = io == IO_END;
    return io;
}

static enum io receive_compressed(struct conn *c, void *to, size_t size, size_t *got)
{
    struct conn_zip *z = c->zip;
    enum conn_zip_result result;

    while ((result = conn_zip_read(z, to, size, got)) == CONN_ZIP_HUNGRY) {
        size_t room = conn_buffer_room(&z->in, CONN_BLOCK_SIZE), received = 0;
        enum io io = receive_wire(c, conn_buffer_end(&z->in), room, &received);

        if (io != IO_DONE)
            return io;
        conn_buffer_added(&z->in, received);
    }
    if (result == CONN_ZIP_DONE)
        return IO_DONE;
    c->is_eof = true;
    if (result == CONN_ZIP_END)
        return IO_END;
    log_info(&c->log, "compression_broken");
    conn_break(c, ERR_CLOSED);
    return IO_BROKEN;
}

static enum io receive(struct conn *c, void *to, size_t size, size_t *got)
{
    return c->zip != NULL ? receive_compressed(c, to, size, got) : receive_wire(c, to, size, got);
}

static enum io receive_into_buffer(struct conn *c)
{
    size_t room = conn_buffer_room(&c->in, INPUT_MAX), got = 0;
    enum io io;

    if (room == 0)
        return IO_FULL;
    io = receive(c, conn_buffer_end(&c->in), room, &got);
    conn_buffer_added(&c->in, got);
    return io;
}

bool conn_poll_input(struct conn *c)
{
    return c->failure == ERR_NONE && !c->is_detached && receive_into_buffer(c) == IO_DONE;
}

size_t conn_unsent(const struct conn *c)
{
    return c->out.n + (c->zip != NULL ? c->zip->out.n : 0);
}

/* What the wire gets next. More is compressed only when all before is out, so that a slow client
 * makes the writer wait. */
static struct conn_buffer *wire_out(struct conn *c)
{
    if (c->zip == NULL)
        return &c->out;
    if (c->zip->out.n == 0 && c->out.n > 0)
        conn_zip_write(c->zip, &c->out);
    return &c->zip->out;
}

unsigned conn_send_pending(struct conn *c)
{
    while (conn_unsent(c) > 0 && c->failure == ERR_NONE) {
        struct conn_buffer *out = wire_out(c);
        struct str s = conn_buffer_str(out);
        size_t sent = 0;
        enum io io = c->ssl != NULL ? conn_tls_send(c, s, &sent) : plain_send(c, s, &sent);

        if (io == IO_WANTS_READ)
            return WAIT_READ;
        if (io == IO_WANTS_WRITE)
            return WAIT_WRITE;
        if (io != IO_DONE)
            conn_break(c, ERR_CLOSED);
        conn_buffer_drop(out, sent);
    }
    return 0;
}

/* ---- waiting ------------------------------------------------------------------------------- */

/* After a failure there is nothing to wait for: sending may have found out what no event will tell. */
static bool is_ready_now(const struct conn *c, unsigned waits_for)
{
    return c->failure != ERR_NONE || ((waits_for & WAIT_READ) != 0 && c->may_read) ||
           ((waits_for & WAIT_WRITE) != 0 && c->may_write) ||
           ((waits_for & WAIT_EVENT) != 0 && c->wake != NO_WAKE);
}

PARKS enum wake conn_park(struct conn *c, unsigned waits_for, int64_t deadline_ms)
{
    enum wake wake;

    assert(c->waiter == NULL);
    if (fiber_cancelled())
        return WAKE_CANCELLED;
    if (is_ready_now(c, waits_for))
        return WAKE_READY;
    c->waiter = fiber_self();
    c->waits_for = waits_for;
    wake = fiber_park(deadline_ms);
    c->waiter = NULL;
    return wake;
}

static int failed_wait(struct conn *c, enum wake wake, struct error *err)
{
    return wake == WAKE_TIMED_OUT ? fail(err, ERR_TIMED_OUT, "the client took too long")
                                  : fail(err, ERR_CANCELLED, "the server is shutting down");
}

static int failed_conn(const struct conn *c, struct error *err)
{
    if (c->failure == ERR_TIMED_OUT)
        return fail(err, ERR_TIMED_OUT, "the client took too long to read");
    if (c->failure == ERR_CANCELLED)
        return fail(err, ERR_CANCELLED, "the server is shutting down");
    return fail(err, ERR_CLOSED, "the connection is closed");
}

/* Between commands there are two more reasons for a read to fail. */
static int check_rest(struct conn *c, struct error *err)
{
    if (c->step_has_input || c->in.n > 0 || !c->is_open)
        return 0;
    if (c->rest_timed_out) {
        c->rest_timed_out = false;
        c->rest_since_ms = loop_now_ms();
        return fail(err, ERR_TIMED_OUT, "nothing came for too long");
    }
    if (conn_worker_is_draining())
        return fail(err, ERR_CANCELLED, "the server is shutting down");
    return 0;
}

static void note_input(struct conn *c)
{
    c->step_has_input = c->has_new_input = true;
    c->rest_timed_out = false;
}

/* Waits for input, into the buffer or (to != NULL) past it. Pending replies go out before it parks. */
static int wait_input(struct conn *c, void *to, size_t size, size_t *got, struct error *err)
{
    for (;;) {
        unsigned waits_for;
        enum wake wake;
        enum io io;

        if (c->failure != ERR_NONE)
            return failed_conn(c, err);
        io = to == NULL ? receive_into_buffer(c) : receive(c, to, size, got);
        if (io == IO_DONE) {
            note_input(c);
            fiber_pause(); /* a fast sender is never waited for */
            return 0;
        }
        if (io == IO_FULL)
            return fail(err, ERR_TOO_BIG, "more than %u bytes at once", INPUT_MAX);
        waits_for = io == IO_WANTS_WRITE ? WAIT_WRITE : WAIT_READ;
        if (io == IO_END)
            return fail(err, ERR_CLOSED, "the client has closed the connection");
        if (io == IO_BROKEN)
            return failed_conn(c, err);
        if (check_rest(c, err) < 0)
            return -1;
        waits_for |= conn_send_pending(c);
        wake = conn_park(c, waits_for, c->deadline_ms);
        if (wake != WAKE_READY)
            return failed_wait(c, wake, err);
    }
}

PARKS int conn_more(struct conn *c, struct error *err)
{
    return wait_input(c, NULL, 0, NULL, err);
}

int64_t conn_rest_deadline(struct conn *c)
{
    if (c->has_new_input) {
        c->has_new_input = false;
        c->rest_since_ms = loop_now_ms();
    }
    return c->rest_since_ms + c->rest_timeout_ms;
}

/* ---- reading ------------------------------------------------------------------------------- */

static void take(struct conn *c, size_t size)
{
    assert(size <= c->in.n);
    note_input(c);
    conn_buffer_drop(&c->in, size);
    c->in_seen = c->in_seen > size ? c->in_seen - size : 0;
}

/* The head of a line that is thrown away. One for all connections: nobody reads it after a park. */
static char long_line_head[CONN_LONG_LINE_HEAD];

static int refuse_line(const char *head, size_t size_max, struct str *line, struct error *err)
{
    memcpy(long_line_head, head, sizeof long_line_head);
    *line = str_of(long_line_head, sizeof long_line_head);
    return fail(err, ERR_TOO_BIG, "the line is longer than %zu bytes", size_max);
}

static int discard_line(struct conn *c, size_t size_max, struct str *line, struct error *err)
{
    char head[CONN_LONG_LINE_HEAD] = {0};
    size_t discarded = 0;

    memcpy(head, conn_buffer_str(&c->in).p, c->in.n < sizeof head ? c->in.n : sizeof head);
    while (discarded <= DISCARD_MAX) {
        struct str s = conn_buffer_str(&c->in);
        ptrdiff_t end = str_index(s, '\n');

        take(c, end < 0 ? s.n : (size_t)end + 1);
        if (end >= 0)
            return refuse_line(head, size_max, line, err);
        discarded += s.n;
        if (conn_more(c, err) < 0)
            return -1;
    }
    conn_break(c, ERR_CLOSED);
    return fail(err, ERR_CLOSED, "the line does not end");
}

static int take_line(struct conn *c, size_t end, size_t size_max, struct str *line,
                     struct error *err)
{
    struct str s = str_head(conn_buffer_str(&c->in), end);

    c->line_had_cr = s.n > 0 && s.p[s.n - 1] == '\r';
    if (c->line_had_cr)
        s.n--;
    take(c, end + 1);
    *line = s;
    if (s.n > size_max)
        return fail(err, ERR_TOO_BIG, "the line is longer than %zu bytes", size_max);
    return 0;
}

PARKS int conn_read_line(struct conn *c, size_t size_max, struct str *line, struct error *err)
{
    size_t scanned = 0;

    CHECK_OBJ(c, CONN_MAGIC);
    assert(size_max <= INPUT_MAX - 2);
    *line = STR_NULL;
    if (c->failure != ERR_NONE)
        return failed_conn(c, err);
    for (;;) {
        struct str s = conn_buffer_str(&c->in);
        ptrdiff_t end = str_index(str_from(s, scanned), '\n');

        if (end >= 0)
            return take_line(c, scanned + (size_t)end, size_max, line, err);
        if (s.n > size_max + 1) /* one more may be the CR */
            return discard_line(c, size_max, line, err);
        scanned = s.n;
        if (conn_more(c, err) < 0)
            return -1;
    }
}

bool conn_line_had_cr(const struct conn *c)
{
    return c->line_had_cr;
}

PARKS int conn_read_exact(struct conn *c, void *to, size_t size, struct error *err)
{
    char *at = to;

    while (size > 0) {
        size_t got = c->in.n < size ? c->in.n : size;

        if (got > 0) {
            memcpy(at, conn_buffer_str(&c->in).p, got);
            take(c, got);
        } else if (size < DIRECT_MIN) {
            if (conn_more(c, err) < 0)
                return -1;
        } else if (wait_input(c, at, size, &got, err) < 0) {
            return -1;
        }
        at += got;
        size -= got;
    }
    return 0;
}

PARKS int conn_fill(struct conn *c, struct error *err)
{
    if (c->failure != ERR_NONE)
        return failed_conn(c, err);
    if (c->in.n == c->in_seen && conn_more(c, err) < 0)
        return -1;
    c->in_seen = c->in.n;
    return 0;
}

struct str conn_peek(const struct conn *c)
{
    return conn_buffer_str(&c->in);
}

void conn_consume(struct conn *c, size_t size)
{
    take(c, size);
}

/* Of compressed input only decompressing tells whether it is any. */
static bool has_pending_input(struct conn *c)
{
    bool has_tls = c->ssl != NULL && SSL_pending(c->ssl) > 0;

    return c->zip == NULL ? has_tls
                          : (has_tls || c->zip->in.n > 0 || c->zip->is_full) && conn_poll_input(c);
}

bool conn_has_input(struct conn *c)
{
    return c->in.n > 0 || has_pending_input(c) || c->is_eof || c->failure != ERR_NONE ||
           c->rest_timed_out || (conn_worker_is_draining() && !c->step_has_input);
}

/* ---- writing ------------------------------------------------------------------------------- */

/* Waits until at most `left_max` bytes are pending. A client that reads, however slowly, gets its time anew. */
static void send_down_to(struct conn *c, size_t left_max)
{
    int64_t deadline_ms = c->deadline_ms;

    while (conn_unsent(c) > left_max && c->failure == ERR_NONE) {
        size_t before = conn_unsent(c);
        unsigned waits_for = conn_send_pending(c);
        enum wake wake;

        if (conn_unsent(c) < before && deadline_ms < loop_deadline(c->deadline_duration_ms))
            deadline_ms = loop_deadline(c->deadline_duration_ms);
        if (conn_unsent(c) <= left_max || c->failure != ERR_NONE)
            return;
        wake = conn_park(c, waits_for, deadline_ms);
        if (wake != WAKE_READY)
            conn_break(c, wake == WAKE_TIMED_OUT ? ERR_TIMED_OUT : ERR_CANCELLED);
    }
}

PARKS void conn_write(struct conn *c, struct str s)
{
    CHECK_OBJ(c, CONN_MAGIC);
    while (s.n > 0 && c->failure == ERR_NONE) {
        size_t room;

        if (c->out.n >= OUTPUT_BATCH) {
            conn_send_pending(c);
            fiber_pause();
        }
        if (c->out.n >= c->output_max)
            send_down_to(c, c->output_max / OUTPUT_LOW_SHARE);
        room = conn_buffer_room(&c->out, c->output_max);
        if (room > s.n)
            room = s.n;
        memcpy(conn_buffer_end(&c->out), s.p, room);
        conn_buffer_added(&c->out, room);
        s = str_from(s, room);
    }
}

PARKS void conn_printf(struct conn *c, const char *format, ...)
{
    char small[1024], *large;
    va_list ap;
    int n;

    va_start(ap, format);
    n = vsnprintf(small, sizeof small, format, ap);
    va_end(ap);
    assert(n >= 0);
    if ((size_t)n < sizeof small) {
        conn_write(c, str_of(small, (size_t)n));
        return;
    }
    large = memory_alloc((size_t)n + 1);
    va_start(ap, format);
    vsnprintf(large, (size_t)n + 1, format, ap);
    va_end(ap);
    conn_write(c, str_of(large, (size_t)n));
    free(large);
}

PARKS int conn_flush(struct conn *c, struct error *err)
{
    send_down_to(c, 0);
    return c->failure == ERR_NONE ? 0 : failed_conn(c, err);
}

void conn_set_output_max(struct conn *c, size_t size_max)
{
    c->output_max = size_max < OUTPUT_MAX ? size_max : OUTPUT_MAX;
}

bool conn_failed(const struct conn *c)
{
    return c->failure != ERR_NONE;
}

/* ---- time and events ----------------------------------------------------------------------- */

static int64_t bounded(int64_t duration_ms)
{
    return duration_ms < DURATION_MAX_MS ? duration_ms : DURATION_MAX_MS;
}

void conn_set_deadline(struct conn *c, int64_t duration_ms)
{
    c->deadline_duration_ms = bounded(duration_ms);
    c->deadline_ms = loop_deadline(c->deadline_duration_ms);
}

void conn_set_rest_timeout(struct conn *c, int64_t duration_ms)
{
    c->rest_timeout_ms = bounded(duration_ms);
    c->rest_since_ms = loop_now_ms();
}

bool conn_take_wake(struct conn *c)
{
    bool was_woken = c->wake != NO_WAKE;

    c->wake = NO_WAKE;
    return was_woken;
}

static int check_event(struct conn *c, bool *is_there, struct error *err)
{
    *is_there = c->wake != NO_WAKE || c->in.n > 0 || conn_poll_input(c) || c->is_eof;
    if (c->failure != ERR_NONE)
        return failed_conn(c, err);
    if (*is_there)
        return 0;
    if (conn_worker_is_draining() && !c->drain_reported) {
        c->drain_reported = true;
        return fail(err, ERR_CANCELLED, "the server is shutting down");
    }
    return 0;
}

PARKS int conn_wait_event(struct conn *c, struct error *err)
{
    for (;;) {
        bool is_there;
        unsigned waits_for;
        enum wake wake;

        if (check_event(c, &is_there, err) < 0)
            return -1;
        if (is_there)
            return 0;
        waits_for = WAIT_READ | WAIT_EVENT | conn_send_pending(c);
        wake = conn_park(c, waits_for, conn_rest_deadline(c));
        if (wake == WAKE_TIMED_OUT)
            c->rest_since_ms = loop_now_ms();
        if (wake != WAKE_READY)
            return failed_wait(c, wake, err);
    }
}

/* ---- layers -------------------------------------------------------------------------------- */

PARKS int conn_start_tls(struct conn *c, struct error *err)
{
    assert(c->ssl == NULL);
    if (c->in.n > 0 ||
        (c->zip != NULL &&
         (c->zip->in.n > 0 ||
          c->zip->is_full))) /* or an attacker's line would be taken for the client's */
        return fail(err, ERR_SYNTAX, "nothing may be sent between STARTTLS and the handshake");
    if (conn_flush(c, err) < 0)
        return -1;
    return conn_handshake(c, err);
}

/* What the client sent ahead was compressed already, if the client knows what it is doing. */
PARKS int conn_start_compression(struct conn *c, struct error *err)
{
    assert(c->zip == NULL);
    if (conn_flush(c, err) < 0)
        return -1;
    c->zip = conn_zip_new();
    c->zip->in = c->in;
    c->in = (struct conn_buffer){0};
    c->in_seen = 0;
    return 0;
}

/* Whether the client finishes its stream or lets it end between two blocks is the same to us. */
PARKS int conn_stop_compression(struct conn *c, struct error *err)
{
    char byte;
    size_t got = 0;

    if (c->zip == NULL)
        return 0;
    if (conn_flush(c, err) < 0)
        return -1;
    if (c->in.n > 0 || (c->zip->is_full && conn_zip_read(c->zip, &byte, 1, &got) == CONN_ZIP_DONE))
        return fail(err, ERR_SYNTAX, "compression ends with the command before");
    conn_buffer_release(&c->in);
    c->in = c->zip->in;
    c->zip->in = (struct conn_buffer){0};
    c->in_seen = 0;
    conn_zip_free(&c->zip);
    return 0;
}

bool conn_is_compressed(const struct conn *c)
{
    return c->zip != NULL;
}

bool conn_is_tls(const struct conn *c)
{
    return c->ssl != NULL;
}

bool conn_is_secure(const struct conn *c)
{
    return c->ssl != NULL || c->peer.ss_family == AF_UNIX ||
           (config.login_plaintext_loopback && conn_is_loopback(c));
}

/* ---- who ----------------------------------------------------------------------------------- */

static void format_peer(struct conn *c)
{
    const struct sockaddr_in *in = (const struct sockaddr_in *)&c->peer;
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&c->peer;

    if (c->peer.ss_family == AF_INET)
        inet_ntop(AF_INET, &in->sin_addr, c->peer_text, sizeof c->peer_text);
    else if (c->peer.ss_family == AF_INET6)
        inet_ntop(AF_INET6, &in6->sin6_addr, c->peer_text, sizeof c->peer_text);
    else
        snprintf(c->peer_text, sizeof c->peer_text, "unix");
}

void conn_set_peer(struct conn *c, const struct sockaddr_storage *peer)
{
    c->peer = *peer;
    format_peer(c);
    log_init(&c->log, NULL);
    log_add(&c->log, KV("service", c->service->name));
    log_add(&c->log, KV("session", (const char *)c->session_id));
    log_add(&c->log, KV("peer", (const char *)c->peer_text));
}

struct str conn_peer_text(const struct conn *c)
{
    return str_c(c->peer_text);
}

const struct sockaddr_storage *conn_peer(const struct conn *c)
{
    return &c->peer;
}

const struct sockaddr_storage *conn_local(const struct conn *c)
{
    return &c->local;
}

bool conn_is_loopback(const struct conn *c)
{
    return admission_is_loopback(&c->peer);
}

struct log *conn_log(struct conn *c)
{
    return &c->log;
}

const char *conn_session_id(const struct conn *c)
{
    return c->session_id;
}

bool conn_is_draining(const struct conn *c)
{
    return conn_worker_is_draining();
}

PARKS int conn_detach_fd(struct conn *c)
{
    int fd = c->io.fd;

    if (c->ssl != NULL || c->zip != NULL || c->in.n > 0 || c->out.n > 0 || c->failure != ERR_NONE)
        return -1;
    loop_fd_set(&c->io, 0);
    c->io.fd = -1;
    c->is_detached = true;
    conn_break(c, ERR_CLOSED);
    return fd;
}
