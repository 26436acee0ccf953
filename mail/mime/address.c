/* address.c - address lists as people and their mailers write them.
 *
 * The list is cut into runs at the top level's commas, semicolons, colons and angle brackets, with
 * quoted strings, comments and encoded words kept whole; then each run is read as a phrase or as
 * an address. A quote or a parenthesis that is never closed is an ordinary character. Every byte
 * is looked at a fixed number of times. Domains are not checked and words not decoded: that is the
 * caller's. */
#include "mail/mime/address.h"

#include "mail/mime/header_internal.h"

struct parser {
    struct arena *arena;
    struct str rest;
    bool no_quote_end; /* a quote was not closed: no later one is either */
    bool no_comment_end;
    bool in_group;
    bool after_angle; /* behind "<...>", before the comma */
    struct addresses *out;
    size_t cap;
};

struct run {
    struct str text;    /* raw, quotes and comments included */
    ptrdiff_t at_sign;  /* the last one outside quotes and comments, or -1 */
    struct str comment; /* the last one, without parentheses */
    bool is_route;      /* begins like "<@a,@b:...": a comma does not end it */
    char end;           /* what stopped it: , ; : < > or 0 at the end */
};

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static struct address *add(struct parser *p)
{
    struct addresses *out = p->out;

    if (out->n == p->cap) {
        size_t cap = p->cap ? p->cap * 2 : 4;
        struct address *v = ARENA_ARRAY(p->arena, cap, struct address);
        if (out->n)
            memcpy(v, out->v, out->n * sizeof *v);
        out->v = v;
        p->cap = cap;
    }
    struct address *address = &out->v[out->n++];
    *address = (struct address){STR(""), STR(""), STR(""), STR(""), false, false};
    return address;
}

/* ---- cutting --------------------------------------------------------------------------------- */

/* Size of the quoted string at the front, or 0 when it has no end. */
static size_t quoted_size(struct parser *p, struct str s)
{
    size_t n = 1;

    if (p->no_quote_end)
        return 0;
    while (n < s.n && s.p[n] != '"')
        n += s.p[n] == '\\' ? 2 : 1;
    p->no_quote_end = n >= s.n;
    return n < s.n ? n + 1 : 0;
}

static size_t comment_size(struct parser *p, struct str s)
{
    size_t depth = 0;

    if (p->no_comment_end)
        return 0;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == '\\')
            i++;
        else if (s.p[i] == '(')
            depth++;
        else if (s.p[i] == ')' && --depth == 0)
            return i + 1;
    }
    p->no_comment_end = true;
    return 0;
}

/* An encoded word (RFC 2047) may hold a comma or an at sign that was not encoded: size, or 0. */
static size_t word_size(struct str s)
{
    size_t n = 2, marks = 0;

    if (!str_starts(s, STR("=?")))
        return 0;
    for (; n < s.n && !is_space(s.p[n]) && s.p[n] != '"'; n++)
        if (s.p[n] == '?' && ++marks == 3)
            return n + 1 < s.n && s.p[n + 1] == '=' ? n + 2 : 0;
    return 0;
}

/* Size of what begins at the front and is one thing: a quoted string, a comment, a word, a
 * character. */
static size_t unit_size(struct parser *p, struct str s, struct str *comment)
{
    size_t n = 0;

    switch (s.p[0]) {
    case '"':
        n = quoted_size(p, s);
        break;
    case '(':
        n = comment_size(p, s);
        if (n > 0)
            *comment = str_of(s.p + 1, n - 2);
        break;
    case '=':
        n = word_size(s);
        break;
    case '\\':
        n = s.n > 1 ? 2 : 1;
        break;
    default:
        break;
    }
    return n > 0 ? n : 1;
}

static bool ends_run(const struct run *run, char c, bool in_angle)
{
    if (in_angle)
        return c == '>' || c == '<' || (c == ',' && !run->is_route);
    /* A colon behind an at sign is part of "x@[IPv6:...]", not the start of a group. */
    return c == ',' || c == ';' || c == '<' || (c == ':' && run->at_sign < 0);
}

static struct run take_run(struct parser *p, bool in_angle)
{
    struct run run = {.at_sign = -1, .comment = STR("")};
    size_t n = 0;

    run.is_route = p->rest.n > 0 && p->rest.p[0] == '@';
    while (n < p->rest.n && !ends_run(&run, p->rest.p[n], in_angle)) {
        if (p->rest.p[n] == '@')
            run.at_sign = (ptrdiff_t)n;
        n += unit_size(p, str_from(p->rest, n), &run.comment);
    }
    run.text = str_head(p->rest, n);
    run.end = n < p->rest.n ? p->rest.p[n] : 0;
    p->rest = str_from(p->rest, n + 1);
    return run;
}

/* ---- reading --------------------------------------------------------------------------------- */

struct sink {
    char *p;
    size_t n;
};

static void add_unescaped(struct sink *out, struct str s)
{
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == '\\' && i + 1 < s.n)
            i++;
        if (s.p[i] != '\r' && s.p[i] != '\n' && s.p[i] != 0)
            out->p[out->n++] = s.p[i];
    }
}

static void add_blank(struct sink *out)
{
    if (out->n > 0 && out->p[out->n - 1] != ' ')
        out->p[out->n++] = ' ';
}

/* Unquoted, without comments. Blanks between words become one (for a phrase) or none (for an
 * address). */
static struct str read_words(struct parser *p, struct str s, bool is_phrase)
{
    struct sink out = {arena_alloc(p->arena, s.n + 1), 0};
    struct parser scan = {.no_quote_end = false};
    struct str comment = STR("");

    while (s.n > 0) {
        size_t n = unit_size(&scan, s, &comment);
        if (is_space(s.p[0]) || (n > 1 && s.p[0] == '(')) {
            if (is_phrase)
                add_blank(&out);
        } else if (n > 1 && s.p[0] == '"') {
            add_unescaped(&out, str_of(s.p + 1, n - 2));
        } else {
            add_unescaped(&out, str_head(s, n));
        }
        s = str_from(s, n);
    }
    return is_phrase ? str_trim(str_of(out.p, out.n)) : str_of(out.p, out.n);
}

static bool is_one_word(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (is_space(s.p[i]))
            return false;
    return true;
}

/* "@a,@b:local@domain": the route off the front (RFC 5322, 4.4). The colon is the one behind the
 * last "@" of the domain list, before the local part's. */
static struct str take_route(struct parser *p, struct str *text)
{
    struct str s = str_trim(*text), route, address;

    if (s.n == 0 || s.p[0] != '@' || !str_cut(s, ':', &route, &address))
        return STR("");
    *text = address;
    return read_words(p, route, false);
}

static ptrdiff_t last_at_sign(struct str s)
{
    struct parser scan = {.no_quote_end = false};
    struct str comment;
    ptrdiff_t at = -1;

    for (size_t n = 0; n < s.n;) {
        if (s.p[n] == '@')
            at = (ptrdiff_t)n;
        n += unit_size(&scan, str_from(s, n), &comment);
    }
    return at;
}

/* Where the next word begins behind `from`; blanks around a dot do not part words (RFC 5322,
 * 4.4). */
static size_t next_word(struct str s, size_t from)
{
    struct parser scan = {.no_quote_end = false};
    struct str comment;
    bool after_blank = false;
    char last = '.';

    for (size_t n = from; n < s.n;) {
        size_t size = unit_size(&scan, str_from(s, n), &comment);
        bool is_blank = is_space(s.p[n]) || (size > 1 && s.p[n] == '(');
        if (!is_blank && after_blank && last != '.' && s.p[n] != '.')
            return n;
        if (!is_blank)
            last = s.p[n];
        after_blank = is_blank;
        n += size;
    }
    return s.n;
}

/* local@domain, cut at the last "@" (as "a@b"@c is sent without its quotes). Of "John Smith js@x
 * y" what touches the at sign is the address, and what stands before it a name. */
static void read_addr_spec(struct parser *p, struct address *address, struct str text,
                           ptrdiff_t at_sign)
{
    struct str before = str_head(text, at_sign < 0 ? text.n : (size_t)at_sign), domain;
    size_t start = 0;

    for (size_t next = next_word(before, 0); next < before.n; next = next_word(before, next))
        start = next;
    if (start > 0 && address->name.n == 0)
        address->name = read_words(p, str_head(before, start), true);
    address->local = read_words(p, str_from(before, start), false);
    if (at_sign >= 0) {
        domain = str_from(text, (size_t)at_sign + 1);
        address->domain = read_words(p, str_head(domain, next_word(domain, 0)), false);
    }
}

static void read_angle(struct parser *p, const struct run *phrase)
{
    struct run run = take_run(p, true);
    while (run.end == '<')
        run = take_run(p, true); /* "<<a@b>>", or a bracket in a name */
    struct str name = read_words(p, phrase->text, true), text = run.text;
    struct address *address;

    if (name.n == 0)
        name = read_words(p, phrase->comment, true);
    if (str_trim(text).n == 0 && name.n == 0)
        return; /* "<>" addresses nobody */
    address = add(p);
    address->name = name;
    address->route = take_route(p, &text);
    read_addr_spec(p, address, text, last_at_sign(text));
    p->after_angle = true;
}

static void end_group(struct parser *p)
{
    if (p->in_group)
        add(p)->is_group_end = true;
    p->in_group = false;
}

static void start_group(struct parser *p, const struct run *run)
{
    struct address *address;

    end_group(p);
    address = add(p);
    address->is_group_start = true;
    address->local = read_words(p, run->text, true);
    p->in_group = true;
}

/* A run without angle brackets: an address, its name perhaps in a comment; or words that are no
 * address. */
static void read_bare(struct parser *p, const struct run *run)
{
    struct str words = read_words(p, run->text, true);
    struct address *address;

    if (p->after_angle && words.n == 0 && p->out->v[p->out->n - 1].name.n == 0)
        p->out->v[p->out->n - 1].name = read_words(p, run->comment, true);
    if (words.n == 0 || (p->after_angle && run->at_sign < 0))
        return;
    address = add(p);
    address->name = read_words(p, run->comment, true);
    if (run->at_sign >= 0 || is_one_word(words))
        read_addr_spec(p, address, run->text, run->at_sign);
    else
        address->name = words;
}

static void read_run(struct parser *p)
{
    struct run run = take_run(p, false);

    if (run.end == '<') {
        read_angle(p, &run);
        return;
    }
    if (run.end == ':')
        start_group(p, &run);
    else
        read_bare(p, &run);
    if (run.end == ';')
        end_group(p);
    p->after_angle = false;
}

void address_parse_list(struct arena *a, struct str value, struct addresses *out)
{
    struct parser p = {.arena = a, .rest = value, .out = out};

    *out = (struct addresses){NULL, 0};
    /* One run adds two at most, and the last group still has to end. */
    while (p.rest.n > 0 && out->n + 3 <= ADDRESS_COUNT_MAX)
        read_run(&p);
    end_group(&p);
}
