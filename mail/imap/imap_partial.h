/* imap_partial.h - a window of a list, "1:500" from its beginning or "-1:-100" from its end (RFC
 * 5267, 4.4; RFC 9394). */
#pragma once
#include "mail/imap/imap_parse.h"
#include "mail/imap/imap_sequence.h"

struct imap_partial {
    uint32_t first, last; /* as written, counted from 1; 0: there is none */
    bool is_from_end;
};

static inline bool imap_partial_is_set(const struct imap_partial *w)
{
    return w->first != 0;
}
int imap_parse_partial(struct imap_parser *p, struct imap_partial *out, struct error *err);
void imap_partial_print(struct buf *out, const struct imap_partial *w);

/* Of `count` things those from *from (counted from 0) on are meant; returns how many. */
size_t imap_partial_window(const struct imap_partial *w, size_t count, size_t *from);
/* So many things from its end of the list must be known to answer it. */
uint32_t imap_partial_reach(const struct imap_partial *w);
/* Keeps of a resolved set the numbers of the window. */
void imap_partial_cut(const struct imap_partial *w, struct imap_set *set);
