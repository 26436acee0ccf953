/* mailto.c - takes a mailto: URI apart. */
#include "mail/mime/mailto.h"

#include "server/base/utf8.h"

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = ascii_lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Percent-decoding (RFC 3986, 2.1). False on a broken escape. */
static bool uri_decode(struct arena *a, struct str in, struct str *out)
{
    char *p = arena_alloc(a, in.n + 1);
    size_t n = 0;

    for (size_t i = 0; i < in.n; i++) {
        char c = in.p[i];

        if (c == '%') {
            int high = i + 2 < in.n ? hex_digit(in.p[i + 1]) : -1;
            int low = high < 0 ? -1 : hex_digit(in.p[i + 2]);

            if (low < 0)
                return false;
            c = (char)(high << 4 | low);
            i += 2;
        }
        p[n++] = c;
    }
    *out = str_of(p, n);
    return true;
}

static bool may_be_in_address(struct str s)
{
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];

        if (c <= ' ' || c == 127 || c == '<' || c == '>')
            return false;
    }
    return true;
}

bool mailto_parse(struct arena *a, struct str uri, struct str *address)
{
    struct str rest = str_trim(uri), local, domain;

    if (rest.n > MAILTO_SIZE_MAX || !str_istarts(rest, STR("mailto:")))
        return false;
    rest = str_from(rest, sizeof "mailto:" - 1);
    str_cut(rest, '?', &rest, &local);
    return uri_decode(a, rest, address) && may_be_in_address(*address) &&
           str_rcut(*address, '@', &local, &domain) && local.n > 0 && domain.n > 0;
}

struct str mailto_field(struct arena *a, struct str uri, struct str name)
{
    struct str head, rest, pair, field, value;

    if (!str_cut(uri, '?', &head, &rest))
        return STR("");
    while (str_next_token(&rest, '&', &pair))
        if (str_cut(pair, '=', &field, &value) && str_ieq(field, name))
            return uri_decode(a, value, &value) && utf8_valid(value) ? value : STR("");
    return STR("");
}
