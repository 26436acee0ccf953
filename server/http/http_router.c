/* http_router.c - from a request's target to its route: decoding, safety of paths, matching.
 *
 * Patterns are compared with the path as it was sent, segment by segment, each decoded by itself,
 * so that an encoded slash stays inside its "{segment}". It knows nothing of connections and
 * answers. */
#include "server/base/utf8.h"
#include "server/http/http_internal.h"

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = ascii_lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool http_percent_decode(struct arena *a, struct str s, bool plus_is_space, struct str *out)
{
    char *to = arena_alloc(a, s.n + 1);
    size_t n = 0;

    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        if (c == '%') {
            int high = i + 2 < s.n ? hex_value(s.p[i + 1]) : -1;
            int low = high >= 0 ? hex_value(s.p[i + 2]) : -1;
            if (low < 0)
                return false;
            c = (char)(high << 4 | low);
            i += 2;
        } else if (c == '+' && plus_is_space) {
            c = ' ';
        }
        if (c == '\0')
            return false;
        to[n++] = c;
    }
    *out = str_of(to, n);
    return utf8_valid(*out);
}

bool http_path_is_safe(struct str decoded)
{
    struct str rest = decoded, segment;
    bool more = true;

    if (decoded.n == 0 || decoded.p[0] != '/')
        return false;
    for (size_t i = 0; i < decoded.n; i++)
        if ((unsigned char)decoded.p[i] < 0x20 || decoded.p[i] == 0x7f)
            return false;
    while (more) {
        more = str_cut(rest, '/', &segment, &rest);
        if (str_eq(segment, STR(".")) || str_eq(segment, STR("..")))
            return false;
    }
    return true;
}

/* ---- queries --------------------------------------------------------------------------------- */
bool http_query_find(struct arena *a, struct str query, struct str name, struct str *value)
{
    struct str pair, raw_name, raw_value, decoded;

    while (str_next_token(&query, '&', &pair)) {
        str_cut(pair, '=', &raw_name, &raw_value);
        if (!http_percent_decode(a, raw_name, true, &decoded) || !str_eq(decoded, name))
            continue;
        return http_percent_decode(a, raw_value, true, value);
    }
    return false;
}

bool http_query_valid(struct arena *a, struct str query)
{
    struct str decoded;
    return http_percent_decode(a, query, true, &decoded);
}

/* ---- matching -------------------------------------------------------------------------------- */
/* What a pattern's segment is worth where two patterns match one path: the closer description
 * wins. */
enum { FITS_REST = 1, FITS_PARAM, FITS_LITERAL };

struct match {
    struct http_field params[HTTP_PARAMS_MAX];
    size_t param_count;
    uint64_t worth; /* two bits a segment, the first highest */
};

static void match_param(struct match *m, struct str name, struct str value)
{
    assert(m->param_count < HTTP_PARAMS_MAX);
    m->params[m->param_count++] = (struct http_field){name, value};
}

/* One segment of each. 0: they do not fit. */
static unsigned match_segment(struct arena *a, struct str pattern, struct str segment,
                              struct match *m)
{
    struct str decoded;

    if (!http_percent_decode(a, segment, false, &decoded))
        return 0;
    if (pattern.n > 2 && pattern.p[0] == '{' && pattern.p[pattern.n - 1] == '}') {
        if (decoded.n == 0)
            return 0;
        match_param(m, str_of(pattern.p + 1, pattern.n - 2), decoded);
        return FITS_PARAM;
    }
    return str_eq(pattern, decoded) ? FITS_LITERAL : 0;
}

/* "/dav/..." fits "/dav", "/dav/" and all below. */
static bool match_pattern(struct arena *a, struct str pattern, struct str path, struct match *m)
{
    bool more_pattern = true, more_path = true;
    struct str segment, part, rest;
    unsigned fit, shift = 62;

    *m = (struct match){0};
    for (;;) {
        more_pattern = str_cut(pattern, '/', &part, &pattern);
        if (str_eq(part, STR("..."))) {
            if (!http_percent_decode(a, more_path ? path : STR(""), false, &rest))
                return false;
            match_param(m, STR("..."), rest);
            m->worth |= (uint64_t)FITS_REST << shift;
            return true;
        }
        if (!more_path)
            return false;
        more_path = str_cut(path, '/', &segment, &path);
        fit = match_segment(a, part, segment, m);
        if (fit == 0)
            return false;
        m->worth |= (uint64_t)fit << shift;
        shift = shift >= 2 ? shift - 2 : 0;
        if (!more_pattern)
            return !more_path;
    }
}

static bool method_fits(const char *of_route, struct str method)
{
    if (strcmp(of_route, "*") == 0 || str_eq(method, str_c(of_route)))
        return true;
    return str_eq(method, STR("HEAD")) && strcmp(of_route, "GET") == 0;
}

static void allow_add(struct buf *allow, const char *method)
{
    if (str_find(buf_str(allow), str_c(method)) >= 0)
        return;
    if (allow->n > 0)
        buf_adds(allow, ", ");
    buf_adds(allow, strcmp(method, "GET") == 0 ? "GET, HEAD" : method);
}

const struct http_route *http_route_find(const struct http_route *routes, size_t count,
                                         struct arena *a, struct str method, struct str raw_path,
                                         struct http_field *params, size_t *param_count,
                                         struct str *allow)
{
    const struct http_route *best = NULL;
    struct match match, best_match = {0};
    struct buf methods;

    buf_init(&methods, 1024);
    for (size_t i = 0; i < count; i++) {
        if (!match_pattern(a, str_c(routes[i].pattern), raw_path, &match))
            continue;
        allow_add(&methods, routes[i].method);
        if (!method_fits(routes[i].method, method) ||
            (best != NULL && match.worth <= best_match.worth))
            continue;
        best = &routes[i];
        best_match = match;
    }
    if (best == NULL && methods.n > 0)
        allow_add(&methods, "OPTIONS");
    memcpy(params, best_match.params, sizeof best_match.params);
    *param_count = best_match.param_count;
    *allow = arena_str(a, buf_str(&methods));
    buf_fini(&methods);
    return best;
}
