/* http_server.c - libmicrohttpd in the worker's loop.
 *
 * libmicrohttpd has its own epoll descriptor, which our loop watches. It runs at the end of a turn
 * (so that what several fibers have ready goes out together), and after each run it is asked when
 * it wants to run next. Its idle timeout forgives a client that sends a byte now and then; each
 * connection's own limit does not. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>
#include "server/base/memory.h"
#include "server/http/http_internal.h"
#include "server/run/admission.h"
#include "server/run/config.h"
#include "server/run/metrics.h"

#define FAREWELL_SIZE_MAX  (4 * 1024 * 1024)
#define FAREWELL_MS        5000
#define FAREWELL_COUNT_MAX 256  /* no connection limit counts them */
#define CANCEL_MS          1000 /* for a handler to unwind */

/* A socket whose answer is out and whose client still sends: closing now could destroy the answer
 * on its way. */
struct farewell {
    struct list link;
    struct loop_fd lfd;
    struct timer timer;
    size_t size;
};

static struct {
    struct MHD_Daemon *daemon; /* NULL: not started */
    const struct http_route *routes;
    size_t route_count;
    struct loop_fd epoll;
    struct timer timer;
    struct deferred run;
    bool is_draining, is_stopping;
    struct list connections, farewells;
    unsigned farewell_count;
} server;

bool http_server_is_draining(void)
{
    return server.is_draining;
}

bool http_server_is_stopping(void)
{
    return server.is_stopping;
}

const struct http_route *http_server_routes(size_t *count)
{
    *count = server.route_count;
    return server.routes;
}

/* ---- running libmicrohttpd ------------------------------------------------------------------- */
static void run_daemon(struct deferred *d)
{
    MHD_UNSIGNED_LONG_LONG wait_ms;

    if (server.daemon == NULL)
        return;
    timer_clear(&server.timer);
    MHD_run(server.daemon);
    if (MHD_get_timeout(server.daemon, &wait_ms) != MHD_YES)
        return;
    if (wait_ms == 0)
        http_server_kick(); /* in the next turn, after the fibers */
    else
        timer_set(&server.timer,
                  loop_deadline(wait_ms < 3600 * 1000 ? (int64_t)wait_ms : 3600 * 1000));
}

void http_server_kick(void)
{
    loop_defer(&server.run);
}

static void epoll_ready(struct loop_fd *lfd, uint32_t events)
{
    http_server_kick();
}

static void timer_fired(struct timer *t)
{
    http_server_kick();
}

/* ---- farewells ------------------------------------------------------------------------------- */
static void farewell_end(struct farewell *l)
{
    loop_fd_set(&l->lfd, 0);
    timer_clear(&l->timer);
    close(l->lfd.fd);
    list_remove(&l->link);
    server.farewell_count--;
    free(l);
}

static void farewell_ready(struct loop_fd *lfd, uint32_t events)
{
    struct farewell *l = CONTAINER_OF(lfd, struct farewell, lfd);
    char waste[16 * 1024];
    ssize_t n = recv(lfd->fd, waste, sizeof waste, MSG_DONTWAIT);

    if (n > 0)
        l->size += (size_t)n;
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR) || l->size > FAREWELL_SIZE_MAX)
        farewell_end(l);
}

static void farewell_timeout(struct timer *t)
{
    farewell_end(CONTAINER_OF(t, struct farewell, timer));
}

static void farewell_begin(int fd_of_mhd)
{
    int fd = fcntl(fd_of_mhd, F_DUPFD_CLOEXEC, 0);
    struct farewell *l;

    if (fd < 0)
        return;
    if (server.farewell_count == FAREWELL_COUNT_MAX) /* the oldest had the most time */
        farewell_end(CONTAINER_OF(server.farewells.next, struct farewell, link));
    server.farewell_count++;
    shutdown(fd, SHUT_WR);
    l = memory_alloc(sizeof *l);
    l->lfd = (struct loop_fd){.fd = fd, .ready = farewell_ready};
    l->timer.fire = farewell_timeout;
    list_append(&server.farewells, &l->link);
    loop_fd_set(&l->lfd, EPOLLIN | EPOLLRDHUP);
    timer_set(&l->timer, loop_deadline(FAREWELL_MS));
}

/* ---- connections ----------------------------------------------------------------------------- */
struct http_connection *http_connection_of(struct MHD_Connection *mhd)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

    CHECK_OBJ((struct http_connection *)info->socket_context, HTTP_CONNECTION_MAGIC);
    return info->socket_context;
}

void http_connection_limit(struct http_connection *c, int64_t duration_ms)
{
    if (duration_ms == NO_DEADLINE)
        timer_clear(&c->limit);
    else
        timer_set(&c->limit, loop_deadline(duration_ms));
}

static void limit_reached(struct timer *t)
{
    struct http_connection *c = CONTAINER_OF(t, struct http_connection, limit);

    if (c->request != NULL)
        http_request_expire(c->request);
    shutdown(c->fd, SHUT_RDWR); /* libmicrohttpd sees the end and closes it */
    http_server_kick();
}

/* The client's half of the connection ended. It may wait for its answer still (curl does not, "nc
 * -N" does), so a running request gets the time that any silence gets. When both halves are gone it
 * is called off. */
static void client_left(struct loop_fd *lfd, uint32_t events)
{
    struct http_connection *c = CONTAINER_OF(lfd, struct http_connection, watch);

    c->saw_end = true;
    if (c->request == NULL)
        return;
    if (events & (EPOLLHUP | EPOLLERR)) {
        http_request_cancel(c->request);
        shutdown(c->fd, SHUT_RDWR);
    } else {
        http_connection_limit(c, config.http_timeout);
    }
}

static struct http_connection *connection_new(int fd, const struct http_client *client,
                                              bool is_counted)
{
    struct http_connection *c = memory_alloc(sizeof *c);

    c->magic = HTTP_CONNECTION_MAGIC;
    c->client = *client;
    c->fd = fd;
    c->is_counted = is_counted;
    c->watch = (struct loop_fd){.fd = fd, .ready = client_left};
    c->limit.fire = limit_reached;
    list_prepend(&server.connections, &c->link);
    if (is_counted)
        metric_add(METRIC_connections_open, 1);
    return c;
}

static void connection_free(struct http_connection *c)
{
    if (c->owner != NULL)
        *c->owner = NULL;
    loop_fd_set(&c->watch, 0);
    timer_clear(&c->limit);
    list_remove(&c->link);
    if (c->is_counted) {
        metric_add(METRIC_connections_open, -1);
        admission_leave(&c->client.address);
    }
    c->magic = 0;
    free(c);
}

/* libmicrohttpd may take a connection in later than MHD_add_connection returns. The newest come
 * first. */
static struct http_connection *connection_by_fd(int fd)
{
    LIST_EACH (at, &server.connections) {
        struct http_connection *c = CONTAINER_OF(at, struct http_connection, link);
        if (c->fd == fd)
            return c;
    }
    return NULL;
}

static void connection_cb(void *cls, struct MHD_Connection *mhd, void **socket_context,
                          enum MHD_ConnectionNotificationCode code)
{
    struct http_connection *c = *socket_context;

    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        const union MHD_ConnectionInfo *info =
            MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD);
        *socket_context = connection_by_fd(info->connect_fd);
        return;
    }
    if (c == NULL)
        return;
    CHECK_OBJ(c, HTTP_CONNECTION_MAGIC);
    assert(c->request == NULL);
    if (c->lingers)
        farewell_begin(c->fd);
    connection_free(c);
}

static struct http_connection *refuse(int fd, struct error *err, const char *sentence)
{
    close(fd);
    metric_inc(METRIC_connections_refused);
    return fail_null(err, ERR_LIMIT, "%s", sentence);
}

struct http_connection *http_server_add(int fd, const struct http_client *client, bool is_counted,
                                        struct error *err)
{
    const struct sockaddr *address = (const struct sockaddr *)&client->address;
    struct http_connection *c;

    if (server.daemon == NULL || server.is_draining)
        return refuse(fd, err, "the server is shutting down");
    if (is_counted && !admission_enter(&client->address))
        return refuse(fd, err, "too many connections from one address");
    c = connection_new(fd, client, is_counted);
    http_connection_limit(c, config.http_timeout);
    loop_fd_set(&c->watch, EPOLLRDHUP | EPOLLET);
    if (MHD_add_connection(server.daemon, fd, address, sizeof client->address) != MHD_YES) {
        c = connection_by_fd(fd); /* unless the call-back has freed it */
        if (c != NULL)
            connection_free(c);
        return fail_null(err, ERR_LIMIT, "libmicrohttpd refused the connection");
    }
    http_server_kick();
    return c;
}

void http_server_drain(void)
{
    server.is_draining = true;
}

/* ---- life ------------------------------------------------------------------------------------ */
/* Targets are decoded by us, segment by segment. */
static size_t keep_escapes(void *cls, struct MHD_Connection *mhd, char *s)
{
    return strlen(s);
}

static struct MHD_Daemon *start_daemon(void)
{
    unsigned idle_s = (unsigned)((config.http_timeout + 999) / 1000) + 1;
    unsigned count_max = (unsigned)config.connections_max;

    return MHD_start_daemon(
        MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL,
        http_request_cb, NULL, MHD_OPTION_URI_LOG_CALLBACK, http_request_new_cb, NULL,
        MHD_OPTION_NOTIFY_COMPLETED, http_request_completed_cb, NULL, MHD_OPTION_NOTIFY_CONNECTION,
        connection_cb, NULL, MHD_OPTION_UNESCAPE_CALLBACK, keep_escapes, NULL,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)HTTP_HEAD_SIZE_MAX, MHD_OPTION_CONNECTION_LIMIT,
        count_max, MHD_OPTION_CONNECTION_TIMEOUT, idle_s, MHD_OPTION_END);
}

int http_start(const struct http_route *routes, size_t count, struct error *err)
{
    const union MHD_DaemonInfo *info;

    assert(server.daemon == NULL);
    server.daemon = start_daemon();
    if (server.daemon == NULL)
        return fail(err, ERR_INTERNAL, "libmicrohttpd does not start");
    server.routes = routes;
    server.route_count = count;
    server.is_draining = server.is_stopping = false;
    list_init(&server.connections);
    list_init(&server.farewells);
    server.run.run = run_daemon;
    server.timer.fire = timer_fired;
    info = MHD_get_daemon_info(server.daemon, MHD_DAEMON_INFO_EPOLL_FD);
    server.epoll = (struct loop_fd){.fd = info->epoll_fd, .ready = epoll_ready};
    loop_fd_set(&server.epoll, EPOLLIN);
    return 0;
}

static void wait_for_requests(int64_t duration_ms)
{
    int64_t deadline_ms = loop_deadline(duration_ms);

    while (http_request_count() > 0 && loop_now_ms() < deadline_ms)
        if (fiber_sleep(10) != WAKE_READY && fiber_cancelled())
            break;
}

static void cancel_requests(void)
{
    LIST_EACH (at, &server.connections) {
        struct http_connection *c = CONTAINER_OF(at, struct http_connection, link);
        if (c->request != NULL)
            http_request_cancel(c->request);
    }
}

/* libmicrohttpd must not be stopped while a connection is suspended. */
static void resume_requests(void)
{
    LIST_EACH (at, &server.connections) {
        struct http_connection *c = CONTAINER_OF(at, struct http_connection, link);
        if (c->request != NULL)
            http_request_resume(c->request);
    }
    MHD_run(server.daemon);
}

void http_stop(void)
{
    if (server.daemon == NULL)
        return;
    http_server_drain();
    wait_for_requests(config.drain_timeout);
    server.is_stopping = true;
    cancel_requests();
    wait_for_requests(CANCEL_MS);
    loop_fd_set(&server.epoll, 0);
    timer_clear(&server.timer);
    resume_requests();
    MHD_stop_daemon(server.daemon);
    server.daemon = NULL;
    while (!list_is_empty(&server.farewells))
        farewell_end(CONTAINER_OF(server.farewells.next, struct farewell, link));
}
