/* http_pump.c - the service behind ports 80 and 443.
 *
 * A plain connection is handed to libmicrohttpd as it is. One with TLS, or with bytes read ahead,
 * keeps its struct conn, and libmicrohttpd gets one end of a socketpair:
 *
 *   client == conn --(to_server)--> pair ... libmicrohttpd
 *                  <--(to_client)--
 *
 * At rest a pump owns no stack: input of the client, or of the pair (by conn_wake), calls its step.
 * A direction that is stuck waits with a stack, looking at the other one meanwhile, so both push
 * back on whoever is too fast. Timeouts are those of http_server.c, which shuts its end. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include "server/base/memory.h"
#include "server/http/http_internal.h"
#include "server/run/config.h"

#define PUMP_MAGIC        0x48505550u
#define REST_MS           (INT64_C(1) << 50) /* for ever */
#define FAREWELL_MS       1000
#define FAREWELL_SIZE_MAX (4 * 1024 * 1024)
#define BLOCK_SIZE        (16 * 1024)
#define REST_EVENTS       (EPOLLIN | EPOLLRDHUP | EPOLLET)

struct pump {
    unsigned magic;
    struct conn *conn;
    struct loop_fd pair; /* our end */
    struct wait_queue pair_changed;
    struct http_connection *connection; /* the other end's; NULL when libmicrohttpd closed it */
    bool has_waiter;                    /* the step waits, so it need not be called */
    bool server_deaf;                   /* libmicrohttpd reads no more */
};

static void pair_ready(struct loop_fd *lfd, uint32_t events)
{
    struct pump *p = CONTAINER_OF(lfd, struct pump, pair);

    if (p->has_waiter)
        wait_queue_wake_all(&p->pair_changed);
    else
        conn_wake(p->conn);
}

static PARKS int wait_for_pair(struct pump *p, uint32_t events)
{
    enum wake wake;

    p->has_waiter = true;
    loop_fd_set(&p->pair, REST_EVENTS | events); /* tells again what is ready already */
    wake = wait_queue_wait(&p->pair_changed, NO_DEADLINE);
    p->has_waiter = false;
    return wake == WAKE_READY ? 0 : -1;
}

/* All that libmicrohttpd has ready. -1: it, or the client, is gone. */
static PARKS int to_client(struct pump *p)
{
    char block[BLOCK_SIZE];
    ssize_t n;

    for (;;) {
        n = recv(p->pair.fd, block, sizeof block, MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN ? 0 : -1;
        if (n == 0)
            return -1;
        conn_set_deadline(p->conn, config.http_timeout);
        conn_write(p->conn, str_of(block, (size_t)n));
        if (conn_failed(p->conn))
            return -1;
    }
}

static PARKS int exchange(struct pump *p)
{
    return to_client(p) < 0 ? -1 : conn_flush(p->conn, NULL);
}

static PARKS int pair_write_some(struct pump *p, struct str s)
{
    ssize_t n = send(p->pair.fd, s.p, s.n, MSG_DONTWAIT | MSG_NOSIGNAL);

    if (n > 0) {
        conn_consume(p->conn, (size_t)n);
        return 0;
    }
    if (n < 0 && errno == EINTR)
        return 0;
    if (n < 0 && errno != EAGAIN) {
        p->server_deaf = true; /* what it has answered is to be read still */
        return 0;
    }
    if (exchange(p) < 0 || wait_for_pair(p, EPOLLOUT) < 0)
        return -1;
    return to_client(p);
}

static PARKS int to_server(struct pump *p)
{
    struct str input;

    while ((input = conn_peek(p->conn)).n > 0) {
        if (p->server_deaf)
            conn_consume(p->conn, input.n);
        else if (pair_write_some(p, input) < 0)
            return -1;
    }
    return 0;
}

/* libmicrohttpd has answered before the end of a body and is done with the connection, but the
 * client still sends: closing now could destroy the answer on its way. */
static PARKS void see_off(struct pump *p)
{
    size_t size = 0;

    conn_set_deadline(p->conn, FAREWELL_MS);
    while (size < FAREWELL_SIZE_MAX && conn_fill(p->conn, NULL) == 0) {
        size += conn_peek(p->conn).n;
        conn_consume(p->conn, conn_peek(p->conn).n);
    }
}

/* libmicrohttpd ended its half of the pair; when it reads on, so do we. */
static PARKS enum step server_ended(struct pump *p)
{
    struct pollfd state = {.fd = p->pair.fd};

    if (conn_failed(p->conn) || conn_flush(p->conn, NULL) < 0)
        return STEP_END;
    if (poll(&state, 1, 0) < 0 || (state.revents & POLLHUP) == 0)
        see_off(p);
    return STEP_END;
}

/* The client sends no more, but may wait for an answer: to the end of that the pump keeps a stack.
 */
static PARKS enum step finish(struct pump *p)
{
    shutdown(p->pair.fd, SHUT_WR);
    while (exchange(p) == 0)
        if (wait_for_pair(p, 0) < 0)
            break;
    return STEP_END;
}

/* The server shuts down: a running request may end, a connection between requests is closed. */
static PARKS enum step drain(struct pump *p)
{
    struct error err = {0};

    http_server_drain();
    while (p->connection != NULL && p->connection->request != NULL) {
        if (to_client(p) < 0 || to_server(p) < 0)
            return STEP_END;
        bool is_event = conn_wait_event(p->conn, &err) == 0;
        if (fiber_cancelled() || conn_failed(p->conn))
            return STEP_END;
        if (is_event && !conn_take_wake(p->conn) && str_empty(conn_peek(p->conn)))
            break; /* the client's end */
        error_clear(&err);
    }
    return finish(p);
}

static PARKS enum step input_ended(struct pump *p, const struct error *err)
{
    if (err->kind == ERR_CANCELLED && !fiber_cancelled())
        return drain(p);
    return conn_failed(p->conn) ? STEP_END : finish(p);
}

static PARKS enum step pump_step(void *session)
{
    struct pump *p = session;
    struct error err = {0};

    CHECK_OBJ(p, PUMP_MAGIC);
    bool is_only_woken = conn_take_wake(p->conn) && !conn_has_input(p->conn);
    conn_set_deadline(p->conn, config.http_timeout);
    if (to_client(p) < 0)
        return server_ended(p);
    if (is_only_woken)
        return STEP_REST;
    if (str_empty(conn_peek(p->conn)) && conn_fill(p->conn, &err) < 0)
        return input_ended(p, &err);
    return to_server(p) < 0 ? server_ended(p) : STEP_REST;
}

static void pump_close(void *session)
{
    struct pump *p = session;

    CHECK_OBJ(p, PUMP_MAGIC);
    if (p->connection != NULL)
        p->connection->owner = NULL;
    loop_fd_set(&p->pair, 0);
    close(p->pair.fd);
    p->magic = 0;
    free(p);
}

/* ---- opening --------------------------------------------------------------------------------- */
static struct http_client client_of(const struct conn *c)
{
    struct http_client client = {
        .address = *conn_peer(c),
        .is_tls = conn_is_tls(c),
        .is_secure = conn_is_secure(c),
    };

    snprintf(client.address_text, sizeof client.address_text, "%.*s", STR_ARG(conn_peer_text(c)));
    snprintf(client.session, sizeof client.session, "%s", conn_session_id(c));
    return client;
}

static struct pump *pump_new(struct conn *c, int fd, struct http_connection *connection)
{
    struct pump *p = memory_alloc(sizeof *p);

    p->magic = PUMP_MAGIC;
    p->conn = c;
    p->connection = connection;
    connection->owner = &p->connection;
    p->pair = (struct loop_fd){.fd = fd, .ready = pair_ready};
    wait_queue_init(&p->pair_changed);
    loop_fd_set(&p->pair, REST_EVENTS);
    conn_set_rest_timeout(c, REST_MS); /* libmicrohttpd keeps the time */
    return p;
}

static void hand_over(struct conn *c, const struct http_client *client)
{
    int fd = conn_detach_fd(c);
    struct error err = {0};

    if (fd >= 0 && http_server_add(fd, client, true, &err) == NULL)
        log_info(conn_log(c), "http_refused", KV_ERR(&err));
}

static PARKS void *pump_open(struct conn *c, int tag)
{
    struct http_client client = client_of(c);
    struct http_connection *connection;
    struct error err = {0};
    int ends[2];

    if (!conn_is_tls(c) && !conn_has_input(c)) {
        hand_over(c, &client);
        return NULL;
    }
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) < 0) {
        log_warn(conn_log(c), "http_refused", KV("errno", errno));
        return NULL;
    }
    connection = http_server_add(ends[1], &client, false, &err);
    if (connection == NULL) {
        log_info(conn_log(c), "http_refused", KV_ERR(&err));
        close(ends[0]);
        return NULL;
    }
    return pump_new(c, ends[0], connection);
}

const struct service http_service = {
    .name = "http",
    .open = pump_open,
    .step = pump_step,
    .close = pump_close,
};
