/* mailbox_vanished.c - what a client missed while it was away (QRESYNC, RFC 7162).
 *
 * The journal names the UIDs that vanished, each once, in ranges; they are read in portions and
 * put in order here. Where the journal may have been forgotten, every UID that is not there
 * counts as vanished (RFC 7162, 3.2.5.2 allows it). Memory is by ranges: a million messages
 * removed together are one. */
#include <stdlib.h>
#include "mail/store/mailbox_index.h"
#include "server/base/memory.h"
#include "server/pg/pg.h"
#include "sql_queries.h"

#define SLICE_COUNT 20000

struct vanished {
    struct mailbox_key mailbox;
    struct uid_range *v;
    size_t n, cap;
    uint32_t expected; /* the lowest UID not yet seen or called vanished */
};

static void add_range(struct vanished *v, uint32_t first, uint32_t last)
{
    if (v->n == v->cap) {
        v->cap += v->cap / 2 + 16;
        v->v = memory_resize(v->v, v->cap * sizeof v->v[0]);
    }
    v->v[v->n++] = (struct uid_range){first, last};
}

/* ---- of the journal -------------------------------------------------------------------------- */

static int read_journal(struct vanished *v, uint64_t modseq, struct error *err)
{
    struct pg_arg args[] = {pg_i64(v->mailbox.account_id), pg_i64(v->mailbox.mailbox_id),
                            pg_i64((int64_t)modseq), pg_i64(INT64_MAX), pg_i64(SLICE_COUNT)};
    struct pg_rows rows = {0};
    size_t count = SLICE_COUNT;

    while (count == SLICE_COUNT) {
        int first, last;

        if (pg_run(pg_pool(), &sql_mailbox_vanished, (struct pg_args){args, 5}, &rows, err) < 0)
            return -1;
        first = pg_column(&rows, "first");
        last = pg_column(&rows, "last");
        count = rows.count;
        for (size_t i = 0; i < count; i++) {
            add_range(v, (uint32_t)pg_i64_at(&rows, i, first), (uint32_t)pg_i64_at(&rows, i, last));
            fiber_pause();
        }
        if (count > 0) {
            args[2] = pg_i64(pg_get_i64(&rows, count - 1, "modseq"));
            args[3] = pg_i64(pg_get_i64(&rows, count - 1, "first"));
        }
        pg_rows_free(&rows);
    }
    return 0;
}

static int compare_ranges(const void *a, const void *b)
{
    const struct uid_range *x = a, *y = b;

    return (x->first > y->first) - (x->first < y->first);
}

static void sort_ranges(struct vanished *v)
{
    size_t kept = 0;

    if (v->n > 1)
        qsort(v->v, v->n, sizeof v->v[0], compare_ranges);
    for (size_t i = 0; i < v->n; i++)
        if (kept > 0 && v->v[kept - 1].last + 1 >= v->v[i].first)
            v->v[kept - 1].last = v->v[i].last;
        else
            v->v[kept++] = v->v[i];
    v->n = kept;
}

/* ---- of the gaps ----------------------------------------------------------------------------- */

/* Every UID between those that are there. */
static void add_gap(struct vanished *v, uint32_t end)
{
    if (v->expected < end)
        add_range(v, v->expected, end - 1);
    v->expected = end + 1;
}

static int read_gaps(struct vanished *v, uint32_t uid_next, struct error *err)
{
    struct pg_rows rows = {0};
    size_t count = SLICE_COUNT;

    v->n = 0;
    v->expected = 1;
    while (count == SLICE_COUNT) {
        int uid;

        if (pg_run(pg_pool(), &sql_mailbox_uids,
                   PG_ARGS(pg_i64(v->mailbox.account_id), pg_i64(v->mailbox.mailbox_id),
                           pg_i64(v->expected), pg_i64(SLICE_COUNT)),
                   &rows, err) < 0)
            return -1;
        uid = pg_column(&rows, "uid");
        count = rows.count;
        for (size_t i = 0; i < count; i++) {
            add_gap(v, (uint32_t)pg_i64_at(&rows, i, uid));
            fiber_pause();
        }
        pg_rows_free(&rows);
    }
    if (v->expected < uid_next)
        add_gap(v, uid_next);
    return 0;
}

/* ---- both ------------------------------------------------------------------------------------ */

/* Whether the journal reaches back far enough is asked after reading it, for it may be forgotten
 * meanwhile. */
static int find_vanished(struct vanished *v, uint64_t modseq, struct error *err)
{
    struct pg_rows rows = {0};
    uint64_t forgotten;
    uint32_t uid_next;

    if (read_journal(v, modseq, err) < 0)
        return -1;
    if (pg_run(pg_pool(), &sql_mailbox_vanished_floor,
               PG_ARGS(pg_i64(v->mailbox.account_id), pg_i64(v->mailbox.mailbox_id)), &rows,
               err) < 0)
        return -1;
    forgotten = (uint64_t)pg_get_i64(&rows, 0, "forgotten_modseq");
    uid_next = pg_get_u32(&rows, 0, "uid_next");
    pg_rows_free(&rows);
    if (modseq < forgotten)
        return read_gaps(v, uid_next, err);
    sort_ranges(v);
    return 0;
}

int mailbox_vanished_since(struct arena *a, struct mailbox_key mailbox, uint64_t modseq,
                           struct uid_range **ranges, size_t *count, struct error *err)
{
    struct vanished v = {.mailbox = mailbox};
    int rc = modseq > INT64_MAX ? 0 : find_vanished(&v, modseq, err);

    if (rc == 0) {
        *count = v.n;
        *ranges = arena_copy(a, v.v, v.n * sizeof v.v[0]);
    }
    free(v.v);
    return rc;
}
