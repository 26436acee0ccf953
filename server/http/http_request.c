/* http_request.c - one request: libmicrohttpd's call-backs on one side, the handler's fiber on the
 * other.
 *
 *   headers --(fiber starts, connection suspended)--> handler
 *      handler reads   -> resumed, the body flows into `in`, suspended while that is full
 *      handler answers -> resumed, the answer is queued; a stream is suspended while `out` is empty
 *      client leaves   -> the fiber is cancelled; the last of both sides frees the request
 *
 * An answer given before the body's end: a small rest is read and dropped, so that the connection
 * lives on. Of a large rest, or of one that the client holds back until "100 Continue", nothing is
 * read: the answer goes out and the connection ends. */
#include "server/http/http_internal.h"
#include "server/run/config.h"
#include "server/run/metrics.h"

#define RAW_LIMIT_MS 1000 /* until libmicrohttpd sees that all is said */

static unsigned request_count;

unsigned http_request_count(void)
{
    return request_count;
}

/* ---- birth and death ------------------------------------------------------------------------- */
void *http_request_new_cb(void *cls, const char *target, struct MHD_Connection *mhd)
{
    struct arena *arena = arena_new();
    struct http_request *r = ARENA_NEW(arena, struct http_request);
    struct http_connection *c = http_connection_of(mhd);

    r->magic = HTTP_REQUEST_MAGIC;
    r->arena = arena;
    r->connection = c;
    r->client = c->client;
    r->mhd = mhd;
    r->target = arena_str(arena, str_c(target));
    r->started_us = loop_now_us();
    r->body_length = -1;
    r->stream_size = -1;
    r->is_aborted = http_server_is_stopping();
    wait_queue_init(&r->changed);
    buf_init(&r->in, HTTP_BUFFER_SIZE);
    buf_init(&r->lent, HTTP_BUFFER_SIZE);
    buf_init(&r->out, HTTP_BUFFER_SIZE);
    log_init(&r->log, NULL);
    log_add(&r->log, KV("service", "http"));
    log_add(&r->log, KV("session", (const char *)r->client.session));
    log_add(&r->log, KV("peer", (const char *)r->client.address_text));
    c->request = r;
    request_count++;
    return r;
}

static void request_free(struct http_request *r)
{
    struct arena *arena = r->arena;

    assert(r->mhd == NULL);
    assert(r->fiber == NULL);
    buf_fini(&r->in);
    buf_fini(&r->lent);
    buf_fini(&r->out);
    buf_fini(&r->whole_body);
    r->magic = 0;
    request_count--;
    arena_free(&arena);
}

static void log_request(struct http_request *r, enum MHD_RequestTerminationCode code)
{
    log_debug(&r->log, "http_request", KV("method", r->method), KV("path", r->path),
              KV("status", r->status), KV("received", r->body_size), KV("sent", r->sent_size),
              KV("duration_us", loop_now_us() - r->started_us),
              KV("complete", code == MHD_REQUEST_TERMINATED_COMPLETED_OK));
}

void http_request_completed_cb(void *cls, struct MHD_Connection *mhd, void **context,
                               enum MHD_RequestTerminationCode code)
{
    struct http_request *r = *context;

    if (r == NULL)
        return;
    CHECK_OBJ(r, HTTP_REQUEST_MAGIC);
    *context = NULL;
    log_request(r, code);
    if (r->is_begun)
        metric_inc(METRIC_http_requests);
    r->connection->request = NULL;
    http_connection_limit(r->connection, 2 * config.http_timeout); /* idle, then the next headers */
    r->connection = NULL;
    r->mhd = NULL;
    if (r->fiber == NULL) {
        request_free(r);
        return;
    }
    wait_queue_wake_all(&r->changed);
    if (code != MHD_REQUEST_TERMINATED_COMPLETED_OK)
        fiber_cancel(r->fiber);
}

/* ---- the two sides take turns ---------------------------------------------------------------- */
static void suspend(struct http_request *r)
{
    assert(!r->is_suspended);
    r->is_suspended = true;
    http_connection_limit(r->connection,
                          r->connection->saw_end ? config.http_timeout : NO_DEADLINE);
    MHD_suspend_connection(r->mhd);
}

void http_request_resume(struct http_request *r)
{
    if (r->mhd == NULL || !r->is_suspended)
        return;
    r->is_suspended = false;
    MHD_resume_connection(r->mhd); /* acts at the next MHD_run */
    http_server_kick();
}

void http_request_cancel(struct http_request *r)
{
    r->is_aborted = true;
    if (r->fiber != NULL)
        fiber_cancel(r->fiber);
    else
        http_request_resume(r);
}

static void run_handler(void *arg)
{
    struct http_request *r = arg;
    struct error err = {0};

    r->route->handle(r);
    if (r->answer == ANSWER_NONE) {
        fail(&err, fiber_cancelled() ? ERR_CANCELLED : ERR_INTERNAL,
             "the request was not answered");
        http_answer_error(r, &err);
    }
    r->out_ended = true;
    if (r->answer == ANSWER_STREAM && !r->is_head && r->stream_size >= 0 &&
        r->written_size != (uint64_t)r->stream_size)
        r->is_aborted = true;
    r->fiber = NULL;
    if (r->mhd == NULL)
        request_free(r);
    else
        http_request_resume(r);
}

/* ---- headers --------------------------------------------------------------------------------- */
static enum MHD_Result copy_field(void *cls, enum MHD_ValueKind kind, const char *name,
                                  size_t name_size, const char *value, size_t value_size)
{
    struct http_request *r = cls;

    r->fields[r->field_count++] = (struct http_field){
        arena_str(r->arena, str_of(name, name_size)),
        arena_str(r->arena, str_trim(str_of(value, value_size))),
    };
    return MHD_YES;
}

static void copy_fields(struct http_request *r)
{
    int count = MHD_get_connection_values(r->mhd, MHD_HEADER_KIND, NULL, NULL);

    r->fields = ARENA_ARRAY(r->arena, count > 0 ? (size_t)count : 1, struct http_field);
    MHD_get_connection_values_n(r->mhd, MHD_HEADER_KIND, copy_field, r);
}

static size_t count_fields(const struct http_request *r, const char *name)
{
    size_t count = 0;
    for (size_t i = 0; i < r->field_count; i++)
        count += str_ieq(r->fields[i].name, str_c(name));
    return count;
}

static bool is_token(struct str s)
{
    for (size_t i = 0; i < s.n; i++) {
        char c = ascii_lower(s.p[i]);
        bool is_alnum = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
        if (!is_alnum && (c == '\0' || strchr("!#$%&'*+-.^_`|~", c) == NULL))
            return false;
    }
    return s.n > 0;
}

static bool is_field_value(struct str s)
{
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if ((c < 0x20 && c != '\t') || c == 0x7f)
            return false;
    }
    return true;
}

static int check_fields(const struct http_request *r, const char *version, struct error *err)
{
    for (size_t i = 0; i < r->field_count; i++)
        if (!is_token(r->fields[i].name) || !is_field_value(r->fields[i].value))
            return fail(err, ERR_SYNTAX, "a header field of the request is malformed");
    if (count_fields(r, "Host") != 1 && strcmp(version, MHD_HTTP_VERSION_1_0) != 0)
        return fail(err, ERR_SYNTAX, "the request must have one Host field");
    return 0;
}

/* Two opinions about where a body ends are how requests are smuggled (RFC 9112, 6.3 and 11.2). */
static int read_body_length(struct http_request *r, struct error *err)
{
    struct str coding = http_header(r, "Transfer-Encoding"),
               length = http_header(r, "Content-Length");
    size_t length_count = count_fields(r, "Content-Length");
    uint64_t n = 0;

    if (count_fields(r, "Transfer-Encoding") > 0) {
        if (!str_ieq(coding, STR("chunked")) || count_fields(r, "Transfer-Encoding") > 1)
            return fail(err, ERR_UNSUPPORTED, "the only transfer coding understood is chunked");
        if (length_count > 0)
            return fail(err, ERR_SYNTAX, "the request has both a length and a transfer coding");
        return 0;
    }
    if (length_count > 1 || (length_count == 1 && !str_to_u64(length, &n)) || n > INT64_MAX)
        return fail(err, ERR_SYNTAX, "the request's Content-Length is not one number");
    r->body_length = (int64_t)n;
    return 0;
}

/* "http://host/path?query" (RFC 9112, 3.2.2) loses its first part. */
static struct str strip_authority(struct str target)
{
    struct str rest = target;

    if (!str_skip_prefix(&rest, STR("http://")) && !str_skip_prefix(&rest, STR("https://")))
        return target;
    ptrdiff_t slash = str_index(rest, '/');
    return slash < 0 ? STR("/") : str_from(rest, (size_t)slash);
}

static int find_route(struct http_request *r, struct error *err)
{
    size_t count;
    const struct http_route *routes = http_server_routes(&count);
    struct str raw_path;

    str_cut(strip_authority(r->target), '?', &raw_path, &r->query);
    if (!http_percent_decode(r->arena, raw_path, false, &r->path) || !http_path_is_safe(r->path)) {
        r->path = STR("");
        return fail(err, ERR_SYNTAX, "the path of the request is malformed");
    }
    if (!http_query_valid(r->arena, r->query))
        return fail(err, ERR_SYNTAX, "the query of the request is malformed");
    r->route = http_route_find(routes, count, r->arena, r->method, raw_path, r->params,
                               &r->param_count, &r->allow);
    if (r->route != NULL)
        r->body_max = r->route->body_max > 0 ? r->route->body_max : (uint64_t)config.http_body_max;
    return 0;
}

static void refuse(struct http_request *r, unsigned status, struct str sentence)
{
    r->route = NULL;
    http_answer(r, status, "text/plain; charset=utf-8", sentence);
}

/* What is answered without a handler. */
static void answer_unrouted(struct http_request *r)
{
    struct error err = {0};

    if (str_empty(r->allow)) {
        fail(&err, ERR_NOT_FOUND, "there is nothing at this address");
        http_answer_error(r, &err);
        return;
    }
    http_set_header(r, "Allow", r->allow);
    if (str_eq(r->method, STR("OPTIONS")))
        http_answer(r, 204, NULL, STR_NULL);
    else
        refuse(r, 405,
               arena_printf(r->arena, "%.*s is not possible here; allowed are: %.*s\n",
                            STR_ARG(str_head(r->method, 40)), STR_ARG(r->allow)));
}

static void examine(struct http_request *r, const char *version)
{
    struct error err = {0};

    if (r->target.n > HTTP_TARGET_SIZE_MAX)
        refuse(r, 414, STR("the address is longer than this server accepts\n"));
    else if (str_eq(r->target, STR("*")) && str_eq(r->method, STR("OPTIONS")))
        http_answer(r, 204, NULL, STR_NULL);
    else if (check_fields(r, version, &err) < 0 || read_body_length(r, &err) < 0 ||
             find_route(r, &err) < 0)
        http_answer_error(r, &err);
    else if (r->route == NULL)
        answer_unrouted(r);
}

static bool has_body(const struct http_request *r)
{
    return r->body_length != 0;
}

/* What an early answer ends the connection for: where the body begins and ends is in doubt, too. */
static bool is_rest_skipped(const struct http_request *r)
{
    return !r->expects_continue && r->body_length >= 0 && r->body_length <= HTTP_SKIP_SIZE_MAX &&
           r->status != 400;
}

static enum MHD_Result queue_answer(struct http_request *r)
{
    struct MHD_Response *response = http_response_make(r);
    enum MHD_Result result = MHD_queue_response(r->mhd, r->status, response);

    MHD_destroy_response(response); /* the connection holds its own reference */
    r->is_queued = true;
    http_connection_limit(r->connection, http_send_limit_ms(r));
    return result;
}

static void begin_body(struct http_request *r)
{
    r->body_flows = true;
    r->body_skipped = r->answer != ANSWER_NONE;
    http_connection_limit(r->connection, r->body_skipped ? config.http_timeout : NO_DEADLINE);
}

/* The body was not let in yet, and there is an answer or the handler wants to read. */
static enum MHD_Result leave_headers(struct http_request *r)
{
    if (r->answer != ANSWER_NONE && !is_rest_skipped(r)) {
        r->connection->lingers = true;
        return queue_answer(r); /* early: libmicrohttpd closes after it */
    }
    begin_body(r);
    return MHD_YES;
}

static enum MHD_Result begin(struct http_request *r, const char *method, const char *version)
{
    r->is_begun = true;
    r->method = arena_str(r->arena, str_c(method));
    r->is_head = str_eq(r->method, STR("HEAD"));
    copy_fields(r);
    r->expects_continue = str_ieq(http_header(r, "Expect"), STR("100-continue"));
    examine(r, version);
    if (r->answer == ANSWER_NONE)
        r->fiber = fiber_start("http", run_handler, r);
    if (has_body(r) && r->answer != ANSWER_NONE)
        return leave_headers(r);
    if (has_body(r))
        suspend(r);
    else
        begin_body(r); /* called again at once, for the end of nothing */
    return MHD_YES;
}

/* ---- body ------------------------------------------------------------------------------------ */
static enum MHD_Result skip_body(struct http_request *r, size_t *size)
{
    r->skipped_size += *size;
    *size = 0;
    if (r->skipped_size <= HTTP_SKIP_SIZE_MAX)
        return MHD_YES;
    http_response_write_raw(r);
    return MHD_NO;
}

static enum MHD_Result take_body(struct http_request *r, const char *data, size_t *size)
{
    size_t room = HTTP_BUFFER_SIZE - r->in.n;
    size_t n = *size < room ? *size : room;

    if (r->body_skipped)
        return skip_body(r, size);
    buf_add_bytes(&r->in, data, n);
    r->body_size += n;
    *size -= n;
    wait_queue_wake_all(&r->changed);
    if (*size > 0)
        suspend(r);
    return MHD_YES;
}

enum MHD_Result http_request_cb(void *cls, struct MHD_Connection *mhd, const char *url,
                                const char *method, const char *version, const char *upload,
                                size_t *upload_size, void **context)
{
    struct http_request *r = *context;

    CHECK_OBJ(r, HTTP_REQUEST_MAGIC);
    if (r->is_aborted)
        return MHD_NO;
    if (!r->is_begun)
        return begin(r, method, version);
    if (*upload_size > 0)
        return take_body(r, upload, upload_size);
    if (!r->body_flows)
        return leave_headers(r);
    r->body_ended = true;
    if (r->answer != ANSWER_NONE)
        return queue_answer(r);
    wait_queue_wake_all(&r->changed);
    suspend(r);
    return MHD_YES;
}

static bool is_hopeless(const struct http_request *r)
{
    return r->status == 408 ||
           (r->body_length >= 0 && (uint64_t)r->body_length - r->body_size > HTTP_SKIP_SIZE_MAX);
}

/* Called by the handler's answer. libmicrohttpd takes none in the midst of a body: a short rest is
 * read first; when it is long, or the client was too slow for it, the answer is written past
 * libmicrohttpd. */
void http_request_answered(struct http_request *r)
{
    bool is_midst = r->body_flows && !r->body_ended;

    if (r->mhd == NULL)
        return;
    if (is_midst) {
        r->body_skipped = true;
        http_connection_limit(r->connection, config.http_timeout);
        if (is_hopeless(r)) {
            http_response_write_raw(r);
            http_connection_limit(r->connection, RAW_LIMIT_MS);
        }
    }
    http_request_resume(r);
}

/* The phase took too long: say what there is to say; then the connection is shut. */
void http_request_expire(struct http_request *r)
{
    if (r->body_skipped && !r->body_ended && !r->is_queued && !r->is_aborted)
        http_response_write_raw(r);
    http_request_cancel(r);
}

static int fail_gone(struct error *err)
{
    return fail(err, ERR_CLOSED, "the client closed the connection");
}

/* A body must arrive at HTTP_BODY_RATE_MIN, counting the time spent waiting for it only, and never
 * pause for long. */
static int64_t body_patience_ms(const struct http_request *r)
{
    int64_t left =
        config.http_timeout + (int64_t)(r->body_size * 1000 / HTTP_BODY_RATE_MIN) - r->waited_ms;

    if (left < 0)
        left = 0;
    return left < config.http_timeout ? left : config.http_timeout;
}

static int wait_for_body(struct http_request *r, struct error *err)
{
    while (r->in.n == 0 && !r->body_ended) {
        if (r->mhd == NULL || r->is_aborted)
            return fail_gone(err);
        int64_t since_ms = loop_now_ms();
        enum wake wake = wait_queue_wait(&r->changed, since_ms + body_patience_ms(r));
        r->waited_ms += loop_now_ms() - since_ms;
        if (wake == WAKE_TIMED_OUT)
            return fail(err, ERR_TIMED_OUT, "the body of the request did not arrive in time");
        if (wake != WAKE_READY)
            return fiber_wake_error(wake, err);
    }
    return 0;
}

static int fail_too_big(const struct http_request *r, struct error *err)
{
    return fail(err, ERR_TOO_BIG, "the body is larger than the %llu bytes allowed here",
                (unsigned long long)r->body_max);
}

int http_read_block(struct http_request *r, struct str *block, struct error *err)
{
    struct buf empty;

    *block = STR_NULL;
    buf_clear(&r->lent);
    if (r->body_length > 0 && (uint64_t)r->body_length > r->body_max)
        return fail_too_big(r, err);
    http_request_resume(r);
    if (wait_for_body(r, err) < 0)
        return -1;
    if (r->body_size > r->body_max)
        return fail_too_big(r, err);
    empty = r->lent;
    r->lent = r->in;
    r->in = empty;
    http_request_resume(r); /* there is room again */
    *block = buf_str(&r->lent);
    return 0;
}

int http_read_body(struct http_request *r, struct str *body, struct error *err)
{
    struct str block;

    buf_fini(&r->whole_body);
    buf_init(&r->whole_body, r->body_max);
    *body = STR_NULL;
    do {
        if (http_read_block(r, &block, err) < 0)
            return -1;
        buf_add(&r->whole_body, block);
    } while (block.n > 0);
    *body = buf_str(&r->whole_body);
    return 0;
}

/* ---- streams --------------------------------------------------------------------------------- */
int http_write(struct http_request *r, struct str block, struct error *err)
{
    assert(r->answer == ANSWER_STREAM);
    while (block.n > 0 && !r->is_head) {
        if (r->mhd == NULL || r->is_aborted)
            return fail_gone(err);
        size_t room = HTTP_BUFFER_SIZE - r->out.n;
        if (room == 0) {
            enum wake wake = wait_queue_wait(&r->changed, loop_deadline(config.http_timeout));
            if (wake != WAKE_READY) {
                r->is_aborted = true;
                return fiber_wake_error(wake, err);
            }
            continue;
        }
        struct str part = str_head(block, room);
        buf_add(&r->out, part);
        r->written_size += part.n;
        block = str_from(block, part.n);
        http_request_resume(r);
    }
    return 0;
}

ssize_t http_stream_cb(void *cls, uint64_t at, char *to, size_t size_max)
{
    struct http_request *r = cls;
    size_t n = r->out.n < size_max ? r->out.n : size_max;

    CHECK_OBJ(r, HTTP_REQUEST_MAGIC);
    if (r->is_aborted)
        return MHD_CONTENT_READER_END_WITH_ERROR;
    if (n == 0 && r->out_ended)
        return MHD_CONTENT_READER_END_OF_STREAM;
    if (n == 0) {
        suspend(r);
        return 0;
    }
    memcpy(to, r->out.p, n);
    buf_consume(&r->out, n);
    r->sent_size += n;
    http_connection_limit(r->connection, http_send_limit_ms(r));
    wait_queue_wake_all(&r->changed);
    return (ssize_t)n;
}

/* Time for the client to take what lies ready: what counts as stalled is the same both ways. */
int64_t http_send_limit_ms(const struct http_request *r)
{
    uint64_t size = r->answer == ANSWER_STREAM ? HTTP_BUFFER_SIZE : r->answer_body.n;
    return config.http_timeout + (int64_t)(size * 1000 / HTTP_BODY_RATE_MIN);
}

/* ---- what the handler asks ------------------------------------------------------------------- */
struct arena *http_arena(struct http_request *r)
{
    return r->arena;
}

struct log *http_log(struct http_request *r)
{
    return &r->log;
}

struct str http_method(const struct http_request *r)
{
    return r->method;
}

struct str http_path(const struct http_request *r)
{
    return r->path;
}

struct str http_path_param(const struct http_request *r, const char *name)
{
    for (size_t i = 0; i < r->param_count; i++)
        if (str_eq(r->params[i].name, str_c(name)))
            return r->params[i].value;
    return STR("");
}

struct str http_query(const struct http_request *r, const char *name)
{
    struct str value;
    return http_query_find(r->arena, r->query, str_c(name), &value) ? value : STR("");
}

struct str http_header(const struct http_request *r, const char *name)
{
    for (size_t i = 0; i < r->field_count; i++)
        if (str_ieq(r->fields[i].name, str_c(name)))
            return r->fields[i].value;
    return STR("");
}

struct str http_peer(const struct http_request *r)
{
    return str_c(r->client.address_text);
}

bool http_is_secure(const struct http_request *r)
{
    return r->client.is_secure;
}

bool http_is_tls(const struct http_request *r)
{
    return r->client.is_tls;
}
