/* http_internal.h - what the files of server/http share.
 *
 *   http_server.c    libmicrohttpd in the worker's loop: sockets in, MHD_run, time limits, drain
 *   http_pump.c      the service: hands plain sockets over, carries TLS ones through a socketpair
 *   http_request.c   one request: the call-backs of libmicrohttpd on one side, its fiber on another
 *   http_response.c  answers, preconditions, the table of errors
 *   http_router.c    targets to routes; decoding of paths and queries
 *   http_file.c      files, ranges, encodings
 *   http_builtin.c   /healthz and /metrics
 *
 * Two stacks meet in a struct http_request. The call-backs run on the loop's stack, inside MHD_run,
 * and must neither park nor run fibers. The handler's fiber runs between MHD_runs and touches
 * libmicrohttpd only by MHD_resume_connection. While the fiber has the word, the connection is
 * suspended. */
#pragma once
#include <microhttpd.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include "server/base/arena.h"
#include "server/base/buf.h"
#include "server/base/list.h"
#include "server/base/log.h"
#include "server/base/object.h"
#include "server/http/http.h"
#include "server/run/channel.h"
#include "server/run/loop.h"

#define HTTP_CONNECTION_MAGIC 0x4854434eu
#define HTTP_REQUEST_MAGIC    0x48545251u

#define HTTP_HEAD_SIZE_MAX   (32 * 1024) /* request line, headers and libmicrohttpd's own needs */
#define HTTP_TARGET_SIZE_MAX (8 * 1024)
#define HTTP_BUFFER_SIZE     (64 * 1024) /* of a body, either way, between the two sides */
#define HTTP_SKIP_SIZE_MAX   (64 * 1024) /* body read and dropped to keep a connection alive */
#define HTTP_BODY_RATE_MIN   256         /* bytes/s below which a body counts as stalled */
#define HTTP_PARAMS_MAX      8

/* ---- sockets --------------------------------------------------------------------------------- */
struct http_client { /* who is at the other end; copied */
    struct sockaddr_storage address;
    char address_text[INET6_ADDRSTRLEN];
    char session[24];
    bool is_tls;
    bool is_secure;
};

struct http_connection { /* one socket in libmicrohttpd's hands */
    unsigned magic;
    struct list link;
    struct http_client client;
    int fd;
    bool is_counted;                /* no struct conn stands for it: we keep the counts */
    bool lingers;                   /* the client may still send: read on after the answer */
    bool saw_end;                   /* the client sends no more; it may still read */
    struct loop_fd watch;           /* libmicrohttpd is blind while a request is suspended */
    struct timer limit;             /* how long the present phase may take */
    struct http_request *request;   /* NULL between requests */
    struct http_connection **owner; /* set to NULL when this is freed; or NULL */
};

/* Gives a socket to libmicrohttpd, which closes it in the end. is_counted: see above. */
struct http_connection *http_server_add(int fd, const struct http_client *client, bool is_counted,
                                        struct error *err);
void http_server_drain(void); /* no new connections; each present one ends with its request */
void http_server_kick(void);  /* MHD_run at the end of this turn */
bool http_server_is_draining(void);
bool http_server_is_stopping(void); /* no request may begin, or be suspended, any more */
const struct http_route *http_server_routes(size_t *count);

/* The connection is shut when the phase has not ended in time; NO_DEADLINE: no limit. */
void http_connection_limit(struct http_connection *c, int64_t duration_ms);
struct http_connection *http_connection_of(struct MHD_Connection *mhd);

/* ---- requests -------------------------------------------------------------------------------- */
struct http_field {
    struct str name, value;
};

enum http_answer_kind { ANSWER_NONE, ANSWER_WHOLE, ANSWER_STREAM };

struct http_request {
    unsigned magic;
    struct arena *arena;
    struct log log;
    struct http_client client; /* outlives the connection */
    int64_t started_us;

    struct http_connection *connection; /* NULL once libmicrohttpd is done with the request */
    struct MHD_Connection *mhd;         /* likewise */
    struct fiber *fiber;                /* NULL before the handler and after it */
    bool is_suspended;
    bool is_begun;             /* the headers are here */
    struct wait_queue changed; /* the handler waits here for body and room */

    struct str method, target, path, query; /* target as sent; path decoded; query not */
    struct http_field *fields;
    size_t field_count;
    struct http_field params[HTTP_PARAMS_MAX];
    size_t param_count;
    const struct http_route *route;
    struct str allow; /* methods of this path, for 405 and OPTIONS */
    bool is_head;

    /* The body: libmicrohttpd fills `in`, the handler empties it. */
    uint64_t body_max, body_size; /* allowed; received so far */
    int64_t body_length;          /* announced; -1: chunked */
    bool expects_continue;
    bool body_flows; /* libmicrohttpd was let past the headers */
    bool body_ended;
    bool body_skipped; /* answered before its end: the rest is dropped */
    uint64_t skipped_size;
    struct buf in;
    struct buf lent;       /* the handler's since http_read_block: the other of two */
    struct buf whole_body; /* of http_read_body */
    int64_t waited_ms;     /* for the body, in all */

    /* The answer. */
    enum http_answer_kind answer;
    unsigned status;
    struct http_field *answer_fields;
    size_t answer_field_count, answer_field_cap;
    struct str answer_body;
    int64_t stream_size;              /* -1: unknown; of a 304, the size of the content spared */
    bool is_queued;                   /* libmicrohttpd has it */
    struct buf out;                   /* the handler fills, libmicrohttpd empties */
    uint64_t written_size, sent_size; /* into and out of it */
    bool out_ended;
    bool is_aborted; /* cut the connection: the answer cannot be finished */
};

/* Call-backs of libmicrohttpd (http_server.c registers them). */
void *http_request_new_cb(void *cls, const char *target, struct MHD_Connection *mhd);
enum MHD_Result http_request_cb(void *cls, struct MHD_Connection *mhd, const char *url,
                                const char *method, const char *version, const char *upload,
                                size_t *upload_size, void **context);
void http_request_completed_cb(void *cls, struct MHD_Connection *mhd, void **context,
                               enum MHD_RequestTerminationCode code);

ssize_t http_stream_cb(void *cls, uint64_t at, char *to, size_t size_max);

void http_request_resume(struct http_request *r);
void http_request_answered(struct http_request *r); /* an answer or the head of a stream is ready */
void http_request_cancel(struct http_request *r);   /* the client left or we shut down */
void http_request_expire(struct http_request *r);
unsigned http_request_count(void);
int64_t http_send_limit_ms(const struct http_request *r);

/* ---- answers --------------------------------------------------------------------------------- */
struct MHD_Response *http_response_make(struct http_request *r); /* for MHD_queue_response */
/* Where libmicrohttpd would not take an answer. */
void http_response_write_raw(struct http_request *r);
unsigned http_status_of(enum error_kind kind);
struct str http_answer_header(const struct http_request *r, const char *name);
const char *http_status_text(unsigned status);

/* ---- parsing --------------------------------------------------------------------------------- */
/* Decodes %XX (and '+' when asked). False on a bad escape, NUL or invalid UTF-8. */
bool http_percent_decode(struct arena *a, struct str s, bool plus_is_space, struct str *out);
bool http_path_is_safe(struct str decoded); /* begins with '/', no dot segments, no control bytes */
bool http_query_find(struct arena *a, struct str query, struct str name, struct str *value);
bool http_query_valid(struct arena *a, struct str query);

/* The route for a method and a raw path. NULL: *allow is empty (404) or lists the methods (405,
 * OPTIONS). */
const struct http_route *http_route_find(const struct http_route *routes, size_t count,
                                         struct arena *a, struct str method, struct str raw_path,
                                         struct http_field *params, size_t *param_count,
                                         struct str *allow);

enum http_range { RANGE_WHOLE, RANGE_PART, RANGE_UNSATISFIABLE };
/* "bytes=0-499". What is malformed, in other units or has several parts means the whole (RFC 9110,
 * 14.2). */
enum http_range http_range_parse(struct str value, uint64_t size, uint64_t *first,
                                 uint64_t *length);
bool http_etag_list_has(struct str list, struct str etag, bool weak);
/* The coding's weight in thousandths; -1 when the header does not speak of it (nor has a "*"). */
int http_accepted_weight(struct str accept, struct str what);
bool http_date_parse(struct str s, int64_t *unix_s);
struct str http_date(struct arena *a, int64_t unix_s);
bool http_accepts_json(struct str accept);

/* What name a path may have below a served folder: no empty, hidden or dot segments. */
bool http_file_path_is_safe(struct str path);
const char *http_file_type(struct str name);
bool http_file_is_immutable(struct str path);
