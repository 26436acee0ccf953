/* message_transfer.c - copies and moves, within an account and between two.
 *
 * All or nothing: a set of more than one portion is one transaction of several statements. Into
 * another account a message comes as it would by mail: with an id of that account, in a thread of
 * that account. Which thread is found by the message's header fields, which are read before. */
#include <stdlib.h>
#include "mail/store/blob.h"
#include "mail/store/delivery.h"
#include "mail/store/message_internal.h"
#include "mail/store/text_indexer.h"
#include "server/base/buf.h"
#include "server/pg/notify.h"
#include "server/run/config.h"
#include "sql_queries.h"

#define HEADER_READ_MAX   ((size_t)256 << 10)
#define TRANSFER_ARGS_MAX 14

/* Message-IDs and subjects by which copies find their threads in another account, in the order of
 * the messages that have them. */
struct transfer_refs {
    int64_t *of; /* UID of the message */
    int64_t *refs, *subjects;
    size_t n, cap;
    size_t *portion_ends; /* in refs, one a portion */
};

struct transfer {
    struct arena *arena;
    const struct sql_query *query;
    struct pg_arg args[TRANSFER_ARGS_MAX];
    size_t arg_count;
    size_t set_arg; /* the first of two which are the portion of the set */
    size_t ref_arg; /* the first of three about references; 0: none */
    struct uid_set set;
    struct transfer_refs refs;
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

static void set_ref_args(struct transfer *t, size_t from)
{
    size_t portion = from / MESSAGE_PORTION;
    size_t start = portion > 0 ? t->refs.portion_ends[portion - 1] : 0;
    size_t count = t->refs.portion_ends[portion] - start;

    t->args[t->ref_arg] = pg_i64_array(t->refs.of + start, count);
    t->args[t->ref_arg + 1] = pg_i64_array(t->refs.refs + start, count);
    t->args[t->ref_arg + 2] = pg_i64_array(t->refs.subjects + start, count);
}

static int transfer_portion(struct transfer *t, struct pg *db, size_t from, struct error *err)
{
    struct pg_rows rows = {0};

    uid_set_portion(t->arena, &t->set, from, &t->args[t->set_arg]);
    if (t->ref_arg > 0)
        set_ref_args(t, from);
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
    for (size_t from = 0; from < t->set.n; from += MESSAGE_PORTION)
        if (transfer_portion(t, tx, from, err) < 0) {
            pg_rollback(&tx);
            return -1;
        }
    return pg_commit(&tx, err);
}

static int transfer_run(struct transfer *t, struct error *err)
{
    t->pairs = ARENA_ARRAY(t->arena, t->set.n, struct uid_pair);
    return t->set.n <= MESSAGE_PORTION ? transfer_portion(t, pg_pool(), 0, err)
                                       : transfer_all(t, err);
}

/* ---- into another account -------------------------------------------------------------------- */

/* What is needed of each message of the set that is still there. */
struct refs_reading {
    struct transfer *t;
    int64_t *ids;
    size_t *places; /* in the set */
    size_t count;
};

static int read_ids(struct refs_reading *r, struct mailbox_key from, size_t at, struct error *err)
{
    struct pg_rows rows = {0};
    struct pg_arg ranges[2];
    int uid, id;
    size_t place = at;

    uid_set_portion(r->t->arena, &r->t->set, at, ranges);
    if (pg_run(pg_pool(), &sql_message_ids_of_uids,
               PG_ARGS(pg_i64(from.account_id), pg_i64(from.mailbox_id), ranges[0], ranges[1]),
               &rows, err) < 0)
        return -1;
    uid = pg_column(&rows, "uid");
    id = pg_column(&rows, "message_id");
    for (size_t i = 0; i < rows.count; i++) {
        while (r->t->set.v[place] != pg_i64_at(&rows, i, uid))
            place++;
        r->ids[r->count] = pg_i64_at(&rows, i, id);
        r->places[r->count++] = place;
    }
    pg_rows_free(&rows);
    return 0;
}

static void reserve_refs(struct transfer *t, size_t count)
{
    struct transfer_refs *refs = &t->refs, old = *refs;

    if (refs->n + count <= refs->cap)
        return;
    refs->cap = 2 * (refs->n + count);
    refs->of = ARENA_ARRAY(t->arena, refs->cap, int64_t);
    refs->refs = ARENA_ARRAY(t->arena, refs->cap, int64_t);
    refs->subjects = ARENA_ARRAY(t->arena, refs->cap, int64_t);
    if (old.n == 0)
        return;
    memcpy(refs->of, old.of, old.n * sizeof old.of[0]);
    memcpy(refs->refs, old.refs, old.n * sizeof old.refs[0]);
    memcpy(refs->subjects, old.subjects, old.n * sizeof old.subjects[0]);
}

static void add_marks(struct refs_reading *r, size_t place, struct str header)
{
    struct transfer_refs *refs = &r->t->refs;
    struct arena *a = arena_new();
    struct thread_marks marks;

    message_thread_marks(a, header, &marks);
    reserve_refs(r->t, marks.ref_count);
    for (size_t i = 0; i < marks.ref_count; i++) {
        refs->of[refs->n] = r->t->set.v[place];
        refs->refs[refs->n] = marks.refs[i];
        refs->subjects[refs->n++] = marks.subject_hash;
    }
    refs->portion_ends[place / MESSAGE_PORTION] = refs->n;
    arena_free(&a);
}

/* From the fields that were kept, or where they were too large for that, from the message. */
static int add_marks_of(void *arg, size_t index, const struct message *m, struct error *err)
{
    struct refs_reading *r = arg;
    struct buf header;
    int rc;

    if (m->headers.p != NULL) {
        add_marks(r, r->places[index], m->headers);
        return 0;
    }
    buf_init(&header, HEADER_READ_MAX);
    rc = blob_read(m->blob_id, 0, HEADER_READ_MAX, &header, err);
    if (rc == 0)
        add_marks(r, r->places[index], buf_str(&header));
    buf_fini(&header);
    return rc;
}

/* A portion whose messages have no references, or are gone, ends where the one before it did. */
static void close_portions(struct transfer *t)
{
    for (size_t i = 1; i * MESSAGE_PORTION < t->set.n; i++)
        if (t->refs.portion_ends[i] < t->refs.portion_ends[i - 1])
            t->refs.portion_ends[i] = t->refs.portion_ends[i - 1];
}

/* Before the transaction, which would hold its locks meanwhile. */
static int read_refs(struct transfer *t, struct mailbox_key from, struct error *err)
{
    struct refs_reading r = {
        .t = t,
        .ids = ARENA_ARRAY(t->arena, t->set.n, int64_t),
        .places = ARENA_ARRAY(t->arena, t->set.n, size_t),
    };
    struct message_reader reader = {
        .account_id = from.account_id,
        .ids = r.ids,
        .columns = MESSAGE_ROW | MESSAGE_HEADERS,
        .each = add_marks_of,
        .arg = &r,
    };

    t->refs.portion_ends = ARENA_ARRAY(t->arena, t->set.n / MESSAGE_PORTION + 1, size_t);
    for (size_t at = 0; at < t->set.n; at += MESSAGE_PORTION)
        if (read_ids(&r, from, at, err) < 0)
            return -1;
    reader.count = r.count;
    if (message_read(&reader, err) < 0)
        return -1;
    close_portions(t);
    return 0;
}

/* ---- all of it ------------------------------------------------------------------------------- */

static void be_copy(struct transfer *t, struct mailbox_key from, struct mailbox_key to,
                    int64_t user_id, uint32_t may)
{
    t->query = &sql_message_copy;
    t->args[t->arg_count++] = pg_i64(from.account_id);
    t->args[t->arg_count++] = pg_i64(from.mailbox_id);
    t->args[t->arg_count++] = pg_i64(to.mailbox_id);
    t->args[t->arg_count++] = pg_i64(user_id);
    t->set_arg = t->arg_count;
    t->arg_count += 2;
    t->args[t->arg_count++] = pg_i64(config.quota_bytes);
    t->args[t->arg_count++] = pg_i64(config.quota_messages);
    t->args[t->arg_count++] = pg_i32((int32_t)may);
}

static void be_move(struct transfer *t, struct mailbox_key from, struct mailbox_key to,
                    int64_t user_id, uint32_t may)
{
    t->query = &sql_message_move;
    t->args[t->arg_count++] = pg_i64(from.account_id);
    t->args[t->arg_count++] = pg_i64(from.mailbox_id);
    t->args[t->arg_count++] = pg_i64(to.mailbox_id);
    t->set_arg = t->arg_count;
    t->arg_count += 2;
    t->args[t->arg_count++] = pg_i64(user_id);
    t->args[t->arg_count++] = pg_i32((int32_t)may);
}

static int be_between_accounts(struct transfer *t, struct mailbox_key from, struct mailbox_key to,
                               int64_t user_id, uint32_t may, bool is_move, struct error *err)
{
    t->query = &sql_message_transfer;
    t->args[t->arg_count++] = pg_i64(from.account_id);
    t->args[t->arg_count++] = pg_i64(from.mailbox_id);
    t->args[t->arg_count++] = pg_i64(to.account_id);
    t->args[t->arg_count++] = pg_i64(to.mailbox_id);
    t->args[t->arg_count++] = pg_i64(user_id);
    t->set_arg = t->arg_count;
    t->arg_count += 2;
    t->ref_arg = t->arg_count;
    t->arg_count += 3;
    t->args[t->arg_count++] = pg_i64(config.quota_bytes);
    t->args[t->arg_count++] = pg_i64(config.quota_messages);
    t->args[t->arg_count++] = pg_i32((int32_t)may);
    t->args[t->arg_count++] = pg_bool(is_move);
    return read_refs(t, from, err);
}

static void publish(const struct transfer *t, int64_t from_account_id, int64_t to_account_id,
                    bool is_move)
{
    if (t->pair_count == 0)
        return;
    bus_publish((uint64_t)to_account_id);
    text_indexer_note(to_account_id); /* copies are new messages */
    if (is_move && from_account_id != to_account_id)
        bus_publish((uint64_t)from_account_id);
}

static int transfer(struct arena *a, struct mailbox_key from, struct mailbox_key to,
                    int64_t user_id, uint32_t may, const uint32_t *uids, size_t count, bool is_move,
                    struct transfer *t, struct error *err)
{
    int rc = 0;

    *t = (struct transfer){.arena = a, .set = uid_set_make(a, uids, count)};
    if (from.account_id != to.account_id)
        rc = be_between_accounts(t, from, to, user_id, may, is_move, err);
    else if (is_move)
        be_move(t, from, to, user_id, may);
    else
        be_copy(t, from, to, user_id, may);
    if (rc < 0 || transfer_run(t, err) < 0)
        return -1;
    publish(t, from.account_id, to.account_id, is_move);
    return 0;
}

static void give_pairs(const struct transfer *t, struct uid_pair **pairs, size_t *pair_count,
                       uint32_t *to_uid_validity)
{
    *pairs = t->pairs;
    *pair_count = t->pair_count;
    *to_uid_validity = t->to_uid_validity;
}

int message_copy_masked(struct arena *a, struct mailbox_key from, struct mailbox_key to,
                        int64_t user_id, uint32_t may, const uint32_t *uids, size_t count,
                        struct uid_pair **pairs, size_t *pair_count, uint32_t *to_uid_validity,
                        struct error *err)
{
    struct transfer t;

    if (transfer(a, from, to, user_id, may, uids, count, false, &t, err) < 0)
        return -1;
    give_pairs(&t, pairs, pair_count, to_uid_validity);
    return 0;
}

int message_move_masked(struct arena *a, struct mailbox_key from, struct mailbox_key to,
                        int64_t user_id, uint32_t may, const uint32_t *uids, size_t count,
                        struct uid_pair **pairs, size_t *pair_count, uint32_t *to_uid_validity,
                        struct error *err)
{
    struct transfer t;

    if (transfer(a, from, to, user_id, may, uids, count, true, &t, err) < 0)
        return -1;
    give_pairs(&t, pairs, pair_count, to_uid_validity);
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
