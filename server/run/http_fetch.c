/* http_fetch.c - the request, the answer's header, and its body by length, in chunks (RFC 9112, 7.1) or to the end. */
#include "server/run/http_fetch.h"

#include <string.h>

#include "server/base/buf.h"
#include "server/base/net.h"
#include "server/run/dns.h"

#define HEADER_LINE_MAX  8192
#define HEADER_LINES_MAX 100
#define INTERIM_MAX      10
#define ADDRESSES_MAX    4
#define CHUNK_LINE_MAX   256
#define HOST_SIZE_MAX    253

struct response {
    bool is_chunked, has_length;
    uint64_t length;
};

static int bad_response(struct error *err, const char *what)
{
    return fail(err, ERR_SYNTAX, "the web server %s", what);
}

/* ---- the header ---------------------------------------------------------------------------- */

static int read_status(struct dial *d, struct http_fetch *f, struct error *err)
{
    struct str line, version, status;
    uint32_t number;

    if (dial_read_line(d, HEADER_LINE_MAX, &line, err) < 0)
        return -1;
    str_cut(line, ' ', &version, &status);
    if (!str_starts(version, STR("HTTP/1.")))
        return bad_response(err, "does not speak HTTP/1.1");
    str_cut(status, ' ', &status, &line);
    if (status.n != 3 || !str_to_u32(status, &number) || number < 100)
        return bad_response(err, "sent a malformed status");
    f->status = (int)number;
    return 0;
}

static int read_field(struct arena *a, struct str line, struct http_fetch *f, struct response *out,
                      struct error *err)
{
    struct str name, value, rest;

    if (!str_cut(line, ':', &name, &value))
        return bad_response(err, "sent a malformed header");
    value = str_trim(value);
    if (str_ieq(name, STR("Content-Type"))) {
        str_cut(value, ';', &value, &rest);
        f->type = arena_lower(a, str_trim(value));
    } else if (str_ieq(name, STR("Transfer-Encoding"))) {
        out->is_chunked = str_ieq(value, STR("chunked"));
        if (!out->is_chunked)
            return bad_response(err, "sent a transfer encoding that was not asked for");
    } else if (str_ieq(name, STR("Content-Length"))) {
        out->has_length = true;
        if (!str_to_u64(value, &out->length))
            return bad_response(err, "sent a malformed length");
    } else if (str_ieq(name, STR("Content-Encoding")) && !str_ieq(value, STR("identity"))) {
        return bad_response(err, "sent a content encoding that was not asked for");
    }
    return 0;
}

static int read_fields(struct arena *a, struct dial *d, struct http_fetch *f, struct response *out,
                       struct error *err)
{
    struct str line;

    *out = (struct response){0};
    if (read_status(d, f, err) < 0)
        return -1;
    for (unsigned i = 0; i < HEADER_LINES_MAX; i++) {
        if (dial_read_line(d, HEADER_LINE_MAX, &line, err) < 0)
            return -1;
        if (line.n == 0)
            return 0;
        if (read_field(a, line, f, out, err) < 0)
            return -1;
    }
    return bad_response(err, "sent too many header fields");
}

/* An interim answer (RFC 9110, 15.2) is not the one that was asked for. */
static int read_header(struct arena *a, struct dial *d, struct http_fetch *f, struct response *out,
                       struct error *err)
{
    for (unsigned i = 0; i < INTERIM_MAX; i++) {
        if (read_fields(a, d, f, out, err) < 0)
            return -1;
        if (f->status >= 200)
            return 0;
    }
    return bad_response(err, "sent too many interim answers");
}

/* ---- the body ------------------------------------------------------------------------------ */

static int too_big(const struct buf *body, struct error *err)
{
    return fail(err, ERR_TOO_BIG, "the web server's answer is longer than %zu KiB",
                body->size_max >> 10);
}

static int read_piece(struct dial *d, uint64_t size, struct buf *body, struct error *err)
{
    char *to;

    if (size > body->size_max - body->n)
        return too_big(body, err);
    to = buf_reserve(body, (size_t)size);
    if (dial_read_exact(d, to, (size_t)size, err) < 0)
        return -1;
    buf_commit(body, (size_t)size);
    return 0;
}

static bool parse_hex(struct str text, uint64_t *out)
{
    *out = 0;
    for (size_t i = 0; i < text.n; i++) {
        const char *digit = memchr("0123456789abcdef", ascii_lower(text.p[i]), 16);

        if (digit == NULL)
            return false;
        *out = *out << 4 | (uint64_t)(digit - "0123456789abcdef");
    }
    return text.n > 0 && text.n <= 8;
}

static int read_chunks(struct dial *d, struct buf *body, struct error *err)
{
    for (;;) {
        struct str line, size_text, extension;
        uint64_t size;

        if (dial_read_line(d, CHUNK_LINE_MAX, &line, err) < 0)
            return -1;
        str_cut(line, ';', &size_text, &extension);
        if (!parse_hex(str_trim(size_text), &size))
            return bad_response(err, "sent a malformed chunk");
        if (size == 0)
            return 0;
        if (read_piece(d, size, body, err) < 0 || dial_read_line(d, CHUNK_LINE_MAX, &line, err) < 0)
            return -1;
        if (line.n > 0)
            return bad_response(err, "sent a malformed chunk");
    }
}

/* An attacker on the way can cut the connection, but cannot close TLS (RFC 9112, 9.8): without its close_notify nobody knows
 * whether such a body is whole. */
static int read_to_end(struct dial *d, struct buf *body, struct error *err)
{
    for (;;) {
        char c;
        struct error own = {0};

        if (dial_read_exact(d, &c, 1, &own) < 0)
            return dial_was_ended(d) ? 0 : fail(err, own.kind, "%s", own.text);
        if (body->n == body->size_max)
            return too_big(body, err);
        buf_addc(body, c);
    }
}

static int read_body(struct dial *d, const struct response *r, struct buf *body, struct error *err)
{
    if (r->is_chunked)
        return read_chunks(d, body, err);
    return r->has_length ? read_piece(d, r->length, body, err) : read_to_end(d, body, err);
}

/* ---- one address after the other ------------------------------------------------------------ */

static void set_port(struct sockaddr_storage *address, uint16_t port)
{
    if (address->ss_family == AF_INET6)
        ((struct sockaddr_in6 *)address)->sin6_port = htons(port);
    else
        ((struct sockaddr_in *)address)->sin_port = htons(port);
}

static void write_fields(struct dial *d, const struct http_fetch *f)
{
    for (size_t i = 0; i < f->field_count; i++) {
        struct str value = f->fields[i].value;

        dial_write(d, f->fields[i].name);
        dial_write(d, STR(": "));
        for (size_t k = 0; k < value.n; k++)
            dial_write(d, (unsigned char)value.p[k] < ' ' || value.p[k] == 127
                              ? STR(" ")
                              : str_of(value.p + k, 1));
        dial_write(d, STR("\r\n"));
    }
}

static void write_request(struct dial *d, const struct http_fetch *f)
{
    dial_printf(d, "%s %.*s HTTP/1.1\r\nHost: %.*s", f->content_type != NULL ? "POST" : "GET",
                STR_ARG(f->target), STR_ARG(f->host));
    if (f->plain == NULL && f->port != 443)
        dial_printf(d, ":%u", f->port);
    dial_printf(d, "\r\nUser-Agent: Merpati\r\nAccept: %s\r\nConnection: close\r\n",
                f->accept != NULL ? f->accept : "*/*");
    if (f->content_type != NULL)
        dial_printf(d, "Content-Type: %s\r\nContent-Length: %zu\r\n", f->content_type,
                    f->content.n);
    write_fields(d, f);
    dial_write(d, STR("\r\n"));
    dial_write(d, f->content);
}

static int ask(struct arena *a, struct dial *d, struct http_fetch *f, struct error *err)
{
    struct response response;
    struct buf body;
    int status;

    write_request(d, f);
    if (read_header(a, d, f, &response, err) < 0)
        return -1;
    if (f->size_max == 0 || f->status / 100 != 2)
        return 0;
    buf_init(&body, f->size_max);
    status = read_body(d, &response, &body, err);
    if (status == 0)
        f->body = arena_str(a, buf_str(&body));
    buf_fini(&body);
    return status;
}

static int fetch_from(struct arena *a, struct dial *d, struct http_fetch *f, struct error *err)
{
    struct dial_tls tls = {.server_name = f->host,
                           .verify = f->verify,
                           .alpn = "http/1.1",
                           .needs_close_notify = true};

    if (dial_start_tls(d, &tls, err) < 0) {
        f->is_untrusted = err->kind == ERR_DENIED;
        return -1;
    }
    return ask(a, d, f, err);
}

static int fetch_plain(struct arena *a, struct http_fetch *f, struct error *err)
{
    struct error own = {0};
    struct dial *d = dial_target_open(f->plain, f->timeout_ms / ADDRESSES_MAX, &own);
    int status = -1;

    if (d != NULL) {
        dial_set_deadline(d, f->timeout_ms);
        dial_set_end(d, f->timeout_ms);
        status = ask(a, d, f, &own);
        dial_close(&d);
    }
    return status == 0 ? 0 : fail(err, own.kind, "%s", own.text);
}

static int fetch_tls(struct arena *a, struct http_fetch *f, struct error *err)
{
    struct sockaddr_storage *addresses;
    struct dns_answer answer;
    struct error own = {0};
    size_t count;
    int status;

    if (dns_lookup_addresses(a, f->host, &addresses, &count, &answer, err) < 0)
        return -1;
    for (size_t i = 0; i < count && i < ADDRESSES_MAX; i++) {
        struct dial *d;

        if (net_list_contains(f->refused_networks, &addresses[i]))
            continue;
        set_port(&addresses[i], f->port);
        error_clear(&own);
        d = dial_open(&addresses[i], NULL, f->timeout_ms / ADDRESSES_MAX, &own);
        if (d == NULL)
            continue;
        dial_set_deadline(d, f->timeout_ms);
        dial_set_end(d, f->timeout_ms);
        status = fetch_from(a, d, f, &own);
        dial_close(&d);
        return status == 0 ? 0 : fail(err, own.kind, "%s", own.text);
    }
    return fail(err, ERR_TRY_LATER, "%.*s has no web server that answers",
                STR_ARG(str_head(f->host, 100)));
}

PARKS int http_fetch(struct arena *a, struct http_fetch *f, struct error *err)
{
    f->status = 0;
    f->type = f->body = STR("");
    f->is_untrusted = false;
    return f->plain != NULL ? fetch_plain(a, f, err) : fetch_tls(a, f, err);
}

/* ---- URLs ------------------------------------------------------------------------------------ */

static bool is_host(struct str host)
{
    for (size_t i = 0; i < host.n; i++) {
        char c = ascii_lower(host.p[i]);

        if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && c != '.' && c != '-' && c != '_')
            return false;
    }
    return host.n > 0 && host.n <= HOST_SIZE_MAX;
}

static bool is_target(struct str target)
{
    for (size_t i = 0; i < target.n; i++)
        if (target.p[i] <= ' ' || target.p[i] >= 127 || target.p[i] == '#')
            return false;
    return true;
}

bool http_url_parse(struct str url, struct str *host, uint16_t *port, struct str *target)
{
    struct str rest = url, authority, number;
    ptrdiff_t at;
    uint32_t value = 443;

    if (!str_istarts(rest, STR("https://")))
        return false;
    rest = str_from(rest, strlen("https://"));
    at = str_index(rest, '/');
    authority = at < 0 ? rest : str_head(rest, (size_t)at);
    *target = at < 0 ? STR("/") : str_from(rest, (size_t)at);
    if (str_cut(authority, ':', host, &number) &&
        (!str_to_u32(number, &value) || value == 0 || value > 65535))
        return false;
    *port = (uint16_t)value;
    return is_host(*host) && is_target(*target);
}
