/* conn_life.c - a connection from accept to close, and the loan of a fiber whenever it has something to do.
 *
 *   conn_start -> admission, PROXY header, TLS, open ->+-> step -> more to do? --yes--+
 *                                                      |              | no            |
 *                                                      |        rest: no fiber        |
 *                                                      |   input, wake, end of time   |
 *                                                      +<-------------+<--------------+
 *   STEP_END, or nothing left to wait for -> flush, close
 *
 * A session decides for itself when it ends, but one that was told the last there is to tell (the
 * client's end, a broken socket, draining) and still wants to rest is ended. */
#include <assert.h>
#include <errno.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/base/encode.h"
#include "server/base/memory.h"
#include "server/base/object.h"
#include "server/run/admission.h"
#include "server/run/config.h"
#include "server/run/conn_internal.h"
#include "server/run/metrics.h"
#include "server/run/proxy.h"

#define STEP_MS         (5 * 60 * 1000)
#define REST_MS         (30 * 60 * 1000)
#define PROXY_MS        5000
#define GOODBYE_MS      5000
#define LINGER_MS       2000
#define LINGER_SIZE_MAX (1u << 20)
#define REFUSAL_LOG_MS  1000

static struct {
    struct list conns;
    unsigned count;
    bool is_draining;
    int64_t refusal_logged_ms;
    unsigned refusals_unlogged;
} worker = {.conns = {&worker.conns, &worker.conns}, .refusal_logged_ms = INT64_MIN / 2};

static void conn_run(void *arg);

static void lend_fiber(struct conn *c)
{
    c->fiber = fiber_start(c->service->name, conn_run, c);
}

/* ---- what happens while nobody runs -------------------------------------------------------- */

void conn_ready(struct loop_fd *lfd, uint32_t events)
{
    struct conn *c = CONTAINER_OF(lfd, struct conn, io);

    CHECK_OBJ(c, CONN_MAGIC);
    if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        c->may_read = true;
    if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR))
        c->may_write = true;
    if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        c->peer_hung_up = true;
    if (c->fiber == NULL && c->may_read)
        lend_fiber(c);
    else if (c->waiter != NULL && (((c->waits_for & WAIT_READ) != 0 && c->may_read) ||
                                   ((c->waits_for & WAIT_WRITE) != 0 && c->may_write)))
        fiber_wake(c->waiter);
}

void conn_wake(struct conn *c)
{
    CHECK_OBJ(c, CONN_MAGIC);
    if (c->is_ending)
        return;
    c->wake = WAKE_NEW;
    if (c->fiber == NULL)
        lend_fiber(c);
    else if (c->waiter != NULL && (c->waits_for & WAIT_EVENT) != 0)
        fiber_wake(c->waiter);
}

static void rest_time_passed(struct timer *t)
{
    struct conn *c = CONTAINER_OF(t, struct conn, rest_timer);

    CHECK_OBJ(c, CONN_MAGIC);
    if (c->fiber != NULL) /* it rests no more; the next rest sets the timer */
        return;
    c->rest_timed_out = true;
    lend_fiber(c);
}

bool conn_worker_is_draining(void)
{
    return worker.is_draining;
}

void conn_drain_all(void)
{
    worker.is_draining = true;
    LIST_EACH (at, &worker.conns) {
        struct conn *c = CONTAINER_OF(at, struct conn, link);

        if (c->fiber == NULL)
            lend_fiber(c);
        else if (c->waiter != NULL)
            fiber_wake(c->waiter); /* it looks for itself whether that concerns it */
    }
}

void conn_cancel_all(void)
{
    LIST_EACH (at, &worker.conns) {
        struct conn *c = CONTAINER_OF(at, struct conn, link);

        if (c->fiber != NULL)
            fiber_cancel(c->fiber);
    }
}

void conn_undrain(void)
{
    worker.is_draining = false;
}

unsigned conn_count(void)
{
    return worker.count;
}

/* ---- birth --------------------------------------------------------------------------------- */

static void read_addresses(struct conn *c)
{
    struct sockaddr_storage peer = {0};
    socklen_t size = sizeof peer;

    if (getpeername(c->io.fd, (struct sockaddr *)&peer, &size) < 0)
        peer.ss_family = AF_UNSPEC; /* gone already; the first read will tell */
    size = sizeof c->local;
    getsockname(c->io.fd, (struct sockaddr *)&c->local, &size);
    c->is_tcp = peer.ss_family == AF_INET || peer.ss_family == AF_INET6;
    conn_set_peer(c, &peer);
}

struct conn *conn_new(int fd, const struct endpoint *endpoint, bool expects_proxy)
{
    struct conn *c = memory_alloc(sizeof *c);

    c->magic = CONN_MAGIC;
    c->service = endpoint->service;
    c->tag = endpoint->tag;
    c->tls_mode = endpoint->tls;
    c->expects_proxy = expects_proxy;
    c->io = (struct loop_fd){.fd = fd, .ready = conn_ready};
    c->rest_timer.fire = rest_time_passed;
    c->may_read = c->may_write = true;
    c->rest_timeout_ms = REST_MS;
    conn_set_output_max(c, SIZE_MAX);
    conn_set_deadline(c, STEP_MS);
    random_text(c->session_id, SESSION_ID_SIZE);
    read_addresses(c);
    list_append(&worker.conns, &c->link);
    worker.count++;
    metric_inc(METRIC_connections_accepted);
    metric_inc(METRIC_connections_open);
    return c;
}

void conn_start(struct conn *c)
{
    loop_fd_set(&c->io, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
    lend_fiber(c);
}

/* ---- the beginning ------------------------------------------------------------------------- */

/* A flood of refusals must not become a flood of lines. */
static void log_refusal(struct conn *c, const char *reason)
{
    if (loop_now_ms() - worker.refusal_logged_ms < REFUSAL_LOG_MS) {
        worker.refusals_unlogged++;
        return;
    }
    log_warn(&c->log, "connection_refused", KV("reason", reason),
             KV("unlogged", worker.refusals_unlogged));
    worker.refusal_logged_ms = loop_now_ms();
    worker.refusals_unlogged = 0;
}

static bool refuse(struct conn *c, const char *reason)
{
    metric_inc(METRIC_connections_refused);
    log_refusal(c, reason);
    if (c->service->busy != NULL && c->tls_mode != TLS_IMPLICIT)
        conn_printf(c, "%s\r\n", c->service->busy);
    return false;
}

static bool admit(struct conn *c)
{
    c->is_admitted = admission_enter(&c->peer);
    return c->is_admitted || refuse(c, "connections_per_address_max");
}

bool conn_assume_peer(struct conn *c, const struct sockaddr_storage *peer)
{
    CHECK_OBJ(c, CONN_MAGIC);
    if (c->is_admitted)
        admission_leave(&c->peer);
    conn_set_peer(c, peer);
    c->is_admitted = admission_enter(&c->peer);
    return c->is_admitted;
}

static bool refuse_proxy(struct conn *c, const char *reason)
{
    log_warn(&c->log, "proxy_header_refused", KV("reason", reason));
    conn_break(c, ERR_CLOSED);
    return false;
}

static bool read_proxy_header(struct conn *c)
{
    enum proxy_result result;
    struct proxy_header header;
    struct error err = {0};

    conn_set_deadline(c, PROXY_MS);
    while ((result = proxy_header_parse(conn_peek(c), &header)) == PROXY_INCOMPLETE)
        if (conn_more(c, &err) < 0)
            return refuse_proxy(c, err.text);
    if (result == PROXY_MALFORMED)
        return refuse_proxy(c, "not a PROXY protocol v2 header");
    conn_consume(c, header.size);
    if (result == PROXY_ADDRESSES) {
        conn_set_peer(c, &header.source);
        c->local = header.destination;
    }
    conn_set_deadline(c, STEP_MS);
    return true;
}

/* What came in one packet with the PROXY header lies in our buffer: TLS reads it first. */
static bool begin_tls(struct conn *c)
{
    c->ahead = c->in;
    c->in = (struct conn_buffer){0};
    c->in_seen = 0;
    return conn_handshake(c, NULL) == 0;
}

/* The limit for all comes first: whoever holds a PROXY header back takes up a place, too. */
static bool conn_begin(struct conn *c)
{
    if (worker.count > (unsigned)config.connections_max)
        return refuse(c, "connections_max");
    if (c->expects_proxy && !read_proxy_header(c))
        return false;
    if (!admit(c))
        return false;
    if (c->tls_mode == TLS_IMPLICIT && !begin_tls(c))
        return false;
    c->session = c->service->open(c, c->tag);
    c->is_open = c->session != NULL;
    c->rest_since_ms = loop_now_ms();
    c->step_has_input = false;
    return c->is_open;
}

/* ---- steps --------------------------------------------------------------------------------- */

/* Nothing that could still come would change anything. */
static bool is_over(const struct conn *c)
{
    return c->is_eof || c->failure != ERR_NONE || worker.is_draining || fiber_cancelled();
}

static enum step conn_step(struct conn *c)
{
    bool was_woken = c->wake != NO_WAKE;
    bool is_last = !was_woken && c->in.n == 0 && (is_over(c) || c->rest_timed_out);
    enum step step;

    if (was_woken)
        c->wake = WAKE_OFFERED;
    c->step_has_input = false;
    c->deadline_ms = loop_deadline(c->deadline_duration_ms);
    step = c->service->step(c->session);
    if (c->wake == WAKE_OFFERED)
        c->wake = NO_WAKE;
    if (is_last && (is_over(c) || c->rest_timed_out))
        return STEP_END;
    return step;
}

static bool has_to_step(struct conn *c)
{
    if (c->in.n == 0)
        conn_poll_input(c);
    return c->in.n > 0 || c->wake != NO_WAKE || c->rest_timed_out || is_over(c);
}

/* Between steps, with replies that the client has not taken yet. Its next commands are read all the same: it
 * may be one that sends all of them before it reads. */
static void send_or_receive(struct conn *c)
{
    size_t before = conn_unsent(c);
    unsigned waits_for = conn_send_pending(c);
    enum wake wake;

    if (conn_unsent(c) == 0 || c->failure != ERR_NONE)
        return;
    if (conn_unsent(c) < before)
        c->deadline_ms = loop_deadline(c->deadline_duration_ms);
    wake = conn_park(c, WAIT_READ | WAIT_EVENT | waits_for, c->deadline_ms);
    if (wake != WAKE_READY)
        conn_break(c, wake == WAKE_TIMED_OUT ? ERR_TIMED_OUT : ERR_CANCELLED);
}

/* Returns true when it may rest. */
static bool conn_serve(struct conn *c)
{
    while (!c->is_detached) {
        if (has_to_step(c)) {
            if (conn_step(c) == STEP_END)
                return false;
            fiber_pause();
        } else if (conn_unsent(c) > 0) {
            send_or_receive(c);
        } else {
            return true;
        }
    }
    return false;
}

static void conn_rest(struct conn *c)
{
    conn_buffer_release(&c->in);
    conn_buffer_release(&c->ahead);
    conn_buffer_release(&c->out);
    if (c->zip != NULL)
        conn_zip_rest(c->zip);
    c->in_seen = 0;
    c->fiber = NULL;
    timer_set(&c->rest_timer, conn_rest_deadline(c));
}

/* ---- the end ------------------------------------------------------------------------------- */

/* Closing while the client still sends makes the system throw our last words away, so it gets a
 * moment to read them. */
static void linger(struct conn *c)
{
    int64_t deadline_ms = loop_deadline(LINGER_MS);
    size_t left = LINGER_SIZE_MAX;
    char scrap[4096];
    ssize_t got = conn_socket_receive(c, scrap, sizeof scrap);

    if (got <= 0)
        return;
    shutdown(c->io.fd, SHUT_WR);
    while (got > 0 || (got < 0 && errno == EAGAIN)) {
        if (got > 0 && (left < (size_t)got || (left -= (size_t)got) == 0))
            return;
        if (got < 0 && conn_park(c, WAIT_READ, deadline_ms) != WAKE_READY)
            return;
        got = conn_socket_receive(c, scrap, sizeof scrap);
    }
}

static void close_socket(struct conn *c)
{
    if (c->ssl != NULL && c->failure == ERR_NONE && SSL_is_init_finished(c->ssl)) {
        ERR_clear_error();
        SSL_shutdown(c->ssl);
    }
    if (c->failure == ERR_NONE && !c->is_eof)
        linger(c);
    loop_fd_set(&c->io, 0);
    close(c->io.fd);
}

static void conn_free(struct conn *c)
{
    timer_clear(&c->rest_timer);
    list_remove(&c->link);
    if (c->is_admitted)
        admission_leave(&c->peer);
    SSL_free(c->ssl);
    conn_zip_free(&c->zip);
    free(c->tls_text);
    conn_buffer_release(&c->in);
    conn_buffer_release(&c->ahead);
    conn_buffer_release(&c->out);
    worker.count--;
    metric_add(METRIC_connections_open, -1);
    c->magic = 0;
    free(c);
}

static void conn_end(struct conn *c)
{
    c->is_ending = true;
    conn_set_deadline(c, GOODBYE_MS);
    conn_flush(c, NULL);
    if (c->session != NULL)
        c->service->close(c->session);
    c->session = NULL;
    if (!c->is_detached)
        close_socket(c);
    conn_free(c);
}

/* The whole of a loan. */
static void conn_run(void *arg)
{
    struct conn *c = arg;

    CHECK_OBJ(c, CONN_MAGIC);
    if ((c->is_open || conn_begin(c)) && conn_serve(c))
        conn_rest(c);
    else
        conn_end(c);
}
