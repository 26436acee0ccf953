/* http.h - libmicrohttpd on fibers: one handler call per request, top to bottom.
 *
 *   static const struct http_route routes[] = {
 *       {"GET",  "/healthz",       handle_health,  0},
 *       {"*",    "/dav/...",       handle_dav,     0},        ("..." matches the rest, "{x}" one segment)
 *   };
 *
 * A handler runs in its own fiber, reads the body if it wants one, and answers once. HEAD is answered from GET.
 * A path with routes but none for the method: 405 with Allow. Errors become answers in one table (http_answer_error). */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "server/base/arena.h"
#include "server/base/error.h"
#include "server/base/log.h"
#include "server/base/str.h"
#include "server/run/service.h"

struct http_request;

struct http_route {
    const char *method;
    const char *pattern;
    PARKS void (*handle)(struct http_request *);
    uint64_t body_max;                                  /* bytes; 0: config.http_body_max */
};

/* --- request ------------------------------------------------------------------------------------ */
struct arena *http_arena(struct http_request *r);       /* ends with the request */
struct log *http_log(struct http_request *r);
struct str http_method(const struct http_request *r);
struct str http_path(const struct http_request *r);     /* decoded; dot segments and NUL were refused with 400 */
struct str http_path_param(const struct http_request *r, const char *name);   /* "{name}", or "..." for the rest */
struct str http_query(const struct http_request *r, const char *name);        /* decoded; empty when absent */
struct str http_header(const struct http_request *r, const char *name);       /* first of that name; empty when absent */
struct str http_peer(const struct http_request *r);
/* Secure: a password may come this way (as conn_is_secure). TLS: absolute URLs begin with https.
 * What proxies claim in header fields is not believed. */
bool http_is_secure(const struct http_request *r);
bool http_is_tls(const struct http_request *r);

/* The body: the whole (ERR_TOO_BIG beyond the route's limit), or block by block (0 bytes: its end). */
PARKS int http_read_body(struct http_request *r, struct str *body, struct error *err);
PARKS int http_read_block(struct http_request *r, struct str *block, struct error *err);

/* --- response ----------------------------------------------------------------------------------- */
/* Fields go before the answer. A later value replaces an earlier one, but for Set-Cookie, WWW-Authenticate and Link.
 * The body is copied. An error after http_begin cuts the stream, so that the client sees that it is not whole. */
void http_set_header(struct http_request *r, const char *name, struct str value);
void http_answer(struct http_request *r, unsigned status, const char *content_type, struct str body);
void http_answer_error(struct http_request *r, const struct error *err);
/* Streaming: begins a chunked answer (or of known size), then writes that park while the client is slow; end it by returning. */
PARKS int http_begin(struct http_request *r, unsigned status, const char *content_type, int64_t size, struct error *err);
PARKS int http_write(struct http_request *r, struct str block, struct error *err);

/* If-None-Match / If-Modified-Since against an etag (quoted) and a time (0: none): answers 304 or 412 itself and returns true. */
bool http_answer_if_unchanged(struct http_request *r, struct str etag, int64_t modified_unix_s);

/* Files below a folder: types by suffix, strong etags, ranges, .br and .gz neighbours where accepted, immutable caching for
 * names with a content hash in assets/. Refuses what leads outside. */
PARKS void http_answer_file(struct http_request *r, const char *folder, struct str path);

/* --- life ----------------------------------------------------------------------------------------- */
extern const struct service http_service;               /* for 80 and 443: hands sockets to libmicrohttpd */
int http_start(const struct http_route *routes, size_t count, struct error *err);   /* in the worker */
PARKS void http_stop(void);                             /* lets running requests finish within the drain time */

extern const struct http_route http_builtin_routes[];   /* /healthz, /metrics */
extern const size_t http_builtin_route_count;
