/* message_change.c - flags, copies, moves and removals, in sets.
 *
 * The rules are in the SQL functions. Here sets are sorted and cut into portions, so that no
 * statement runs for long: flags and removals of a huge set are several transactions, one a
 * portion; copies and moves are all or nothing and therefore one transaction of several
 * statements. */
#include <stdlib.h>
#include "mail/store/message.h"
#include "mail/store/text_indexer.h"
#include "server/pg/notify.h"
#include "server/pg/pg.h"
#include "server/run/config.h"
#include "sql_queries.h"

#define PORTION_COUNT 10000

/* ---- sets of UIDs ---------------------------------------------------------------------------- */

struct uid_set {
    int64_t *v;
    size_t n;
};

static int compare_i64(const void *a, const void *b)
{
    const int64_t *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

/* Sorted and without repeats, in the form that PostgreSQL is given. */
static struct uid_set uid_set_make(struct arena *a, const uint32_t *uids, size_t count)
{
    struct uid_set set = {ARENA_ARRAY(a, count, int64_t), 0};
    bool is_sorted = true;

    for (size_t i = 0; i < count; i++) {
        set.v[i] = uids[i];
        is_sorted = is_sorted && (i == 0 || uids[i - 1] < uids[i]);
    }
    if (!is_sorted)
        qsort(set.v, count, sizeof set.v[0], compare_i64);
    for (size_t i = 0; i < count; i++)
        if (set.n == 0 || set.v[i] != set.v[set.n - 1])
            set.v[set.n++] = set.v[i];
    return set;
}

static size_t portion_count(const struct uid_set *set, size_t from)
{
    return set->n - from < PORTION_COUNT ? set->n - from : PORTION_COUNT;
}

static struct pg_arg portion_arg(const struct uid_set *set, size_t from)
{
    return pg_i64_array(set->v + from, portion_count(set, from));
}

/* ---- flags ----------------------------------------------------------------------------------- */

struct flags_answer {
    struct arena *arena;
    struct message_state *states;
    size_t state_count;
    uint32_t *conflicts;
    size_t conflict_count;
    bool is_changed;
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
        if (pg_i64_at(rows, row, is_conflict))
            answer->conflicts[answer->conflict_count++] = s->uid;
        answer->is_changed = answer->is_changed || pg_i64_at(rows, row, is_changed);
        fiber_pause();
    }
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
    struct flags_answer answer = {.arena = a};
    int64_t since = unchanged_since < INT64_MAX ? (int64_t)unchanged_since : INT64_MAX;
    int rc = check_keywords(keywords, err);

    answer.states = ARENA_ARRAY(a, set.n, struct message_state);
    answer.conflicts = ARENA_ARRAY(a, set.n, uint32_t);
    for (size_t from = 0; rc == 0 && from < set.n; from += PORTION_COUNT) {
        struct pg_rows rows = {0};

        rc = pg_run(
            pg_pool(), &sql_message_store_flags,
            PG_ARGS(pg_i64(mailbox.account_id), pg_i64(mailbox.mailbox_id), portion_arg(&set, from),
                    pg_i32((int32_t)change), pg_i32((int32_t)(flags & may & FLAG_SYSTEM_ALL)),
                    pg_text_array(keywords.v, keywords.n), pg_i64(since), pg_i32((int32_t)may)),
            &rows, err);
        if (rc == 0)
            read_states(&answer, &rows);
        pg_rows_free(&rows);
    }
    if (answer.is_changed)
        bus_publish((uint64_t)mailbox.account_id);
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

/* ---- copies and moves ------------------------------------------------------------------------ */

struct transfer {
    struct arena *arena;
    const struct sql_query *query;
    struct pg_arg args[7]; /* args[3] is the portion */
    size_t arg_count;
    struct uid_set set;
    struct uid_pair *pairs;
    size_t pair_count;
    uint32_t to_uid_validity;
};

/* The new UIDs follow one another in the order of the old ones. */
static void read_pairs(struct transfer *t, const struct pg_rows *rows)
{
    uint32_t first_uid = pg_get_u32(rows, 0, "first_uid");
    int64_t *uids;
    size_t count = pg_i64_array_at(t->arena, rows, 0, pg_column(rows, "uids"), &uids);

    for (size_t i = 0; i < count; i++)
        t->pairs[t->pair_count++] = (struct uid_pair){(uint32_t)uids[i], first_uid + (uint32_t)i};
    t->to_uid_validity = pg_get_u32(rows, 0, "uid_validity");
}

static int transfer_portion(struct transfer *t, struct pg *db, size_t from, struct error *err)
{
    struct pg_rows rows = {0};

    t->args[3] = portion_arg(&t->set, from);
    if (pg_run(db, t->query, (struct pg_args){t->args, t->arg_count}, &rows, err) < 0)
        return -1;
    read_pairs(t, &rows);
    pg_rows_free(&rows);
    return 0;
}

static int transfer_all(struct transfer *t, struct error *err)
{
    struct pg *tx = pg_begin(err);

    if (tx == NULL)
        return -1;
    for (size_t from = 0; from < t->set.n; from += PORTION_COUNT)
        if (transfer_portion(t, tx, from, err) < 0) {
            pg_rollback(&tx);
            return -1;
        }
    return pg_commit(&tx, err);
}

static int transfer_run(struct transfer *t, struct error *err)
{
    int rc;

    t->pairs = ARENA_ARRAY(t->arena, t->set.n, struct uid_pair);
    rc = t->set.n <= PORTION_COUNT ? transfer_portion(t, pg_pool(), 0, err) : transfer_all(t, err);
    if (rc == 0 && t->pair_count > 0)
        bus_publish((uint64_t)t->args[0].i);
    if (rc == 0 && t->pair_count > 0)
        text_indexer_note(t->args[0].i); /* copies are new messages */
    return rc;
}

int message_copy_masked(struct arena *a, struct mailbox_key from, struct mailbox_key to,
                        int64_t user_id, uint32_t may, const uint32_t *uids, size_t count,
                        struct uid_pair **pairs, size_t *pair_count, uint32_t *to_uid_validity,
                        struct error *err)
{
    struct transfer t = {
        .arena = a,
        .query = &sql_message_copy,
        .args = {pg_i64(from.account_id), pg_i64(from.mailbox_id), pg_i64(to.mailbox_id), pg_null(),
                 pg_i64(config.quota_bytes), pg_i64(config.quota_messages), pg_i32((int32_t)may)},
        .arg_count = 7,
        .set = uid_set_make(a, uids, count),
    };

    if (transfer_run(&t, err) < 0)
        return -1;
    *pairs = t.pairs;
    *pair_count = t.pair_count;
    *to_uid_validity = t.to_uid_validity;
    return 0;
}

int message_move_masked(struct arena *a, struct mailbox_key from, struct mailbox_key to,
                        int64_t user_id, uint32_t may, const uint32_t *uids, size_t count,
                        struct uid_pair **pairs, size_t *pair_count, uint32_t *to_uid_validity,
                        struct error *err)
{
    struct transfer t = {
        .arena = a,
        .query = &sql_message_move,
        .args = {pg_i64(from.account_id), pg_i64(from.mailbox_id), pg_i64(to.mailbox_id), pg_null(),
                 pg_i32((int32_t)may)},
        .arg_count = 5,
        .set = uid_set_make(a, uids, count),
    };

    if (transfer_run(&t, err) < 0)
        return -1;
    *pairs = t.pairs;
    *pair_count = t.pair_count;
    *to_uid_validity = t.to_uid_validity;
    return 0;
}

int message_copy(struct arena *a, struct mailbox_key from, struct mailbox_key to, int64_t user_id,
                 const uint32_t *uids, size_t count, struct uid_pair **pairs, size_t *pair_count,
                 uint32_t *to_uid_validity, struct error *err)
{
    return message_copy_masked(a, from, to, user_id, FLAG_ALL, uids, count, pairs, pair_count,
                               to_uid_validity, err);
}

int message_move(struct arena *a, struct mailbox_key from, struct mailbox_key to, int64_t user_id,
                 const uint32_t *uids, size_t count, struct uid_pair **pairs, size_t *pair_count,
                 uint32_t *to_uid_validity, struct error *err)
{
    return message_move_masked(a, from, to, user_id, FLAG_ALL, uids, count, pairs, pair_count,
                               to_uid_validity, err);
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
static int remove_portion(struct removal *r, struct pg_arg uids, size_t *count, struct error *err)
{
    size_t before = r->removed_count;
    struct pg_rows rows = {0};

    if (pg_run(pg_pool(), &sql_message_expunge,
               PG_ARGS(pg_i64(r->account_id), pg_i64(r->mailbox_id), uids, pg_bool(r->only_deleted),
                       pg_i32(PORTION_COUNT)),
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

    for (size_t from = 0; from < set.n; from += PORTION_COUNT)
        if (remove_portion(r, portion_arg(&set, from), &count, err) < 0)
            return -1;
    return 0;
}

static int remove_everywhere(struct removal *r, struct error *err)
{
    size_t count = PORTION_COUNT;

    while (count == PORTION_COUNT)
        if (remove_portion(r, pg_null(), &count, err) < 0)
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
