/* lines.c - finds the places where a message is not what may be sent, and gives out what lies between. */
#include "mail/mime/lines.h"

void mime_lines_init(struct mime_lines *l, uint64_t body_lines)
{
    *l = (struct mime_lines){.lines_left = body_lines};
}

void mime_lines_feed(struct mime_lines *l, struct str part)
{
    l->in = part;
    l->clean = 0;
}

/* --- pieces ----------------------------------------------------------------------------------- */

/* Moves on by n bytes of `in`. */
static struct str take(struct mime_lines *l, size_t n)
{
    struct str piece = str_head(l->in, n);

    l->in = str_from(l->in, n);
    l->clean = l->clean > n ? l->clean - n : 0;
    l->is_stuffed = false;
    return piece;
}

static void line_ended(struct mime_lines *l, size_t size)
{
    bool was_body = l->in_body;

    l->line_size = 0;
    l->had_cr = false;
    if (size == 0)
        l->in_body = true;
    if (was_body)
        l->lines_left--;
    l->is_done = l->in_body && l->lines_left == 0;
}

/* Each byte is looked at once for a NUL, however many pieces it takes to give them out. */
static size_t clean_size(struct mime_lines *l)
{
    if (l->clean == 0 && l->in.n > 0) {
        const char *nul = memchr(l->in.p, '\0', l->in.n);
        l->clean = nul != NULL ? (size_t)(nul - l->in.p) : l->in.n;
    }
    return l->clean;
}

static bool begins_with_dot(const struct mime_lines *l, size_t at)
{
    return at < l->in.n && l->in.p[at] == '.';
}

/* Whole lines, up to the first that needs a dot or has no CR, and what follows the last LF. */
static size_t good_size(struct mime_lines *l, size_t size)
{
    size_t at = 0;

    while (at < size) {
        const char *lf = memchr(l->in.p + at, '\n', size - at);
        size_t end = lf != NULL ? (size_t)(lf - l->in.p) : size;
        bool has_cr = end > 0 ? l->in.p[end - 1] == '\r' : l->had_cr;

        l->line_size += end - at;
        if (lf == NULL || !has_cr) {
            l->had_cr = has_cr;
            return end;
        }
        at = end + 1;
        line_ended(l, l->line_size - 1);
        if (l->is_done || begins_with_dot(l, at))
            return at;
    }
    return at;
}

bool mime_lines_next(struct mime_lines *l, struct str *piece)
{
    size_t clean;

    if (l->is_done || l->in.n == 0)
        return false;
    if (l->line_size == 0 && !l->is_stuffed && begins_with_dot(l, 0)) {
        l->is_stuffed = true;
        *piece = STR(".");
        return true;
    }
    clean = clean_size(l);
    if (clean == 0) {
        take(l, 1);
        l->line_size++;
        l->had_cr = false;
        *piece = STR("\x80");
    } else if (l->in.p[0] == '\n' && !l->had_cr) {
        take(l, 1);
        line_ended(l, l->line_size);
        *piece = STR("\r\n");
    } else {
        *piece = take(l, good_size(l, clean));
    }
    return true;
}

struct str mime_lines_end(const struct mime_lines *l)
{
    return l->line_size > 0 ? STR("\r\n") : STR("");
}

/* --- sizes ------------------------------------------------------------------------------------ */

size_t mime_lines_growth(struct str raw)
{
    size_t growth = raw.n > 0 && raw.p[raw.n - 1] != '\n' ? 2 : 0;
    ptrdiff_t lf;

    for (struct str rest = raw; (lf = str_index(rest, '\n')) >= 0;
         rest = str_from(rest, (size_t)lf + 1)) {
        const char *at = rest.p + lf;
        growth += at == raw.p || at[-1] != '\r';
    }
    return growth;
}
