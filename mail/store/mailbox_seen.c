/* mailbox_seen.c - \Seen of users who look at a mailbox that is not theirs.
 *
 * An index keeps one set for each such user, shared by their views, and brings it up to date
 * together with the rows, so that a row never shows a \Seen older than its modseq. */
#include <assert.h>
#include <stdlib.h>
#include "mail/store/mailbox_index_internal.h"
#include "server/base/memory.h"

struct index_seen *index_seen_acquire(struct mailbox_index *x, int64_t user_id)
{
    struct index_seen *seen;

    if (user_id == 0 || user_id == x->account_id)
        return NULL;
    for (seen = x->seen; seen != NULL; seen = seen->next)
        if (seen->user_id == user_id)
            break;
    if (seen == NULL) {
        seen = memory_alloc(sizeof *seen);
        *seen = (struct index_seen){.user_id = user_id, .next = x->seen};
        x->seen = seen;
    }
    seen->refs++;
    return seen;
}

void index_seen_release(struct mailbox_index *x, struct index_seen *seen)
{
    struct index_seen **at = &x->seen;

    if (seen == NULL || --seen->refs > 0)
        return;
    while (*at != seen)
        at = &(*at)->next;
    *at = seen->next;
    free(seen->v);
    free(seen);
}

bool index_seen_is_loaded(const struct mailbox_index *x)
{
    for (const struct index_seen *seen = x->seen; seen != NULL; seen = seen->next)
        if (!seen->is_loaded)
            return false;
    return true;
}

bool index_seen_has(const struct index_seen *seen, uint32_t uid)
{
    size_t low = 0, high = seen->n;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (seen->v[middle].last < uid)
            low = middle + 1;
        else
            high = middle;
    }
    return low < seen->n && seen->v[low].first <= uid;
}

/* ---- keeping up ------------------------------------------------------------------------------ */

struct pg_args index_seen_args(const struct mailbox_index *x, struct arena *a, bool from_start,
                               struct pg_arg args[4])
{
    size_t count = 0, i = 0;
    int64_t *users, *known;

    for (const struct index_seen *seen = x->seen; seen != NULL; seen = seen->next)
        count++;
    users = ARENA_ARRAY(a, count, int64_t);
    known = ARENA_ARRAY(a, count, int64_t);
    for (const struct index_seen *seen = x->seen; seen != NULL; seen = seen->next, i++) {
        users[i] = seen->user_id;
        known[i] = seen->is_loaded && !from_start ? (int64_t)x->modseq : 0;
    }
    args[0] = pg_i64(x->account_id);
    args[1] = pg_i64(x->mailbox_id);
    args[2] = pg_i64_array(users, count);
    args[3] = pg_i64_array(known, count);
    return (struct pg_args){args, 4};
}

/* A user's rows follow one another; without any nothing has changed. */
static void take_set(struct index_seen *seen, const struct pg_rows *rows)
{
    int user = pg_column(rows, "user_id"), first = pg_column(rows, "first"),
        last = pg_column(rows, "last");
    size_t from = 0, to;

    while (from < rows->count && pg_i64_at(rows, from, user) != seen->user_id)
        from++;
    for (to = from; to < rows->count && pg_i64_at(rows, to, user) == seen->user_id;)
        to++;
    seen->is_loaded = true;
    if (from == to)
        return;
    free(seen->v);
    seen->v = memory_array(to - from, sizeof seen->v[0]);
    seen->n = 0;
    for (size_t i = from; i < to; i++)
        if (!pg_null_at(rows, i, first))
            seen->v[seen->n++] = (struct uid_range){(uint32_t)pg_i64_at(rows, i, first),
                                                    (uint32_t)pg_i64_at(rows, i, last)};
}

size_t index_seen_count(const struct pg_args *asked)
{
    return asked->v[2].array.count;
}

/* A user who came to look after the question was asked is asked about next time; so is one who left
 * and came back meanwhile, unless everything was asked for: changes alone are not his set. */
void index_seen_apply(struct mailbox_index *x, const struct pg_rows *rows,
                      const struct pg_args *asked)
{
    const int64_t *users = asked->v[2].array.items, *known = asked->v[3].array.items;

    for (struct index_seen *seen = x->seen; seen != NULL; seen = seen->next)
        for (size_t i = 0; i < index_seen_count(asked); i++)
            if (users[i] == seen->user_id && (seen->is_loaded || known[i] == 0))
                take_set(seen, rows);
}
