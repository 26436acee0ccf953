/* dkim_canonical.c - the forms in which headers and bodies are signed (RFC 6376, 3.4).
 *
 * A line ends in CR LF or LF, and is given out with CR LF. A CR elsewhere is an ordinary byte. */
#include <string.h>

#include "mail/authentic/dkim_internal.h"

/* ---- the sink -------------------------------------------------------------------------------- */

void dkim_sink_init(struct dkim_sink *sink, void (*write)(void *to, struct str piece), void *to)
{
    sink->write = write;
    sink->to = to;
    sink->staged_size = 0;
}

void dkim_sink_flush(struct dkim_sink *sink)
{
    if (sink->staged_size > 0)
        sink->write(sink->to, str_of(sink->staged, sink->staged_size));
    sink->staged_size = 0;
}

static void put(struct dkim_sink *sink, const char *p, size_t n)
{
    if (n > sizeof sink->staged - sink->staged_size)
        dkim_sink_flush(sink);
    if (n > sizeof sink->staged) {
        sink->write(sink->to, str_of(p, n));
        return;
    }
    memcpy(sink->staged + sink->staged_size, p, n);
    sink->staged_size += n;
}

static void put_line_end(struct dkim_sink *sink)
{
    put(sink, "\r\n", 2);
}

/* ---- lines ----------------------------------------------------------------------------------- */

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* Takes a line off the front without its end; had_end: there was one. */
static struct str take_line(struct str *rest, bool *had_end)
{
    const char *lf = memchr(rest->p, '\n', rest->n);
    size_t n = lf == NULL ? rest->n : (size_t)(lf - rest->p);
    struct str line = str_head(*rest, n);

    *had_end = lf != NULL;
    *rest = str_from(*rest, n + *had_end);
    if (*had_end && n > 0 && line.p[n - 1] == '\r')
        line.n--;
    return line;
}

/* Where a run of blanks stands between words it becomes one space. is_begun: something was given out that
 * a space may follow; blanks that nothing follows are dropped, so they wait in is_blank_waiting. */
struct squeeze {
    bool is_begun;
    bool is_blank_waiting;
};

static void put_squeezed(struct dkim_sink *sink, struct squeeze *state, struct str text)
{
    size_t i = 0;

    while (i < text.n) {
        size_t from = i;

        while (i < text.n && is_blank(text.p[i]))
            i++;
        state->is_blank_waiting |= i > from;
        for (from = i; i < text.n && !is_blank(text.p[i]);)
            i++;
        if (i == from)
            continue;
        if (state->is_blank_waiting && state->is_begun)
            put(sink, " ", 1);
        *state = (struct squeeze){.is_begun = true};
        put(sink, text.p + from, i - from);
    }
}

/* ---- header fields ---------------------------------------------------------------------------- */

static void put_simple_field(struct str whole, struct dkim_sink *sink)
{
    bool had_end, is_first = true;

    while (whole.n > 0) {
        struct str line = take_line(&whole, &had_end);

        if (!is_first)
            put_line_end(sink);
        is_first = false;
        put(sink, line.p, line.n);
    }
}

static void put_relaxed_field(struct str whole, struct dkim_sink *sink)
{
    struct squeeze state = {0};
    struct str name;
    bool had_end;

    str_cut(whole, ':', &name, &whole);
    name = str_trim(name);
    for (size_t i = 0; i < name.n; i++) {
        char lower = ascii_lower(name.p[i]);
        put(sink, &lower, 1);
    }
    put(sink, ":", 1);
    while (whole.n > 0)
        put_squeezed(sink, &state, take_line(&whole, &had_end));
}

void dkim_canonical_field(enum dkim_canonical c, struct str whole, bool has_line_end,
                          struct dkim_sink *sink)
{
    if (c == DKIM_RELAXED)
        put_relaxed_field(whole, sink);
    else
        put_simple_field(whole, sink);
    if (has_line_end)
        put_line_end(sink);
}

/* ---- bodies ------------------------------------------------------------------------------------ */

static struct str without_empty_lines_at_end(struct str body, bool blanks_are_nothing)
{
    for (;;) {
        size_t n = body.n;

        while (blanks_are_nothing && n > 0 && is_blank(body.p[n - 1]))
            n--;
        if (n == 0 || body.p[n - 1] != '\n')
            return blanks_are_nothing ? str_head(body, n) : body;
        n--;
        if (n > 0 && body.p[n - 1] == '\r')
            n--;
        body.n = n;
    }
}

/* Whole stretches of lines that already end in CR LF are given out as they lie. */
static void put_simple_body(struct str body, struct dkim_sink *sink)
{
    size_t begin = 0, at = 0;
    const char *lf;

    body = without_empty_lines_at_end(body, false);
    while (at < body.n && (lf = memchr(body.p + at, '\n', body.n - at)) != NULL) {
        at = (size_t)(lf - body.p) + 1;
        if (at >= 2 && lf[-1] == '\r')
            continue;
        put(sink, body.p + begin, at - 1 - begin);
        put_line_end(sink);
        begin = at;
    }
    if (body.n > begin)
        put(sink, body.p + begin, body.n - begin);
    put_line_end(sink);
}

static void put_relaxed_body(struct str body, struct dkim_sink *sink)
{
    bool had_end;

    body = without_empty_lines_at_end(body, true);
    while (body.n > 0) {
        /* Blanks at the front of a line are kept, as one. */
        struct squeeze state = {.is_begun = true};

        put_squeezed(sink, &state, take_line(&body, &had_end));
        put_line_end(sink);
    }
}

void dkim_canonical_body(enum dkim_canonical c, struct str body, struct dkim_sink *sink)
{
    if (c == DKIM_RELAXED)
        put_relaxed_body(body, sink);
    else
        put_simple_body(body, sink);
}
