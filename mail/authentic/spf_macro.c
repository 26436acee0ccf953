/* spf_macro.c - macros of SPF (RFC 7208, 7): their syntax and what they expand to. Nothing here asks DNS. */
#include <arpa/inet.h>

#include "mail/authentic/spf_internal.h"
#include "server/base/buf.h"

#define PARTS_MAX 128 /* RFC 7208, 7.3: at least 127 must do */

struct token {
    struct str literal; /* when letter is 0; "%%", "%_" and "%-" are what they stand for */
    char letter;        /* in lower case */
    bool is_macro;      /* letter or one of the three */
    bool is_escaped, is_reversed;
    unsigned parts; /* 0: all */
    struct str delimiters;
};

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_alpha(char c)
{
    return ascii_lower(c) >= 'a' && ascii_lower(c) <= 'z';
}

/* ---- syntax -------------------------------------------------------------------------------- */

/* Behind the letter: *DIGIT [ "r" ] *delimiter. A number of 0 parts is an error. */
static bool read_transformers(struct str s, struct token *t)
{
    bool has_digits = s.n > 0 && is_digit(s.p[0]);

    for (; s.n > 0 && is_digit(s.p[0]); s = str_from(s, 1))
        if (t->parts < PARTS_MAX)
            t->parts = 10 * t->parts + (unsigned)(s.p[0] - '0');
    t->is_reversed = str_skip_prefix(&s, STR("r"));
    t->delimiters = s;
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] == '\0' || strchr(".-+,/_=", s.p[i]) == NULL)
            return false;
    return !has_digits || t->parts > 0;
}

static bool read_braces(struct str inside, struct token *t)
{
    if (inside.n == 0)
        return false;
    t->letter = ascii_lower(inside.p[0]);
    t->is_escaped = t->letter != inside.p[0];
    if (t->letter == '\0' || strchr("slodiphcrtv", t->letter) == NULL)
        return false;
    return read_transformers(str_from(inside, 1), t);
}

/* 1: a token was taken off the front; 0: the end; -1: no macro begins like this. */
static int next_token(struct str *rest, struct token *t)
{
    ptrdiff_t at = str_index(*rest, '%'), end;

    *t = (struct token){.literal = str_head(*rest, at < 0 ? rest->n : (size_t)at)};
    if (rest->n == 0)
        return 0;
    *rest = str_from(*rest, t->literal.n);
    if (t->literal.n > 0)
        return 1;
    t->is_macro = true;
    if (str_skip_prefix(rest, STR("%%"))) {
        t->literal = STR("%");
    } else if (str_skip_prefix(rest, STR("%_"))) {
        t->literal = STR(" ");
    } else if (str_skip_prefix(rest, STR("%-"))) {
        t->literal = STR("%20");
    } else {
        end = str_index(*rest, '}');
        if (end < 0 || !str_skip_prefix(rest, STR("%{")) ||
            !read_braces(str_head(*rest, (size_t)end - 2), t))
            return -1;
        *rest = str_from(*rest, (size_t)end - 1);
    }
    return 1;
}

bool spf_macro_is_valid(struct str s, enum spf_macro_place place)
{
    struct token t;
    int status;

    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] < (place == SPF_IN_EXPLANATION ? ' ' : '!') || s.p[i] > '~')
            return false;
    while ((status = next_token(&s, &t)) > 0)
        if (place == SPF_IN_TERM && t.letter != '\0' && strchr("crt", t.letter) != NULL)
            return false;
    return status == 0;
}

/* toplabel: letters, digits and inner hyphens, and not digits alone. */
static bool is_toplabel(struct str s)
{
    bool has_other = false;

    if (s.n == 0 || s.p[0] == '-' || s.p[s.n - 1] == '-')
        return false;
    for (size_t i = 0; i < s.n; i++) {
        if (!is_alpha(s.p[i]) && !is_digit(s.p[i]) && s.p[i] != '-')
            return false;
        has_other = has_other || !is_digit(s.p[i]);
    }
    return has_other;
}

/* macro-string domain-end: the end is a macro, or a dot and a top label. */
bool spf_domain_spec_is_valid(struct str s)
{
    struct token t, last = {0};
    struct str before, label;

    if (s.n == 0 || !spf_macro_is_valid(s, SPF_IN_TERM))
        return false;
    while (next_token(&s, &t) > 0)
        last = t;
    if (last.is_macro)
        return true;
    if (str_ends(last.literal, STR(".")))
        last.literal.n--;
    return str_rcut(last.literal, '.', &before, &label) && is_toplabel(label);
}

bool spf_macro_uses(struct str s, char letter)
{
    struct token t;

    while (next_token(&s, &t) > 0)
        if (t.letter == letter)
            return true;
    return false;
}

/* ---- expansion ----------------------------------------------------------------------------- */

/* IPv6 as 32 hexadecimal digits with dots between, meant for %{ir}. */
static struct str dotted_address(struct arena *a, const struct spf_macros *m)
{
    char text[64];
    size_t n = 0;

    if (m->is_ipv4)
        return arena_printf(a, "%u.%u.%u.%u", m->address[0], m->address[1], m->address[2],
                            m->address[3]);
    for (size_t i = 0; i < 16; i++) {
        text[n++] = "0123456789abcdef"[m->address[i] >> 4];
        text[n++] = '.';
        text[n++] = "0123456789abcdef"[m->address[i] & 15];
        text[n++] = '.';
    }
    return arena_str(a, str_of(text, n - 1));
}

static struct str readable_address(struct arena *a, const struct spf_macros *m)
{
    char text[INET6_ADDRSTRLEN];

    inet_ntop(m->is_ipv4 ? AF_INET : AF_INET6, m->address, text, sizeof text);
    return arena_str(a, str_c(text));
}

static struct str macro_value(struct arena *a, char letter, const struct spf_macros *m)
{
    switch (letter) {
    case 's':
        return m->sender;
    case 'l':
        return m->local;
    case 'o':
        return m->sender_domain;
    case 'd':
        return m->domain;
    case 'i':
        return dotted_address(a, m);
    case 'c':
        return readable_address(a, m);
    case 'p':
        return m->validated_name;
    case 'v':
        return m->is_ipv4 ? STR("in-addr") : STR("ip6");
    case 'h':
        return m->helo;
    case 'r':
        return m->receiver;
    default: /* t */
        return arena_printf(a, "%lld", (long long)m->now_s);
    }
}

static bool is_delimiter(const struct token *t, char c)
{
    return t->delimiters.n > 0 ? str_index(t->delimiters, c) >= 0 : c == '.';
}

/* The parts between delimiters, empty ones included. */
static size_t split(struct arena *a, struct str value, const struct token *t, struct str **out)
{
    size_t count = 0, start = 0;

    *out = ARENA_ARRAY(a, value.n + 1, struct str);
    for (size_t i = 0; i <= value.n; i++) {
        if (i < value.n && !is_delimiter(t, value.p[i]))
            continue;
        (*out)[count++] = str_of(value.p + start, i - start);
        start = i + 1;
    }
    return count;
}

static void reverse(struct str *parts, size_t count)
{
    for (size_t i = 0; i < count / 2; i++) {
        struct str other = parts[i];

        parts[i] = parts[count - 1 - i];
        parts[count - 1 - i] = other;
    }
}

/* Reversed first, then the right-hand parts are kept, joined with dots. */
static struct str transform(struct arena *a, struct str value, const struct token *t)
{
    struct str *parts;
    struct buf joined;
    size_t count;

    if (value.n == 0 || (t->parts == 0 && !t->is_reversed && t->delimiters.n == 0))
        return value;
    count = split(a, value, t, &parts);
    if (t->is_reversed)
        reverse(parts, count);
    buf_init(&joined, value.n + 1);
    for (size_t i = t->parts > 0 && t->parts < count ? count - t->parts : 0; i < count; i++) {
        buf_add(&joined, parts[i]);
        if (i + 1 < count)
            buf_addc(&joined, '.');
    }
    value = arena_str(a, buf_str(&joined));
    buf_fini(&joined);
    return value;
}

/* RFC 3986, 2.3: the unreserved characters stay. */
static void add_url_escaped(struct buf *out, struct str value)
{
    for (size_t i = 0; i < value.n; i++) {
        char c = value.p[i];

        if (is_alpha(c) || is_digit(c) || (c != '\0' && strchr("-._~", c) != NULL))
            buf_addc(out, c);
        else
            buf_addf(out, "%%%02X", (unsigned char)c);
    }
}

int spf_macro_expand(struct arena *a, struct str s, const struct spf_macros *m, struct str *out,
                     struct error *err)
{
    struct token t;
    struct buf text;
    bool fits;

    buf_init(&text, SPF_EXPANSION_SIZE_MAX);
    while (buf_ok(&text) && next_token(&s, &t) > 0) {
        struct str value = t.literal;

        if (t.letter != '\0')
            value = transform(a, macro_value(a, t.letter, m), &t);
        if (t.is_escaped)
            add_url_escaped(&text, value);
        else
            buf_add(&text, value);
    }
    fits = buf_ok(&text);
    *out = arena_str(a, buf_str(&text));
    buf_fini(&text);
    return fits ? 0 : fail(err, ERR_TOO_BIG, "a macro expands to too long a text");
}
