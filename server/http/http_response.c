/* http_response.c - answers: header fields, the table from errors to status codes, preconditions.
 *
 * An answer is only noted here; the call-back in http_request.c hands it to libmicrohttpd. The one
 * that is written straight to the socket is for a client in the midst of a body that nobody wants
 * to read. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include "server/http/http_internal.h"
#include "server/run/config.h"

#define RETRY_AFTER_S "5"

static const struct {
    unsigned status;
    const char *text;
} status_of_error[ERR_KIND_COUNT] = {
    [ERR_NONE] = {500, "internal error"},
    [ERR_SYNTAX] = {400, "the request is malformed"},
    [ERR_DENIED] = {403, "not allowed"},
    [ERR_AUTH] = {401, "a user name and password are needed"},
    [ERR_NOT_FOUND] = {404, "not found"},
    [ERR_EXISTS] = {409, "it exists already"},
    [ERR_TOO_BIG] = {413, "too large"},
    [ERR_OVER_QUOTA] = {507, "the storage quota is used up"},
    [ERR_CONFLICT] = {412, "it was changed meanwhile"},
    [ERR_LIMIT] = {429, "too many requests"},
    [ERR_UNSUPPORTED] = {501, "not offered here"},
    [ERR_TRY_LATER] = {503, "try again later"},
    [ERR_CLOSED] = {400, "the connection was closed"},
    [ERR_TIMED_OUT] = {503, "it took too long"},
    [ERR_CANCELLED] = {503, "the server is shutting down"},
    [ERR_INTERNAL] = {500, "internal error"},
};

unsigned http_status_of(enum error_kind kind)
{
    return kind < ERR_KIND_COUNT ? status_of_error[kind].status : 500;
}

/* ---- header fields --------------------------------------------------------------------------- */
static bool may_repeat(struct str name)
{
    return str_ieq(name, STR("Set-Cookie")) || str_ieq(name, STR("WWW-Authenticate")) ||
           str_ieq(name, STR("Link"));
}

struct str http_answer_header(const struct http_request *r, const char *name)
{
    for (size_t i = 0; i < r->answer_field_count; i++)
        if (str_ieq(r->answer_fields[i].name, str_c(name)))
            return r->answer_fields[i].value;
    return STR_NULL;
}

static struct http_field *field_slot(struct http_request *r, struct str name)
{
    for (size_t i = 0; i < r->answer_field_count && !may_repeat(name); i++)
        if (str_ieq(r->answer_fields[i].name, name))
            return &r->answer_fields[i];
    if (r->answer_field_count == r->answer_field_cap) {
        size_t cap = r->answer_field_cap == 0 ? 16 : 2 * r->answer_field_cap;
        struct http_field *more = ARENA_ARRAY(r->arena, cap, struct http_field);
        if (r->answer_field_count > 0)
            memcpy(more, r->answer_fields, r->answer_field_count * sizeof *more);
        r->answer_fields = more;
        r->answer_field_cap = cap;
    }
    return &r->answer_fields[r->answer_field_count++];
}

/* A value that would break the line is dropped: it can only be the client's own text come back. */
void http_set_header(struct http_request *r, const char *name, struct str value)
{
    for (size_t i = 0; i < value.n; i++)
        if ((unsigned char)value.p[i] < 0x20 || value.p[i] == 0x7f)
            return;
    *field_slot(r, str_c(name)) = (struct http_field){
        arena_str(r->arena, str_c(name)),
        arena_str(r->arena, value),
    };
}

static void set_default(struct http_request *r, const char *name, const char *value)
{
    if (http_answer_header(r, name).p == NULL)
        http_set_header(r, name, str_c(value));
}

static void set_common_headers(struct http_request *r, const char *content_type)
{
    if (content_type != NULL)
        http_set_header(r, "Content-Type", str_c(content_type));
    set_default(r, "Cache-Control", "private, no-cache");
    set_default(r, "X-Content-Type-Options", "nosniff");
    set_default(r, "X-Frame-Options", "SAMEORIGIN");
    set_default(r, "Referrer-Policy", "no-referrer");
    set_default(r, "Cross-Origin-Resource-Policy", "same-origin");
    if (r->status == 400 || http_server_is_draining())
        http_set_header(r, "Connection", STR("close"));
}

/* ---- answers --------------------------------------------------------------------------------- */
void http_answer(struct http_request *r, unsigned status, const char *content_type, struct str body)
{
    assert(r->answer == ANSWER_NONE);
    r->status = status;
    set_common_headers(r, content_type);
    r->answer_body = arena_str(r->arena, body);
    r->answer = ANSWER_WHOLE;
    http_request_answered(r);
}

int http_begin(struct http_request *r, unsigned status, const char *content_type, int64_t size,
               struct error *err)
{
    assert(r->answer == ANSWER_NONE);
    if (r->mhd == NULL)
        return fail(err, ERR_CLOSED, "the client closed the connection");
    r->status = status;
    set_common_headers(r, content_type);
    r->stream_size = size;
    r->answer = ANSWER_STREAM;
    http_request_answered(r);
    return 0;
}

static void add_json_string(struct buf *out, struct str s)
{
    buf_addc(out, '"');
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (c == '"' || c == '\\')
            buf_addf(out, "\\%c", c);
        else if (c < 0x20)
            buf_addf(out, "\\u%04x", c);
        else
            buf_addc(out, (char)c);
    }
    buf_addc(out, '"');
}

static void answer_error_json(struct http_request *r, unsigned status, enum error_kind kind,
                              struct str text)
{
    struct buf body;

    buf_init(&body, 4096);
    buf_addf(&body, "{\"error\": \"%s\", \"detail\": ", error_kind_name(kind));
    add_json_string(&body, text);
    buf_adds(&body, "}\n");
    http_answer(r, status, "application/json", buf_str(&body));
    buf_fini(&body);
}

static void set_error_headers(struct http_request *r, unsigned status)
{
    if (status == 401)
        set_default(r, "WWW-Authenticate", "Basic realm=\"Merpati\", charset=\"UTF-8\"");
    if (status == 503 || status == 429)
        set_default(r, "Retry-After", RETRY_AFTER_S);
    http_set_header(r, "Cache-Control", STR("no-store"));
}

/* A stream that has begun can only be cut, so that the client sees that it is not whole. */
static void cut_stream(struct http_request *r, const struct error *err)
{
    log_info(&r->log, "http_answer_cut", KV("path", r->path), KV_ERR(err));
    r->is_aborted = true;
    http_request_resume(r);
}

void http_answer_error(struct http_request *r, const struct error *err)
{
    struct str text = str_c(err->text);
    unsigned status = http_status_of(err->kind);

    if (r->answer != ANSWER_NONE) {
        cut_stream(r, err);
        return;
    }
    if (str_empty(text))
        text = str_c(status_of_error[err->kind].text);
    if (err->kind == ERR_TIMED_OUT && !r->body_ended)
        status = 408;
    set_error_headers(r, status);
    if (http_accepts_json(http_header(r, "Accept")))
        answer_error_json(r, status, err->kind, text);
    else
        http_answer(r, status, "text/plain; charset=utf-8",
                    arena_printf(r->arena, "%.*s\n", STR_ARG(text)));
}

/* ---- to the client --------------------------------------------------------------------------- */
/* A 304 tells the size of the content it spares, where that is known: caches may believe the 0 that
 * libmicrohttpd would give an empty answer. */
static struct MHD_Response *body_of_answer(struct http_request *r)
{
    uint64_t size = r->stream_size < 0 ? MHD_SIZE_UNKNOWN : (uint64_t)r->stream_size;
    bool is_sized_304 = r->status == 304 && r->stream_size >= 0;

    if (r->answer == ANSWER_STREAM || is_sized_304)
        return MHD_create_response_from_callback(size, HTTP_BUFFER_SIZE, http_stream_cb, r, NULL);
    return MHD_create_response_from_buffer(r->answer_body.n, (void *)(uintptr_t)r->answer_body.p,
                                           MHD_RESPMEM_PERSISTENT);
}

struct MHD_Response *http_response_make(struct http_request *r)
{
    struct MHD_Response *response = body_of_answer(r);

    if (response == NULL)
        abort(); /* out of memory, as everywhere */
    for (size_t i = 0; i < r->answer_field_count; i++)
        MHD_add_response_header(response, r->answer_fields[i].name.p, r->answer_fields[i].value.p);
    if (r->answer == ANSWER_WHOLE)
        r->sent_size = r->answer_body.n;
    return response;
}

/* A short text always fits an empty socket buffer. What cannot be told this way goes unsaid. */
void http_response_write_raw(struct http_request *r)
{
    struct buf out;

    if (r->answer == ANSWER_WHOLE && r->answer_body.n <= HTTP_BUFFER_SIZE / 2) {
        buf_init(&out, HTTP_BUFFER_SIZE);
        buf_addf(&out,
                 "HTTP/1.1 %u %s\r\nDate: %.*s\r\nConnection: close\r\nContent-Length: %zu\r\n",
                 r->status, http_status_text(r->status), STR_ARG(http_date(r->arena, time(NULL))),
                 r->answer_body.n);
        for (size_t i = 0; i < r->answer_field_count; i++)
            if (!str_ieq(r->answer_fields[i].name, STR("Connection")))
                buf_addf(&out, "%s: %s\r\n", r->answer_fields[i].name.p,
                         r->answer_fields[i].value.p);
        buf_adds(&out, "\r\n");
        buf_add(&out, r->answer_body);
        if (buf_ok(&out))
            (void)!send(r->connection->fd, out.p, out.n, MSG_NOSIGNAL | MSG_DONTWAIT);
        buf_fini(&out);
    }
    r->connection->lingers = true;
    r->is_aborted = true;
}

const char *http_status_text(unsigned status)
{
    const char *text = MHD_get_reason_phrase_for(status);
    return text != NULL ? text : "Unknown";
}

/* ---- preconditions (RFC 9110, 13.2.2) -------------------------------------------------------- */
static bool is_reading(const struct http_request *r)
{
    return str_eq(r->method, STR("GET")) || str_eq(r->method, STR("HEAD"));
}

static bool is_changed_since_match(struct http_request *r, struct str etag, int64_t modified_s)
{
    struct str match = http_header(r, "If-Match");
    int64_t since;

    if (match.n > 0)
        return str_empty(etag) || !http_etag_list_has(match, etag, false);
    return modified_s > 0 && http_date_parse(http_header(r, "If-Unmodified-Since"), &since) &&
           modified_s > since;
}

static bool is_unwanted(struct http_request *r, struct str etag, int64_t modified_s)
{
    struct str none_match = http_header(r, "If-None-Match");
    int64_t since;

    if (none_match.n > 0)
        return !str_empty(etag) && http_etag_list_has(none_match, etag, true);
    return is_reading(r) && modified_s > 0 &&
           http_date_parse(http_header(r, "If-Modified-Since"), &since) && modified_s <= since;
}

bool http_answer_if_unchanged(struct http_request *r, struct str etag, int64_t modified_unix_s)
{
    if (is_reading(r) && etag.n > 0)
        http_set_header(r, "ETag", etag);
    if (is_reading(r) && modified_unix_s > 0)
        http_set_header(r, "Last-Modified", http_date(r->arena, modified_unix_s));
    if (is_changed_since_match(r, etag, modified_unix_s)) {
        http_answer_error(r, &(struct error){ERR_CONFLICT, "it was changed meanwhile"});
        return true;
    }
    if (!is_unwanted(r, etag, modified_unix_s))
        return false;
    if (is_reading(r))
        http_answer(r, 304, NULL, STR_NULL);
    else
        http_answer_error(r, &(struct error){ERR_CONFLICT, "it exists already"});
    return true;
}

bool http_etag_list_has(struct str list, struct str etag, bool weak)
{
    struct str item;

    if (str_eq(str_trim(list), STR("*")))
        return true;
    if (weak && str_starts(etag, STR("W/")))
        etag = str_from(etag, 2);
    while (str_next_token(&list, ',', &item)) { /* our etags hold no comma */
        item = str_trim(item);
        if (weak && str_starts(item, STR("W/")))
            item = str_from(item, 2);
        if (str_eq(item, etag) && !str_starts(item, STR("W/")))
            return true;
    }
    return false;
}

/* ---- lists with weights ---------------------------------------------------------------------- */
/* "q=0.5" -> 500. What is malformed counts as 0: rather plain than in a form the client did not ask
 * for. */
static int parse_weight(struct str params)
{
    struct str param;
    uint64_t fraction = 0;

    while (str_next_token(&params, ';', &param)) {
        param = str_trim(param);
        if (!str_skip_prefix(&param, STR("q=")))
            continue;
        if (str_starts(param, STR("1")))
            return 1000;
        if (!str_skip_prefix(&param, STR("0.")) || param.n > 3 || !str_to_u64(param, &fraction))
            return 0;
        return (int)(fraction * (param.n == 1 ? 100 : param.n == 2 ? 10 : 1));
    }
    return 1000;
}

int http_accepted_weight(struct str accept, struct str what)
{
    struct str item, name, params;
    int any = -1;

    while (str_next_token(&accept, ',', &item)) {
        str_cut(item, ';', &name, &params);
        name = str_trim(name);
        if (str_ieq(name, what))
            return parse_weight(params);
        if (str_eq(name, STR("*")))
            any = parse_weight(params);
    }
    return any;
}

bool http_accepts_json(struct str accept)
{
    return http_accepted_weight(accept, STR("application/json")) > 0 ||
           http_accepted_weight(accept, STR("application/problem+json")) > 0;
}

/* ---- dates (RFC 9110, 5.6.7: the two old forms too) ------------------------------------------ */
bool http_date_parse(struct str s, int64_t *unix_s)
{
    static const char *const forms[] = {
        "%a, %d %b %Y %H:%M:%S GMT",
        "%A, %d-%b-%y %H:%M:%S GMT",
        "%a %b %e %H:%M:%S %Y",
    };
    char c[64];

    if (s.n == 0 || s.n >= sizeof c || memchr(s.p, '\0', s.n) != NULL)
        return false;
    memcpy(c, s.p, s.n);
    c[s.n] = '\0';
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        struct tm tm = {0};
        const char *end = strptime(c, forms[i], &tm);
        if (end == NULL || *end != '\0')
            continue;
        *unix_s = timegm(&tm);
        return true;
    }
    return false;
}

struct str http_date(struct arena *a, int64_t unix_s)
{
    char c[64];
    struct tm tm;
    time_t t = (time_t)unix_s;

    gmtime_r(&t, &tm);
    return arena_str(a, str_of(c, strftime(c, sizeof c, "%a, %d %b %Y %H:%M:%S GMT", &tm)));
}
