/* listener.c - from a setting's list of addresses to accepted connections.
 *
 * Sockets are level-triggered: what is left in a queue is told again. When the process has no
 * descriptor left, accepting pauses for a moment, for the queue would be told for ever. */
#include "server/run/listener.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "server/base/log.h"
#include "server/base/memory.h"
#include "server/run/admission.h"
#include "server/run/config.h"
#include "server/run/conn_internal.h"
#include "server/run/tls.h"

#define ACCEPT_BATCH    64 /* then the connections we have get their turn */
#define ACCEPT_PAUSE_MS 100
#define BIND_WAIT_MS    5000
#define BIND_RETRY_MS   100
#define WORKER_ANY      UINT_MAX /* a socket shared by all */

/* What one entry of a setting's list says. */
struct address {
    union {
        struct sockaddr sa;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
        struct sockaddr_un un;
    };
    socklen_t size;
    bool expects_proxy;
    char text[sizeof(((struct sockaddr_un *)0)->sun_path) + 8];
};

struct listener {
    struct loop_fd io;
    const struct endpoint *endpoint;
    unsigned worker;
    bool expects_proxy;
    char *text; /* shared with no other listener */
    unsigned port;
};

static struct {
    struct listener *all;
    size_t count;
    bool is_paused, is_accepting;
    struct timer pause;
} listeners;

/* ---- addresses ----------------------------------------------------------------------------- */

static int bad_address(const struct endpoint *e, struct str entry, const char *mend,
                       struct error *err)
{
    return fail(err, ERR_SYNTAX, "%s: \"%.*s\": %s", e->setting, (int)(entry.n < 60 ? entry.n : 60),
                entry.p, mend);
}

/* The port with --port-offset; 0 (any free one, for tests) stays. */
static int parse_port(const struct endpoint *e, struct str entry, struct str text, unsigned *port,
                      struct error *err)
{
    uint32_t number = e->port;

    if (text.n > 0 && (!str_to_u32(text, &number) || number > 65535))
        return bad_address(e, entry, "the port must be a number up to 65535", err);
    if (number != 0)
        number += (uint32_t)config.port_offset;
    if (number > 65535)
        return bad_address(e, entry, "the port is above 65535 with --port-offset added", err);
    *port = number;
    return 0;
}

/* "[v6]:port", "[v6]", "v6", "v4:port", "v4" into host and port. */
static bool split_host(struct str text, struct str *host, struct str *port)
{
    *port = STR_NULL;
    *host = text;
    if (text.n > 0 && text.p[0] == '[') {
        if (!str_cut(str_from(text, 1), ']', host, port))
            return false;
        return port->n == 0 || (str_skip_prefix(port, STR(":")) && port->n > 0);
    }
    if (str_index(text, ':') == str_rindex(text, ':') && str_cut(text, ':', host, port))
        return port->n > 0;
    return true;
}

static int parse_inet(const struct endpoint *e, struct str entry, struct str text,
                      struct address *out, struct error *err)
{
    struct str host, port_text;
    char name[INET6_ADDRSTRLEN];
    unsigned port;

    if (!split_host(text, &host, &port_text) || host.n == 0 || host.n >= sizeof name)
        return bad_address(e, entry, "write 192.0.2.1, [2001:db8::1]:25 or unix:/path", err);
    if (parse_port(e, entry, port_text, &port, err) < 0)
        return -1;
    memcpy(name, host.p, host.n);
    name[host.n] = '\0';
    if (inet_pton(AF_INET, name, &out->in.sin_addr) == 1) {
        out->in.sin_family = AF_INET;
        out->in.sin_port = htons((uint16_t)port);
        out->size = sizeof out->in;
        return 0;
    }
    if (inet_pton(AF_INET6, name, &out->in6.sin6_addr) == 1) {
        out->in6.sin6_family = AF_INET6;
        out->in6.sin6_port = htons((uint16_t)port);
        out->size = sizeof out->in6;
        return 0;
    }
    return bad_address(e, entry, "is not an address; names are not looked up here", err);
}

static int parse_unix(const struct endpoint *e, struct str entry, struct str path,
                      struct address *out, struct error *err)
{
    if (path.n == 0 || path.p[0] != '/')
        return bad_address(e, entry, "a unix socket needs an absolute path", err);
    if (path.n >= sizeof out->un.sun_path)
        return bad_address(e, entry, "the path is too long for a unix socket (107 bytes)", err);
    out->un.sun_family = AF_UNIX;
    memcpy(out->un.sun_path, path.p, path.n);
    out->size = sizeof out->un;
    return 0;
}

static int parse_address(const struct endpoint *e, struct str entry, struct address *out,
                         struct error *err)
{
    struct str rest = entry, text, word;

    memset(out, 0, sizeof *out);
    if (!str_next_token(&rest, ' ', &text))
        return bad_address(e, entry, "an address is missing between two commas", err);
    while (str_next_token(&rest, ' ', &word)) {
        if (!str_ieq(word, STR("proxy")))
            return bad_address(e, entry, "only the word \"proxy\" may follow an address", err);
        out->expects_proxy = true;
    }
    word = text;
    if (str_skip_prefix(&word, STR("unix:")))
        return parse_unix(e, entry, word, out, err);
    return parse_inet(e, entry, text, out, err);
}

static unsigned address_port(const struct address *a)
{
    return a->sa.sa_family == AF_INET    ? ntohs(a->in.sin_port)
           : a->sa.sa_family == AF_INET6 ? ntohs(a->in6.sin6_port)
                                         : 0;
}

static void address_format(struct address *a)
{
    char host[INET6_ADDRSTRLEN];

    if (a->sa.sa_family == AF_UNIX) {
        snprintf(a->text, sizeof a->text, "unix:%s", a->un.sun_path);
    } else if (a->sa.sa_family == AF_INET) {
        inet_ntop(AF_INET, &a->in.sin_addr, host, sizeof host);
        snprintf(a->text, sizeof a->text, "%s:%u", host, address_port(a));
    } else {
        inet_ntop(AF_INET6, &a->in6.sin6_addr, host, sizeof host);
        snprintf(a->text, sizeof a->text, "[%s]:%u", host, address_port(a));
    }
}

/* ---- sockets ------------------------------------------------------------------------------- */

static void set_option(int fd, int level, int option)
{
    int on = 1;

    setsockopt(fd, level, option, &on, sizeof on);
}

/* Accepted sockets inherit TCP_NODELAY and SO_KEEPALIVE: two system calls less for each client. */
static int socket_open(const struct address *a, bool is_shared_port)
{
    int fd = socket(a->sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0 || a->sa.sa_family == AF_UNIX)
        return fd;
    set_option(fd, SOL_SOCKET, SO_REUSEADDR);
    set_option(fd, SOL_SOCKET, SO_KEEPALIVE);
    set_option(fd, IPPROTO_TCP, TCP_NODELAY);
    if (is_shared_port)
        set_option(fd, SOL_SOCKET, SO_REUSEPORT);
    if (a->sa.sa_family == AF_INET6)
        set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY);
    return fd;
}

static int close_with_errno(int fd)
{
    int error = errno;

    close(fd);
    errno = error;
    return -1;
}

/* Bound and listening, or -1 with errno. */
static int socket_bind(const struct address *a, bool is_shared_port)
{
    int fd = socket_open(a, is_shared_port);

    if (fd < 0)
        return -1;
    if (bind(fd, &a->sa, a->size) < 0 || listen(fd, (int)config.listen_backlog) < 0)
        return close_with_errno(fd);
    if (a->sa.sa_family == AF_UNIX)
        chmod(a->un.sun_path, 0666); /* as open as a port of the loopback address */
    return fd;
}

/* A socket file outlives its server. Gone only when nobody answers there. */
static void remove_stale_socket(const struct address *a)
{
    struct stat st;
    int fd;

    if (lstat(a->un.sun_path, &st) < 0 || !S_ISSOCK(st.st_mode))
        return;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, &a->sa, a->size) < 0 && errno == ECONNREFUSED)
        unlink(a->un.sun_path);
    if (fd >= 0)
        close(fd);
}

/* With SO_REUSEPORT a second server of the same user would share our port unnoticed, so the first
 * attempt does without: it fails when anybody at all listens there. */
static int probe(const struct address *a)
{
    int fd;

    if (a->sa.sa_family == AF_UNIX) {
        remove_stale_socket(a);
        return 0;
    }
    if (address_port(a) == 0)
        return 0;
    fd = socket_bind(a, false);
    if (fd < 0)
        return -1;
    close(fd);
    return 0;
}

/* Workers of a supervisor that was killed need a moment to end. */
static int bind_patiently(const struct address *a)
{
    const struct timespec moment = {.tv_nsec = BIND_RETRY_MS * 1000000L};

    for (int waited_ms = 0;; waited_ms += BIND_RETRY_MS) {
        int fd = probe(a) < 0 ? -1 : socket_bind(a, true);

        if (fd >= 0 || errno != EADDRINUSE || waited_ms >= BIND_WAIT_MS)
            return fd;
        nanosleep(&moment, NULL);
    }
}

static int bind_failed(const struct endpoint *e, const struct address *a, struct error *err)
{
    int error = errno;
    const char *mend = "check the address";

    if (error == EADDRINUSE)
        mend = "another program listens there: stop it, or choose another address or port";
    else if (error == EACCES && a->sa.sa_family != AF_UNIX)
        mend = "start as root, grant CAP_NET_BIND_SERVICE, or use --port-offset 10000";
    else if (error == EADDRNOTAVAIL)
        mend = "this machine has no such address";
    else if (error == EACCES || error == ENOENT)
        mend = "the folder must exist and be writable";
    fail(err, ERR_INTERNAL, "%s: cannot listen on %.90s (%s): %s", e->setting, a->text,
         strerror(error), mend);
    errno = error;
    return -1;
}

/* ---- binding all --------------------------------------------------------------------------- */

static void add_listener(const struct endpoint *e, const struct address *a, unsigned worker, int fd)
{
    struct listener *l;

    listeners.all = memory_resize(listeners.all, (listeners.count + 1) * sizeof *listeners.all);
    l = &listeners.all[listeners.count++];
    *l = (struct listener){
        .io = {.fd = fd},
        .endpoint = e,
        .worker = worker,
        .expects_proxy = a->expects_proxy,
        .text = memory_copy_str(str_c(a->text)),
        .port = address_port(a),
    };
}

static bool is_wildcard6(const struct address *a)
{
    return a->sa.sa_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&a->in6.sin6_addr);
}

/* The first socket of an address, or -1 with errno; the other workers' follow, on the port that this one got. */
static int bind_first(const struct endpoint *e, struct address *a, struct error *err)
{
    socklen_t size = a->size;
    int fd;

    address_format(a);
    fd = bind_patiently(a);
    if (fd < 0)
        return bind_failed(e, a, err);
    if (a->sa.sa_family != AF_UNIX)
        getsockname(fd, &a->sa, &size);
    address_format(a);
    return fd;
}

static int bind_address(const struct endpoint *e, struct address *a, unsigned workers,
                        struct error *err)
{
    struct error own = {0};
    int fd = bind_first(e, a, &own);

    if (fd < 0 && is_wildcard6(a) && (errno == EAFNOSUPPORT || errno == EADDRNOTAVAIL)) {
        log_warn(NULL, "no_ipv6", KV("setting", e->setting));
        return 0;
    }
    if (fd < 0)
        return fail(err, own.kind, "%s", own.text);
    if (a->sa.sa_family == AF_UNIX) {
        add_listener(e, a, WORKER_ANY, fd);
        return 0;
    }
    add_listener(e, a, 0, fd);
    for (unsigned worker = 1; worker < workers; worker++) {
        fd = socket_bind(a, true);
        if (fd < 0)
            return bind_failed(e, a, err);
        add_listener(e, a, worker, fd);
    }
    return 0;
}

static int bind_endpoint(const struct endpoint *e, unsigned workers, struct error *err)
{
    struct str rest = str_trim(str_c(e->addresses)), entry;

    while (rest.n > 0) {
        struct address a;

        str_cut(rest, ',', &entry, &rest);
        if (parse_address(e, str_trim(entry), &a, err) < 0 || bind_address(e, &a, workers, err) < 0)
            return -1;
    }
    return 0;
}

int listener_bind_all(const struct endpoint *endpoints, size_t count, unsigned workers,
                      struct error *err)
{
    assert(workers > 0);
    tls_prepare_tickets();
    for (size_t i = 0; i < count; i++) {
        if (bind_endpoint(&endpoints[i], workers, err) == 0)
            continue;
        listener_fini();
        return -1;
    }
    return 0;
}

bool listener_info(size_t index, struct listener_info *out)
{
    for (size_t i = 0; i < listeners.count; i++) {
        const struct listener *l = &listeners.all[i];

        if ((l->worker != 0 && l->worker != WORKER_ANY) || index-- > 0)
            continue;
        *out = (struct listener_info){.endpoint = l->endpoint, .address = l->text, .port = l->port};
        return true;
    }
    return false;
}

/* ---- accepting ----------------------------------------------------------------------------- */

static void set_accepting(bool is_on)
{
    for (size_t i = 0; i < listeners.count; i++) {
        struct listener *l = &listeners.all[i];

        if (l->io.fd < 0)
            continue;
        loop_fd_set(&l->io, !is_on                    ? 0
                            : l->worker == WORKER_ANY ? EPOLLIN | EPOLLEXCLUSIVE
                                                      : EPOLLIN);
    }
}

static void pause_ends(struct timer *t)
{
    listeners.is_paused = false;
    set_accepting(true);
}

static void pause_accepting(int error)
{
    listeners.is_paused = true;
    set_accepting(false);
    listeners.pause.fire = pause_ends;
    timer_set(&listeners.pause, loop_deadline(ACCEPT_PAUSE_MS));
    log_warn(NULL, "accept_paused", KV("reason", (const char *)strerror(error)),
             KV("connections", conn_count()));
}

static bool is_shortage(int error)
{
    return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM;
}

/* Other errors belong to a client that left before we took it (accept(2)); the next one follows. */
static void accept_clients(struct loop_fd *lfd, uint32_t events)
{
    struct listener *l = CONTAINER_OF(lfd, struct listener, io);

    for (int i = 0; i < ACCEPT_BATCH && !listeners.is_paused; i++) {
        int fd = accept4(lfd->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (fd >= 0)
            conn_start(conn_new(fd, l->endpoint, l->expects_proxy));
        else if (errno == EAGAIN || errno == EWOULDBLOCK)
            return;
        else if (is_shortage(errno))
            pause_accepting(errno);
    }
}

int listener_start(unsigned worker_index, struct error *err)
{
    for (size_t i = 0; i < listeners.count; i++) {
        struct listener *l = &listeners.all[i];

        l->io.ready = accept_clients;
        if (l->worker != worker_index && l->worker != WORKER_ANY && l->io.fd >= 0) {
            close(l->io.fd);
            l->io.fd = -1;
        }
    }
    listeners.is_accepting = true;
    set_accepting(true);
    return 0;
}

static void stop_accepting(void)
{
    if (!listeners.is_accepting)
        return;
    listeners.is_accepting = listeners.is_paused = false;
    timer_clear(&listeners.pause);
    set_accepting(false);
}

/* Our copies of the sockets are closed as well, so that a successor can bind the port at once. */
static void close_sockets(void)
{
    for (size_t i = 0; i < listeners.count; i++) {
        if (listeners.all[i].io.fd >= 0)
            close(listeners.all[i].io.fd);
        listeners.all[i].io.fd = -1;
    }
}

void listener_drain(void)
{
    stop_accepting();
    close_sockets();
    conn_drain_all();
}

void listener_cut(void)
{
    conn_cancel_all();
}

unsigned listener_connection_count(void)
{
    return conn_count();
}

void listener_fini(void)
{
    stop_accepting();
    close_sockets();
    for (size_t i = 0; i < listeners.count; i++)
        free(listeners.all[i].text);
    free(listeners.all);
    listeners.all = NULL;
    listeners.count = 0;
    admission_fini();
    conn_buffer_pool_fini();
    conn_tls_fini();
    conn_zip_pool_fini();
}
