/* spam_links.c - walks over markup and plain text for links, and reads each as a browser would:
 * entities resolved, backslashes as slashes, line ends and tabs gone (WHATWG URL, 4.4). */
#include "mail/spam/spam_links.h"

#include "mail/mime/body.h"
#include "mail/mime/html_text.h"
#include "mail/spam/spam_confusable.h"
#include "mail/spam/spam_token_internal.h"
#include "server/base/buf.h"

#define URL_SIZE_MAX      2000
#define TEXT_SIZE_MAX     500
#define SHORT_HOST_MAX    9
#define SHORT_PATH_MIN    4
#define SHORT_PATH_MAX    12
#define SHORTENED_SEVERAL 3
#define PARTS_MAX         SPAM_PARTS_MAX

struct walk {
    struct arena *arena;
    const struct spam_known *known;
    struct spam_findings *out;
    struct spam_hosts *hosts;
    size_t links, shortened;
};

struct url {
    struct str scheme, user, host, port, path; /* path with query */
};

/* ---- reading one ----------------------------------------------------------------------------- */

static struct str resolve(struct arena *a, struct str raw)
{
    struct buf out;
    struct str text;

    if (str_index(raw, '&') < 0)
        return raw;
    buf_init(&out, SIZE_MAX);
    html_text(&out, raw);
    text = arena_str(a, buf_str(&out));
    buf_fini(&out);
    return text;
}

static struct str cleaned(struct arena *a, struct str raw)
{
    struct str text = resolve(a, str_head(str_trim(raw), URL_SIZE_MAX));
    char *p = arena_alloc(a, text.n + 1);
    size_t n = 0;

    for (size_t i = 0; i < text.n; i++)
        if ((unsigned char)text.p[i] > ' ')
            p[n++] = text.p[i] == '\\' ? '/' : text.p[i];
    return str_of(p, n);
}

static bool take_scheme(struct str *rest, struct url *u)
{
    size_t n = 0;

    while (n < rest->n && ((ascii_lower(rest->p[n]) >= 'a' && ascii_lower(rest->p[n]) <= 'z') ||
                           (n > 0 && strchr("0123456789+-.", rest->p[n]) != NULL)))
        n++;
    if (n == 0 || n >= rest->n || rest->p[n] != ':')
        return false;
    u->scheme = str_head(*rest, n);
    *rest = str_from(*rest, n + 1);
    return true;
}

static void take_authority(struct str rest, struct url *u)
{
    size_t n = 0;
    struct str authority;

    while (rest.n > 0 && rest.p[0] == '/')
        rest = str_from(rest, 1);
    while (n < rest.n && strchr("/?#", rest.p[n]) == NULL)
        n++;
    authority = str_head(rest, n);
    u->path = str_from(rest, n);
    if (!str_rcut(authority, '@', &u->user, &u->host)) {
        u->host = authority;
        u->user = STR("");
    }
    if (str_starts(u->host, STR("[")))
        str_cut(str_from(u->host, 1), ']', &u->host, &u->port);
    else
        str_cut(u->host, ':', &u->host, &u->port);
    str_skip_prefix(&u->port, STR(":"));
    while (u->host.n > 0 && u->host.p[u->host.n - 1] == '.')
        u->host.n--;
}

static bool is_web(const struct url *u)
{
    return str_ieq(u->scheme, STR("http")) || str_ieq(u->scheme, STR("https")) ||
           str_ieq(u->scheme, STR("ftp"));
}

static bool parse_url(struct arena *a, struct str raw, struct url *u)
{
    struct str rest = cleaned(a, raw);

    *u = (struct url){.scheme = STR("https"), .port = STR("")};
    if (!take_scheme(&rest, u) && !str_starts(rest, STR("//")))
        return false;
    if (is_web(u))
        take_authority(rest, u);
    u->host = arena_lower(a, u->host);
    return true;
}

/* ---- judging one ----------------------------------------------------------------------------- */

/* 10.1.2.3, 0x7f.1, 3232235777 and addresses of IPv6: what a browser takes for a number. */
static bool is_numeric(struct str host)
{
    struct str head, last;

    if (str_index(host, ':') >= 0)
        return true;
    str_rcut(host, '.', &head, &last);
    if (last.n == 0)
        last = host;
    if (str_skip_prefix(&last, STR("0x")))
        return true;
    for (size_t i = 0; i < last.n; i++)
        if (last.p[i] < '0' || last.p[i] > '9')
            return false;
    return last.n > 0;
}

static bool is_named_shortener(struct str host)
{
    static const char *const names[] = {
        "bit.ly", "t.co",    "tinyurl.com", "goo.gl",      "is.gd",     "ow.ly",   "cutt.ly",
        "t.ly",   "rb.gy",   "rebrand.ly",  "shorturl.at", "s.id",      "buff.ly", "tiny.cc",
        "v.gd",   "adf.ly",  "lnkd.in",     "bl.ink",      "short.io",  "soo.gd",  "t2m.io",
        "qr.ae",  "trib.al", "dlvr.it",     "snip.ly",     "shorte.st", "clck.ru", "u.to",
        "bc.vc",  "x.co",    "mcaf.ee",     "surl.li",     "tinu.be",   "urlz.fr", "linktr.ee",
    };

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (str_eq(host, str_c(names[i])))
            return true;
    return false;
}

/* "x.yz/aB3dE9": a short host, and one segment of letters of both cases or with digits. */
static bool has_short_form(const struct url *u)
{
    struct str segment = u->path;
    bool has_digit = false, has_capital = false, has_small = false;

    str_skip_prefix(&segment, STR("/"));
    if (u->host.n > SHORT_HOST_MAX || segment.n < SHORT_PATH_MIN || segment.n > SHORT_PATH_MAX)
        return false;
    for (size_t i = 0; i < segment.n; i++) {
        char c = segment.p[i];
        has_digit |= c >= '0' && c <= '9';
        has_capital |= c >= 'A' && c <= 'Z';
        has_small |= c >= 'a' && c <= 'z';
        if (strchr("/?&=.%", c) != NULL)
            return false;
    }
    return has_small && (has_digit || has_capital);
}

static bool is_redirecting(struct str path)
{
    return str_ifind(path, STR("http://")) > 0 || str_ifind(path, STR("https://")) > 0 ||
           str_ifind(path, STR("http%3a")) > 0 || str_ifind(path, STR("https%3a")) > 0;
}

static void judge_name(struct walk *w, struct str host)
{
    struct str utf8 = spam_domain_utf8(w->arena, host);
    enum spam_likeness likeness = spam_likeness(w->arena, w->known, host);

    if (likeness == SPAM_HOMOGRAPH || spam_mixes_alphabets(utf8) || spam_hides_signs(utf8))
        spam_find(w->arena, w->out, SPAM_FINDING_LINK_HOMOGRAPH, utf8);
    else if (likeness == SPAM_ONE_EDIT)
        spam_find(w->arena, w->out, SPAM_FINDING_LINK_IMITATES, utf8);
}

/* Each host once: the costly comparisons are done when it is new. */
static bool note_host(struct walk *w, struct str host)
{
    for (size_t i = 0; i < w->hosts->n; i++)
        if (str_eq(w->hosts->v[i], host))
            return false;
    if (w->hosts->n >= SPAM_LINK_HOSTS_MAX)
        return false;
    w->hosts->v[w->hosts->n++] = host;
    return true;
}

static void judge_shortening(struct walk *w, const struct url *u)
{
    if (is_redirecting(u->path))
        spam_find(w->arena, w->out, SPAM_FINDING_LINK_REDIRECTED, u->host);
    if (!is_named_shortener(u->host) && !has_short_form(u))
        return;
    spam_find(w->arena, w->out, SPAM_FINDING_LINK_SHORTENED, u->host);
    if (++w->shortened == SHORTENED_SEVERAL)
        spam_find(w->arena, w->out, SPAM_FINDING_LINKS_SHORTENED, u->host);
}

static void judge_web(struct walk *w, const struct url *u)
{
    if (u->user.n > 0)
        spam_find(w->arena, w->out, SPAM_FINDING_LINK_USERINFO, u->host);
    if (u->port.n > 0 && !str_eq(u->port, STR("80")) && !str_eq(u->port, STR("443")) &&
        !str_eq(u->port, STR("8080")))
        spam_find(w->arena, w->out, SPAM_FINDING_LINK_PORT, u->port);
    if (is_numeric(u->host))
        spam_find(w->arena, w->out, SPAM_FINDING_LINK_NUMERIC, u->host);
    else if (note_host(w, u->host))
        judge_name(w, u->host);
    judge_shortening(w, u);
}

static bool is_script(struct str scheme)
{
    return str_ieq(scheme, STR("javascript")) || str_ieq(scheme, STR("vbscript")) ||
           str_ieq(scheme, STR("data")) || str_ieq(scheme, STR("file"));
}

/* The host, where it is a link to one. */
static struct str judge_url(struct walk *w, struct str raw)
{
    struct url u;

    if (w->links++ >= SPAM_LINKS_MAX || !parse_url(w->arena, raw, &u))
        return STR("");
    if (is_script(u.scheme))
        spam_find(w->arena, w->out, SPAM_FINDING_LINK_SCRIPT, u.scheme);
    if (!is_web(&u) || u.host.n == 0)
        return STR("");
    judge_web(w, &u);
    return u.host;
}

/* ---- what the link says ---------------------------------------------------------------------- */

/* Hosts as people write them: letters behind the last dot, and no spaces. */
static bool is_host_name(struct str text)
{
    struct str head, last;

    if (!str_rcut(text, '.', &head, &last) || head.n == 0 || last.n < 2 || last.n > 10)
        return false;
    for (size_t i = 0; i < last.n; i++)
        if (ascii_lower(last.p[i]) < 'a' || ascii_lower(last.p[i]) > 'z')
            return false;
    for (size_t i = 0; i < head.n; i++)
        if (strchr(" \t\n\"'<>()@,;:!?", head.p[i]) != NULL)
            return false;
    return true;
}

/* The host that a text shows as if it were the link: "https://www.bank.example/login". */
static struct str shown_host(struct arena *a, struct str text)
{
    size_t n = 0;

    text = arena_lower(a, str_trim(text));
    if (!str_skip_prefix(&text, STR("http://")))
        str_skip_prefix(&text, STR("https://"));
    while (n < text.n && strchr("/?#:", text.p[n]) == NULL)
        n++;
    text = str_head(text, n);
    return is_host_name(text) ? text : STR("");
}

static void judge_text(struct walk *w, struct str html, struct str host)
{
    struct buf text;
    struct str shown;

    buf_init(&text, SIZE_MAX);
    html_text(&text, str_head(html, TEXT_SIZE_MAX));
    shown = shown_host(w->arena, buf_str(&text));
    buf_fini(&text);
    if (shown.n > 0 && host.n > 0 && !str_eq(spam_family(shown), spam_family(host)))
        spam_find(w->arena, w->out, SPAM_FINDING_LINK_TEXT_LIES, host);
}

/* ---- markup ---------------------------------------------------------------------------------- */

struct open_link {
    struct str host;
    const char *text; /* begins here; NULL: no link is open */
};

static bool is_linking(struct str tag, struct str name)
{
    return str_ieq(name, STR("href")) ||
           (str_ieq(name, STR("src")) && str_ieq(tag, STR("iframe"))) ||
           (str_ieq(name, STR("action")) && str_ieq(tag, STR("form")));
}

/* Returns what is behind the tag. Hidden text is looked for on the way: it is in attributes, too. */
static struct str take_start(struct walk *w, struct str tag, struct open_link *link)
{
    struct str name = spam_tag_name(tag), rest = str_from(tag, name.n), attribute, value;
    struct str host = STR("");

    while (spam_next_attribute(&rest, &attribute, &value))
        if (is_linking(name, attribute))
            host = judge_url(w, value);
    rest = str_from(rest, 1);
    if (str_ieq(name, STR("a")))
        *link = (struct open_link){host, rest.p};
    return rest;
}

static void close_link(struct walk *w, struct open_link *link, const char *end)
{
    if (link->text != NULL && end > link->text)
        judge_text(w, str_of(link->text, (size_t)(end - link->text)), link->host);
    link->text = NULL;
}

static void walk_html(struct walk *w, struct str html)
{
    struct open_link link = {.text = NULL};

    for (ptrdiff_t at; w->links < SPAM_LINKS_MAX && (at = str_index(html, '<')) >= 0;) {
        struct str tag = str_from(html, (size_t)at + 1);
        char c = tag.n > 0 ? ascii_lower(tag.p[0]) : 0;
        if (c == '/' && str_ieq(spam_tag_name(str_from(tag, 1)), STR("a")))
            close_link(w, &link, tag.p - 1);
        html = c >= 'a' && c <= 'z' ? take_start(w, tag, &link) : tag;
    }
}

/* ---- plain text ------------------------------------------------------------------------------ */

static bool is_url_byte(char c)
{
    return (unsigned char)c > ' ' && strchr("\"'<>()[]{}", c) == NULL;
}

static void walk_text(struct walk *w, struct str text)
{
    for (ptrdiff_t at; w->links < SPAM_LINKS_MAX && (at = str_find(text, STR("://"))) >= 0;) {
        size_t from = (size_t)at, to = (size_t)at + 3;
        while (from > 0 && from + 8 > (size_t)at && ascii_lower(text.p[from - 1]) >= 'a' &&
               ascii_lower(text.p[from - 1]) <= 'z')
            from--;
        while (to < text.n && is_url_byte(text.p[to]))
            to++;
        judge_url(w, str_of(text.p + from, to - from));
        text = str_from(text, to);
    }
}

static void walk_part(struct walk *w, const struct mime_part *part, struct str message)
{
    struct mime_part beginning = *part;
    struct buf text;

    if (beginning.body_size > SPAM_LINK_TEXT_MAX)
        beginning.body_size = SPAM_LINK_TEXT_MAX;
    buf_init(&text, SIZE_MAX);
    mime_part_text(&text, &beginning, message);
    if (str_eq(part->subtype, STR("html")))
        walk_html(w, buf_str(&text));
    else
        walk_text(w, buf_str(&text));
    buf_fini(&text);
}

void spam_find_links(struct arena *a, const struct mime_part *root, struct str message,
                     const struct spam_known *known, struct spam_findings *out,
                     struct spam_hosts *hosts)
{
    struct walk w = {.arena = a, .known = known, .out = out, .hosts = hosts};
    size_t count = 0;

    hosts->n = 0;
    for (const struct mime_part *p = root;
         p != NULL && count++ < PARTS_MAX && w.links < SPAM_LINKS_MAX; p = mime_part_next(p))
        if (!p->is_multipart && !p->is_message && str_eq(p->type, STR("text")))
            walk_part(&w, p, message);
}
