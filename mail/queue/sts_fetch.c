/* sts_fetch.c - the smallest HTTPS client that RFC 8461, 3.3 allows: one GET, status 200, text/plain.
 *
 * Written on dial.h and not on a library, so that a web server that stalls holds a fiber and no
 * helper thread, names are looked up as everywhere else, and one set of rules says which
 * certificates are good. A body is read by its length, in chunks (RFC 9112, 7.1), or to the end. */
#include <string.h>

#include "mail/queue/mta_sts.h"
#include "server/base/buf.h"
#include "server/base/net.h"
#include "server/run/config.h"
#include "server/run/dial.h"
#include "server/run/dns.h"

#define HEADER_LINE_MAX  8192
#define HEADER_LINES_MAX 100
#define ADDRESSES_MAX    4
#define CHUNK_LINE_MAX   256

struct response {
    bool is_chunked, has_length, is_text;
    uint64_t length;
};

static int bad_response(struct error *err, const char *what)
{
    return fail(err, ERR_SYNTAX, "the policy's web server %s", what);
}

/* ---- the header ---------------------------------------------------------------------------- */

static int read_status(struct dial *d, struct error *err)
{
    struct str line, version, status;

    if (dial_read_line(d, HEADER_LINE_MAX, &line, err) < 0)
        return -1;
    str_cut(line, ' ', &version, &status);
    if (!str_starts(version, STR("HTTP/1.")))
        return bad_response(err, "does not speak HTTP/1.1");
    str_cut(status, ' ', &status, &line);
    if (!str_eq(status, STR("200"))) /* a redirect is none either: RFC 8461, 3.3 */
        return fail(err, ERR_NOT_FOUND, "the policy's web server answered with status %.*s",
                    (int)(status.n < 20 ? status.n : 20), status.p);
    return 0;
}

static int read_field(struct str line, struct response *out, struct error *err)
{
    struct str name, value, type;

    if (!str_cut(line, ':', &name, &value))
        return bad_response(err, "sent a malformed header");
    value = str_trim(value);
    if (str_ieq(name, STR("Content-Type"))) {
        str_cut(value, ';', &type, &value);
        out->is_text = str_ieq(str_trim(type), STR("text/plain"));
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

static int read_header(struct dial *d, struct response *out, struct error *err)
{
    struct str line;

    if (read_status(d, err) < 0)
        return -1;
    for (unsigned i = 0; i < HEADER_LINES_MAX; i++) {
        if (dial_read_line(d, HEADER_LINE_MAX, &line, err) < 0)
            return -1;
        if (line.n == 0)
            return out->is_text ? 0 : bad_response(err, "did not call the policy text/plain");
        if (read_field(line, out, err) < 0)
            return -1;
    }
    return bad_response(err, "sent too many header fields");
}

/* ---- the body ------------------------------------------------------------------------------ */

static int too_big(struct error *err)
{
    return fail(err, ERR_TOO_BIG, "the policy is longer than 64 KiB");
}

static int read_piece(struct dial *d, uint64_t size, struct buf *body, struct error *err)
{
    char *to;

    if (size > STS_POLICY_SIZE_MAX - body->n)
        return too_big(err);
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

/* TLS guards against an end too early only where both sides close properly; a policy cut short
 * lacks fields or fails to parse, and a shorter list of hosts is one that was published. */
static int read_to_end(struct dial *d, struct buf *body, struct error *err)
{
    for (;;) {
        char c;
        struct error own = {0};

        if (dial_read_exact(d, &c, 1, &own) < 0)
            return own.kind == ERR_CLOSED ? 0 : fail(err, own.kind, "%s", own.text);
        if (body->n == STS_POLICY_SIZE_MAX)
            return too_big(err);
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

static void set_port(struct sockaddr_storage *address)
{
    if (address->ss_family == AF_INET6)
        ((struct sockaddr_in6 *)address)->sin6_port = htons((uint16_t)config.mta_sts_port);
    else
        ((struct sockaddr_in *)address)->sin_port = htons((uint16_t)config.mta_sts_port);
}

static int ask(struct arena *a, struct dial *d, struct str host, struct str *text,
               struct error *err)
{
    struct response response = {0};
    struct buf body;
    int status;

    dial_printf(d,
                "GET /.well-known/mta-sts.txt HTTP/1.1\r\nHost: %.*s\r\nUser-Agent: Merpati\r\n"
                "Accept: text/plain\r\nConnection: close\r\n\r\n",
                STR_ARG(host));
    if (read_header(d, &response, err) < 0)
        return -1;
    buf_init(&body, STS_POLICY_SIZE_MAX);
    status = read_body(d, &response, &body, err);
    if (status == 0)
        *text = arena_str(a, buf_str(&body));
    buf_fini(&body);
    return status;
}

static enum sts_fetch fetch_from(struct arena *a, struct dial *d, struct str host, struct str *text,
                                 struct error *err)
{
    struct dial_tls tls = {.server_name = host, .verify = DIAL_TLS_PKIX, .alpn = "http/1.1"};
    int status = dial_start_tls(d, &tls, err);

    if (status < 0)
        return err->kind == ERR_DENIED ? STS_FETCH_UNTRUSTED : STS_FETCH_FAILED;
    return ask(a, d, host, text, err) < 0 ? STS_FETCH_FAILED : STS_FETCHED;
}

PARKS enum sts_fetch sts_fetch_policy(struct arena *a, struct str domain, struct str *text,
                                      struct error *err)
{
    struct str host = arena_printf(a, "mta-sts.%.*s", STR_ARG(domain));
    struct sockaddr_storage *addresses;
    struct dns_answer answer;
    size_t count;

    if (dns_lookup_addresses(a, host, &addresses, &count, &answer, err) < 0)
        return STS_FETCH_FAILED;
    for (size_t i = 0; i < count && i < ADDRESSES_MAX; i++) {
        struct dial *d;
        enum sts_fetch fetched;

        if (net_list_contains(str_c(config.delivery_refused_networks), &addresses[i]))
            continue;
        set_port(&addresses[i]);
        error_clear(err);
        d = dial_open(&addresses[i], NULL, config.mta_sts_timeout / ADDRESSES_MAX, err);
        if (d == NULL)
            continue;
        dial_set_deadline(d, config.mta_sts_timeout);
        fetched = fetch_from(a, d, host, text, err);
        dial_close(&d);
        return fetched;
    }
    fail(err, ERR_TRY_LATER, "there is no web server for the policy");
    return STS_FETCH_FAILED;
}
