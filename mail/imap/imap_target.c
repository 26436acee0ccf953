/* imap_target.c - from sets as clients write them to messages of the view.
 *
 * Everything behind this works on ranges of sequence numbers, so that "1:*" of a million
 * messages is one range. */
#include "mail/imap/imap_target.h"

#include "mail/imap/imap_reply.h"
#include "server/run/config.h"

static void resolve_saved(const struct imap_session *s, struct imap_set *set)
{
    set->v = ARENA_ARRAY(s->arena, s->saved_count + 1, struct imap_range);
    set->n = 0;
    for (uint32_t i = 0; i < s->saved_count; i++) {
        uint32_t seq = view_seq(s->view, s->saved_uids[i]);
        if (seq == 0)
            continue;
        if (set->n > 0 && set->v[set->n - 1].to + 1 == seq)
            set->v[set->n - 1].to = seq;
        else
            set->v[set->n++] = (struct imap_range){seq, seq};
    }
}

static void resolve_uids(const struct imap_session *s, struct imap_set *set)
{
    size_t kept = 0;

    imap_set_resolve(set, view_uid_max(s->view));
    for (size_t i = 0; i < set->n; i++) {
        uint32_t from = view_seq_at_least(s->view, set->v[i].from);
        uint32_t behind = set->v[i].to == UINT32_MAX ? view_count(s->view) + 1
                                                     : view_seq_at_least(s->view, set->v[i].to + 1);
        if (from < behind)
            set->v[kept++] = (struct imap_range){from, behind - 1};
    }
    set->n = kept;
}

int imap_target_resolve(const struct imap_session *s, struct imap_set *set, bool by_uid,
                        struct error *err)
{
    uint32_t count = view_count(s->view);

    if (set->is_saved) {
        resolve_saved(s, set);
        return 0;
    }
    if (by_uid) {
        resolve_uids(s, set);
        return 0;
    }
    imap_set_resolve(set, count);
    if (set->n > 0 && set->v[set->n - 1].to > count)
        return fail(err, ERR_SYNTAX, "message %u does not exist: the mailbox has %u",
                    set->v[set->n - 1].to, count);
    return 0;
}

void imap_target_limit(const struct imap_session *s, struct imap_command *c, struct imap_set *seqs)
{
    uint64_t limit = (uint64_t)config.imap_message_limit, excess = imap_set_count(seqs);
    size_t first = 0;

    if (limit == 0 || excess <= limit)
        return;
    excess -= limit;
    for (; excess > 0; first++) {
        struct imap_range *r = &seqs->v[first];
        uint64_t count = (uint64_t)r->to - r->from + 1;
        if (count > excess) {
            r->from += (uint32_t)excess;
            break;
        }
        excess -= count;
    }
    seqs->v += first;
    seqs->n -= first;
    c->code = arena_printf(s->arena, "MESSAGELIMIT %llu %u", (unsigned long long)limit,
                           view_uid(s->view, seqs->v[0].from));
}

int imap_target_check_saved(struct imap_command *c, struct arena *a, const struct imap_set *seqs,
                            struct error *err)
{
    int64_t limit = config.imap_save_limit;

    if (limit == 0 || (config.imap_message_limit > 0 && config.imap_message_limit < limit))
        limit = config.imap_message_limit;
    if (limit == 0 || imap_set_count(seqs) <= (uint64_t)limit)
        return 0;
    c->refusal = arena_c(a, arena_printf(a, "MESSAGELIMIT %lld", (long long)limit));
    return fail(err, ERR_LIMIT, "more than %lld messages at once", (long long)limit);
}

uint32_t *imap_target_uids(const struct imap_session *s, const struct imap_set *seqs, size_t *count)
{
    uint32_t *uids = ARENA_ARRAY(s->arena, (size_t)imap_set_count(seqs) + 1, uint32_t);

    *count = 0;
    for (size_t i = 0; i < seqs->n; i++)
        for (uint32_t seq = seqs->v[i].from; seq <= seqs->v[i].to; seq++)
            uids[(*count)++] = view_uid(s->view, seq);
    return uids;
}

static void print_range(struct buf *out, uint32_t first, uint32_t last)
{
    if (!str_ends(buf_str(out), STR(" ")))
        buf_addc(out, ',');
    buf_add_u64(out, first);
    if (first < last) {
        buf_addc(out, ':');
        buf_add_u64(out, last);
    }
}

/* A message that vanished a moment ago may still be in the view: it is told as expunged, later. */
static void print_vanished(const struct imap_session *s, struct buf *out, uint32_t first,
                           uint32_t last)
{
    uint32_t seq = view_seq_at_least(s->view, first);

    for (; seq <= view_count(s->view) && view_uid(s->view, seq) <= last; seq++) {
        uint32_t shown = view_uid(s->view, seq);
        if (first < shown)
            print_range(out, first, shown - 1);
        first = shown + 1;
        fiber_pause();
    }
    if (first <= last)
        print_range(out, first, last);
}

/* Both ascend, so each is walked once. */
static void print_known(const struct imap_session *s, struct buf *out, const struct imap_set *known,
                        const struct uid_range *v, size_t count)
{
    for (size_t i = 0, k = 0; i < count && k < known->n;) {
        uint32_t first = v[i].first > known->v[k].from ? v[i].first : known->v[k].from;
        uint32_t last = v[i].last < known->v[k].to ? v[i].last : known->v[k].to;
        if (first <= last)
            print_vanished(s, out, first, last);
        if (v[i].last <= known->v[k].to)
            i++;
        else
            k++;
    }
}

int imap_tell_vanished_earlier(struct imap_session *s, uint64_t modseq,
                               const struct imap_set *known, struct error *err)
{
    struct uid_range *v;
    struct buf out;
    size_t count, empty;

    if (mailbox_vanished_since(s->arena, s->selected, modseq, &v, &count, err) < 0)
        return -1;
    buf_init(&out, SIZE_MAX);
    buf_adds(&out, "* VANISHED (EARLIER) ");
    empty = out.n;
    if (known != NULL)
        print_known(s, &out, known, v, count);
    for (size_t i = 0; known == NULL && i < count; i++)
        print_vanished(s, &out, v[i].first, v[i].last);
    buf_adds(&out, "\r\n");
    if (out.n > empty + 2)
        imap_write_buf(s, &out);
    buf_fini(&out);
    return 0;
}
