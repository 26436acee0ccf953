/* test_http.c - routes, decoding, ranges, etags, encodings, networks; then a real server on a real
 * socket: the server runs on the test's loop, the client is a thread with blocking sockets that
 * reports the first thing it dislikes. */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>
#include <utime.h>
#include <cmocka.h>
#include "server/base/net.h"
#include "server/http/http_internal.h"
#include "server/pg/pg.h"
#include "server/run/admission.h"
#include "server/run/config.h"
#include "server/run/conn_internal.h"
#include "server/run/metrics.h"
#include "server/run/offload.h"
#include "server/run/tls.h"

#undef fail /* cmocka's, in the way of ours */
#define FAIL_WITH(...) (print_error(__VA_ARGS__), print_error("\n"), _fail(__FILE__, __LINE__))
#define COUNT(table)   (sizeof(table) / sizeof *(table))

static void assert_str(struct str got, const char *wanted)
{
    if (!str_eq(got, str_c(wanted)))
        FAIL_WITH("got \"%.*s\", wanted \"%s\"", STR_ARG(got), wanted);
}

/* ---- parsing --------------------------------------------------------------------------------- */
static void nothing(struct http_request *r)
{
    http_answer(r, 204, NULL, STR_NULL);
}

static const struct http_route table[] = {
    {"GET", "/", nothing, 1},
    {"PROPFIND", "/", nothing, 2},
    {"GET", "/...", nothing, 3},
    {"GET", "/healthz", nothing, 4},
    {"*", "/dav/...", nothing, 5},
    {"POST", "/jmap/api", nothing, 6},
    {"GET", "/jmap/{account}/blob/{id}", nothing, 7},
    {"GET", "/jmap/{account}/blob/list", nothing, 8},
    {"PUT", "/jmap/{account}/...", nothing, 9},
};

static void closest_route_of_the_method_is_found(void **state)
{
    static const struct {
        const char *method, *path;
        uint64_t route; /* 0: none */
        const char *param, *value, *allow;
    } rows[] = {
        {"GET", "/", 1, NULL, NULL, ""},
        {"HEAD", "/", 1, NULL, NULL, ""},
        {"PROPFIND", "/", 2, NULL, NULL, ""},
        {"GET", "/index.html", 3, "...", "index.html", ""},
        {"GET", "/a/b/", 3, "...", "a/b/", ""},
        {"GET", "/healthz", 4, NULL, NULL, ""},
        {"GET", "/health%7A", 4, NULL, NULL, ""},
        {"REPORT", "/dav", 5, "...", "", ""},
        {"GET", "/dav/", 5, "...", "", ""},
        {"GET", "/dav/ani@x/cal%20endar/1.ics", 5, "...", "ani@x/cal endar/1.ics", ""},
        {"GET", "/dave", 3, "...", "dave", ""},
        {"GET", "/jmap/ani/blob/b1", 7, "id", "b1", ""},
        {"GET", "/jmap/ani/blob/a%2Fb", 7, "id", "a/b", ""},
        {"GET", "/jmap/ani/blob/list", 8, "account", "ani", ""},
        {"GET", "/jmap//blob/list", 3, NULL, NULL, ""},
        {"PUT", "/jmap/ani/x/y", 9, "...", "x/y", ""},
        {"POST", "/jmap/api", 6, NULL, NULL, ""},
        {"POST", "/healthz", 0, NULL, NULL, "GET, HEAD, OPTIONS"},
        {"OPTIONS", "/jmap/api", 0, NULL, NULL, "GET, HEAD, POST, PUT, OPTIONS"},
        {"get", "/healthz", 0, NULL, NULL, "GET, HEAD, OPTIONS"},
        {"GET", "healthz", 0, NULL, NULL, ""},
        {"GET", "/bad%zz", 0, NULL, NULL, ""},
    };
    struct arena *a = arena_new();

    for (size_t i = 0; i < COUNT(rows); i++) {
        struct http_field params[HTTP_PARAMS_MAX];
        size_t count;
        struct str allow;
        const struct http_route *route =
            http_route_find(table, COUNT(table), a, str_c(rows[i].method), str_c(rows[i].path),
                            params, &count, &allow);
        uint64_t got = route == NULL ? 0 : route->body_max;
        if (got != rows[i].route)
            FAIL_WITH("%s %s: route %llu, wanted %llu", rows[i].method, rows[i].path,
                      (unsigned long long)got, (unsigned long long)rows[i].route);
        if (route == NULL)
            assert_str(allow, rows[i].allow);
        bool is_found = rows[i].param == NULL;
        for (size_t k = 0; k < count && !is_found; k++)
            if (str_eq(params[k].name, str_c(rows[i].param))) {
                assert_str(params[k].value, rows[i].value);
                is_found = true;
            }
        assert_true(is_found);
    }
    arena_free(&a);
}

static void escapes_are_decoded_strictly(void **state)
{
    static const struct {
        struct str in;
        bool plus;
        const char *out; /* NULL: refused */
    } rows[] = {
        {STR("abc"), false, "abc"},
        {STR(""), false, ""},
        {STR("a+b"), false, "a+b"},
        {STR("a+b%2B"), true, "a b+"},
        {STR("%41%6a%C3%A9"), false, "Aj\xc3\xa9"},
        {STR("100%"), false, NULL},
        {STR("%4"), false, NULL},
        {STR("%4g"), false, NULL},
        {STR("%00"), false, NULL},
        {STR("a\0b"), false, NULL},
        {STR("%C3"), false, NULL},
        {STR("%C0%AF"), false, NULL},
    };
    struct arena *a = arena_new();

    for (size_t i = 0; i < COUNT(rows); i++) {
        struct str out;
        bool ok = http_percent_decode(a, rows[i].in, rows[i].plus, &out);
        assert_int_equal(ok, rows[i].out != NULL);
        if (ok)
            assert_str(out, rows[i].out);
    }
    arena_free(&a);
}

static void paths_cannot_climb(void **state)
{
    static const struct {
        struct str path;
        bool is_safe;
    } rows[] = {
        {STR("/"), true},        {STR("/a/b.c/"), true},    {STR("/a//b"), true},
        {STR("/..a/b.."), true}, {STR("/a\xc3\xa9"), true}, {STR(""), false},
        {STR("a"), false},       {STR("/.."), false},       {STR("/a/../b"), false},
        {STR("/a/."), false},    {STR("/./a"), false},      {STR("/a\nb"), false},
        {STR("/a\x7f"), false},
    };
    for (size_t i = 0; i < COUNT(rows); i++)
        assert_int_equal(http_path_is_safe(rows[i].path), rows[i].is_safe);
}

static void file_paths_have_no_hidden_or_empty_segments(void **state)
{
    static const struct {
        struct str path;
        bool is_safe;
    } rows[] = {
        {STR("index.html"), true}, {STR("a/b/c.js"), true},     {STR("a/"), true},
        {STR("a..b/c"), true},     {STR("../a"), false},        {STR("a/../../b"), false},
        {STR("a//b"), false},      {STR("/etc/passwd"), false}, {STR(".git/config"), false},
        {STR("a/.hidden"), false}, {STR("a\0.js"), false},
    };
    for (size_t i = 0; i < COUNT(rows); i++)
        assert_int_equal(http_file_path_is_safe(rows[i].path), rows[i].is_safe);
}

static void query_values_are_found_and_decoded(void **state)
{
    static const struct {
        const char *query, *name, *value; /* NULL: absent */
    } rows[] = {
        {"a=1&b=2", "b", "2"}, {"a=1&a=2", "a", "1"},       {"a", "a", ""},
        {"a=b=c", "a", "b=c"}, {"q=x+y%26z", "q", "x y&z"}, {"%61b=1", "ab", "1"},
        {"&&a=1", "a", "1"},   {"a=1", "b", NULL},          {"", "a", NULL},
        {"a=%zz", "a", NULL},  {"A=1", "a", NULL},
    };
    struct arena *a = arena_new();

    for (size_t i = 0; i < COUNT(rows); i++) {
        struct str value;
        bool is_found = http_query_find(a, str_c(rows[i].query), str_c(rows[i].name), &value);
        assert_int_equal(is_found, rows[i].value != NULL);
        if (is_found)
            assert_str(value, rows[i].value);
    }
    arena_free(&a);
}

static void one_range_is_understood_and_the_rest_ignored(void **state)
{
    static const struct {
        const char *value;
        uint64_t size;
        enum http_range kind;
        uint64_t first, length;
    } rows[] = {
        {"bytes=0-499", 1000, RANGE_PART, 0, 500},
        {"bytes=500-", 1000, RANGE_PART, 500, 500},
        {"bytes=-1", 1000, RANGE_PART, 999, 1},
        {"bytes=-5000", 1000, RANGE_PART, 0, 1000},
        {"bytes=999-5000", 1000, RANGE_PART, 999, 1},
        {"bytes=0-0", 1, RANGE_PART, 0, 1},
        {"bytes=0-18446744073709551615", 10, RANGE_PART, 0, 10},
        {"bytes=1000-", 1000, RANGE_UNSATISFIABLE, 0, 0},
        {"bytes=-0", 1000, RANGE_UNSATISFIABLE, 0, 0},
        {"bytes=0-", 0, RANGE_UNSATISFIABLE, 0, 0},
        {"bytes=-5", 0, RANGE_UNSATISFIABLE, 0, 0},
        {"bytes=0-1,5-6", 1000, RANGE_WHOLE, 0, 0},
        {"bytes=5-2", 1000, RANGE_WHOLE, 0, 0},
        {"bytes=a-b", 1000, RANGE_WHOLE, 0, 0},
        {"bytes=", 1000, RANGE_WHOLE, 0, 0},
        {"bytes=-", 1000, RANGE_WHOLE, 0, 0},
        {"bytes=99999999999999999999-", 1000, RANGE_WHOLE, 0, 0},
        {"lines=1-2", 1000, RANGE_WHOLE, 0, 0},
        {"", 1000, RANGE_WHOLE, 0, 0},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        uint64_t first = 0, length = 0;
        enum http_range kind =
            http_range_parse(str_c(rows[i].value), rows[i].size, &first, &length);
        if (kind != rows[i].kind || first != rows[i].first || length != rows[i].length)
            FAIL_WITH("%s of %llu: kind %d, %llu+%llu", rows[i].value,
                      (unsigned long long)rows[i].size, kind, (unsigned long long)first,
                      (unsigned long long)length);
    }
}

static void etags_compare_strongly_or_weakly(void **state)
{
    static const struct {
        const char *list, *etag;
        bool weak, has;
    } rows[] = {
        {"\"a\"", "\"a\"", false, true},      {"\"b\", \"a\"", "\"a\"", false, true},
        {"*", "\"a\"", false, true},          {"W/\"a\"", "\"a\"", true, true},
        {"\"a\"", "W/\"a\"", true, true},     {"W/\"a\"", "\"a\"", false, false},
        {"W/\"a\"", "W/\"a\"", false, false}, {"\"b\"", "\"a\"", true, false},
        {"a", "\"a\"", true, false},          {"", "\"a\"", true, false},
    };
    for (size_t i = 0; i < COUNT(rows); i++)
        assert_int_equal(http_etag_list_has(str_c(rows[i].list), str_c(rows[i].etag), rows[i].weak),
                         rows[i].has);
}

static void codings_have_the_weight_the_client_gave(void **state)
{
    static const struct {
        const char *accept, *what;
        int weight;
    } rows[] = {
        {"gzip, deflate, br", "br", 1000},
        {"gzip;q=0.5", "gzip", 500},
        {"gzip; q=0.25", "gzip", 250},
        {"gzip;q=0.125, *;q=1", "gzip", 125},
        {"*;q=0.1", "br", 100},
        {"GZIP", "gzip", 1000},
        {"gzip;q=1.000", "gzip", 1000},
        {"gzip;q=0", "gzip", 0},
        {"gzip;q=0.000", "gzip", 0},
        {"gzip;q=x", "gzip", 0},
        {"gzip;q=0.1234", "gzip", 0},
        {"identity", "gzip", -1},
        {"gzip2", "gzip", -1},
        {"", "gzip", -1},
    };
    for (size_t i = 0; i < COUNT(rows); i++)
        assert_int_equal(http_accepted_weight(str_c(rows[i].accept), str_c(rows[i].what)),
                         rows[i].weight);
}

static void dates_of_all_three_forms_are_read(void **state)
{
    static const struct {
        const char *text;
        int64_t unix_s; /* -1: refused */
    } rows[] = {
        {"Sun, 06 Nov 1994 08:49:37 GMT", 784111777},
        {"Sunday, 06-Nov-94 08:49:37 GMT", 784111777},
        {"Sun Nov  6 08:49:37 1994", 784111777},
        {"Sun, 06 Nov 1994 08:49:37 +0700", -1},
        {"\"etag\"", -1},
        {"", -1},
    };
    struct arena *a = arena_new();

    for (size_t i = 0; i < COUNT(rows); i++) {
        int64_t unix_s = -1;
        assert_int_equal(http_date_parse(str_c(rows[i].text), &unix_s), rows[i].unix_s >= 0);
        assert_int_equal(unix_s, rows[i].unix_s);
    }
    assert_str(http_date(a, 784111777), rows[0].text);
    arena_free(&a);
}

static void only_hashed_assets_are_immutable(void **state)
{
    assert_true(http_file_is_immutable(STR("assets/index-B2x9_kQw.js")));
    assert_true(http_file_is_immutable(STR("app/assets/font.0123abcd.woff2")));
    assert_false(http_file_is_immutable(STR("index-B2x9_kQw.js")));
    assert_false(http_file_is_immutable(STR("assets/index.js")));
    assert_false(http_file_is_immutable(STR("assets/longname1.js")));
    assert_false(http_file_is_immutable(STR("assets/a-short.js")));
    assert_false(http_file_is_immutable(STR("assets/noending")));
}

static struct sockaddr_storage address_of(const char *text)
{
    struct sockaddr_storage out = {0};
    struct sockaddr_in *v4 = (struct sockaddr_in *)&out;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&out;

    if (strcmp(text, "unix") == 0)
        out.ss_family = AF_UNIX;
    else if (inet_pton(AF_INET, text, &v4->sin_addr) == 1)
        out.ss_family = AF_INET;
    else if (inet_pton(AF_INET6, text, &v6->sin6_addr) == 1)
        out.ss_family = AF_INET6;
    return out;
}

static void networks_contain_their_addresses_only(void **state)
{
    static const struct {
        const char *list, *peer;
        bool is_in;
    } rows[] = {
        {"127.0.0.0/8, ::1", "127.3.2.1", true},
        {"127.0.0.0/8, ::1", "::1", true},
        {"127.0.0.0/8", "::ffff:127.0.0.1", true},
        {"192.0.2.7", "192.0.2.7", true},
        {"192.0.2.0/25 198.51.100.1", "192.0.2.127", true},
        {"192.0.2.0/25,198.51.100.1", "198.51.100.1", true},
        {"2001:db8::/33", "2001:db8:7fff::1", true},
        {"0.0.0.0/0", "203.0.113.9", true},
        {"::/0", "203.0.113.9", true},
        {"unix", "unix", true},
        {"rubbish, 10.0.0.1", "10.0.0.1", true},
        {"192.0.2.0/25", "192.0.2.128", false},
        {"192.0.2.7", "192.0.2.6", false},
        {"2001:db8::/33", "2001:db8:8000::1", false},
        {"0.0.0.0/0", "2001:db8::1", false},
        {"0.0.0.0/0", "unix", false},
        {"unix", "127.0.0.1", false},
        {"10.0.0.0/33", "10.0.0.0", false},
        {"10.0.0.0/", "10.0.0.0", false},
        {"10.0.0/8", "10.0.0.0", false},
        {"", "127.0.0.1", false},
    };
    struct str bad;

    for (size_t i = 0; i < COUNT(rows); i++) {
        struct sockaddr_storage peer = address_of(rows[i].peer);
        if (net_list_contains(str_c(rows[i].list), &peer) != rows[i].is_in)
            FAIL_WITH("%s in \"%s\"", rows[i].peer, rows[i].list);
    }
    assert_true(net_list_valid(STR(" 10.0.0.0/8 , ::1"), NULL));
    assert_false(net_list_valid(STR("10.0.0.0/8, 10.0.0.0/40"), &bad));
    assert_str(bad, "10.0.0.0/40");
}

static void networks_are_written_as_settings_read_them(void **state)
{
    static const struct {
        const char *peer;
        unsigned ipv4_bits, ipv6_bits;
        const char *text;
    } rows[] = {
        {"192.0.2.7", 32, 64, "192.0.2.7"},
        {"192.0.2.7", 24, 64, "192.0.2.0/24"},
        {"192.0.2.255", 25, 64, "192.0.2.128/25"},
        {"203.0.113.9", 0, 64, "0.0.0.0/0"},
        {"::ffff:192.0.2.7", 24, 64, "192.0.2.0/24"},
        {"2001:db8:1:2:3::4", 24, 64, "2001:db8:1:2::/64"},
        {"2001:db8:1:ff::4", 24, 60, "2001:db8:1:f0::/60"},
        {"2001:db8::4", 24, 128, "2001:db8::4"},
        {"unix", 24, 64, "unix"},
    };
    struct arena *a = arena_new();

    for (size_t i = 0; i < COUNT(rows); i++) {
        struct sockaddr_storage peer = address_of(rows[i].peer);
        assert_str(net_text(a, &peer, rows[i].ipv4_bits, rows[i].ipv6_bits), rows[i].text);
    }
    arena_free(&a);
}

/* ---- a server -------------------------------------------------------------------------------- */
static char folder[] = "/tmp/merpati-http-XXXXXX";
static uint16_t port;
static atomic_int cancelled_count, ended_count;

static void handle_hello(struct http_request *r)
{
    http_answer(r, 200, "text/plain; charset=utf-8", STR("hello\n"));
}

static void handle_echo(struct http_request *r)
{
    struct error err = {0};
    struct str body;

    if (http_read_body(r, &body, &err) < 0)
        http_answer_error(r, &err);
    else
        http_answer(r, 200, "application/octet-stream", body);
}

/* Reads slowly, so that the client is far ahead. */
static void handle_sum(struct http_request *r)
{
    struct error err = {0};
    struct str block;
    uint64_t size = 0, sum = 0;

    do {
        if (http_read_block(r, &block, &err) < 0) {
            http_answer_error(r, &err);
            return;
        }
        assert_true(block.n <= HTTP_BUFFER_SIZE);
        for (size_t i = 0; i < block.n; i++)
            sum = sum * 31 + (unsigned char)block.p[i];
        size += block.n;
        fiber_sleep(1);
    } while (block.n > 0);
    http_answer(r, 200, "text/plain",
                arena_printf(http_arena(r), "%llu %llu", (unsigned long long)size,
                             (unsigned long long)sum));
}

static void handle_refuse(struct http_request *r)
{
    http_answer_error(r, &(struct error){ERR_AUTH, "who are you?"});
}

/* Reads a little and has enough. */
static void handle_taste(struct http_request *r)
{
    struct error err = {0};
    struct str block;

    if (http_read_block(r, &block, &err) == 0)
        fail(&err, ERR_DENIED, "I do not like it");
    http_answer_error(r, &err);
}

static void handle_stream(struct http_request *r)
{
    uint64_t count = 0;
    char *block = arena_alloc(http_arena(r), 8192);

    memset(block, 'x', 8192);
    str_to_u64(http_path_param(r, "count"), &count);
    bool is_sized = http_query(r, "sized").n > 0;
    if (http_begin(r, 200, "text/plain", is_sized ? (int64_t)(count * 8192) : -1, NULL) < 0)
        return;
    for (uint64_t i = 0; i < count; i++)
        if (http_write(r, str_of(block, 8192), NULL) < 0)
            break;
    ended_count++;
}

static void handle_cut(struct http_request *r)
{
    if (http_begin(r, 200, "text/plain", http_query(r, "sized").n > 0 ? 100 : -1, NULL) < 0)
        return;
    http_write(r, STR("half"), NULL);
    fiber_sleep(20);
    http_answer_error(r, &(struct error){ERR_INTERNAL, "broke"});
}

/* As an event stream does: one line, then nothing for hours. */
static void handle_events(struct http_request *r)
{
    if (http_begin(r, 200, "text/event-stream", -1, NULL) < 0)
        return;
    http_write(r, STR("data: 1\n\n"), NULL);
    if (fiber_sleep(3600 * 1000) == WAKE_CANCELLED)
        cancelled_count++;
}

static void handle_slow(struct http_request *r)
{
    fiber_sleep(50);
    http_answer(r, 200, "text/plain", STR("slow"));
}

static void handle_silent(struct http_request *r) {}

static void handle_file(struct http_request *r)
{
    http_answer_file(r, folder, http_path_param(r, "..."));
}

static void handle_conditional(struct http_request *r)
{
    if (!http_answer_if_unchanged(r, STR("\"v2\""), 784111777))
        http_answer(r, 200, "text/plain", STR("v2"));
}

static void handle_who(struct http_request *r)
{
    http_answer(r, 200, "text/plain",
                arena_printf(http_arena(r), "%.*s %d %d %.*s", STR_ARG(http_peer(r)),
                             http_is_secure(r), http_is_tls(r), STR_ARG(http_query(r, "q"))));
}

static const struct http_route routes[] = {
    {"GET", "/hello", handle_hello, 0},           {"POST", "/echo", handle_echo, 0},
    {"PUT", "/small", handle_echo, 1000},         {"POST", "/sum", handle_sum, 0},
    {"POST", "/refuse", handle_refuse, 0},        {"POST", "/taste", handle_taste, 0},
    {"GET", "/stream/{count}", handle_stream, 0}, {"GET", "/cut", handle_cut, 0},
    {"GET", "/events", handle_events, 0},         {"GET", "/slow", handle_slow, 0},
    {"GET", "/silent", handle_silent, 0},         {"*", "/file/...", handle_file, 0},
    {"*", "/conditional", handle_conditional, 0}, {"GET", "/who", handle_who, 0},
};

static struct http_route all_routes[32];
static size_t all_count;

static void collect_routes(void)
{
    memcpy(all_routes, routes, sizeof routes);
    memcpy(all_routes + COUNT(routes), http_builtin_routes,
           http_builtin_route_count * sizeof *all_routes);
    all_count = COUNT(routes) + http_builtin_route_count;
}

/* ---- the client's side ----------------------------------------------------------------------- */
#define WANT(condition)                                                                            \
    do {                                                                                           \
        if (!(condition))                                                                          \
            return "line " LINE_TEXT(__LINE__) ": " #condition;                                    \
    } while (0)
#define LINE_TEXT(line)  LINE_TEXT2(line)
#define LINE_TEXT2(line) #line

struct peer {
    int fd;
    SSL *ssl;
    bool has_to_introduce;
    char *data; /* received and not yet taken */
    size_t n, cap;
    bool ended;
};

struct answer {
    int status;
    char head[8192];
    char *body;
    size_t n;
    bool is_whole;
};

static enum way { PLAIN, TLS, PROXIED } way; /* how clients connect in the present case */

/* PROXY v2: TCP over IPv4 from 203.0.113.9 port 4000 to 127.0.0.1 port 80. */
static const char proxy_header[] =
    "\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x09\x7f\0\0\x01\x0f\xa0\0P";

static void begin_tls(struct peer *p)
{
    static SSL_CTX *context;

    if (context == NULL)
        context = SSL_CTX_new(TLS_client_method());
    p->ssl = SSL_new(context);
    SSL_set_fd(p->ssl, p->fd);
    p->ended = SSL_connect(p->ssl) != 1;
}

static struct peer dial(void)
{
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval patience = {.tv_sec = 20};
    struct peer p = {.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};

    setsockopt(p.fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(p.fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    if (connect(p.fd, (struct sockaddr *)&to, sizeof to) < 0)
        p.ended = true;
    else if (way == TLS)
        begin_tls(&p);
    else if (way == PROXIED) /* held back, so that it arrives in one packet with the request */
        p.has_to_introduce = true;
    return p;
}

static void hang_up(struct peer *p)
{
    SSL_free(p->ssl);
    close(p->fd);
    free(p->data);
    *p = (struct peer){.fd = -1};
}

static ssize_t send_some(struct peer *p, const char *data, size_t n)
{
    return p->ssl != NULL ? SSL_write(p->ssl, data, (int)n) : send(p->fd, data, n, MSG_NOSIGNAL);
}

static bool send_introduced(struct peer *p, const char *data, size_t n)
{
    struct iovec parts[] = {{(void *)(uintptr_t)proxy_header, sizeof proxy_header - 1},
                            {(void *)(uintptr_t)data, n}};

    p->has_to_introduce = false;
    return writev(p->fd, parts, 2) == (ssize_t)(sizeof proxy_header - 1 + n);
}

static bool send_bytes(struct peer *p, const char *data, size_t n)
{
    if (p->has_to_introduce)
        return send_introduced(p, data, n);
    while (n > 0) {
        ssize_t sent = send_some(p, data, n);
        if (sent <= 0)
            return false;
        data += sent;
        n -= (size_t)sent;
    }
    return true;
}

static void half_close(struct peer *p)
{
    if (p->ssl != NULL)
        SSL_shutdown(p->ssl);
    else
        shutdown(p->fd, SHUT_WR);
}

static bool say(struct peer *p, const char *text)
{
    return send_bytes(p, text, strlen(text));
}

static bool hear_more(struct peer *p)
{
    if (p->n + 65536 + 1 > p->cap) {
        p->cap = p->n + 65536 + 1 + p->cap;
        p->data = realloc(p->data, p->cap);
    }
    ssize_t n = p->ssl != NULL ? SSL_read(p->ssl, p->data + p->n, 65536)
                               : recv(p->fd, p->data + p->n, 65536, 0);
    if (n <= 0) {
        p->ended = true;
        return false;
    }
    p->n += (size_t)n;
    p->data[p->n] = '\0';
    return true;
}

static bool hear_at_least(struct peer *p, size_t n)
{
    while (p->n < n)
        if (!hear_more(p))
            return false;
    return true;
}

static void take(struct peer *p, size_t n)
{
    memmove(p->data, p->data + n, p->n - n + 1);
    p->n -= n;
}

static bool hear_head(struct peer *p, struct answer *a)
{
    char *end;

    *a = (struct answer){0};
    while (p->n == 0 || (end = strstr(p->data, "\r\n\r\n")) == NULL)
        if (!hear_more(p))
            return false;
    size_t n = (size_t)(end - p->data) + 4;
    if (n >= sizeof a->head)
        return false;
    memcpy(a->head, p->data, n);
    a->status = atoi(a->head + 9);
    take(p, n);
    return true;
}

static const char *field(const struct answer *a, const char *name)
{
    static _Thread_local char value[512];
    size_t n = strlen(name);

    for (const char *at = strstr(a->head, "\r\n"); at != NULL; at = strstr(at, "\r\n")) {
        at += 2;
        if (strncasecmp(at, name, n) == 0 && at[n] == ':') {
            snprintf(value, sizeof value, "%.*s", (int)strcspn(at + n + 2, "\r\n"), at + n + 2);
            return value;
        }
    }
    return NULL;
}

static bool hear_chunks(struct peer *p, struct answer *a)
{
    for (;;) {
        char *end;
        while (p->n == 0 || (end = strstr(p->data, "\r\n")) == NULL)
            if (!hear_more(p))
                return false;
        size_t size = strtoul(p->data, NULL, 16), line = (size_t)(end - p->data) + 2;
        if (!hear_at_least(p, line + size + 2))
            return false;
        a->body = realloc(a->body, a->n + size + 1);
        memcpy(a->body + a->n, p->data + line, size);
        a->n += size;
        a->body[a->n] = '\0';
        take(p, line + size + 2);
        if (size == 0)
            return true;
    }
}

/* One whole answer; false when it was cut or did not come. */
static bool hear(struct peer *p, struct answer *a, bool has_body)
{
    if (!hear_head(p, a))
        return false;
    a->body = calloc(1, 1);
    const char *coding = field(a, "Transfer-Encoding");
    if (!has_body || a->status == 304 || a->status == 204 || a->status < 200)
        return true;
    if (coding != NULL && strcasecmp(coding, "chunked") == 0)
        return hear_chunks(p, a);
    const char *length = field(a, "Content-Length");
    size_t n = length == NULL ? 0 : strtoul(length, NULL, 10);
    if (length == NULL) {
        while (hear_more(p))
            ;
        n = p->n;
    }
    if (!hear_at_least(p, n))
        return false;
    a->body = realloc(a->body, n + 1);
    memcpy(a->body, p->data, n);
    a->body[n] = '\0';
    a->n = n;
    take(p, n);
    return true;
}

static bool is_closed(struct peer *p)
{
    return p->n == 0 && !hear_more(p);
}

static void answer_free(struct answer *a)
{
    free(a->body);
    a->body = NULL;
}

/* One request on a connection of its own. */
static int ask(const char *request, struct answer *a)
{
    struct peer p = dial();
    bool is_head = strncmp(request, "HEAD ", 5) == 0;

    say(&p, request);
    bool ok = hear(&p, a, !is_head);
    hang_up(&p);
    return ok ? a->status : -1;
}

static int status_of(const char *request)
{
    struct answer a;
    int status = ask(request, &a);
    answer_free(&a);
    return status;
}

/* ---- running both ---------------------------------------------------------------------------- */
struct scenario {
    const char *(*client)(void);
    const char *verdict;
    atomic_bool is_done;
    struct loop_fd listener;
};

/* What a client says at the last moment: nothing runs between this and http_stop(). */
static void (*before_stop)(void);

static const struct endpoint endpoints[] = {
    [PLAIN] = {.service = &http_service, .setting = "listen_http", .tls = TLS_NONE},
    [TLS] = {.service = &http_service, .setting = "listen_https", .tls = TLS_IMPLICIT},
    [PROXIED] = {.service = &http_service, .setting = "listen_http", .tls = TLS_NONE},
};

static void accept_client(struct loop_fd *lfd, uint32_t events)
{
    int fd = accept4(lfd->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

    if (fd >= 0)
        conn_start(conn_new(fd, &endpoints[way], way == PROXIED));
}

static int listen_somewhere(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof at;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(fd, 128), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &size), 0);
    port = ntohs(at.sin_port);
    return fd;
}

static void *client_main(void *arg)
{
    struct scenario *s = arg;
    s->verdict = s->client();
    s->is_done = true;
    return NULL;
}

static void server_main(void *arg)
{
    struct scenario *s = arg;
    pthread_t thread;

    collect_routes();
    pg_pool_init("host=/nonexistent dbname=none", 2);
    if (http_start(all_routes, all_count, NULL) < 0) {
        s->verdict = "the server does not start";
        return;
    }
    s->listener = (struct loop_fd){.fd = listen_somewhere(), .ready = accept_client};
    loop_fd_set(&s->listener, EPOLLIN);
    pthread_create(&thread, NULL, client_main, s);
    while (!s->is_done)
        fiber_sleep(5);
    pthread_join(thread, NULL);
    loop_fd_set(&s->listener, 0);
    close(s->listener.fd);
    conn_drain_all();
    for (int64_t end_ms = loop_deadline(config.drain_timeout);
         conn_count() > 0 && loop_now_ms() < end_ms;)
        fiber_sleep(5);
    if (before_stop != NULL)
        before_stop();
    http_stop();
    pg_pool_fini();
    while (conn_count() > 0)
        fiber_sleep(5);
    conn_undrain();
}

static void run_one(const char *(*client)(void), enum way through)
{
    static const char *const names[] = {"plain", "tls", "proxied"};
    struct scenario s = {.client = client};
    int64_t open_before = metrics_slot[METRIC_connections_open];

    way = through;
    cancelled_count = ended_count = 0;
    loop_run_fiber("test", server_main, &s);
    if (s.verdict != NULL)
        FAIL_WITH("%s: %s", names[way], s.verdict);
    assert_int_equal(http_request_count(), 0);
    assert_int_equal(metrics_slot[METRIC_connections_open], open_before);
}

/* Handed to libmicrohttpd, through a socketpair with TLS, and through one without. */
static void run(const char *(*client)(void))
{
    run_one(client, PLAIN);
    run_one(client, TLS);
    run_one(client, PROXIED);
}

/* ---- connections ----------------------------------------------------------------------------- */
static const char *talk_keep_alive(void)
{
    struct peer p = dial();
    struct answer a;

    for (int i = 0; i < 50; i++) {
        WANT(say(&p, "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n"));
        WANT(hear(&p, &a, true));
        WANT(a.status == 200);
        WANT(strcmp(a.body, "hello\n") == 0);
        WANT(field(&a, "Date") != NULL);
        WANT(strcmp(field(&a, "X-Content-Type-Options"), "nosniff") == 0);
        answer_free(&a);
    }
    WANT(say(&p, "GET /hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"));
    WANT(hear(&p, &a, true));
    answer_free(&a);
    WANT(is_closed(&p));
    hang_up(&p);
    return NULL;
}

static void a_connection_is_kept_alive(void **state)
{
    run(talk_keep_alive);
}

static const char *talk_pipelined(void)
{
    struct peer p = dial();
    struct answer a;

    WANT(say(&p, "GET /slow HTTP/1.1\r\nHost: x\r\n\r\n"
                 "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
                 "GET /stream/3 HTTP/1.1\r\nHost: x\r\n\r\n"
                 "POST /refuse HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nGET "
                 "HEAD /hello HTTP/1.1\r\nHost: x\r\n\r\n"
                 "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n"));
    WANT(hear(&p, &a, true));
    WANT(strcmp(a.body, "slow") == 0);
    answer_free(&a);
    WANT(hear(&p, &a, true));
    WANT(strcmp(a.body, "abc") == 0);
    answer_free(&a);
    WANT(hear(&p, &a, true));
    WANT(a.n == 3 * 8192);
    answer_free(&a);
    WANT(hear(&p, &a, true));
    WANT(a.status == 401);
    answer_free(&a);
    WANT(hear(&p, &a, false));
    WANT(strcmp(field(&a, "Content-Length"), "6") == 0);
    answer_free(&a);
    WANT(hear(&p, &a, true));
    WANT(strcmp(a.body, "hello\n") == 0);
    answer_free(&a);
    hang_up(&p);
    return NULL;
}

static void pipelined_requests_are_answered_in_order(void **state)
{
    run(talk_pipelined);
}

static const char *talk_refusals(void)
{
    static const struct {
        const char *request;
        int status;
    } rows[] = {
        {"GET /hello HTTP/1.0\r\n\r\n", 200},
        {"GET http://x/hello HTTP/1.1\r\nHost: x\r\n\r\n", 200},
        {"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 204},
        {"OPTIONS /hello HTTP/1.1\r\nHost: x\r\n\r\n", 204},
        {"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n", 404},
        {"POST /hello HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", 405},
        {"GET /silent HTTP/1.1\r\nHost: x\r\n\r\n", 500},
        {"GET /hello HTTP/1.1\r\n\r\n", 400},
        {"GET /hello HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400},
        {"GET /hello/../x HTTP/1.1\r\nHost: x\r\n\r\n", 400},
        {"GET /%2e%2e/x HTTP/1.1\r\nHost: x\r\n\r\n", 400},
        {"GET /file/%2e%2e%2fx HTTP/1.1\r\nHost: x\r\n\r\n", 400},
        {"GET /a%00b HTTP/1.1\r\nHost: x\r\n\r\n", 400},
        {"GET /a%zz HTTP/1.1\r\nHost: x\r\n\r\n", 400},
        {"GET /hello?a=%ff HTTP/1.1\r\nHost: x\r\n\r\n", 400},
        {"GET hello HTTP/1.1\r\nHost: x\r\n\r\n", 400},
        {"GET /hello HTTP/1.1\r\nHost: x\r\nBad Name: y\r\n\r\n", 400},
        {"GET /hello HTTP/1.1\r\nHost: x\r\nX: a\x01z\r\n\r\n", 400},
        {"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: "
         "chunked\r\n\r\n0\r\n\r\n",
         400},
        {"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
         400},
        {"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length : 3\r\n\r\nabc", 400},
        {"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400},
        {"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400},
        {"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: +3\r\n\r\nabc", 400},
        {"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 501},
        {"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
         501},
        {"GET /hello HTTP/2.0\r\nHost: x\r\n\r\n", 505},
    };
    struct answer a;

    for (size_t i = 0; i < COUNT(rows); i++) {
        static char text[300];
        int status = status_of(rows[i].request);
        snprintf(text, sizeof text, "row %zu: %.60s gave %d", i, rows[i].request, status);
        if (status != rows[i].status)
            return text;
    }
    WANT(ask("DELETE /hello HTTP/1.1\r\nHost: x\r\n\r\n", &a) == 405);
    WANT(strcmp(field(&a, "Allow"), "GET, HEAD, OPTIONS") == 0);
    WANT(strcmp(a.body, "DELETE is not possible here; allowed are: GET, HEAD, OPTIONS\n") == 0);
    answer_free(&a);
    WANT(ask("POST /refuse HTTP/1.1\r\nHost: x\r\nAccept: application/json\r\n\r\n", &a) == 401);
    WANT(strcmp(a.body, "{\"error\": \"auth\", \"detail\": \"who are you?\"}\n") == 0);
    WANT(strncmp(field(&a, "WWW-Authenticate"), "Basic ", 6) == 0);
    answer_free(&a);
    return NULL;
}

static void bad_requests_get_the_right_code(void **state)
{
    run(talk_refusals);
}

static const char *talk_oversized_heads(void)
{
    static char request[80 * 1024];
    struct answer a;

    int n = snprintf(request, sizeof request, "GET /");
    memset(request + n, 'a', 10000);
    strcpy(request + n + 10000, " HTTP/1.1\r\nHost: x\r\n\r\n");
    WANT(ask(request, &a) == 414);
    answer_free(&a);

    n = snprintf(request, sizeof request, "GET /hello HTTP/1.1\r\nHost: x\r\nX: ");
    memset(request + n, 'a', 60000);
    strcpy(request + n + 60000, "\r\n\r\n");
    struct peer p = dial();
    say(&p, request); /* may be cut short */
    if (hear(&p, &a, true))
        WANT(a.status == 431 || a.status == 413 || a.status == 400);
    answer_free(&a);
    hang_up(&p);
    WANT(status_of("GET /hello HTTP/1.1\r\nHost: x\r\n\r\n") == 200);
    return NULL;
}

static void oversized_heads_are_refused(void **state)
{
    run(talk_oversized_heads);
}

static const char *talk_who(void)
{
    struct answer a;

    WANT(ask("GET /who?q=a%20b+c HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: "
             "10.0.0.1\r\nX-Forwarded-Proto: https\r\n\r\n",
             &a) == 200);
    WANT(strcmp(a.body, way == PLAIN ? "127.0.0.1 0 0 a b c"
                        : way == TLS ? "127.0.0.1 1 1 a b c"
                                     : "203.0.113.9 0 0 a b c") == 0);
    answer_free(&a);
    return NULL;
}

static void claims_of_proxies_are_not_believed(void **state)
{
    run(talk_who);
}

static const char *talk_builtin(void)
{
    struct answer a;
    int status = ask("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", &a);

    if (way == PROXIED) {
        WANT(status == 403); /* 203.0.113.9 is none of ours */
    } else {
        WANT(status == 200);
        WANT(strstr(a.body, "\nmerpati_http_requests_total ") != NULL);
        WANT(strcmp(field(&a, "Content-Type"), "text/plain; version=0.0.4; charset=utf-8") == 0);
    }
    answer_free(&a);
    WANT(ask("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", &a) == 503);
    WANT(strstr(a.body, "database") != NULL);
    WANT(field(&a, "Retry-After") != NULL);
    answer_free(&a);
    return NULL;
}

static void health_without_a_database_is_503_and_metrics_are_for_few(void **state)
{
    run(talk_builtin);
}

/* ---- bodies ---------------------------------------------------------------------------------- */
static uint64_t sum_of(const char *p, size_t n)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < n; i++)
        sum = sum * 31 + (unsigned char)p[i];
    return sum;
}

static const char *talk_big_uploads(void)
{
    enum { SIZE = 3 * 1024 * 1024 + 17 };
    char *body = malloc(SIZE), head[200], wanted[64];
    struct peer p = dial();
    struct answer a;

    for (size_t i = 0; i < SIZE; i++)
        body[i] = (char)(i * 7 + i / 1000);
    snprintf(wanted, sizeof wanted, "%d %llu", SIZE, (unsigned long long)sum_of(body, SIZE));

    snprintf(head, sizeof head, "POST /sum HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n",
             SIZE);
    WANT(say(&p, head));
    WANT(send_bytes(&p, body, SIZE));
    WANT(hear(&p, &a, true));
    WANT(strcmp(a.body, wanted) == 0);
    answer_free(&a);

    WANT(say(&p, "POST /sum HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"));
    for (size_t at = 0, n = 1; at < SIZE; at += n, n = n * 3 % 100003 + 1) {
        if (n > SIZE - at)
            n = SIZE - at;
        snprintf(head, sizeof head, "%zx\r\n", n);
        WANT(say(&p, head));
        WANT(send_bytes(&p, body + at, n));
        WANT(say(&p, "\r\n"));
    }
    WANT(say(&p, "0\r\n\r\n"));
    WANT(hear(&p, &a, true));
    WANT(strcmp(a.body, wanted) == 0);
    answer_free(&a);
    hang_up(&p);
    free(body);
    return NULL;
}

static void big_uploads_arrive_whole_at_a_slow_handler(void **state)
{
    run(talk_big_uploads);
}

static const char *talk_oversize(void)
{
    static char block[16 * 1024];
    struct peer p = dial();
    struct answer a;
    char chunk[16];

    memset(block, 'b', sizeof block);
    /* Announced: refused without reading; a short body leaves the connection alive. */
    WANT(say(&p, "PUT /small HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\n\r\n"));
    WANT(send_bytes(&p, block, 1001));
    WANT(hear(&p, &a, true));
    WANT(a.status == 413);
    answer_free(&a);
    WANT(say(&p, "PUT /small HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"));
    WANT(send_bytes(&p, block, 1000));
    WANT(hear(&p, &a, true));
    WANT(a.status == 200 && a.n == 1000);
    answer_free(&a);
    /* A long one ends the connection, and the answer survives what the client sends after it. */
    WANT(say(&p, "PUT /small HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n\r\n"));
    for (int i = 0; i < 100; i++)
        WANT(send_bytes(&p, block, sizeof block));
    WANT(hear(&p, &a, true));
    WANT(a.status == 413);
    answer_free(&a);
    WANT(is_closed(&p));
    hang_up(&p);
    /* In chunks nobody knows before: the answer comes in the midst of the body. */
    p = dial();
    WANT(say(&p, "PUT /small HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"));
    snprintf(chunk, sizeof chunk, "%zx\r\n", sizeof block);
    for (int i = 0; i < 100; i++) {
        WANT(say(&p, chunk));
        WANT(send_bytes(&p, block, sizeof block));
        WANT(say(&p, "\r\n"));
    }
    WANT(hear(&p, &a, true));
    WANT(a.status == 413);
    WANT(strcmp(a.body, "the body is larger than the 1000 bytes allowed here\n") == 0);
    answer_free(&a);
    hang_up(&p);
    return NULL;
}

static void oversized_bodies_get_413(void **state)
{
    run(talk_oversize);
}

static const char *talk_early(void)
{
    static char block[64 * 1024];
    struct peer p = dial();
    struct answer a;

    /* A small body, half of it late: the connection lives on. */
    WANT(say(&p, "POST /refuse HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n12345"));
    WANT(say(&p, "67890GET /hello HTTP/1.1\r\nHost: x\r\n\r\n"));
    WANT(hear(&p, &a, true));
    WANT(a.status == 401);
    answer_free(&a);
    WANT(hear(&p, &a, true));
    WANT(a.status == 200);
    answer_free(&a);
    hang_up(&p);
    /* A large one of which the client sends nothing yet. */
    p = dial();
    WANT(say(&p, "POST /refuse HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000\r\n\r\n"));
    WANT(hear(&p, &a, true));
    WANT(a.status == 401);
    answer_free(&a);
    WANT(is_closed(&p));
    hang_up(&p);
    /* Answered after the first block. */
    p = dial();
    WANT(say(&p, "POST /taste HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000\r\n\r\n"));
    WANT(send_bytes(&p, block, sizeof block));
    WANT(hear(&p, &a, true));
    WANT(a.status == 403);
    answer_free(&a);
    hang_up(&p);
    return NULL;
}

static void an_answer_may_come_before_the_body(void **state)
{
    run(talk_early);
}

static const char *talk_expect(void)
{
    struct peer p = dial();
    struct answer a;

    WANT(say(
        &p, "POST /echo HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"));
    WANT(hear(&p, &a, false));
    WANT(a.status == 100);
    answer_free(&a);
    WANT(say(&p, "abc"));
    WANT(hear(&p, &a, true));
    WANT(a.status == 200 && strcmp(a.body, "abc") == 0);
    answer_free(&a);
    WANT(say(
        &p,
        "POST /refuse HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"));
    WANT(hear(&p, &a, true));
    WANT(a.status == 401);
    answer_free(&a);
    hang_up(&p);
    p = dial();
    WANT(say(
        &p,
        "PUT /small HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3000\r\n\r\n"));
    WANT(hear(&p, &a, true));
    WANT(a.status == 413);
    answer_free(&a);
    hang_up(&p);
    return NULL;
}

static void continue_is_said_only_when_the_body_is_wanted(void **state)
{
    run(talk_expect);
}

static const char *talk_stalled(void)
{
    struct peer p = dial();
    struct answer a;

    WANT(say(&p, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3000\r\n\r\nabc"));
    WANT(hear(&p, &a, true));
    WANT(a.status == 408);
    answer_free(&a);
    WANT(is_closed(&p));
    hang_up(&p);
    p = dial();
    WANT(say(&p, "GET /hello HTTP/1.1\r\nHost: x\r\nX-Half: "));
    WANT(is_closed(&p));
    hang_up(&p);
    return NULL;
}

static void stalled_clients_are_sent_away(void **state)
{
    config.http_timeout = 300;
    run(talk_stalled);
    config.http_timeout = 60000;
}

/* ---- streams --------------------------------------------------------------------------------- */
static const char *talk_streams(void)
{
    struct answer a;

    WANT(ask("GET /stream/100 HTTP/1.1\r\nHost: x\r\n\r\n", &a) == 200);
    WANT(strcmp(field(&a, "Transfer-Encoding"), "chunked") == 0);
    WANT(a.n == 100 * 8192);
    answer_free(&a);
    WANT(ask("GET /stream/100?sized=1 HTTP/1.1\r\nHost: x\r\n\r\n", &a) == 200);
    WANT(strcmp(field(&a, "Content-Length"), "819200") == 0);
    WANT(a.n == 100 * 8192);
    answer_free(&a);
    WANT(ask("GET /stream/0 HTTP/1.1\r\nHost: x\r\n\r\n", &a) == 200);
    WANT(a.n == 0);
    answer_free(&a);
    WANT(ask("GET /stream/10 HTTP/1.0\r\n\r\n", &a) == 200);
    WANT(a.n == 10 * 8192);
    answer_free(&a);
    WANT(ask("HEAD /stream/100?sized=1 HTTP/1.1\r\nHost: x\r\n\r\n", &a) == 200);
    WANT(strcmp(field(&a, "Content-Length"), "819200") == 0);
    answer_free(&a);
    return NULL;
}

static void streams_arrive_whole(void **state)
{
    run(talk_streams);
}

static const char *talk_slow_reader(void)
{
    struct peer p = dial();
    struct answer a;
    int size = 64 * 1024;

    setsockopt(p.fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    WANT(say(&p, "GET /stream/1500?sized=1 HTTP/1.1\r\nHost: x\r\n\r\n"));
    usleep(100 * 1000);
    WANT(ended_count == 0); /* 12 MB do not fit between us: the handler waits */
    WANT(hear(&p, &a, true));
    WANT(a.n == 1500 * 8192);
    answer_free(&a);
    hang_up(&p);
    return NULL;
}

static void a_slow_reader_holds_the_handler_back(void **state)
{
    run(talk_slow_reader);
    assert_int_equal(ended_count, 1);
}

static const char *talk_cut(void)
{
    struct answer a;

    WANT(ask("GET /cut HTTP/1.1\r\nHost: x\r\n\r\n", &a) == -1);
    WANT(a.status == 200);
    answer_free(&a);
    WANT(ask("GET /cut?sized=1 HTTP/1.1\r\nHost: x\r\n\r\n", &a) == -1);
    WANT(a.status == 200);
    answer_free(&a);
    return NULL;
}

static void a_failed_stream_is_seen_to_be_cut(void **state)
{
    run(talk_cut);
}

static bool comes_to_one(atomic_int *count)
{
    for (int i = 0; i < 1000 && *count == 0; i++)
        usleep(10 * 1000);
    return *count == 1;
}

static const char *talk_disconnect(void)
{
    struct linger reset = {.l_onoff = 1};
    struct answer a;
    struct peer p = dial();

    WANT(say(&p, "GET /events HTTP/1.1\r\nHost: x\r\n\r\n"));
    WANT(hear_head(&p, &a));
    setsockopt(p.fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    hang_up(&p);
    WANT(comes_to_one(&cancelled_count));

    p = dial();
    WANT(say(&p, "GET /stream/100000 HTTP/1.1\r\nHost: x\r\n\r\n"));
    WANT(hear_head(&p, &a));
    hang_up(&p);
    WANT(comes_to_one(&ended_count));

    p = dial(); /* an upload that ends in its midst */
    WANT(say(&p, "POST /sum HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nabc"));
    usleep(20 * 1000);
    hang_up(&p);
    return NULL;
}

static void a_handler_ends_when_its_client_leaves(void **state)
{
    run(talk_disconnect);
}

static const char *talk_half_close(void)
{
    struct peer p = dial();
    struct answer a;

    WANT(say(&p,
             "GET /slow HTTP/1.1\r\nHost: x\r\n\r\nGET /stream/200 HTTP/1.1\r\nHost: x\r\n\r\n"));
    half_close(&p);
    WANT(hear(&p, &a, true));
    WANT(strcmp(a.body, "slow") == 0);
    answer_free(&a);
    if (hear(&p, &a, true)) /* libmicrohttpd may leave the second one unread */
        WANT(a.n == 200 * 8192);
    answer_free(&a);
    hang_up(&p);
    return NULL;
}

static void a_half_closed_client_gets_its_answer(void **state)
{
    run(talk_half_close);
}

static const char *talk_half_closed_stream(void)
{
    struct peer p = dial();
    struct answer a;

    WANT(say(&p, "GET /events HTTP/1.1\r\nHost: x\r\n\r\n"));
    WANT(hear_head(&p, &a));
    half_close(&p);
    while (hear_more(&p))
        ;
    WANT(comes_to_one(&cancelled_count));
    hang_up(&p);
    return NULL;
}

static void a_silent_stream_to_a_half_closed_client_ends(void **state)
{
    config.http_timeout = 300;
    run(talk_half_closed_stream);
    config.http_timeout = 60000;
}

static struct peer left_open;

static const char *talk_stop(void)
{
    struct answer a;

    left_open = dial();
    WANT(say(&left_open, "GET /events HTTP/1.1\r\nHost: x\r\n\r\n"));
    WANT(hear_head(&left_open, &a));
    return NULL; /* left open: http_stop() must cope */
}

static void stopping_ends_what_runs(void **state)
{
    config.drain_timeout = 50;
    for (enum way through = PLAIN; through <= PROXIED; through++) {
        run_one(talk_stop, through);
        assert_int_equal(cancelled_count, 1);
        hang_up(&left_open);
    }
    config.drain_timeout = 10000;
}

#define LEAVERS 300

static unsigned descriptor_count(void)
{
    DIR *dir = opendir("/proc/self/fd");
    unsigned count = 0;

    while (readdir(dir) != NULL)
        count++;
    closedir(dir);
    return count;
}

/* Each has its answer before the end of its body, and neither goes on nor leaves. */
static const char *talk_lingering(void)
{
    static struct peer peers[LEAVERS];
    unsigned before = descriptor_count(), extra;
    struct answer a;

    for (int i = 0; i < LEAVERS; i++) {
        peers[i] = dial();
        WANT(
            say(&peers[i], "POST /refuse HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\n\r\nx"));
        WANT(hear(&peers[i], &a, true));
        answer_free(&a);
    }
    extra = descriptor_count() - before - LEAVERS;
    for (int i = 0; i < LEAVERS; i++)
        hang_up(&peers[i]);
    WANT(extra < LEAVERS - 20);
    return NULL;
}

static void seeing_clients_off_takes_only_so_many_descriptors(void **state)
{
    run_one(talk_lingering, PLAIN);
}

static const char *talk_once(void)
{
    struct answer a;

    left_open = dial();
    WANT(say(&left_open, "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n"));
    WANT(hear(&left_open, &a, true));
    answer_free(&a);
    return NULL;
}

static void ask_for_slow(void)
{
    say(&left_open, "GET /slow HTTP/1.1\r\nHost: x\r\n\r\n");
}

static void post_an_upload(void)
{
    say(&left_open, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello");
}

static void a_request_that_comes_while_stopping_is_dropped(void **state)
{
    static void (*const last_words[])(void) = {ask_for_slow, post_an_upload};

    for (size_t i = 0; i < COUNT(last_words); i++) {
        before_stop = last_words[i];
        run_one(talk_once, PLAIN);
        before_stop = NULL;
        hang_up(&left_open);
    }
}

/* ---- files ----------------------------------------------------------------------------------- */
static void put_file(const char *name, const char *text, size_t repeat)
{
    char path[PATH_MAX];

    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    for (size_t i = 0; i < repeat; i++)
        fputs(text, f);
    fclose(f);
    utime(path, &(struct utimbuf){784111777, 784111777});
}

static void make_certificate(void)
{
    struct str names[] = {STR("localhost")};
    struct error err = {0};
    char cert[PATH_MAX], key[PATH_MAX];

    if (tls_prepare_self_signed(folder, names, 1, &err) < 0)
        FAIL_WITH("%s", err.text);
    snprintf(cert, sizeof cert, "%s/tls/cert.pem", folder);
    snprintf(key, sizeof key, "%s/tls/key.pem", folder);
    if (tls_load(cert, key, &err) < 0)
        FAIL_WITH("%s", err.text);
}

static int make_folder(void **state)
{
    char path[PATH_MAX];

    assert_non_null(mkdtemp(folder));
    make_certificate();
    snprintf(path, sizeof path, "%s/assets", folder);
    mkdir(path, 0755);
    put_file("index.html", "<p>index", 1);
    put_file("app.js", "plain js", 1);
    put_file("app.js.gz", "gzipped", 1);
    put_file("app.js.br", "brotli", 1);
    put_file("assets/app-0123abcd.css", "p {}", 1);
    put_file("assets/index.html", "assets", 1);
    put_file("big.bin", "0123456789", 200 * 1000);
    put_file(".hidden", "secret", 1);
    snprintf(path, sizeof path, "%s/link", folder);
    assert_int_equal(symlink("/etc/passwd", path), 0);
    snprintf(path, sizeof path, "%s/up", folder);
    assert_int_equal(symlink("..", path), 0);
    return 0;
}

static int remove_folder(void **state)
{
    static const char *const names[] = {"index.html",
                                        "app.js",
                                        "app.js.gz",
                                        "app.js.br",
                                        "assets/app-0123abcd.css",
                                        "assets/index.html",
                                        "big.bin",
                                        ".hidden",
                                        "link",
                                        "up",
                                        "assets",
                                        ""};
    char path[PATH_MAX];

    for (size_t i = 0; i < COUNT(names); i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        remove(path);
    }
    offload_fini();
    tls_fini();
    admission_fini();
    conn_buffer_pool_fini();
    fiber_pool_fini();
    loop_fini();
    return 0;
}

static const char *talk_files(void)
{
    static const struct {
        const char *path, *fields;
        int status;
        const char *body;
    } rows[] = {
        {"", "", 200, "<p>index"},
        {"index.html", "", 200, "<p>index"},
        {"assets/", "", 200, "assets"},
        {"assets", "", 308, NULL},
        {"app.js", "", 200, "plain js"},
        {"app.js", "Accept-Encoding: gzip, br\r\n", 200, "brotli"},
        {"app.js", "Accept-Encoding: gzip\r\n", 200, "gzipped"},
        {"app.js", "Accept-Encoding: br;q=0.5, gzip;q=0.8\r\n", 200, "gzipped"},
        {"app.js", "Accept-Encoding: br;q=0, gzip;q=0\r\n", 200, "plain js"},
        {"app.js", "Range: bytes=2-4\r\n", 206, "ain"},
        {"app.js", "Range: bytes=-2\r\n", 206, "js"},
        {"app.js", "Range: bytes=9-\r\n", 416, NULL},
        {"app.js", "Range: bytes=0-0,2-2\r\n", 200, "plain js"},
        {"app.js", "Range: bytes=0-1\r\nIf-Range: \"other\"\r\n", 200, "plain js"},
        {"app.js", "Range: bytes=0-1\r\nIf-Range: Sun, 06 Nov 1994 08:49:37 GMT\r\n", 206, "pl"},
        {"app.js", "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n", 304, NULL},
        {"app.js", "If-Modified-Since: Sun, 06 Nov 1994 08:49:36 GMT\r\n", 200, "plain js"},
        {"app.js", "If-None-Match: *\r\n", 304, NULL},
        {"app.js", "If-None-Match: \"x\"\r\nIf-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n",
         200, "plain js"},
        {"app.js", "If-Match: \"x\"\r\n", 412, NULL},
        {"none.js", "", 404, NULL},
        {".hidden", "", 404, NULL},
        {"link", "", 404, NULL},
        {"up/index.html", "", 404, NULL},
        {"app.js/x", "", 404, NULL},
        {"assets//index.html", "", 404, NULL},
        {"%2fetc/passwd", "", 404, NULL},
    };
    static char text[300], request[500];
    struct answer a;

    for (size_t i = 0; i < COUNT(rows); i++) {
        snprintf(request, sizeof request, "GET /file/%s HTTP/1.1\r\nHost: x\r\n%s\r\n",
                 rows[i].path, rows[i].fields);
        int status = ask(request, &a);
        snprintf(text, sizeof text, "row %zu: /%s %s gave %d", i, rows[i].path, rows[i].fields,
                 status);
        if (status != rows[i].status || (rows[i].body != NULL && strcmp(a.body, rows[i].body) != 0))
            return text;
        answer_free(&a);
    }
    return NULL;
}

static void files_are_served_by_condition_range_and_coding(void **state)
{
    run(talk_files);
}

static const char *talk_file_headers(void)
{
    struct answer a;
    char request[300], etag[100];

    WANT(ask("GET /file/app.js HTTP/1.1\r\nHost: x\r\nAccept-Encoding: br\r\n\r\n", &a) == 200);
    WANT(strcmp(field(&a, "Content-Encoding"), "br") == 0);
    WANT(strcmp(field(&a, "Vary"), "Accept-Encoding") == 0);
    WANT(strcmp(field(&a, "Content-Type"), "text/javascript; charset=utf-8") == 0);
    WANT(strcmp(field(&a, "Cache-Control"), "no-cache") == 0);
    WANT(strcmp(field(&a, "Last-Modified"), "Sun, 06 Nov 1994 08:49:37 GMT") == 0);
    snprintf(etag, sizeof etag, "%s", field(&a, "ETag"));
    answer_free(&a);
    snprintf(request, sizeof request,
             "GET /file/app.js HTTP/1.1\r\nHost: x\r\nAccept-Encoding: br\r\n"
             "If-None-Match: %s\r\n\r\n",
             etag);
    WANT(ask(request, &a) == 304);
    WANT(strcmp(field(&a, "ETag"), etag) == 0);
    WANT(strcmp(field(&a, "Content-Length"), "6") == 0);
    answer_free(&a);
    WANT(ask("GET /file/app.js HTTP/1.1\r\nHost: x\r\n\r\n", &a) == 200);
    WANT(strcmp(field(&a, "ETag"), etag) != 0); /* another coding is another representation */
    answer_free(&a);
    WANT(ask("GET /file/assets/app-0123abcd.css HTTP/1.1\r\nHost: x\r\n\r\n", &a) == 200);
    WANT(strcmp(field(&a, "Cache-Control"), "public, max-age=31536000, immutable") == 0);
    answer_free(&a);
    WANT(ask("GET /file/assets?a=b HTTP/1.1\r\nHost: x\r\n\r\n", &a) == 308);
    WANT(strcmp(field(&a, "Location"), "./assets/?a=b") == 0);
    answer_free(&a);
    WANT(ask("HEAD /file/big.bin HTTP/1.1\r\nHost: x\r\n\r\n", &a) == 200);
    WANT(strcmp(field(&a, "Content-Length"), "2000000") == 0);
    answer_free(&a);
    WANT(ask("GET /file/big.bin HTTP/1.1\r\nHost: x\r\nRange: bytes=1000001-1999998\r\n\r\n", &a) ==
         206);
    WANT(strcmp(field(&a, "Content-Range"), "bytes 1000001-1999998/2000000") == 0);
    WANT(a.n == 999998 && a.body[0] == '1' && a.body[a.n - 1] == '8');
    answer_free(&a);
    WANT(ask("PUT /file/app.js HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\na", &a) == 405);
    answer_free(&a);
    return NULL;
}

static void files_carry_their_headers(void **state)
{
    run(talk_file_headers);
}

static const char *talk_conditions(void)
{
    static const struct {
        const char *method, *fields;
        int status;
    } rows[] = {
        {"GET", "", 200},
        {"GET", "If-None-Match: \"v1\", W/\"v2\"\r\n", 304},
        {"GET", "If-None-Match: \"v1\"\r\n", 200},
        {"PUT", "If-Match: \"v2\"\r\n", 200},
        {"PUT", "If-Match: \"v1\"\r\n", 412},
        {"PUT", "If-Match: W/\"v2\"\r\n", 412},
        {"PUT", "If-Match: *\r\n", 200},
        {"PUT", "If-None-Match: *\r\n", 412},
        {"PUT", "If-Unmodified-Since: Sun, 06 Nov 1994 08:49:36 GMT\r\n", 412},
        {"PUT", "If-Unmodified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n", 200},
        {"PUT", "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n", 200},
    };
    static char text[200], request[300];

    for (size_t i = 0; i < COUNT(rows); i++) {
        snprintf(request, sizeof request, "%s /conditional HTTP/1.1\r\nHost: x\r\n%s\r\n",
                 rows[i].method, rows[i].fields);
        int status = status_of(request);
        snprintf(text, sizeof text, "row %zu gave %d", i, status);
        if (status != rows[i].status)
            return text;
    }
    return NULL;
}

static void preconditions_are_weighed_in_order(void **state)
{
    run(talk_conditions);
}

/* An argument picks cases by name: test_http 'a_slow_*'. */
int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(closest_route_of_the_method_is_found),
        cmocka_unit_test(escapes_are_decoded_strictly),
        cmocka_unit_test(paths_cannot_climb),
        cmocka_unit_test(file_paths_have_no_hidden_or_empty_segments),
        cmocka_unit_test(query_values_are_found_and_decoded),
        cmocka_unit_test(one_range_is_understood_and_the_rest_ignored),
        cmocka_unit_test(etags_compare_strongly_or_weakly),
        cmocka_unit_test(codings_have_the_weight_the_client_gave),
        cmocka_unit_test(dates_of_all_three_forms_are_read),
        cmocka_unit_test(only_hashed_assets_are_immutable),
        cmocka_unit_test(networks_contain_their_addresses_only),
        cmocka_unit_test(networks_are_written_as_settings_read_them),
        cmocka_unit_test(a_connection_is_kept_alive),
        cmocka_unit_test(pipelined_requests_are_answered_in_order),
        cmocka_unit_test(bad_requests_get_the_right_code),
        cmocka_unit_test(oversized_heads_are_refused),
        cmocka_unit_test(claims_of_proxies_are_not_believed),
        cmocka_unit_test(health_without_a_database_is_503_and_metrics_are_for_few),
        cmocka_unit_test(big_uploads_arrive_whole_at_a_slow_handler),
        cmocka_unit_test(oversized_bodies_get_413),
        cmocka_unit_test(an_answer_may_come_before_the_body),
        cmocka_unit_test(continue_is_said_only_when_the_body_is_wanted),
        cmocka_unit_test(stalled_clients_are_sent_away),
        cmocka_unit_test(streams_arrive_whole),
        cmocka_unit_test(a_slow_reader_holds_the_handler_back),
        cmocka_unit_test(a_failed_stream_is_seen_to_be_cut),
        cmocka_unit_test(a_handler_ends_when_its_client_leaves),
        cmocka_unit_test(a_half_closed_client_gets_its_answer),
        cmocka_unit_test(a_silent_stream_to_a_half_closed_client_ends),
        cmocka_unit_test(stopping_ends_what_runs),
        cmocka_unit_test(seeing_clients_off_takes_only_so_many_descriptors),
        cmocka_unit_test(a_request_that_comes_while_stopping_is_dropped),
        cmocka_unit_test(files_are_served_by_condition_range_and_coding),
        cmocka_unit_test(files_carry_their_headers),
        cmocka_unit_test(preconditions_are_weighed_in_order),
    };

    config_defaults();
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
