/* spam_token_html.c - features of markup, and the same markup without what readers cannot see.
 *
 * A scanner without a tree: tags with their attributes, one after the other. What a style hides
 * (display:none, letters of no size, white on white) is cut out of the text that counts, for it is
 * there to mislead filters; that it is there counts. */
#include "mail/spam/spam_token_internal.h"

#define TAGS_MAX       3000
#define ATTRIBUTES_MAX 20
#define VALUE_SIZE_MAX 60
#define LINKS_MAX      300

struct html {
    struct spam_sink *sink;
    struct buf *visible;
    struct str rest;
    size_t tags, images, links, comments, hidden;
    struct str hidden_name; /* the element whose end shows again; empty when nothing is hidden */
    unsigned hidden_depth;  /* elements of that name within each other */
};

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f';
}

static struct str skip_space(struct str s)
{
    while (s.n > 0 && (is_space(s.p[0]) || s.p[0] == '/'))
        s = str_from(s, 1);
    return s;
}

static void show(struct html *h, struct str text)
{
    if (h->hidden_name.n == 0)
        buf_add(h->visible, text);
}

/* Takes `name="value"` off a tag's inside; false at its end. */
static bool next_attribute(struct str *rest, struct str *name, struct str *value)
{
    size_t n = 0;

    *rest = skip_space(*rest);
    while (n < rest->n && rest->p[n] != '=' && rest->p[n] != '>' && !is_space(rest->p[n]))
        n++;
    *name = str_head(*rest, n);
    *rest = str_from(*rest, n);
    *value = STR("");
    if (rest->n > 0 && rest->p[0] == '=') {
        char quote = 0;
        *rest = str_from(*rest, 1);
        while (rest->n > 0 && is_space(rest->p[0]))
            *rest = str_from(*rest, 1);
        if (rest->n > 0 && (rest->p[0] == '"' || rest->p[0] == '\'')) {
            quote = rest->p[0];
            *rest = str_from(*rest, 1);
        }
        n = 0;
        while (n < rest->n &&
               (quote ? rest->p[n] != quote : rest->p[n] != '>' && !is_space(rest->p[n])))
            n++;
        *value = str_head(*rest, n);
        *rest = str_from(*rest, n + (quote != 0));
    } else if (n == 0 && rest->n > 0 && rest->p[0] != '>') {
        *rest = str_from(*rest, 1);
        *name = STR("?");
    }
    return name->n > 0;
}

static bool is_hiding(struct str name, struct str value)
{
    if (str_eq(name, STR("style")))
        return str_ifind(value, STR("display:none")) >= 0 ||
               str_ifind(value, STR("display: none")) >= 0 ||
               str_ifind(value, STR("visibility:hidden")) >= 0 ||
               str_ifind(value, STR("visibility: hidden")) >= 0 ||
               str_ifind(value, STR("font-size:0")) >= 0 ||
               str_ifind(value, STR("font-size: 0")) >= 0 ||
               str_ifind(value, STR("opacity:0;")) >= 0;
    return str_eq(name, STR("hidden"));
}

static bool is_void(struct str name)
{
    static const char *const names[] = {"br",   "img", "hr",   "input", "meta",
                                        "link", "col", "area", "base",  "wbr"};

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (str_eq(name, str_c(names[i])))
            return true;
    return false;
}

static void take_attribute(struct html *h, struct str tag, struct str name, struct str value)
{
    struct str small = arena_lower(h->sink->arena, str_head(value, VALUE_SIZE_MAX));

    spam_addf(h->sink, SPAM_MARKUP, "<%.*s %.*s>", STR_ARG(tag), STR_ARG(name));
    if (str_eq(name, STR("href")) || str_eq(name, STR("src")) || str_eq(name, STR("action")) ||
        str_eq(name, STR("background"))) {
        if (h->links++ < LINKS_MAX)
            spam_add_link(h->sink, value);
        spam_addf(h->sink, SPAM_MARKUP, "<%.*s %.*s=%.*s:>", STR_ARG(tag), STR_ARG(name),
                  STR_ARG(str_head(small,
                                   str_index(small, ':') > 0 ? (size_t)str_index(small, ':') : 0)));
    } else if (str_eq(name, STR("color")) || str_eq(name, STR("bgcolor")) ||
               str_eq(name, STR("size")) || str_eq(name, STR("face")) ||
               str_eq(name, STR("width")) || str_eq(name, STR("height")) ||
               str_eq(name, STR("align")) || str_eq(name, STR("border")) ||
               str_eq(name, STR("http-equiv")) || str_eq(name, STR("type")) ||
               str_eq(name, STR("method")) || str_eq(name, STR("target")) ||
               (str_eq(tag, STR("meta")) && str_eq(name, STR("name"))) ||
               str_eq(name, STR("class"))) {
        spam_addf(h->sink, SPAM_MARKUP, "<%.*s %.*s=%.*s>", STR_ARG(tag), STR_ARG(name),
                  STR_ARG(small));
    } else if (str_eq(tag, STR("meta")) && str_eq(name, STR("content"))) {
        spam_addf(h->sink, SPAM_MARKUP, "<meta content=%.*s>", STR_ARG(small));
    } else if (str_istarts(name, STR("on"))) {
        spam_add(h->sink, SPAM_MARKUP, STR("a script in an attribute"));
    }
}

static void hide(struct html *h, struct str name)
{
    h->hidden++;
    if (h->hidden_name.n > 0 || is_void(name))
        return;
    h->hidden_name = name;
    h->hidden_depth = 0;
}

static void take_start(struct html *h, struct str tag)
{
    struct str name, value, small, rest = tag;
    size_t n = 0, count = 0;
    bool hides = false;

    while (n < tag.n && n < 20 && !is_space(tag.p[n]) && tag.p[n] != '/' && tag.p[n] != '>')
        n++;
    small = arena_lower(h->sink->arena, str_head(tag, n));
    rest = str_from(tag, n);
    h->images += str_eq(small, STR("img"));
    if (h->tags++ < TAGS_MAX)
        spam_addf(h->sink, SPAM_MARKUP, "<%.*s>", STR_ARG(small));
    while (next_attribute(&rest, &name, &value)) {
        name = arena_lower(h->sink->arena, str_head(name, 20));
        if (count++ < ATTRIBUTES_MAX && h->tags < TAGS_MAX)
            take_attribute(h, small, name, value);
        hides |= is_hiding(name, value);
    }
    if (str_eq(small, h->hidden_name))
        h->hidden_depth++;
    if (hides)
        hide(h, small);
    if (h->hidden_name.n > 0 && str_eq(small, h->hidden_name) && h->hidden_depth == 0)
        h->hidden_depth = 1;
    n = (size_t)(rest.p - tag.p);
    show(h, str_of(tag.p - 1, n + 1 + (rest.n > 0)));
    h->rest = str_from(rest, 1);
}

static void take_end(struct html *h, struct str tag)
{
    ptrdiff_t end = str_index(tag, '>');
    struct str name = str_head(str_from(tag, 1), 20);
    size_t n = 0;

    while (n < name.n && name.p[n] != '>' && !is_space(name.p[n]))
        n++;
    show(h, str_of(tag.p - 1, (end < 0 ? tag.n : (size_t)end + 1) + 1));
    h->rest = end < 0 ? STR_NULL : str_from(tag, (size_t)end + 1);
    if (h->hidden_name.n > 0 && str_ieq(str_head(name, n), h->hidden_name) &&
        --h->hidden_depth == 0)
        h->hidden_name = STR_NULL;
}

static void take_comment(struct html *h, struct str tag)
{
    ptrdiff_t end = str_find(tag, str_starts(tag, STR("!--")) ? STR("-->") : STR(">"));

    h->comments++;
    h->rest =
        end < 0 ? STR_NULL : str_from(tag, (size_t)end + (str_starts(tag, STR("!--")) ? 3 : 1));
}

void spam_add_html(struct spam_sink *s, struct buf *visible, struct str html)
{
    struct html h = {.sink = s, .visible = visible, .rest = html};

    while (h.rest.n > 0) {
        ptrdiff_t at = str_index(h.rest, '<');
        struct str tag;
        if (at < 0)
            break;
        show(&h, str_head(h.rest, (size_t)at));
        tag = str_from(h.rest, (size_t)at + 1);
        if (tag.n > 0 && tag.p[0] == '/')
            take_end(&h, tag);
        else if (tag.n > 0 && (tag.p[0] == '!' || tag.p[0] == '?'))
            take_comment(&h, tag);
        else if (tag.n > 0 && ascii_lower(tag.p[0]) >= 'a' && ascii_lower(tag.p[0]) <= 'z')
            take_start(&h, tag);
        else {
            show(&h, STR("<"));
            h.rest = tag;
        }
    }
    show(&h, h.rest);
    spam_addf(s, SPAM_MARKUP, "(%u images)", spam_step(h.images));
    spam_addf(s, SPAM_MARKUP, "(%u links)", spam_step(h.links));
    spam_addf(s, SPAM_MARKUP, "(%u comments)", spam_step(h.comments));
    if (h.hidden > 0)
        spam_add(s, SPAM_MARKUP, STR("text that is hidden"));
}
