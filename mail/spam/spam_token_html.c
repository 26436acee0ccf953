/* spam_token_html.c - features of markup, and the same markup without what readers cannot see.
 *
 * A scanner without a tree: tags with their attributes, one after the other. What a style hides
 * (display:none, letters of no size, white on white) is cut out of the text that counts, for it is
 * there to mislead filters; that it is there counts. */
#include "mail/spam/spam_token_internal.h"

#define NAME_SIZE_MAX  20
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

static struct str take_until(struct str *rest, const char *ends, bool ends_at_space)
{
    struct str taken = str_head(*rest, 0);

    while (taken.n < rest->n && strchr(ends, rest->p[taken.n]) == NULL &&
           !(ends_at_space && is_space(rest->p[taken.n])))
        taken.n++;
    *rest = str_from(*rest, taken.n);
    return taken;
}

static struct str take_value(struct str *rest)
{
    struct str value;
    char quote[2] = {0};

    while (rest->n > 0 && is_space(rest->p[0]))
        *rest = str_from(*rest, 1);
    if (rest->n == 0 || (rest->p[0] != '"' && rest->p[0] != '\''))
        return take_until(rest, ">", true);
    quote[0] = rest->p[0];
    *rest = str_from(*rest, 1);
    value = take_until(rest, quote, false);
    *rest = str_from(*rest, 1);
    return value;
}

/* Takes `name="value"` off a tag's inside; false at its end. */
bool spam_next_attribute(struct str *rest, struct str *name, struct str *value)
{
    *rest = skip_space(*rest);
    *name = take_until(rest, "=>", true);
    *value = STR("");
    if (rest->n > 0 && rest->p[0] == '=') {
        *rest = str_from(*rest, 1);
        *value = take_value(rest);
        if (name->n == 0)
            *name = STR("?");
    }
    return name->n > 0;
}

static bool is_one_of(struct str name, const char *const *names)
{
    for (; *names != NULL; names++)
        if (str_eq(name, str_c(*names)))
            return true;
    return false;
}

bool spam_is_hiding(struct str name, struct str value)
{
    static const char *const styles[] = {"display:none",       "display: none", "visibility:hidden",
                                         "visibility: hidden", "font-size:0",   "font-size: 0",
                                         "opacity:0;"};

    if (!str_ieq(name, STR("style")))
        return str_ieq(name, STR("hidden"));
    for (size_t i = 0; i < sizeof styles / sizeof *styles; i++)
        if (str_ifind(value, str_c(styles[i])) >= 0)
            return true;
    return false;
}

static bool is_void(struct str name)
{
    static const char *const names[] = {"br",  "img",  "hr",   "input", "meta", "link",
                                        "col", "area", "base", "wbr",   NULL};

    return is_one_of(name, names);
}

static const char *const linking[] = {"href", "src", "action", "background", NULL};
/* Their values are few. */
static const char *const telling[] = {"color",  "bgcolor", "size",   "face",       "width",
                                      "height", "align",   "border", "http-equiv", "type",
                                      "method", "target",  "class",  NULL};

static void take_link(struct html *h, struct str tag, struct str name, struct str value)
{
    struct str small = spam_lower(h->sink, value, VALUE_SIZE_MAX);
    ptrdiff_t colon = str_index(small, ':');

    if (h->links++ < LINKS_MAX)
        spam_add_link(h->sink, value);
    spam_addf(h->sink, SPAM_MARKUP, "<%.*s %.*s=%.*s:>", STR_ARG(tag), STR_ARG(name),
              STR_ARG(str_head(small, colon > 0 ? (size_t)colon : 0)));
}

static void take_attribute(struct html *h, struct str tag, struct str name, struct str value)
{
    bool is_meta = str_eq(tag, STR("meta"));

    spam_addf(h->sink, SPAM_MARKUP, "<%.*s %.*s>", STR_ARG(tag), STR_ARG(name));
    if (is_one_of(name, linking))
        take_link(h, tag, name, value);
    else if (is_one_of(name, telling) ||
             (is_meta && (str_eq(name, STR("name")) || str_eq(name, STR("content")))))
        spam_addf(h->sink, SPAM_MARKUP, "<%.*s %.*s=%.*s>", STR_ARG(tag), STR_ARG(name),
                  STR_ARG(spam_lower(h->sink, value, VALUE_SIZE_MAX)));
    else if (str_istarts(name, STR("on")))
        spam_add(h->sink, SPAM_MARKUP, STR("a script in an attribute"));
}

/* ---- tags ------------------------------------------------------------------------------------ */

struct str spam_tag_name(struct str tag)
{
    size_t n = 0;

    while (n < tag.n && n < NAME_SIZE_MAX && !is_space(tag.p[n]) && tag.p[n] != '/' &&
           tag.p[n] != '>')
        n++;
    return str_head(tag, n);
}

/* Elements of the hiding one's name within it are counted, so that its own end is found. */
static void note_hidden(struct html *h, struct str name, bool hides)
{
    if (h->hidden_name.n > 0) {
        h->hidden_depth += str_eq(name, h->hidden_name);
    } else if (hides && !is_void(name)) {
        h->hidden_name = name;
        h->hidden_depth = 1;
    }
    h->hidden += hides;
}

static void take_start(struct html *h, struct str tag)
{
    struct str name = spam_tag_name(tag), attribute, value, rest = str_from(tag, name.n);
    size_t count = 0;
    bool hides = false;

    name = arena_lower(h->sink->arena, name);
    h->images += str_eq(name, STR("img"));
    if (h->tags++ < TAGS_MAX)
        spam_addf(h->sink, SPAM_MARKUP, "<%.*s>", STR_ARG(name));
    while (spam_next_attribute(&rest, &attribute, &value)) {
        attribute = spam_lower(h->sink, attribute, NAME_SIZE_MAX);
        if (count++ < ATTRIBUTES_MAX && h->tags < TAGS_MAX)
            take_attribute(h, name, attribute, value);
        hides |= spam_is_hiding(attribute, value);
    }
    note_hidden(h, name, hides);
    show(h, str_of(tag.p - 1, (size_t)(rest.p - tag.p) + 1 + (rest.n > 0)));
    h->rest = str_from(rest, 1);
}

/* `tag` begins at its slash. */
static void take_end(struct html *h, struct str tag)
{
    ptrdiff_t end = str_index(tag, '>');
    struct str name = spam_tag_name(str_from(tag, 1));

    show(h, str_of(tag.p - 1, (end < 0 ? tag.n : (size_t)end + 1) + 1));
    h->rest = end < 0 ? STR_NULL : str_from(tag, (size_t)end + 1);
    if (h->hidden_name.n > 0 && str_ieq(name, h->hidden_name) && --h->hidden_depth == 0)
        h->hidden_name = STR_NULL;
}

static void take_comment(struct html *h, struct str tag)
{
    struct str closing = str_starts(tag, STR("!--")) ? STR("-->") : STR(">");
    ptrdiff_t end = str_find(tag, closing);

    h->comments++;
    h->rest = end < 0 ? STR_NULL : str_from(tag, (size_t)end + closing.n);
}

static void take_tag(struct html *h, struct str tag)
{
    char c = tag.n > 0 ? tag.p[0] : 0;

    if (c == '/') {
        take_end(h, tag);
    } else if (c == '!' || c == '?') {
        take_comment(h, tag);
    } else if (ascii_lower(c) >= 'a' && ascii_lower(c) <= 'z') {
        take_start(h, tag);
    } else {
        show(h, STR("<"));
        h->rest = tag;
    }
}

void spam_add_html(struct spam_sink *s, struct buf *visible, struct str html)
{
    struct html h = {.sink = s, .visible = visible, .rest = html};

    for (ptrdiff_t at; (at = str_index(h.rest, '<')) >= 0;) {
        show(&h, str_head(h.rest, (size_t)at));
        take_tag(&h, str_from(h.rest, (size_t)at + 1));
    }
    show(&h, h.rest);
    spam_addf(s, SPAM_MARKUP, "(%u images)", spam_step(h.images));
    spam_addf(s, SPAM_MARKUP, "(%u links)", spam_step(h.links));
    spam_addf(s, SPAM_MARKUP, "(%u comments)", spam_step(h.comments));
    if (h.hidden > 0)
        spam_add(s, SPAM_MARKUP, STR("text that is hidden"));
}
