/* spam_token_link.c - links: their hosts, their forms, the words of their paths. */
#include "mail/spam/spam_token_internal.h"

#define URL_SIZE_MAX   500
#define LINKS_MAX      300 /* of one part */
#define PATH_WORDS_MAX 6

static bool is_url_byte(char c)
{
    return (unsigned char)c > ' ' && c != '"' && c != '\'' && c != '<' && c != '>' && c != ')' &&
           c != ']';
}

static bool is_number(struct str host)
{
    for (size_t i = 0; i < host.n; i++)
        if (!(host.p[i] >= '0' && host.p[i] <= '9') && host.p[i] != '.' && host.p[i] != 'x')
            return false;
    return host.n > 0;
}

static void add_host(struct spam_sink *s, struct str host)
{
    struct spam_facts *f = &s->facts;
    struct str family = spam_family(host);

    if (f->from_domain.n > 0 && (str_ieq(family, spam_family(f->from_domain)) ||
                                 str_ieq(family, spam_family(f->envelope_domain))))
        f->links_own++;
    else
        f->links_foreign++;
    if (is_number(host))
        spam_add(s, SPAM_LINK, STR("to an address in numbers"));
    else
        spam_add_domain(s, SPAM_LINK, "to", host);
}

static void add_path(struct spam_sink *s, struct str path)
{
    struct str word;
    size_t words = 0, percents = 0;

    for (size_t i = 0; i < path.n; i++)
        percents += path.p[i] == '%';
    if (percents > 3)
        spam_add(s, SPAM_LINK, STR("written in % signs"));
    if (str_index(path, '?') >= 0)
        spam_add(s, SPAM_LINK, STR("with a query"));
    if (str_index(path, '@') >= 0)
        spam_add(s, SPAM_LINK, STR("with an address in it"));
    while (words++ < PATH_WORDS_MAX && path.n > 0) {
        size_t n = 0;
        while (n < path.n && path.p[n] != '/' && path.p[n] != '?' && path.p[n] != '&' &&
               path.p[n] != '=')
            n++;
        word = str_head(path, n);
        if (n > 1 && n < 24)
            spam_addf(s, SPAM_LINK, "path %.*s", STR_ARG(word));
        path = str_from(path, n + 1);
    }
}

/* "http://user@host:port/path" in small letters. */
static void take_web(struct spam_sink *s, struct str rest)
{
    struct str authority, path, user, port;

    size_t n = 0;
    while (n < rest.n && rest.p[n] != '/' && rest.p[n] != '?' && rest.p[n] != '#')
        n++;
    authority = str_head(rest, n);
    path = str_from(rest, n);
    if (str_rcut(authority, '@', &user, &authority))
        spam_add(s, SPAM_LINK, STR("with a user before the host"));
    else
        authority = str_head(rest, n);
    if (str_cut(authority, ':', &authority, &port))
        spam_addf(s, SPAM_LINK, "to port %.*s", STR_ARG(str_head(port, 5)));
    add_host(s, authority);
    add_path(s, path);
}

void spam_add_link(struct spam_sink *s, struct str url)
{
    struct str rest = arena_lower(s->arena, str_head(str_trim(url), URL_SIZE_MAX)), host, tail;

    if (str_skip_prefix(&rest, STR("http://")) || str_skip_prefix(&rest, STR("https://"))) {
        take_web(s, rest);
    } else if (str_skip_prefix(&rest, STR("mailto:"))) {
        str_cut(rest, '?', &rest, &tail);
        spam_add(s, SPAM_LINK, STR("to write mail"));
        if (str_cut(rest, '@', &tail, &host))
            add_host(s, host);
        if (tail.n > 0)
            spam_addf(s, SPAM_LINK, "to write to %.*s@", STR_ARG(str_head(tail, 30)));
    } else if (str_skip_prefix(&rest, STR("cid:"))) {
        spam_add(s, SPAM_LINK, STR("to a part of the message"));
    } else if (rest.n > 0 && str_index(str_head(rest, 12), ':') > 0) {
        spam_addf(s, SPAM_LINK, "of scheme %.*s",
                  STR_ARG(str_head(rest, (size_t)str_index(rest, ':'))));
    } else {
        spam_add(s, SPAM_LINK, STR("that is relative"));
    }
}

void spam_add_links(struct spam_sink *s, struct str text)
{
    size_t count = 0;

    for (ptrdiff_t at; count < LINKS_MAX && (at = str_find(text, STR("://"))) >= 0; count++) {
        size_t from = (size_t)at, to = (size_t)at + 3;
        while (from > 0 && from + 8 > (size_t)at && ascii_lower(text.p[from - 1]) >= 'a' &&
               ascii_lower(text.p[from - 1]) <= 'z')
            from--;
        while (to < text.n && is_url_byte(text.p[to]))
            to++;
        spam_add_link(s, str_of(text.p + from, to - from));
        text = str_from(text, to);
    }
    spam_addf(s, SPAM_LINK, "(%u links in the text)", spam_step(count));
}
