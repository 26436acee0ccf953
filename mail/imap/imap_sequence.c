/* imap_sequence.c - sequence sets.
 *
 * The number of ranges is bounded by the length of the command line, so a set is an array in the
 * command's arena. */
#include "mail/imap/imap_sequence.h"

#include <stdlib.h>

static int parse_seq_number(struct imap_parser *p, uint32_t *out, struct error *err)
{
    if (imap_parse_skip(p, '*')) {
        *out = 0;
        return 0;
    }
    return imap_parse_nonzero(p, out, "a message number", err);
}

static int parse_range(struct imap_parser *p, struct imap_range *out, struct error *err)
{
    if (parse_seq_number(p, &out->from, err) < 0)
        return -1;
    out->to = out->from;
    return imap_parse_skip(p, ':') ? parse_seq_number(p, &out->to, err) : 0;
}

/* One more than the commas up to the next space or the end: enough room, never more than the
 * text. */
static size_t range_count_max(const struct imap_parser *p)
{
    size_t n = 1;

    for (const char *c = p->at; c < p->end && *c != ' '; c++)
        n += *c == ',';
    return n;
}

int imap_set_parse(struct imap_parser *p, struct arena *a, struct imap_set *out, struct error *err)
{
    *out = (struct imap_set){0};
    if (imap_parse_skip(p, '$')) {
        out->is_saved = true;
        return 0;
    }
    out->v = ARENA_ARRAY(a, range_count_max(p), struct imap_range);
    do {
        if (parse_range(p, &out->v[out->n], err) < 0)
            return -1;
        out->n++;
    } while (imap_parse_skip(p, ','));
    return 0;
}

static int compare_ranges(const void *a, const void *b)
{
    const struct imap_range *x = a, *y = b;

    return x->from < y->from ? -1 : x->from > y->from;
}

static bool range_resolve(struct imap_range *r, uint32_t largest)
{
    uint32_t from = r->from == 0 ? largest : r->from;
    uint32_t to = r->to == 0 ? largest : r->to;

    r->from = from < to ? from : to;
    r->to = from < to ? to : from;
    if (r->from == 0)
        r->from = r->to;
    return r->to != 0;
}

void imap_set_resolve(struct imap_set *set, uint32_t largest)
{
    size_t kept = 0, merged = 0;

    for (size_t i = 0; i < set->n; i++)
        if (!(largest == 0 && (set->v[i].from == 0 || set->v[i].to == 0)) &&
            range_resolve(&set->v[i], largest))
            set->v[kept++] = set->v[i];
    if (kept > 1)
        qsort(set->v, kept, sizeof *set->v, compare_ranges);
    for (size_t i = 0; i < kept; i++) {
        struct imap_range *last = merged > 0 ? &set->v[merged - 1] : NULL;
        if (last == NULL || set->v[i].from > (uint64_t)last->to + 1)
            set->v[merged++] = set->v[i];
        else if (set->v[i].to > last->to)
            last->to = set->v[i].to;
    }
    set->n = merged;
}

bool imap_set_contains(const struct imap_set *set, uint32_t number)
{
    size_t low = 0, high = set->n;

    while (low < high) {
        size_t middle = (low + high) / 2;
        if (set->v[middle].to < number)
            low = middle + 1;
        else
            high = middle;
    }
    return low < set->n && set->v[low].from <= number;
}

uint64_t imap_set_count(const struct imap_set *set)
{
    uint64_t count = 0;

    for (size_t i = 0; i < set->n; i++)
        count += (uint64_t)set->v[i].to - set->v[i].from + 1;
    return count;
}

void imap_set_print(struct buf *out, const uint32_t *numbers, size_t count)
{
    for (size_t i = 0; i < count;) {
        size_t last = i;
        while (last + 1 < count && numbers[last] != UINT32_MAX &&
               numbers[last + 1] == numbers[last] + 1)
            last++;
        if (i > 0)
            buf_addc(out, ',');
        buf_add_u64(out, numbers[i]);
        if (last > i) {
            buf_addc(out, ':');
            buf_add_u64(out, numbers[last]);
        }
        i = last + 1;
    }
}
