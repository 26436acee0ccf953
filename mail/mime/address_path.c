/* address_path.c - quoting of local parts for envelopes. No I/O. */
#include "mail/mime/address_path.h"

#include <string.h>

#include "server/base/buf.h"

static bool is_atext(char c)
{
    unsigned char u = (unsigned char)c;

    return u >= 0x80 || (u >= '0' && u <= '9') || (u >= 'a' && u <= 'z') ||
           (u >= 'A' && u <= 'Z') || (u != '\0' && strchr("!#$%&'*+-/=?^_`{|}~", c) != NULL);
}

/* A dot-string: words of atext with single dots between them. */
static bool needs_quotes(struct str local)
{
    bool is_after_word = false;

    for (size_t i = 0; i < local.n; i++) {
        if (local.p[i] == '.' ? !is_after_word : !is_atext(local.p[i]))
            return true;
        is_after_word = local.p[i] != '.';
    }
    return !is_after_word;
}

struct str address_path_of(struct arena *a, struct str local, struct str domain)
{
    struct buf b;
    struct str out;

    if (str_empty(local))
        return STR("");
    buf_init(&b, 4 * (local.n + domain.n) + 8);
    if (needs_quotes(local)) {
        buf_addc(&b, '"');
        for (size_t i = 0; i < local.n; i++) {
            if (local.p[i] == '"' || local.p[i] == '\\')
                buf_addc(&b, '\\');
            buf_addc(&b, local.p[i]);
        }
        buf_addc(&b, '"');
    } else
        buf_add(&b, local);
    if (!str_empty(domain)) {
        buf_addc(&b, '@');
        buf_add(&b, domain);
    }
    out = arena_str(a, buf_str(&b));
    buf_fini(&b);
    return out;
}

struct str address_path(struct arena *a, struct str address)
{
    struct str local, domain;

    return str_rcut(address, '@', &local, &domain) ? address_path_of(a, local, domain) : address;
}

void address_path_split(struct arena *a, struct str path, struct str *local, struct str *domain)
{
    struct str quoted;
    char *out;
    size_t n = 0;

    if (!str_rcut(path, '@', &quoted, domain)) {
        quoted = path;
        *domain = STR("");
    }
    *local = quoted;
    if (quoted.n < 2 || quoted.p[0] != '"')
        return;
    out = arena_alloc(a, quoted.n);
    for (size_t i = 1; i + 1 < quoted.n; i++) {
        if (quoted.p[i] == '\\' && i + 2 < quoted.n)
            i++;
        out[n++] = quoted.p[i];
    }
    *local = str_of(out, n);
}
