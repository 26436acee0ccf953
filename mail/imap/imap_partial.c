/* imap_partial.c - windows. */
#include "mail/imap/imap_partial.h"

static int parse_end(struct imap_parser *p, bool is_from_end, uint32_t *out, struct error *err)
{
    if (is_from_end && !imap_parse_skip(p, '-'))
        return imap_parse_expected(p, "'-': both ends of a range count from the same side", err);
    return imap_parse_nonzero(p, out, "a position", err);
}

int imap_parse_partial(struct imap_parser *p, struct imap_partial *out, struct error *err)
{
    bool is_from_end = imap_parse_peek(p, '-');
    uint32_t first, last;

    if (parse_end(p, is_from_end, &first, err) < 0 || imap_parse_char(p, ':', err) < 0 ||
        parse_end(p, is_from_end, &last, err) < 0)
        return -1;
    *out = (struct imap_partial){first, last, is_from_end};
    return 0;
}

void imap_partial_print(struct buf *out, const struct imap_partial *w)
{
    buf_addf(out, w->is_from_end ? "-%u:-%u" : "%u:%u", w->first, w->last);
}

uint32_t imap_partial_reach(const struct imap_partial *w)
{
    return w->first > w->last ? w->first : w->last;
}

size_t imap_partial_window(const struct imap_partial *w, size_t count, size_t *from)
{
    size_t near = w->first < w->last ? w->first : w->last, far = imap_partial_reach(w);

    *from = 0;
    if (near > count)
        return 0;
    far = far < count ? far : count;
    *from = w->is_from_end ? count - far : near - 1;
    return far - near + 1;
}

void imap_partial_cut(const struct imap_partial *w, struct imap_set *set)
{
    size_t from, n = imap_partial_window(w, (size_t)imap_set_count(set), &from), kept = 0;

    for (size_t i = 0; i < set->n && n > 0; i++) {
        struct imap_range r = set->v[i];
        size_t size = (size_t)(r.to - r.from) + 1;
        if (from >= size) {
            from -= size;
            continue;
        }
        r.from += (uint32_t)from;
        size -= from;
        from = 0;
        if (size > n)
            r.to = r.from + (uint32_t)n - 1;
        n -= size < n ? size : n;
        set->v[kept++] = r;
    }
    set->n = kept;
}
