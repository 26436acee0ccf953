/* str.c - comparing, searching and cutting slices.
 *
 * Bytes only: what a byte above 127 means is utf8.c's business. An empty slice may have a NULL
 * pointer, which the memory functions of libc must not see. */
#include "server/base/str.h"

char ascii_lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}

char ascii_upper(char c)
{
    return c >= 'a' && c <= 'z' ? (char)(c - ('a' - 'A')) : c;
}

static bool bytes_eq(const char *a, const char *b, size_t n)
{
    return n == 0 || memcmp(a, b, n) == 0;
}

static bool bytes_ieq(const char *a, const char *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (a[i] != b[i] && ascii_lower(a[i]) != ascii_lower(b[i]))
            return false;
    return true;
}

bool str_eq(struct str a, struct str b)
{
    return a.n == b.n && bytes_eq(a.p, b.p, a.n);
}

bool str_ieq(struct str a, struct str b)
{
    return a.n == b.n && bytes_ieq(a.p, b.p, a.n);
}

static int compare_sizes(size_t a, size_t b)
{
    return (a > b) - (a < b);
}

int str_cmp(struct str a, struct str b)
{
    size_t n = a.n < b.n ? a.n : b.n;
    int order = n == 0 ? 0 : memcmp(a.p, b.p, n);

    return order != 0 ? order : compare_sizes(a.n, b.n);
}

int str_icmp(struct str a, struct str b)
{
    size_t n = a.n < b.n ? a.n : b.n;

    for (size_t i = 0; i < n; i++) {
        unsigned char ca = (unsigned char)ascii_lower(a.p[i]);
        unsigned char cb = (unsigned char)ascii_lower(b.p[i]);

        if (ca != cb)
            return ca < cb ? -1 : 1;
    }
    return compare_sizes(a.n, b.n);
}

bool str_starts(struct str s, struct str prefix)
{
    return s.n >= prefix.n && bytes_eq(s.p, prefix.p, prefix.n);
}

bool str_istarts(struct str s, struct str prefix)
{
    return s.n >= prefix.n && bytes_ieq(s.p, prefix.p, prefix.n);
}

bool str_ends(struct str s, struct str suffix)
{
    return s.n >= suffix.n && str_eq(str_from(s, s.n - suffix.n), suffix);
}

bool str_iends(struct str s, struct str suffix)
{
    return s.n >= suffix.n && str_ieq(str_from(s, s.n - suffix.n), suffix);
}

bool str_skip_prefix(struct str *s, struct str prefix)
{
    if (!str_istarts(*s, prefix))
        return false;
    *s = str_from(*s, prefix.n);
    return true;
}

ptrdiff_t str_index(struct str s, char c)
{
    const char *hit = s.n == 0 ? NULL : memchr(s.p, c, s.n);

    return hit != NULL ? hit - s.p : -1;
}

ptrdiff_t str_rindex(struct str s, char c)
{
    const char *hit = s.n == 0 ? NULL : memrchr(s.p, c, s.n);

    return hit != NULL ? hit - s.p : -1;
}

ptrdiff_t str_find(struct str s, struct str needle)
{
    const char *hit;

    if (needle.n == 0)
        return 0;
    if (s.n < needle.n)
        return -1;
    hit = memmem(s.p, s.n, needle.p, needle.n);
    return hit != NULL ? hit - s.p : -1;
}

/* Rolling hash (Karp and Rabin): a search text such as "aaaa...b" must not make this quadratic. */
ptrdiff_t str_ifind(struct str s, struct str needle)
{
    const uint64_t base = 0x9e3779b97f4a7c15u;
    uint64_t wanted = 0, window = 0, leaving = 1;

    if (needle.n > s.n)
        return -1;
    for (size_t i = 0; i < needle.n; i++) {
        wanted = wanted * base + (unsigned char)ascii_lower(needle.p[i]);
        window = window * base + (unsigned char)ascii_lower(s.p[i]);
        leaving *= base;
    }
    for (size_t at = 0;; at++) {
        if (window == wanted && bytes_ieq(s.p + at, needle.p, needle.n))
            return (ptrdiff_t)at;
        if (at + needle.n == s.n)
            return -1;
        window = window * base + (unsigned char)ascii_lower(s.p[at + needle.n]) -
                 leaving * (unsigned char)ascii_lower(s.p[at]);
    }
}

static bool cut_at(struct str s, ptrdiff_t at, struct str *head, struct str *tail)
{
    *head = at < 0 ? s : str_head(s, (size_t)at);
    *tail = at < 0 ? str_from(s, s.n) : str_from(s, (size_t)at + 1);
    return at >= 0;
}

bool str_cut(struct str s, char c, struct str *head, struct str *tail)
{
    return cut_at(s, str_index(s, c), head, tail);
}

bool str_rcut(struct str s, char c, struct str *head, struct str *tail)
{
    return cut_at(s, str_rindex(s, c), head, tail);
}

bool str_next_token(struct str *rest, char c, struct str *token)
{
    size_t skip = 0;

    while (skip < rest->n && rest->p[skip] == c)
        skip++;
    *rest = str_from(*rest, skip);
    if (rest->n == 0)
        return false;
    str_cut(*rest, c, token, rest);
    return true;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

struct str str_trim(struct str s)
{
    size_t start = 0;

    while (start < s.n && is_blank(s.p[start]))
        start++;
    s = str_from(s, start);
    while (s.n > 0 && is_blank(s.p[s.n - 1]))
        s.n--;
    return s;
}

bool str_to_u64(struct str s, uint64_t *out)
{
    uint64_t value = 0;

    if (s.n == 0)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9')
            return false;
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, (uint64_t)(s.p[i] - '0'), &value))
            return false;
    }
    *out = value;
    return true;
}

bool str_to_u32(struct str s, uint32_t *out)
{
    uint64_t value;

    if (!str_to_u64(s, &value) || value > UINT32_MAX)
        return false;
    *out = (uint32_t)value;
    return true;
}

bool str_is_ascii(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if ((unsigned char)s.p[i] > 127)
            return false;
    return true;
}
