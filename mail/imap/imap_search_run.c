/* imap_search_run.c - the search engine.
 *
 * Round one asks the mailbox's index and the text index; what stays open is read in chunks, first
 * the columns, then texts, last whole messages: those without a text yet, or with too large a
 * header. Only the ranges that the keys
 * themselves allow are walked: a million messages cost nothing when three UIDs were asked for. */
#include "mail/imap/imap_search_run.h"

#include "mail/imap/imap_target.h"
#include <string.h>

#include "mail/imap/imap_progress.h"
#include "mail/imap/imap_search_index.h"
#include "mail/imap/imap_search_match.h"
#include "mail/store/message.h"
#include "server/run/offload.h"

#define CHUNK_MAX    1000        /* open messages read together */
#define CHUNK_MIN    50          /* the first chunk when a few hits are enough */
#define PAUSE_KEYS   1024        /* so many keys are tried in a fraction of a millisecond */
#define OFFLOAD_SIZE (64 * 1024) /* more bytes, times texts, are searched on a helper thread */

struct engine {
    struct search_run *run;
    struct search_key *root;
    struct imap_set ranges; /* of sequence numbers, to be walked */
    unsigned columns;
    unsigned reading; /* columns of this round */
    struct arena *subject_arena, *scratch_arena;
    struct search_subject *open;
    int64_t *ids;
    size_t open_count, open_max;
    uint32_t pass_hits, pass_max; /* found on this way through the ranges; enough; 0: all */
    bool from_end;
    unsigned pause_after; /* messages, of which the index alone is asked */
    uint64_t done, total; /* messages looked at, of so many */
};

/* --- matching --------------------------------------------------------------------------------- */

static void hit(struct engine *e, const struct search_subject *subject)
{
    struct search_run *run = e->run;

    e->pass_hits++;
    if (search_run_has(run, subject->seq))
        return; /* on the way from the other end */
    run->hits[(subject->seq - 1) / 64] |= UINT64_C(1) << ((subject->seq - 1) % 64);
    run->hit_count++;
    if (run->scores != NULL)
        run->scores[subject->seq - 1] =
            subject->score > 0 && subject->score < 100 ? (uint8_t)subject->score : 100;
    if (subject->entry.modseq > run->modseq_max)
        run->modseq_max = subject->entry.modseq;
}

struct thread_job {
    const struct search_key *key;
    struct search_subject *subject;
    enum search_answer answer;
};

static void match_on_thread(void *arg)
{
    struct thread_job *job = arg;

    job->answer = search_matches(job->key, job->subject);
}

static bool is_much_work(const struct engine *e, const struct message *m)
{
    uint64_t size = m->headers.n + m->text_header.n + m->text_parts.n + m->text_body.n + m->blob.n;

    return size * (1 + (uint64_t)e->run->request->text_count) > OFFLOAD_SIZE;
}

static PARKS int match_read_message(void *arg, size_t index, const struct message *m,
                                    struct error *err)
{
    struct engine *e = arg;
    struct search_subject *subject = &e->open[index];
    struct thread_job job = {.key = e->root, .subject = subject};

    subject->message = m;
    subject->columns = e->reading;
    subject->a = e->subject_arena;
    subject->scratch = e->scratch_arena;
    subject->text = NULL;
    subject->score = 0;
    if (is_much_work(e, m))
        offload(match_on_thread, &job);
    else
        match_on_thread(&job);
    if (job.answer == SEARCH_YES)
        hit(e, subject);
    if (job.answer != SEARCH_OPEN)
        subject->seq = 0; /* decided */
    arena_reset(e->subject_arena);
    imap_tell_progress(e->run->s, e->run->c, e->done < e->total ? e->done : e->total, e->total);
    fiber_pause();
    return conn_failed(e->run->s->conn) ? fail(err, ERR_CLOSED, "the connection is lost") : 0;
}

static PARKS int read_open(struct engine *e, unsigned columns, struct error *err)
{
    struct message_reader reader = {.account_id = e->run->mailbox.account_id,
                                    .ids = e->ids,
                                    .count = e->open_count,
                                    .columns = columns,
                                    .each = match_read_message,
                                    .arg = e};

    e->reading = columns;
    for (size_t i = 0; i < e->open_count; i++)
        e->ids[i] = e->open[i].entry.message_id;
    return message_read(&reader, err);
}

static void drop_decided(struct engine *e)
{
    size_t kept = 0;

    for (size_t i = 0; i < e->open_count; i++)
        if (e->open[i].seq != 0)
            e->open[kept++] = e->open[i];
    e->open_count = kept;
}

static PARKS int decide_open(struct engine *e, struct error *err)
{
    unsigned cheap = e->columns & ~(unsigned)MESSAGE_TEXT;

    if (e->open_count > 0 && cheap != 0) {
        if (read_open(e, cheap, err) < 0)
            return -1;
        drop_decided(e);
    }
    if (e->open_count > 0 && e->columns != cheap) {
        if (read_open(e, e->columns, err) < 0)
            return -1;
        drop_decided(e);
    }
    if (e->open_count > 0 && read_open(e, cheap | MESSAGE_BLOB, err) < 0)
        return -1;
    e->open_count = 0;
    if (e->open_max < CHUNK_MAX)
        e->open_max = 2 * e->open_max < CHUNK_MAX ? 2 * e->open_max : CHUNK_MAX;
    return 0;
}

/* --- walking ---------------------------------------------------------------------------------- */

static bool is_enough(const struct engine *e)
{
    return e->pass_max > 0 && e->pass_hits >= e->pass_max;
}

/* 0, -1, or 1 when there is enough. */
static PARKS int look_at(struct engine *e, uint32_t seq, struct error *err)
{
    struct search_subject *subject = &e->open[e->open_count];

    *subject = (struct search_subject){.account_id = e->run->mailbox.account_id, .seq = seq};
    if (!view_entry_at(e->run->view, seq, &subject->entry))
        return 0;
    switch (search_matches(e->root, subject)) {
    case SEARCH_NO:
        return 0;
    case SEARCH_YES:
        hit(e, subject);
        break;
    case SEARCH_OPEN:
        e->open_count++;
        break;
    }
    if ((e->open_count == e->open_max || is_enough(e)) && decide_open(e, err) < 0)
        return -1;
    return is_enough(e);
}

static PARKS int walk_range(struct engine *e, const struct imap_range *range, struct error *err)
{
    uint32_t count = range->to - range->from + 1;

    for (uint32_t i = 0; i < count; i++) {
        int rc = look_at(e, e->from_end ? range->to - i : range->from + i, err);
        if (rc != 0)
            return rc;
        if (++e->done % e->pause_after == 0)
            fiber_pause();
    }
    return 0;
}

static PARKS int walk(struct engine *e, struct error *err)
{
    for (size_t i = 0; i < e->ranges.n; i++) {
        int rc = walk_range(e, &e->ranges.v[e->from_end ? e->ranges.n - 1 - i : i], err);
        if (rc != 0)
            return rc < 0 ? -1 : 0;
    }
    return decide_open(e, err);
}

/* From one end, until `count` are found there. */
static PARKS int walk_from(struct engine *e, bool from_end, uint32_t count, struct error *err)
{
    e->from_end = from_end;
    e->pass_hits = 0;
    e->pass_max = count;
    e->open_max = count == 0              ? CHUNK_MAX
                  : count < CHUNK_MIN / 2 ? CHUNK_MIN
                  : count < CHUNK_MAX / 2 ? 2 * count
                                          : CHUNK_MAX;
    return walk(e, err);
}

/* When the first way went through all, the other end is known. */
static PARKS int walk_ends(struct engine *e, struct error *err)
{
    struct search_ends ends = e->run->ends;

    if (ends.first_count > 0 || ends.last_count == 0) {
        if (walk_from(e, false, ends.first_count, err) < 0)
            return -1;
        if (ends.last_count == 0 || !is_enough(e))
            return 0;
    }
    return walk_from(e, true, ends.last_count, err);
}

/* --- which messages can be meant -------------------------------------------------------------- */

static struct imap_set whole_view(const struct mailbox_view *view, struct arena *a)
{
    struct imap_set set = {.v = ARENA_NEW(a, struct imap_range), .n = view_count(view) > 0};

    set.v[0] = (struct imap_range){1, view_count(view)};
    return set;
}

static struct imap_range seqs_of_uids(const struct mailbox_view *view, struct imap_range uids)
{
    return (struct imap_range){view_seq_at_least(view, uids.from),
                               uids.to == UINT32_MAX ? view_count(view)
                                                     : view_seq_at_least(view, uids.to + 1) - 1};
}

/* The sequence numbers of a set key's ranges; those of no message are left out. */
static struct imap_set seqs_of_key(const struct mailbox_view *view, const struct search_key *key,
                                   struct arena *a)
{
    struct imap_set set = {.v = ARENA_ARRAY(a, key->set.n + 1, struct imap_range)};

    for (size_t i = 0; i < key->set.n; i++) {
        struct imap_range r = key->set.v[i];
        if (key->kind == KEY_UID)
            r = seqs_of_uids(view, r);
        else if (r.to > view_count(view))
            r.to = view_count(view);
        if (r.from > r.to)
            continue;
        if (set.n > 0 && set.v[set.n - 1].to + 1 == r.from)
            set.v[set.n - 1].to = r.to;
        else
            set.v[set.n++] = r;
    }
    return set;
}

/* The root is an AND: the first set in it says where to look at all. */
static struct imap_set find_ranges(const struct engine *e)
{
    const struct search_run *run = e->run;

    if (run->among != NULL)
        return *run->among;
    for (const struct search_key *key = e->root->first_child; key != NULL; key = key->next)
        if ((key->kind == KEY_UID || key->kind == KEY_SEQUENCE) && !key->is_negated)
            return seqs_of_key(run->view, key, run->a);
    return whole_view(run->view, run->a);
}

/* --- sets of the keys ------------------------------------------------------------------------- */

/* "$" is about the selected mailbox; in any other it is nothing. */
static void resolve_saved(const struct imap_session *s, const struct mailbox_view *view,
                          struct search_key *key, struct arena *a)
{
    struct imap_set *set = &key->set;
    uint32_t count = view == s->view ? s->saved_count : 0;

    key->kind = KEY_UID;
    *set = (struct imap_set){.v = ARENA_ARRAY(a, count + 1, struct imap_range)};
    for (uint32_t i = 0; i < count; i++)
        if (set->n > 0 && set->v[set->n - 1].to + 1 == s->saved_uids[i])
            set->v[set->n - 1].to++;
        else
            set->v[set->n++] = (struct imap_range){s->saved_uids[i], s->saved_uids[i]};
}

/* Between two sequence numbers lie the messages between their UIDs, and no new one can come
 * between. */
static void sequence_to_uids(const struct mailbox_view *view, struct search_key *key,
                             struct arena *a)
{
    struct imap_set set = seqs_of_key(view, key, a);

    for (size_t i = 0; i < set.n; i++)
        set.v[i] = (struct imap_range){view_uid(view, set.v[i].from), view_uid(view, set.v[i].to)};
    key->kind = KEY_UID;
    key->set = set;
}

static void resolve_set(const struct imap_session *s, const struct mailbox_view *view,
                        struct search_key *key, bool as_uids, struct arena *a)
{
    if (key->set.is_saved) {
        resolve_saved(s, view, key, a);
        return;
    }
    key->set.v = arena_copy(a, key->set.v, key->set.n * sizeof *key->set.v);
    imap_set_resolve(&key->set, key->kind == KEY_SEQUENCE ? view_count(view) : view_uid_max(view));
    if (key->kind == KEY_SEQUENCE && as_uids)
        sequence_to_uids(view, key, a);
}

struct search_key *search_keys_resolve(const struct imap_session *s, struct mailbox_view *view,
                                       const struct search_key *key, bool as_uids, struct arena *a)
{
    struct search_key *copy = arena_copy(a, key, sizeof *key);
    struct search_key **last = &copy->first_child;

    if (copy->kind == KEY_SEQUENCE || copy->kind == KEY_UID)
        resolve_set(s, view, copy, as_uids, a);
    for (const struct search_key *child = key->first_child; child != NULL; child = child->next) {
        *last = search_keys_resolve(s, view, child, as_uids, a);
        last = &(*last)->next;
    }
    *last = NULL;
    return copy;
}

/* --- the whole -------------------------------------------------------------------------------- */

/* Everything that can be found out once for all messages, before they are matched. */
static PARKS int prepare(struct engine *e, struct error *err)
{
    struct search_run *run = e->run;

    e->root = search_keys_resolve(run->s, run->view, run->request->root, false, run->a);
    e->columns = search_columns(e->root);
    e->pause_after =
        run->request->key_count < PAUSE_KEYS ? PAUSE_KEYS / (1 + run->request->key_count) : 1;
    e->ranges = find_ranges(e);
    if (run->is_limited)
        imap_target_limit(run->s, run->c, &e->ranges);
    e->total = imap_set_count(&e->ranges);
    return search_use_index(e->root, run->mailbox.account_id, e->total, run->a, err);
}

/* Without a park: what changes while we search has a higher one. */
static uint64_t modseq_of_view(const struct mailbox_view *view)
{
    struct index_entry entry;
    uint64_t modseq = 0;

    for (uint32_t seq = 1; seq <= view_count(view); seq++)
        if (view_entry_at(view, seq, &entry) && entry.modseq > modseq)
            modseq = entry.modseq;
    return modseq;
}

static void allocate(struct engine *e)
{
    struct search_run *run = e->run;

    run->hits = ARENA_ARRAY(run->a, view_count(run->view) / 64 + 1, uint64_t);
    run->hit_count = 0;
    run->modseq_max = 0;
    run->modseq_before = run->request->wants_update ? modseq_of_view(run->view) : 0;
    run->scores = run->request->wants_scores
                      ? ARENA_ARRAY(run->a, (size_t)view_count(run->view) + 1, uint8_t)
                      : NULL;
    e->open = ARENA_ARRAY(run->a, CHUNK_MAX + 1, struct search_subject);
    e->ids = ARENA_ARRAY(run->a, CHUNK_MAX + 1, int64_t);
}

int imap_search_run(struct search_run *run, struct error *err)
{
    struct engine e = {.run = run};
    int status;

    allocate(&e);
    if (prepare(&e, err) < 0)
        return -1;
    e.subject_arena = arena_new();
    e.scratch_arena = arena_new();
    status = walk_ends(&e, err);
    arena_free(&e.subject_arena);
    arena_free(&e.scratch_arena);
    return status;
}

uint32_t *search_run_seqs(const struct search_run *run, struct arena *a)
{
    uint32_t words = (view_count(run->view) + 63) / 64;
    uint32_t *seqs = ARENA_ARRAY(a, (size_t)run->hit_count + 1, uint32_t);
    size_t n = 0;

    for (uint32_t w = 0; w < words; w++)
        for (uint64_t bits = run->hits[w]; bits != 0; bits &= bits - 1)
            seqs[n++] = w * 64 + (uint32_t)__builtin_ctzll(bits) + 1;
    return seqs;
}
