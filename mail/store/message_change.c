/* message_change.c - flags and removals, in sets.
 *
 * The rules are in the SQL functions. Here sets are sorted and cut into portions, so that no
 * statement runs for long: each portion is a transaction. */
#include <stdlib.h>
#include "mail/store/message_internal.h"
#include "server/pg/notify.h"
#include "sql_queries.h"

/* ---- flags ----------------------------------------------------------------------------------- */

struct flags_answer {
    struct arena *arena;
    struct message_state *states;
    size_t state_count;
    uint32_t *conflicts;
    size_t conflict_count;
    bool is_changed;
    bool is_sorted;
};

static struct keywords read_keywords(struct arena *a, const struct pg_rows *rows, size_t row,
                                     int column)
{
    struct str *v;
    size_t count;

    if (pg_null_at(rows, row, column))
        return (struct keywords){NULL, 0};
    count = pg_text_array_at(a, rows, row, column, &v);
    for (size_t i = 0; i < count; i++)
        v[i] = arena_str(a, v[i]);
    return (struct keywords){v, count};
}

static void read_states(struct flags_answer *answer, const struct pg_rows *rows)
{
    int uid = pg_column(rows, "uid"), flags = pg_column(rows, "flags"),
        modseq = pg_column(rows, "modseq");
    int keywords = pg_column(rows, "keywords"), is_changed = pg_column(rows, "is_changed");
    int is_conflict = pg_column(rows, "is_conflict");

    for (size_t row = 0; row < rows->count; row++) {
        struct message_state *s = &answer->states[answer->state_count++];

        s->uid = (uint32_t)pg_i64_at(rows, row, uid);
        s->flags = (uint32_t)pg_i64_at(rows, row, flags);
        s->modseq = (uint64_t)pg_i64_at(rows, row, modseq);
        s->keywords = read_keywords(answer->arena, rows, row, keywords);
        answer->is_sorted = answer->is_sorted && (answer->state_count < 2 || s[-1].uid < s->uid);
        if (pg_i64_at(rows, row, is_conflict))
            answer->conflicts[answer->conflict_count++] = s->uid;
        answer->is_changed = answer->is_changed || pg_i64_at(rows, row, is_changed);
        fiber_pause();
    }
}

static int compare_states(const void *a, const void *b)
{
    const struct message_state *x = a, *y = b;

    return (x->uid > y->uid) - (x->uid < y->uid);
}

static int check_keywords(struct keywords keywords, struct error *err)
{
    if (keywords.n > KEYWORDS_PER_MESSAGE_MAX)
        return fail(err, ERR_LIMIT, "too many keywords on one message");
    for (size_t i = 0; i < keywords.n; i++)
        if (keywords.v[i].n == 0 || keywords.v[i].n > KEYWORD_SIZE_MAX)
            return fail(err, ERR_LIMIT, "a keyword has at most %d characters", KEYWORD_SIZE_MAX);
    return 0;
}

int message_store_masked(struct arena *a, struct mailbox_key mailbox, int64_t user_id, uint32_t may,
                         const uint32_t *uids, size_t count, enum flag_change change,
                         uint32_t flags, struct keywords keywords, uint64_t unchanged_since,
                         struct message_state **out, size_t *out_count, uint32_t **conflicts,
                         size_t *conflict_count, struct error *err)
{
    struct uid_set set = uid_set_make(a, uids, count);
    struct flags_answer answer = {.arena = a, .is_sorted = true};
    int64_t since = unchanged_since < INT64_MAX ? (int64_t)unchanged_since : INT64_MAX;
    int rc = check_keywords(keywords, err);

    answer.states = ARENA_ARRAY(a, set.n, struct message_state);
    answer.conflicts = ARENA_ARRAY(a, set.n, uint32_t);
    for (size_t from = 0; rc == 0 && from < set.n; from += MESSAGE_PORTION) {
        struct pg_rows rows = {0};
        struct pg_arg ranges[2];

        uid_set_portion(a, &set, from, ranges);
        rc = pg_run(pg_pool(), &sql_message_store_flags,
                    PG_ARGS(pg_i64(mailbox.account_id), pg_i64(mailbox.mailbox_id), pg_i64(user_id),
                            ranges[0], ranges[1], pg_i32((int32_t)change),
                            pg_i32((int32_t)(flags & may & FLAG_SYSTEM_ALL)),
                            pg_text_array(keywords.v, keywords.n), pg_i64(since),
                            pg_i32((int32_t)may)),
                    &rows, err);
        if (rc == 0)
            read_states(&answer, &rows);
        pg_rows_free(&rows);
    }
    if (answer.is_changed)
        bus_publish((uint64_t)mailbox.account_id);
    if (!answer.is_sorted)
        qsort(answer.states, answer.state_count, sizeof answer.states[0], compare_states);
    *out = answer.states;
    *out_count = answer.state_count;
    *conflicts = answer.conflicts;
    *conflict_count = answer.conflict_count;
    return rc;
}

int message_store_flags(struct arena *a, struct mailbox_key mailbox, int64_t user_id,
                        const uint32_t *uids, size_t count, enum flag_change change, uint32_t flags,
                        struct keywords keywords, uint64_t unchanged_since,
                        struct message_state **out, size_t *out_count, uint32_t **conflicts,
                        size_t *conflict_count, struct error *err)
{
    return message_store_masked(a, mailbox, user_id, FLAG_ALL, uids, count, change, flags, keywords,
                                unchanged_since, out, out_count, conflicts, conflict_count, err);
}

/* ---- removals -------------------------------------------------------------------------------- */

struct removal {
    struct arena *arena;
    int64_t account_id, mailbox_id;
    bool only_deleted;
    uint32_t *removed;
    size_t removed_count, removed_max;
    uint64_t modseq;
};

static void read_removed(struct removal *r, const struct pg_rows *rows)
{
    int64_t *uids;
    size_t count = pg_i64_array_at(r->arena, rows, 0, pg_column(rows, "uids"), &uids);

    if (r->removed_count + count > r->removed_max) {
        uint32_t *old = r->removed;

        r->removed_max = 2 * (r->removed_count + count);
        r->removed = ARENA_ARRAY(r->arena, r->removed_max, uint32_t);
        if (r->removed_count > 0)
            memcpy(r->removed, old, r->removed_count * sizeof old[0]);
    }
    for (size_t i = 0; i < count; i++)
        r->removed[r->removed_count++] = (uint32_t)uids[i];
    if (count > 0)
        r->modseq = (uint64_t)pg_get_i64(rows, 0, "modseq");
}

/* Adds what one call removed; *count says how many. */
static int remove_portion(struct removal *r, const struct pg_arg ranges[2], size_t *count,
                          struct error *err)
{
    size_t before = r->removed_count;
    struct pg_rows rows = {0};

    if (pg_run(pg_pool(), &sql_message_expunge,
               PG_ARGS(pg_i64(r->account_id), pg_i64(r->mailbox_id), ranges[0], ranges[1],
                       pg_bool(r->only_deleted), pg_i32(MESSAGE_PORTION)),
               &rows, err) < 0)
        return -1;
    read_removed(r, &rows);
    pg_rows_free(&rows);
    *count = r->removed_count - before;
    return 0;
}

static int remove_set(struct removal *r, const uint32_t *uids, size_t uid_count, struct error *err)
{
    struct uid_set set = uid_set_make(r->arena, uids, uid_count);
    size_t count;

    for (size_t from = 0; from < set.n; from += MESSAGE_PORTION) {
        struct pg_arg ranges[2];

        uid_set_portion(r->arena, &set, from, ranges);
        if (remove_portion(r, ranges, &count, err) < 0)
            return -1;
    }
    return 0;
}

static int remove_everywhere(struct removal *r, struct error *err)
{
    const struct pg_arg none[2] = {pg_null(), pg_null()};
    size_t count = MESSAGE_PORTION;

    while (count == MESSAGE_PORTION)
        if (remove_portion(r, none, &count, err) < 0)
            return -1;
    return 0;
}

int message_expunge(struct arena *a, struct mailbox_key mailbox, const uint32_t *uids, size_t count,
                    bool only_deleted, uint32_t **removed, size_t *removed_count, uint64_t *modseq,
                    struct error *err)
{
    struct removal r = {.arena = a,
                        .account_id = mailbox.account_id,
                        .mailbox_id = mailbox.mailbox_id,
                        .only_deleted = only_deleted};
    int rc = uids != NULL ? remove_set(&r, uids, count, err) : remove_everywhere(&r, err);

    if (r.removed_count > 0)
        bus_publish((uint64_t)mailbox.account_id);
    *removed = r.removed;
    *removed_count = r.removed_count;
    *modseq = r.modseq;
    return rc;
}
