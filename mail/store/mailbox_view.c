/* mailbox_view.c - what one session was told of a mailbox, and what it has yet to be told.
 *
 * A view's sequence numbers are positions in its list, up to its count. New messages are the
 * current list's UIDs above the last one told; vanished ones are those of its own list that the
 * current one no longer has; changed ones come from the index's log of changes or, when that
 * does not reach back far enough, from comparing modseqs. */
#include <assert.h>
#include <stdlib.h>
#include "mail/store/mailbox_index_internal.h"
#include "server/base/memory.h"
#include "server/base/object.h"

/* ---- opening --------------------------------------------------------------------------------- */

static void look_at_all(struct mailbox_view *v)
{
    struct mailbox_index *x = v->index;

    v->list = uid_list_ref(x->list);
    v->count = x->list->n;
    v->changes_at = x->changes_to;
    v->flags_modseq = v->modseq = x->modseq;
}

struct mailbox_view *mailbox_view_open(struct mailbox_key mailbox, int64_t user_id,
                                       struct error *err)
{
    struct mailbox_view *v = memory_alloc(sizeof *v);
    int rc;

    v->magic = MAILBOX_VIEW_MAGIC;
    v->index = index_acquire(mailbox.account_id, mailbox.mailbox_id);
    list_append(&v->index->views, &v->link);
    view_hold(v);
    v->seen = index_seen_acquire(v->index, user_id);
    rc = index_catch_up(v->index, err);
    if (rc == 0 && v->index->is_gone)
        rc = fail(err, ERR_NOT_FOUND, "no such mailbox");
    if (rc < 0)
        mailbox_view_close(&v);
    else
        look_at_all(v);
    return v;
}

void mailbox_view_close(struct mailbox_view **view)
{
    struct mailbox_view *v = *view;

    *view = NULL;
    if (v == NULL)
        return;
    CHECK_OBJ(v, MAILBOX_VIEW_MAGIC);
    list_remove(&v->link);
    index_forget_keywords(v->index);
    uid_list_unref(&v->list);
    index_seen_release(v->index, v->seen);
    index_release(v->index);
    free(v->own);
    v->magic = 0;
    free(v);
}

/* ---- numbers --------------------------------------------------------------------------------- */

uint32_t view_count(const struct mailbox_view *v)
{
    return (uint32_t)v->count;
}

uint32_t view_uid(const struct mailbox_view *v, uint32_t seq)
{
    assert(seq >= 1);
    assert(seq <= v->count);
    return v->list->v[seq - 1];
}

uint32_t view_seq_at_least(const struct mailbox_view *v, uint32_t uid)
{
    return (uint32_t)uid_list_at_least(v->list, v->count, uid) + 1;
}

uint32_t view_seq(const struct mailbox_view *v, uint32_t uid)
{
    uint32_t seq = view_seq_at_least(v, uid);

    return seq <= v->count && v->list->v[seq - 1] == uid ? seq : 0;
}

uint32_t view_uid_max(const struct mailbox_view *v)
{
    return v->count > 0 ? v->list->v[v->count - 1] : 0;
}

static void entry_of_row(const struct mailbox_view *v, size_t at, struct index_entry *out)
{
    index_entry_at(v->index, at, out);
    if (v->seen != NULL)
        out->flags = (out->flags & ~(uint32_t)FLAG_SEEN) |
                     (index_seen_has(v->seen, out->uid) ? FLAG_SEEN : 0);
}

bool view_entry(const struct mailbox_view *v, uint32_t uid, struct index_entry *out)
{
    size_t at = uid <= view_uid_max(v) ? index_find(v->index, uid) : SIZE_MAX;

    if (at == SIZE_MAX)
        return false;
    entry_of_row(v, at, out);
    return true;
}

bool view_entry_at(const struct mailbox_view *v, uint32_t seq, struct index_entry *out)
{
    if (v->list != v->index->list)
        return view_entry(v, view_uid(v, seq), out);
    entry_of_row(v, seq - 1, out);
    return true;
}

uint64_t view_highest_modseq(const struct mailbox_view *v)
{
    return v->modseq;
}

uint32_t view_uid_next(const struct mailbox_view *v)
{
    return v->index->uid_next;
}

uint64_t view_changed_modseq(const struct mailbox_view *v)
{
    return v->index->changed_modseq;
}

uint32_t view_uid_validity(const struct mailbox_view *v)
{
    return v->index->uid_validity;
}

size_t view_keywords(const struct mailbox_view *v, struct arena *a, struct str **out)
{
    return keyword_sets_names(&v->index->sets, a, out);
}

uint32_t view_keyword_generation(const struct mailbox_view *v)
{
    return v->index->sets.generation;
}

void view_hold(struct mailbox_view *v)
{
    if (v->holds == 0)
        v->holds = v->index->sets.generation;
}

void view_rest(struct mailbox_view *v)
{
    v->holds = 0;
    index_forget_keywords(v->index);
}

void view_learn_keywords(struct mailbox_view *v, const struct keywords *k)
{
    if (k->n > 0)
        (void)keyword_sets_intern(&v->index->sets, k->v, k->n);
}

/* ---- keeping up ------------------------------------------------------------------------------ */

int view_refresh(struct mailbox_view *v, struct error *err)
{
    return index_catch_up(v->index, err);
}

void view_doubt(struct mailbox_view *v)
{
    v->index->wanted++;
}

bool view_is_behind(const struct mailbox_view *v)
{
    const struct mailbox_index *x = v->index;

    return x->is_gone || v->list != x->list || v->count != x->list->n ||
           v->changes_at != x->changes_to;
}

void view_watch(struct mailbox_view *v, void (*changed)(void *arg), void *arg)
{
    v->changed = changed;
    v->arg = arg;
}

void view_unwatch(struct mailbox_view *v)
{
    v->changed = NULL;
}

static void look_at_current(struct mailbox_view *v, size_t count)
{
    uid_list_unref(&v->list);
    v->list = uid_list_ref(v->index->list);
    v->count = count;
}

/* ---- removals -------------------------------------------------------------------------------- */

/* Calls the view's messages that the index no longer has expunged, in order; returns how many
 * there are. out may be NULL. */
static size_t find_expunged(const struct mailbox_view *v, struct view_changes *out)
{
    const struct uid_list *current = v->index->list;
    size_t found = 0, at = 0;

    for (size_t i = 0; i < v->count; i++) {
        uint32_t uid = v->list->v[i];

        while (at < current->n && current->v[at] < uid)
            at++;
        if (at < current->n && current->v[at] == uid)
            continue;
        if (out != NULL) {
            out->expunged_seqs[found] = (uint32_t)(i + 1 - found);
            out->expunged_uids[found] = uid;
        }
        found++;
    }
    return found;
}

/* Returns whether removals are left untold. */
static bool take_expunged(struct mailbox_view *v, struct arena *a, bool expunges,
                          struct view_changes *out)
{
    uint32_t uid_max = view_uid_max(v);
    size_t count;

    if (v->list == v->index->list)
        return false;
    count = find_expunged(v, NULL);
    if (count > 0 && !expunges)
        return true;
    if (count > 0) {
        out->expunged_seqs = ARENA_ARRAY(a, count, uint32_t);
        out->expunged_uids = ARENA_ARRAY(a, count, uint32_t);
        out->expunged_count = find_expunged(v, out);
    }
    look_at_current(
        v, v->count > 0 ? uid_list_at_least(v->index->list, v->index->list->n, uid_max + 1) : 0);
    return false;
}

/* ---- arrivals -------------------------------------------------------------------------------- */

/* The view must keep vanished messages, so what is new goes to the end of a list of its own. */
static void extend_own_list(struct mailbox_view *v, size_t from)
{
    const struct uid_list *current = v->index->list;

    if (v->list->refs > 1) {
        struct uid_list *shared = v->list;

        v->list = uid_list_copy(shared, v->count);
        uid_list_unref(&shared);
    }
    v->list->n = v->count;
    for (size_t i = from; i < current->n; i++)
        uid_list_append(v->list, current->v[i]);
    v->count = v->list->n;
}

static void take_arrivals(struct mailbox_view *v, struct view_changes *out)
{
    const struct uid_list *current = v->index->list;
    size_t from = v->count > 0 ? uid_list_at_least(current, current->n, view_uid_max(v) + 1) : 0;

    out->exists_changed = from < current->n;
    if (v->list == current)
        v->count = current->n;
    else if (out->exists_changed)
        extend_own_list(v, from);
    out->exists = (uint32_t)v->count;
}

/* ---- flags ----------------------------------------------------------------------------------- */

static int compare_own(const void *a, const void *b)
{
    const struct own_change *x = a, *y = b;

    if (x->uid != y->uid)
        return x->uid < y->uid ? -1 : 1;
    return (x->modseq > y->modseq) - (x->modseq < y->modseq);
}

/* Was this state or a later one told? The index may be behind what a command of the session's own
 * has read, when others are at work. own[] is sorted. */
static bool is_own_change(const struct mailbox_view *v, uint32_t uid, uint64_t modseq)
{
    size_t low = 0, high = v->own_count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (v->own[middle].uid < uid ||
            (v->own[middle].uid == uid && v->own[middle].modseq < modseq))
            low = middle + 1;
        else
            high = middle;
    }
    return low < v->own_count && v->own[low].uid == uid;
}

bool view_is_ahead(const struct mailbox_view *v)
{
    return v->own_count > 0;
}

void view_mark_told(struct mailbox_view *v, uint32_t uid, uint64_t modseq)
{
    if (modseq <= v->flags_modseq)
        return;
    if (modseq > v->index->modseq)
        v->index->wanted++; /* or a later answer would show a state before the one told */
    if (v->own_count == v->own_cap) {
        v->own_cap = v->own_cap * 2 + 16;
        v->own = memory_resize(v->own, v->own_cap * sizeof v->own[0]);
    }
    v->own[v->own_count++] = (struct own_change){uid, modseq};
}

/* Marks whose change the index has not seen yet wait for a later take. */
static void forget_own_changes(struct mailbox_view *v)
{
    size_t kept = 0;

    for (size_t i = 0; i < v->own_count; i++)
        if (v->own[i].modseq > v->index->modseq)
            v->own[kept++] = v->own[i];
    v->own_count = kept;
    if (kept == 0) {
        free(v->own);
        v->own = NULL;
        v->own_cap = 0;
    }
}

struct found_changes {
    uint32_t *uids;
    size_t n;
};

static int compare_u32(const void *a, const void *b)
{
    const uint32_t *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

static struct found_changes changes_of_log(const struct mailbox_view *v, struct arena *a)
{
    const struct mailbox_index *x = v->index;
    size_t count = (size_t)(x->changes_to - v->changes_at), kept = 0;
    uint32_t *uids = ARENA_ARRAY(a, count, uint32_t);

    for (size_t i = 0; i < count; i++)
        uids[i] = x->changes[(v->changes_at + i) % MAILBOX_CHANGES_KEPT];
    qsort(uids, count, sizeof uids[0], compare_u32);
    for (size_t i = 0; i < count; i++)
        if (kept == 0 || uids[kept - 1] != uids[i])
            uids[kept++] = uids[i];
    return (struct found_changes){uids, kept};
}

static struct found_changes changes_of_rows(const struct mailbox_view *v, struct arena *a)
{
    const struct mailbox_index *x = v->index;
    struct found_changes found = {NULL, 0};

    for (size_t i = 0; i < x->list->n; i++)
        found.n += x->rows[i].modseq > v->flags_modseq;
    found.uids = ARENA_ARRAY(a, found.n, uint32_t);
    found.n = 0;
    for (size_t i = 0; i < x->list->n; i++)
        if (x->rows[i].modseq > v->flags_modseq)
            found.uids[found.n++] = x->list->v[i];
    return found;
}

static void add_flags(const struct mailbox_view *v, uint32_t uid, struct view_changes *out)
{
    size_t at = index_find(v->index, uid);

    if (at == SIZE_MAX || is_own_change(v, uid, v->index->rows[at].modseq))
        return;
    entry_of_row(v, at, &out->flags[out->flag_count]);
    out->flag_seqs[out->flag_count] = view_seq(v, uid);
    out->flag_count++;
}

/* Only of messages told before, which end at told_max: what is new is asked for by the client. */
static void take_flags(struct mailbox_view *v, struct arena *a, uint32_t told_max,
                       struct view_changes *out)
{
    struct mailbox_index *x = v->index;
    struct found_changes found = {NULL, 0};

    if (v->changes_at < x->changes_from)
        found = changes_of_rows(v, a);
    else if (v->changes_at < x->changes_to)
        found = changes_of_log(v, a);
    if (found.n > 0) {
        if (v->own_count > 0)
            qsort(v->own, v->own_count, sizeof v->own[0], compare_own);
        out->flags = ARENA_ARRAY(a, found.n, struct index_entry);
        out->flag_seqs = ARENA_ARRAY(a, found.n, uint32_t);
    }
    for (size_t i = 0; i < found.n && found.uids[i] <= told_max; i++)
        add_flags(v, found.uids[i], out);
    v->changes_at = x->changes_to;
    v->flags_modseq = x->modseq;
    forget_own_changes(v);
}

void view_take_changes(struct mailbox_view *v, struct arena *a, bool expunges,
                       struct view_changes *out)
{
    uint32_t told_max = view_uid_max(v);
    bool is_short;

    *out = (struct view_changes){.exists = (uint32_t)v->count};
    if (v->index->is_gone) {
        out->is_gone = true;
        return;
    }
    is_short = take_expunged(v, a, expunges, out);
    take_arrivals(v, out);
    take_flags(v, a, told_max, out);
    if (!is_short)
        v->modseq = v->index->modseq;
}
