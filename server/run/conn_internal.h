/* conn_internal.h - what conn.c (bytes), conn_tls.c, conn_life.c (steps) and listener.c share. Tests make connections with it. */
#pragma once
#include <openssl/ssl.h>
#include "server/base/list.h"
#include "server/run/conn.h"
#include "server/run/conn_buffer.h"
#include "server/run/conn_zip.h"
#include "server/run/loop.h"
#include "server/run/service.h"
#include "server/run/tls_io.h"

#define CONN_MAGIC          0xc0119ec7u
#define SESSION_ID_SIZE     10
#define PEER_TEXT_SIZE      46                          /* INET6_ADDRSTRLEN */

enum {
    WAIT_READ = 1,       /* the socket may be readable               */
    WAIT_WRITE = 2,      /* the socket may be writable               */
    WAIT_EVENT = 4,      /* a wake (drain always ends a wait)        */
};

enum wake_mark {
    NO_WAKE,
    WAKE_NEW,
    WAKE_OFFERED,        /* the running step was called with it; dropped when it does not take it */
};

struct conn {
    unsigned magic;
    int tag;
    const struct service *service;
    void *session;                                      /* NULL before open and after close */
    struct list link;                                   /* all connections of the worker */
    struct loop_fd io;                                  /* registered once, edge-triggered */
    struct timer rest_timer;                            /* left set while a step runs; it looks before it acts */
    struct fiber *fiber;                                /* lent to us; NULL at rest */
    struct fiber *waiter;                               /* the same, while it waits here for waits_for */
    SSL *ssl;
    char *tls_text;
    struct conn_zip *zip;                               /* NULL: not compressed. `in` and `out` are plain always */

    unsigned waits_for;                                 /* WAIT_... */
    enum wake_mark wake;
    enum tls_mode tls_mode;
    enum error_kind failure;                            /* ERR_NONE, or why nothing can be sent any more */
    bool expects_proxy;
    bool is_tcp;
    bool is_admitted;                                   /* counted by admission.h */
    bool may_read, may_write;                           /* the last attempt did not say EAGAIN, or an edge came since */
    bool peer_hung_up;                                  /* EPOLLRDHUP: short reads prove nothing any more */
    bool is_eof;
    bool line_had_cr;
    bool is_open;                                       /* the service's open() accepted it */
    bool is_ending;                                     /* no more steps, no more wakes */
    bool is_detached;
    bool rest_timed_out;                                /* not yet reported by a read */
    bool drain_reported;                                /* conn_wait_event has said so */
    bool step_has_input;                                /* this step took some: it is in the middle of a command */
    bool has_new_input;                                 /* since the rest timeout was last counted anew */

    struct conn_buffer in, out;
    struct conn_buffer ahead;                           /* of the TLS handshake, what came in one packet with a PROXY header */
    size_t in_seen;                                     /* of `in`: shown by the last conn_fill() */
    int64_t deadline_ms, deadline_duration_ms;
    size_t output_max; /* bytes that may pend */
    int64_t rest_since_ms, rest_timeout_ms;

    struct sockaddr_storage peer, local;
    char peer_text[PEER_TEXT_SIZE];
    char session_id[SESSION_ID_SIZE + 1];
    struct log log;
};

/* --- conn_life.c --- */
/* Takes fd. Nothing happens before conn_start(), which lends the first fiber: PROXY header, TLS, open, steps. */
struct conn *conn_new(int fd, const struct endpoint *endpoint, bool expects_proxy);
void conn_start(struct conn *c);

unsigned conn_count(void);                              /* alive in this worker */
void conn_cancel_all(void);                             /* commands in progress too: the drain time is over */
void conn_drain_all(void);                              /* from now on, new ones too */
void conn_undrain(void);                                /* tests */

bool conn_worker_is_draining(void);

/* --- conn.c --- */
void conn_ready(struct loop_fd *lfd, uint32_t events);
/* Gives the fiber away until the socket, a wake or a drain may have changed something. */
PARKS enum wake conn_park(struct conn *c, unsigned waits_for, int64_t deadline_ms);
/* Takes what is there without waiting. True when `in` grew. */
bool conn_poll_input(struct conn *c);
/* Sends until all is out or the socket is full; says what to wait for (0: nothing). */
unsigned conn_send_pending(struct conn *c);
size_t conn_unsent(const struct conn *c);               /* bytes that are still to be sent, compressed or not */
/* Waits for more input in the buffer. */
PARKS int conn_more(struct conn *c, struct error *err);
/* One attempt at the socket itself: bytes, 0 at its end, -1 with errno. */
ssize_t conn_socket_receive(struct conn *c, void *to, size_t size);
ssize_t conn_socket_send(struct conn *c, const void *p, size_t size);
void conn_break(struct conn *c, enum error_kind why);   /* the first reason stays */
int64_t conn_rest_deadline(struct conn *c);             /* counts anew when there was input */
void conn_set_peer(struct conn *c, const struct sockaddr_storage *peer);

/* --- conn_tls.c --- */
PARKS int conn_handshake(struct conn *c, struct error *err);
/* One attempt through TLS. A record at a time is sent, so that what must be repeated is not shorter then. */
enum io conn_tls_receive(struct conn *c, void *to, size_t size, size_t *got);
enum io conn_tls_send(struct conn *c, struct str s, size_t *sent);
void conn_tls_fini(void);
