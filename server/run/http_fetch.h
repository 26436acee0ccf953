/* http_fetch.h - one request to a web server, by HTTPS, or to a neighbour, in the clear: no redirects, limits on everything.
 *
 * The smallest client that RFC 8461, 3.3 and RFC 8460, 5.4 ask for. A web server that stalls holds a fiber and no helper
 * thread, names are looked up as everywhere else, and one set of rules says which certificates are good. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "server/base/arena.h"
#include "server/base/error.h"
#include "server/base/str.h"
#include "server/run/dial.h"
#include "server/run/dial_target.h"
#include "server/run/fiber.h"

struct http_fetch_field { struct str name, value; };     /* value: what could end the line is sent as a space */

struct http_fetch {
    struct str host;                                    /* of HTTPS, or for the field Host alone */
    uint16_t port;                                      /* of HTTPS */
    const struct dial_target *plain;                    /* HTTP without TLS goes there; NULL: HTTPS to the host */
    struct str target;                                  /* "/path?query" */
    const char *accept;                                 /* a media type; NULL: whatever comes */
    const char *content_type;                           /* of what is posted; NULL: GET */
    struct str content;
    const struct http_fetch_field *fields;              /* more of them in the request; names are tokens */
    size_t field_count;
    enum dial_verify verify;                            /* DIAL_TLS_PKIX or DIAL_TLS_ANY */
    struct str refused_networks;                        /* addresses that are not connected to */
    int64_t timeout_ms;                                 /* of the whole request */
    size_t size_max;                                    /* of the body of an answer 2xx; 0: it is not read */
    /* the answer, in the arena: */
    int status;                                         /* 0: there was none */
    struct str type;                                    /* media type without parameters */
    struct str body;
    bool is_untrusted;                                  /* it failed because of the certificate */
};

/* -1 when there was no whole answer: ERR_TRY_LATER, ERR_TIMED_OUT, ERR_CLOSED, ERR_DENIED (certificate), ERR_SYNTAX
 * (no HTTP/1.1), ERR_TOO_BIG. An answer with any status is 0. */
PARKS int http_fetch(struct arena *a, struct http_fetch *f, struct error *err);

/* "https://host:8443/path" -> its three parts; the port is 443 and the target "/" when they are left out. False: it is no such
 * URL, or one with a user, a fragment or what must not stand in a request. */
bool http_url_parse(struct str url, struct str *host, uint16_t *port, struct str *target);
