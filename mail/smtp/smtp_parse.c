/* smtp_parse.c - SMTP command arguments. Strict about structure, because a path that two servers
 * read differently is an attack; forgiving about spaces, because clients are not. */
#include "mail/smtp/smtp_parse.h"

#include "mail/authentic/srs.h"
#include "server/base/net.h"
#include "server/base/utf8.h"

static bool is_atext(char c)
{
    unsigned char u = (unsigned char)c;

    return u > 127 || (u >= '0' && u <= '9') || (u >= 'A' && u <= 'Z') || (u >= 'a' && u <= 'z') ||
           (u != '\0' && strchr("!#$%&'*+-/=?^_`{|}~", u) != NULL);
}

static bool is_domain_char(char c)
{
    unsigned char u = (unsigned char)c;

    return u > 127 || (u >= '0' && u <= '9') || (u >= 'A' && u <= 'Z') || (u >= 'a' && u <= 'z') ||
           u == '-' || u == '.' || u == '_';
}

static char peek(struct str s)
{
    return s.n > 0 ? s.p[0] : '\0';
}

static bool skip_char(struct str *s, char c)
{
    if (s->n == 0 || s->p[0] != c)
        return false;
    *s = str_from(*s, 1);
    return true;
}

static struct str take_while(struct str *s, bool (*is)(char))
{
    size_t n = 0;

    while (n < s->n && is(s->p[n]))
        n++;
    struct str out = str_head(*s, n);
    *s = str_from(*s, n);
    return out;
}

/* "..." with backslash quoting (RFC 5321, 4.1.2: Quoted-string). The opening quote is gone already. */
static int parse_quoted(struct arena *a, struct str *s, struct str *out, struct error *err)
{
    char *to = arena_alloc(a, s->n + 1);
    size_t n = 0;

    for (size_t i = 0; i < s->n; i++) {
        unsigned char c = (unsigned char)s->p[i];

        if (c == '"') {
            *out = str_of(to, n);
            *s = str_from(*s, i + 1);
            return 0;
        }
        if (c == '\\' && ++i < s->n)
            c = (unsigned char)s->p[i];
        if (c < 32 || c == 127)
            return fail(err, ERR_SYNTAX, "a quoted local part holds a control character");
        to[n++] = (char)c;
    }
    return fail(err, ERR_SYNTAX, "the quote in the address is not closed");
}

static int parse_local(struct arena *a, struct str *s, struct str *out, struct error *err)
{
    if (skip_char(s, '"'))
        return parse_quoted(a, s, out, err);

    struct str whole = *s;
    do {
        if (str_empty(take_while(s, is_atext)))
            return fail(err, ERR_SYNTAX,
                        "the part before @ is not an address: quote it or mend it");
    } while (skip_char(s, '.'));
    *out = str_head(whole, (size_t)(s->p - whole.p));
    return 0;
}

static bool is_literal_char(char c)
{
    return is_domain_char(c) || c == ':';
}

/* "[192.0.2.1]" or "[IPv6:2001:db8::1]" (RFC 5321, 4.1.3): no other tag was ever registered. */
static bool is_literal(struct str literal)
{
    struct str inside = str_of(literal.p + 1, literal.n - 2);
    bool is_ipv6 = str_istarts(inside, STR("IPv6:"));
    struct net address;

    if (is_ipv6)
        inside = str_from(inside, 5);
    return (str_index(inside, ':') >= 0) == is_ipv6 && net_parse(inside, &address) &&
           !address.is_unix;
}

static int parse_domain(struct str *s, struct str *out, struct error *err)
{
    struct str whole = *s;

    if (skip_char(s, '[')) {
        take_while(s, is_literal_char);
        if (!skip_char(s, ']'))
            return fail(err, ERR_SYNTAX, "the address literal after @ is not closed");
        *out = str_head(whole, (size_t)(s->p - whole.p));
        if (!is_literal(*out))
            return fail(err, ERR_SYNTAX, "the address literal after @ is no IP address");
    } else {
        *out = take_while(s, is_domain_char);
        if (str_empty(*out) || out->p[0] == '.' || out->p[out->n - 1] == '.' ||
            str_find(*out, STR("..")) >= 0)
            return fail(err, ERR_SYNTAX, "the part after @ is not a domain name");
    }
    if (out->n > SMTP_DOMAIN_SIZE_MAX)
        return fail(err, ERR_SYNTAX, "the domain name is longer than %d bytes",
                    SMTP_DOMAIN_SIZE_MAX);
    return 0;
}

/* "@relay.example,@other.example:" in front of the mailbox: accepted and ignored (RFC 5321, 4.1.1.3). */
static int skip_source_route(struct str *s, struct error *err)
{
    struct str domain;

    if (peek(*s) != '@')
        return 0;
    do {
        if (!skip_char(s, '@'))
            return fail(err, ERR_SYNTAX, "the source route is malformed");
        if (parse_domain(s, &domain, err) < 0)
            return -1;
    } while (skip_char(s, ','));
    if (!skip_char(s, ':'))
        return fail(err, ERR_SYNTAX, "the source route is malformed");
    return 0;
}

/* An address of a forwarder holds another one whole. */
static size_t local_size_max(struct str local)
{
    return srs_is_rewritten(local) ? SMTP_SRS_LOCAL_SIZE_MAX : SMTP_LOCAL_SIZE_MAX;
}

static int check_path(struct smtp_path *path, struct error *err)
{
    path->is_utf8 = !str_is_ascii(path->local) || !str_is_ascii(path->domain);
    if (path->local.n > local_size_max(path->local))
        return fail(err, ERR_SYNTAX, "the part before @ is longer than %d bytes",
                    SMTP_LOCAL_SIZE_MAX);
    if (path->is_utf8 && (!utf8_valid(path->local) || !utf8_valid(path->domain)))
        return fail(err, ERR_SYNTAX, "the address is not valid UTF-8");
    return 0;
}

static int parse_angle(struct arena *a, struct str *s, struct smtp_path *path, struct error *err)
{
    if (!skip_char(s, '<'))
        return fail(err, ERR_SYNTAX, "the address needs angle brackets: <user@example.org>");
    if (skip_char(s, '>')) {
        path->is_null = true;
        return 0;
    }
    if (skip_source_route(s, err) < 0 || parse_local(a, s, &path->local, err) < 0)
        return -1;
    if (skip_char(s, '@') && parse_domain(s, &path->domain, err) < 0)
        return -1;
    if (!skip_char(s, '>'))
        return fail(err, ERR_SYNTAX, "the address is malformed: write <user@example.org>");
    if (str_empty(path->domain) && !str_ieq(path->local, STR("postmaster")))
        return fail(err, ERR_SYNTAX, "the address lacks its domain: write <user@example.org>");
    return check_path(path, err);
}

static bool is_keyword(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (!is_domain_char(s.p[i]) || s.p[i] == '.' || s.p[i] == '_' ||
            (unsigned char)s.p[i] > 127)
            return false;
    return s.n > 0 && s.p[0] != '-';
}

/* esmtp-value (RFC 5321, 4.1.2), and UTF-8 (RFC 6531, 3.3). */
static bool is_value(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if ((unsigned char)s.p[i] <= 32 || s.p[i] == 127 || s.p[i] == '=')
            return false;
    return s.n > 0 && utf8_valid(s);
}

static int parse_params(struct str s, struct smtp_params *params, struct error *err)
{
    struct str token;

    while (str_next_token(&s, ' ', &token)) {
        struct smtp_param *p = &params->v[params->n];

        if (params->n == SMTP_PARAMS_MAX)
            return fail(err, ERR_SYNTAX, "more than %d parameters", SMTP_PARAMS_MAX);
        if ((str_cut(token, '=', &p->name, &p->value) && !is_value(p->value)) ||
            !is_keyword(p->name))
            return fail(err, ERR_SYNTAX, "a parameter is malformed: write NAME or NAME=value");
        params->n++;
    }
    return 0;
}

int smtp_parse_path(struct arena *a, struct str args, struct str prefix, struct smtp_path *path,
                    struct smtp_params *params, struct error *err)
{
    *path = (struct smtp_path){0};
    params->n = 0;
    if (!str_skip_prefix(&args, prefix))
        return fail(err, ERR_SYNTAX, "write %.*s<address>", STR_ARG(prefix));
    while (skip_char(&args, ' '))
        ;
    path->is_bad = parse_angle(a, &args, path, err) < 0;
    if (path->is_bad)
        return -1;
    if (str_eq(prefix, STR("FROM:")) && !path->is_null && str_empty(path->domain)) {
        path->is_bad = true; /* only a recipient may be <postmaster> (RFC 5321, 4.1.1.3) */
        return fail(err, ERR_SYNTAX, "the address lacks its domain: write <user@example.org>");
    }
    if (args.n > 0 && args.p[0] != ' ')
        return fail(err, ERR_SYNTAX,
                    "there must be a space between the address and its parameters");
    return parse_params(args, params, err);
}

bool smtp_helo_is_valid(struct str name)
{
    if (str_empty(name) || name.n > SMTP_DOMAIN_SIZE_MAX || !utf8_valid(name))
        return false;
    for (size_t i = 0; i < name.n; i++)
        if (!is_atext(name.p[i]) && (name.p[i] == '\0' || strchr(".[]:", name.p[i]) == NULL))
            return false;
    return true;
}

int smtp_parse_bdat(struct str args, uint64_t *size, bool *is_last, struct error *err)
{
    struct str number, last;

    args = str_trim(args);
    *is_last = str_cut(args, ' ', &number, &last);
    last = str_trim(last);
    if (!str_to_u64(number, size) || (*is_last && !str_ieq(last, STR("LAST"))))
        return fail(err, ERR_SYNTAX, "write BDAT <size> or BDAT <size> LAST");
    return 0;
}
