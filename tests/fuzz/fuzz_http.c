/* fuzz_http.c - what of a request is parsed by us: paths, queries, ranges, etags, weights, dates.
 *
 * The first byte says where the input is cut in two: a target and a header field's value. */
#include <stdlib.h>
#include "server/http/http_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void nothing(struct http_request *r) {}

static const struct http_route routes[] = {
    {"GET", "/", nothing, 0},
    {"GET", "/a/{x}/b", nothing, 0},
    {"*", "/dav/...", nothing, 0},
    {"POST", "/a/{x}/{y}", nothing, 0},
};

static void must(bool holds)
{
    if (!holds)
        abort();
}

static void route(struct arena *a, struct str target)
{
    struct http_field params[HTTP_PARAMS_MAX];
    struct str path, query, decoded, allow, value;
    size_t count;

    str_cut(target, '?', &path, &query);
    if (!http_percent_decode(a, path, false, &decoded) || !http_path_is_safe(decoded))
        return;
    must(decoded.n <= path.n && memchr(decoded.p, '\0', decoded.n) == NULL);
    must(str_find(decoded, STR("/../")) < 0 && !str_ends(decoded, STR("/..")));
    http_route_find(routes, sizeof routes / sizeof *routes, a, STR("GET"), path, params, &count,
                    &allow);
    must(count <= HTTP_PARAMS_MAX);
    if (http_query_find(a, query, STR("x"), &value))
        must(value.n <= query.n);
    if (http_file_path_is_safe(decoded))
        must(str_find(decoded, STR("//")) < 0);
    http_file_type(decoded);
    http_file_is_immutable(decoded);
}

static void fields(struct arena *a, struct str value, uint64_t file_size)
{
    uint64_t first = 0, length = 0;
    int64_t unix_s;

    if (http_range_parse(value, file_size, &first, &length) == RANGE_PART)
        must(length > 0 && first < file_size && length <= file_size - first);
    http_etag_list_has(value, STR("\"a\""), true);
    must(http_accepted_weight(value, STR("gzip")) <= 1000);
    if (http_date_parse(value, &unix_s))
        must(http_date(a, unix_s).n > 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *a = arena_new();

    if (size > 0) {
        struct str rest = str_of((const char *)data + 1, size - 1);
        route(a, str_head(rest, data[0]));
        fields(a, str_from(rest, data[0]), (uint64_t)data[0] * size);
    }
    arena_free(&a);
    return 0;
}
