/* imap_search_answer.c - printing results. */
#include "mail/imap/imap_search_answer.h"

#include <stdlib.h>
#include <string.h>

#include "mail/imap/imap_reply.h"
#include "server/base/memory.h"

static bool wants_ends(const struct search_request *r)
{
    return r->wants_min || r->wants_max;
}

/* MIN, MAX and PARTIAL say all that is wanted (RFC 4731, 3.1; RFC 9394, 3.2). */
static bool wants_only_ends(const struct search_request *r)
{
    return !r->wants_all && !r->wants_count && (wants_ends(r) || imap_partial_is_set(&r->partial));
}

struct search_ends search_ends_wanted(const struct search_request *r)
{
    struct search_ends ends = {.first_count = r->wants_min, .last_count = r->wants_max};

    if (!r->is_extended || r->wants_update || r->wants_relevancy || !wants_only_ends(r))
        return (struct search_ends){0, 0};
    if (imap_partial_is_set(&r->partial))
        *(r->partial.is_from_end ? &ends.last_count : &ends.first_count) =
            imap_partial_reach(&r->partial);
    return ends;
}

/* --- numbers ---------------------------------------------------------------------------------- */

static uint32_t number_of(const struct search_found *found, size_t i, bool as_uid)
{
    return as_uid ? view_uid(found->view, found->seqs[i]) : found->seqs[i];
}

static PARKS void add_set(struct buf *out, const struct search_found *found, size_t from, size_t n,
                          bool as_uids, struct arena *a)
{
    uint32_t *numbers = ARENA_ARRAY(a, n + 1, uint32_t);

    for (size_t i = 0; i < n; i++)
        numbers[i] = number_of(found, from + i, as_uids);
    fiber_pause();
    imap_set_print(out, numbers, n);
}

static void add_named(struct buf *out, const char *name, uint64_t value)
{
    buf_adds(out, name);
    buf_add_u64(out, value);
}

/* --- "$" -------------------------------------------------------------------------------------- */

void imap_forget_saved(struct imap_session *s)
{
    free(s->saved_uids);
    s->saved_uids = NULL;
    s->saved_count = 0;
}

static int compare_u32(const void *a, const void *b)
{
    const uint32_t *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

static bool is_ascending(const uint32_t *v, size_t n)
{
    for (size_t i = 1; i < n; i++)
        if (v[i] < v[i - 1])
            return false;
    return true;
}

/* Ascending, each once. */
static void keep_saved(struct imap_session *s, uint32_t *uids, size_t n)
{
    size_t kept = 0;

    if (!is_ascending(uids, n))
        qsort(uids, n, sizeof *uids, compare_u32);
    for (size_t i = 0; i < n; i++)
        if (kept == 0 || uids[kept - 1] != uids[i])
            uids[kept++] = uids[i];
    imap_forget_saved(s);
    if (kept == 0)
        return;
    s->saved_uids = memory_array(kept, sizeof *uids);
    memcpy(s->saved_uids, uids, kept * sizeof *uids);
    s->saved_count = (uint32_t)kept;
}

/* With only MIN, MAX or PARTIAL these alone are kept (RFC 5182, 2.4; RFC 9394, 3.2). */
void imap_save_result(struct imap_session *s, const struct search_request *r,
                      const struct search_found *found)
{
    uint32_t *uids = ARENA_ARRAY(s->arena, found->n + 2, uint32_t);
    bool only_ends = wants_only_ends(r);
    size_t from = 0, n = found->n, count = 0;

    if (only_ends)
        n = imap_partial_is_set(&r->partial) ? imap_partial_window(&r->partial, found->n, &from)
                                             : 0;
    for (size_t i = 0; i < n; i++)
        uids[count++] = number_of(found, from + i, true);
    if (only_ends && r->wants_min && found->n > 0)
        uids[count++] = number_of(found, 0, true);
    if (only_ends && r->wants_max && found->n > 0)
        uids[count++] = number_of(found, found->n - 1, true);
    keep_saved(s, uids, count);
}

/* --- responses -------------------------------------------------------------------------------- */

static void raise_modseq(const struct search_found *found, size_t i, uint64_t *modseq)
{
    struct index_entry entry;

    if (view_entry_at(found->view, found->seqs[i], &entry) && entry.modseq > *modseq)
        *modseq = entry.modseq;
}

/* With MIN, MAX or PARTIAL alone the modseq is theirs (RFC 4731, 3.2). */
static uint64_t modseq_of_result(const struct search_request *r, const struct search_found *found)
{
    uint64_t modseq = 0;
    size_t from = 0, n = 0;

    if (!wants_only_ends(r))
        return found->modseq_max;
    if (imap_partial_is_set(&r->partial))
        n = imap_partial_window(&r->partial, found->n, &from);
    for (size_t i = from; i < from + n; i++)
        raise_modseq(found, i, &modseq);
    if (r->wants_min)
        raise_modseq(found, 0, &modseq);
    if (r->wants_max)
        raise_modseq(found, found->n - 1, &modseq);
    return modseq > 0 ? modseq : found->modseq_max;
}

void imap_add_tag_correlator(struct buf *out, struct str tag)
{
    buf_adds(out, "TAG ");
    imap_add_quoted(out, tag);
}

static PARKS void add_partial(struct buf *out, const struct search_request *r,
                              const struct search_found *found, bool by_uid, struct arena *a)
{
    size_t from, n = imap_partial_window(&r->partial, found->n, &from);

    buf_adds(out, " PARTIAL (");
    imap_partial_print(out, &r->partial);
    buf_addc(out, ' ');
    if (n > 0)
        add_set(out, found, from, n, by_uid, a);
    else
        buf_adds(out, "NIL");
    buf_addc(out, ')');
}

/* Of what ALL or PARTIAL lists, in the same order (RFC 6203, 4). */
static void add_relevancy(struct buf *out, const struct search_request *r,
                          const struct search_found *found)
{
    size_t from = 0, n = found->n;

    if (imap_partial_is_set(&r->partial))
        n = imap_partial_window(&r->partial, found->n, &from);
    buf_adds(out, " RELEVANCY (");
    for (size_t i = from; i < from + n; i++) {
        if (i > from)
            buf_addc(out, ' ');
        buf_add_u64(out, found->scores[found->seqs[i] - 1]);
    }
    buf_addc(out, ')');
}

void imap_add_esearch(struct buf *out, struct str correlator, bool by_uid,
                      const struct search_request *r, const struct search_found *found,
                      struct arena *a)
{
    buf_adds(out, "* ESEARCH (");
    buf_add(out, correlator);
    buf_adds(out, by_uid ? ") UID" : ")");
    if (r->wants_min && found->n > 0)
        add_named(out, " MIN ", number_of(found, 0, by_uid));
    if (r->wants_max && found->n > 0)
        add_named(out, " MAX ", number_of(found, found->n - 1, by_uid));
    if (r->wants_count)
        add_named(out, " COUNT ", found->n);
    if (r->wants_all && found->n > 0) {
        buf_adds(out, " ALL ");
        add_set(out, found, 0, found->n, by_uid, a);
    }
    if (imap_partial_is_set(&r->partial))
        add_partial(out, r, found, by_uid, a);
    if (r->wants_relevancy && found->scores != NULL)
        add_relevancy(out, r, found);
    if (r->uses_modseq && found->n > 0)
        add_named(out, " MODSEQ ", modseq_of_result(r, found));
    buf_adds(out, "\r\n");
}

static PARKS void add_plain(struct buf *out, const char *word, const struct search_request *r,
                            const struct search_found *found, bool by_uid)
{
    buf_adds(out, "* ");
    buf_adds(out, word);
    for (size_t i = 0; i < found->n; i++) {
        buf_addc(out, ' ');
        buf_add_u64(out, number_of(found, i, by_uid));
        if (i % 4096 == 0)
            fiber_pause();
    }
    if (r->uses_modseq && found->n > 0) {
        add_named(out, " (MODSEQ ", found->modseq_max);
        buf_addc(out, ')');
    }
    buf_adds(out, "\r\n");
}

bool imap_search_has_answer(const struct search_request *r)
{
    return !r->wants_save || r->wants_update || r->wants_relevancy || r->wants_all ||
           r->wants_count || wants_only_ends(r);
}

void imap_answer_search(struct imap_session *s, struct imap_command *c,
                        const struct search_request *r, const struct search_found *found,
                        const char *word)
{
    struct buf out, correlator;

    if (r->wants_save)
        imap_save_result(s, r, found);
    if (!imap_search_has_answer(r))
        return;
    buf_init(&out, SIZE_MAX);
    buf_init(&correlator, SIZE_MAX);
    imap_add_tag_correlator(&correlator, c->tag);
    if (r->is_extended)
        imap_add_esearch(&out, buf_str(&correlator), c->by_uid, r, found, s->arena);
    else
        add_plain(&out, word, r, found, c->by_uid);
    imap_write_buf(s, &out);
    buf_fini(&correlator);
    buf_fini(&out);
}
