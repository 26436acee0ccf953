/* dial.c - the bytes of a connection that we make: connecting, waiting, reading, writing.
 *
 * The socket is registered with the loop only while its fiber waits for it, so a connection that
 * is kept for later costs nothing. TLS is dial_tls.c's. */
#include "server/run/dial.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "server/base/memory.h"
#include "server/base/object.h"
#include "server/run/dial_internal.h"
#include "server/run/loop.h"

#define OUTPUT_BATCH    (64u << 10)
#define DURATION_MAX_MS (365 * 86400000LL)

/* ---- failures ------------------------------------------------------------------------------ */

static int say_failure(const struct dial *d, struct error *err)
{
    return fail(err, d->failure.kind, "%s", d->failure.text);
}

int dial_break(struct dial *d, enum error_kind kind, const char *text, struct error *err)
{
    if (d->failure.kind == ERR_NONE)
        fail(&d->failure, kind, "%s", text);
    return say_failure(d, err);
}

bool dial_failed(const struct dial *d)
{
    return d->failure.kind != ERR_NONE;
}

/* ---- time ---------------------------------------------------------------------------------- */

static int64_t bounded(int64_t duration_ms)
{
    return duration_ms < DURATION_MAX_MS ? duration_ms : DURATION_MAX_MS;
}

void dial_set_deadline(struct dial *d, int64_t duration_ms)
{
    d->deadline_ms = loop_deadline(bounded(duration_ms));
}

void dial_set_end(struct dial *d, int64_t duration_ms)
{
    d->end_ms = duration_ms == 0 ? NO_DEADLINE : loop_deadline(bounded(duration_ms));
}

PARKS int dial_wait(struct dial *d, uint32_t events, struct error *err)
{
    int64_t deadline_ms = d->deadline_ms < d->end_ms ? d->deadline_ms : d->end_ms;

    switch (loop_wait_fd(d->fd, events, deadline_ms)) {
    case WAKE_TIMED_OUT:
        return dial_break(d, ERR_TIMED_OUT, "the other side took too long", err);
    case WAKE_CANCELLED:
        return dial_break(d, ERR_CANCELLED, "the server is stopping this work", err);
    default:
        return 0;
    }
}

/* ---- connecting ---------------------------------------------------------------------------- */

static socklen_t address_size(const struct sockaddr_storage *address)
{
    const struct sockaddr_un *un = (const struct sockaddr_un *)address;

    switch (address->ss_family) {
    case AF_INET:
        return sizeof(struct sockaddr_in);
    case AF_INET6:
        return sizeof(struct sockaddr_in6);
    default:
        return (socklen_t)(offsetof(struct sockaddr_un, sun_path) +
                           strnlen(un->sun_path, sizeof un->sun_path));
    }
}

static void write_peer(struct dial *d)
{
    const struct sockaddr_in *in = (const struct sockaddr_in *)&d->peer;
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&d->peer;

    if (d->peer.ss_family == AF_INET)
        inet_ntop(AF_INET, &in->sin_addr, d->peer_text, sizeof d->peer_text);
    else if (d->peer.ss_family == AF_INET6)
        inet_ntop(AF_INET6, &in6->sin6_addr, d->peer_text, sizeof d->peer_text);
    else
        snprintf(d->peer_text, sizeof d->peer_text, "unix");
}

static int refused(int error, struct error *err)
{
    char text[128];

    return fail(err, ERR_TRY_LATER, "no connection: %s", strerror_r(error, text, sizeof text));
}

static int bind_from(struct dial *d, const struct sockaddr_storage *from, struct error *err)
{
    if (from == NULL || from->ss_family == AF_UNIX)
        return 0;
    if (from->ss_family != d->peer.ss_family)
        return fail(err, ERR_INTERNAL, "the address to come from is of another family");
    if (bind(d->fd, (const struct sockaddr *)from, address_size(from)) < 0)
        return fail(err, ERR_INTERNAL, "the address to come from is none of this machine's");
    return 0;
}

static int finish_connect(struct dial *d, struct error *err)
{
    int error = 0;
    socklen_t size = sizeof error;

    if (dial_wait(d, EPOLLOUT, err) < 0)
        return -1;
    if (getsockopt(d->fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0)
        error = errno;
    return error == 0 ? 0 : refused(error, err);
}

static int make_connection(struct dial *d, const struct sockaddr_storage *from, struct error *err)
{
    int one = 1;
    socklen_t size = sizeof d->local;

    d->fd = socket(d->peer.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (d->fd < 0)
        return refused(errno, err);
    if (bind_from(d, from, err) < 0)
        return -1;
    if (d->peer.ss_family != AF_UNIX)
        setsockopt(d->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(d->fd, (struct sockaddr *)&d->peer, address_size(&d->peer)) < 0) {
        if (errno != EINPROGRESS)
            return refused(errno, err);
        if (finish_connect(d, err) < 0)
            return -1;
    }
    getsockname(d->fd, (struct sockaddr *)&d->local, &size);
    return 0;
}

PARKS struct dial *dial_open(const struct sockaddr_storage *to, const struct sockaddr_storage *from,
                             int64_t timeout_ms, struct error *err)
{
    struct dial *d = memory_alloc(sizeof *d);

    d->magic = DIAL_MAGIC;
    d->peer = *to;
    d->end_ms = NO_DEADLINE;
    dial_set_deadline(d, timeout_ms);
    write_peer(d);
    if (make_connection(d, from, err) < 0)
        dial_close(&d);
    return d;
}

void dial_close(struct dial **d)
{
    struct dial *gone = *d;

    if (gone == NULL)
        return;
    CHECK_OBJ(gone, DIAL_MAGIC);
    *d = NULL;
    dial_tls_free(gone);
    if (gone->fd >= 0)
        close(gone->fd);
    conn_buffer_release(&gone->in);
    conn_buffer_release(&gone->out);
    gone->magic = 0;
    free(gone);
}

/* ---- one attempt --------------------------------------------------------------------------- */

static bool is_wait(int error)
{
    return error == EAGAIN || error == EWOULDBLOCK || error == EINTR;
}

static enum io broken(struct dial *d)
{
    dial_break(d, ERR_CLOSED, "the connection broke", NULL);
    return IO_BROKEN;
}

bool dial_was_ended(const struct dial *d)
{
    return d->is_eof;
}

static enum io plain_receive(struct dial *d, void *to, size_t size, size_t *got)
{
    ssize_t n = recv(d->fd, to, size, MSG_DONTWAIT);

    if (n > 0) {
        *got = (size_t)n;
        return IO_DONE;
    }
    if (n == 0)
        return IO_END;
    return is_wait(errno) ? IO_WANTS_READ : broken(d);
}

static enum io plain_send(struct dial *d, struct str s, size_t *sent)
{
    ssize_t n = send(d->fd, s.p, s.n, MSG_DONTWAIT | MSG_NOSIGNAL);

    if (n >= 0) {
        *sent = (size_t)n;
        return IO_DONE;
    }
    return is_wait(errno) ? IO_WANTS_WRITE : broken(d);
}

static enum io receive(struct dial *d)
{
    size_t room, got = 0;
    enum io io;

    if (d->is_eof)
        return IO_END;
    room = conn_buffer_room(&d->in, DIAL_INPUT_MAX);
    if (room == 0)
        return IO_FULL;
    io = d->ssl != NULL ? dial_tls_receive(d, conn_buffer_end(&d->in), room, &got)
                        : plain_receive(d, conn_buffer_end(&d->in), room, &got);
    conn_buffer_added(&d->in, (uint32_t)got);
    d->is_eof = io == IO_END;
    return io;
}

/* Until nothing is pending or the socket is full. Says what to wait for; 0: nothing. */
static uint32_t send_pending(struct dial *d)
{
    while (d->out.n > 0 && !dial_failed(d)) {
        struct str s = conn_buffer_str(&d->out);
        size_t sent = 0;
        enum io io = d->ssl != NULL ? dial_tls_send(d, s, &sent) : plain_send(d, s, &sent);

        if (io == IO_WANTS_READ)
            return EPOLLIN;
        if (io == IO_WANTS_WRITE)
            return EPOLLOUT;
        if (io != IO_DONE)
            broken(d);
        conn_buffer_drop(&d->out, sent);
    }
    return 0;
}

/* What the peer says while we want to write. After a break this is where its last words are: a
 * server that has had enough says why and closes, whatever we were sending. */
static enum io receive_all(struct dial *d)
{
    enum io io;

    while ((io = receive(d)) == IO_DONE)
        ;
    return io;
}

/* ---- writing ------------------------------------------------------------------------------- */

PARKS int dial_flush(struct dial *d, struct error *err)
{
    CHECK_OBJ(d, DIAL_MAGIC);
    for (;;) {
        uint32_t events = send_pending(d);
        enum io io;

        if (d->out.n == 0 && !dial_failed(d))
            return 0;
        io = receive_all(d);
        if (dial_failed(d))
            return say_failure(d, err);
        if (io == IO_WANTS_READ)
            events |= EPOLLIN;
        if (io == IO_WANTS_WRITE)
            events |= EPOLLOUT;
        if (dial_wait(d, events, err) < 0)
            return -1;
    }
}

void dial_push(struct dial *d)
{
    send_pending(d);
}

PARKS void dial_write(struct dial *d, struct str s)
{
    CHECK_OBJ(d, DIAL_MAGIC);
    while (s.n > 0 && !dial_failed(d)) {
        size_t room;

        if (d->out.n >= OUTPUT_BATCH) {
            dial_flush(d, NULL);
            fiber_pause();
            continue;
        }
        room = conn_buffer_room(&d->out, OUTPUT_BATCH);
        if (room > s.n)
            room = s.n;
        memcpy(conn_buffer_end(&d->out), s.p, room);
        conn_buffer_added(&d->out, (uint32_t)room);
        s = str_from(s, room);
    }
}

PARKS void dial_printf(struct dial *d, const char *format, ...)
{
    char *text;
    va_list ap;
    int n;

    va_start(ap, format);
    n = vasprintf(&text, format, ap);
    va_end(ap);
    if (n < 0)
        memory_exhausted("outgoing line", 0);
    dial_write(d, str_of(text, (size_t)n));
    free(text);
}

/* ---- reading ------------------------------------------------------------------------------- */

/* Waits until more has come. */
static int more(struct dial *d, struct error *err)
{
    for (;;) {
        enum io io;

        if (dial_failed(d))
            return say_failure(d, err);
        if (d->out.n > 0 && dial_flush(d, NULL) < 0 && d->in.n > 0)
            return 0; /* the peer's last words */
        io = receive(d);
        if (io == IO_DONE) {
            fiber_pause();
            return 0;
        }
        if (io == IO_END)
            return dial_break(d, ERR_CLOSED, "the other side closed the connection", err);
        if (io == IO_FULL)
            return dial_break(d, ERR_TOO_BIG, "the other side sends too much at once", err);
        if (io == IO_BROKEN)
            return say_failure(d, err);
        if (dial_wait(d, io == IO_WANTS_WRITE ? EPOLLOUT : EPOLLIN, err) < 0)
            return -1;
    }
}

static struct str take(struct dial *d, size_t size)
{
    struct str s = str_head(conn_buffer_str(&d->in), size);

    conn_buffer_drop(&d->in, size);
    return s;
}

PARKS int dial_read_line(struct dial *d, size_t size_max, struct str *line, struct error *err)
{
    size_t scanned = 0;

    CHECK_OBJ(d, DIAL_MAGIC);
    assert(size_max <= DIAL_INPUT_MAX - 2);
    for (;;) {
        struct str s = conn_buffer_str(&d->in);
        ptrdiff_t end = str_index(str_from(s, scanned), '\n');

        if ((end >= 0 ? scanned + (size_t)end : s.n) > size_max + 1)
            return dial_break(d, ERR_TOO_BIG, "the other side sent a line without an end", err);
        if (end >= 0) {
            *line = str_head(take(d, scanned + (size_t)end + 1), scanned + (size_t)end);
            if (line->n > 0 && line->p[line->n - 1] == '\r')
                line->n--;
            return 0;
        }
        scanned = s.n;
        if (more(d, err) < 0)
            return -1;
    }
}

PARKS int dial_read_exact(struct dial *d, void *to, size_t size, struct error *err)
{
    char *at = to;

    CHECK_OBJ(d, DIAL_MAGIC);
    while (size > 0) {
        struct str got = take(d, d->in.n < size ? d->in.n : size);

        if (got.n == 0 && more(d, err) < 0)
            return -1;
        if (got.n > 0)
            memcpy(at, got.p, got.n);
        at += got.n;
        size -= got.n;
    }
    return 0;
}

bool dial_has_input(struct dial *d)
{
    return d->in.n > 0 || dial_failed(d) || receive(d) != IO_WANTS_READ;
}

bool dial_is_fresh(struct dial *d)
{
    return !dial_failed(d) && d->in.n == 0 && d->out.n == 0 && receive(d) == IO_WANTS_READ;
}

/* ---- who ----------------------------------------------------------------------------------- */

struct str dial_peer_text(const struct dial *d)
{
    return str_c(d->peer_text);
}

const struct sockaddr_storage *dial_peer(const struct dial *d)
{
    return &d->peer;
}

const struct sockaddr_storage *dial_local(const struct dial *d)
{
    return &d->local;
}
