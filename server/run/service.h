/* service.h - what a protocol gives the runtime, and where it listens.
 *
 *   accept -> PROXY header -> TLS (implicit) -> open: greeting -> step, step, ... -> close
 *
 * open, step and close run in a pooled fiber and may park. Between steps the connection rests. */
#pragma once
#include <stdint.h>
#include "server/base/error.h"
#include "server/run/conn.h"

enum step {
    STEP_REST,           /* call again when there is input or an event */
    STEP_END,            /* flush and close                            */
};

enum tls_mode {
    TLS_NONE,            /* never                    */
    TLS_OFFERED,         /* STARTTLS by the protocol */
    TLS_IMPLICIT,        /* from the first byte      */
};

struct service {
    const char *name;                                   /* "imap": in logs and metrics */
    /* Makes the session and writes the greeting; NULL to refuse (the conn is flushed and closed). `endpoint`
     * is the listener's tag from struct endpoint, so that one protocol can tell 25 from 587. */
    PARKS void *(*open)(struct conn *c, int tag);
    PARKS enum step (*step)(void *session);
    PARKS void (*close)(void *session);                 /* frees the session; the conn is closed after it */
    /* What a client hears that is one too many, without its CRLF; NULL: nothing. Not sent where TLS is implicit. */
    const char *busy;
};

struct endpoint {
    const struct service *service;
    int tag;                                            /* the protocol's own meaning */
    const char *setting;                                /* name of its setting, for messages: "listen_imap" */
    const char *addresses;                              /* the setting's value: "0.0.0.0, [::], 192.0.2.1:2525 proxy, unix:/run/x" */
    uint16_t port;                                      /* standard port, before --port-offset */
    enum tls_mode tls;
};
