/* text_merge.c - many small segments become a large one, without looking at any message again.
 *
 *   level 0: as indexed   level 1: MERGE_COUNT of level 0   level 2: MERGE_COUNT of level 1 ...
 *
 * So a message's postings are rewritten a few times in their life, and a question meets a few
 * segments of each level. Work goes by ranges of terms, a MB or so at a time; messages that are
 * gone for good are left out. */
#include <stdlib.h>

#include "mail/store/text_batch.h"
#include "mail/store/text_segment.h"
#include "server/base/log.h"
#include "server/pg/pg.h"
#include "server/run/offload.h"
#include "sql_queries.h"

#define MERGE_COUNT 8
#define LEVEL_MAX   6 /* 8^6 batches */
#define INPUTS_MAX  64
#define ALIVE_SLICE 20000
#define RANGE_BYTES ((uint64_t)1 << 20)
#define RANGE_COUNT 512 /* buckets written at once */

struct input {
    int64_t segment_id;
    struct segment_messages messages;
    uint32_t *numbers;
};

struct merging {
    struct text_claim *c;
    struct arena *arena;
    int32_t level;
    struct input inputs[INPUTS_MAX];
    struct merge_input sides[INPUTS_MAX];
    size_t count;
    unsigned bits;
    uint64_t bytes; /* of the inputs */
    struct segment_messages messages;
    int64_t segment_id;
    uint64_t bytes_written;
    /* Of the range: */
    uint32_t from, to;
    struct buf *out;
    int rc;
    struct error error;
    bool is_damaged; /* what we read cannot be */
};

static int damaged(struct merging *m, struct error *err)
{
    m->is_damaged = true;
    return fail(err, ERR_INTERNAL, "the text index is damaged");
}

/* ---- inputs ---------------------------------------------------------------------------------- */

static int read_input(struct merging *m, const struct pg_rows *rows, size_t row, struct error *err)
{
    struct input *in = &m->inputs[m->count];
    struct merge_input *side = &m->sides[m->count];

    in->segment_id = pg_get_i64(rows, row, "segment_id");
    side->bits = (unsigned)pg_get_i32(rows, row, "bits");
    if (side->bits > SEGMENT_BITS_MAX ||
        segment_read_messages(m->arena, pg_get_str(rows, row, "messages"), &in->messages, err) <
            0 ||
        in->messages.count == 0)
        return damaged(m, err);
    side->message_count = in->messages.count;
    in->numbers = ARENA_ARRAY(m->arena, (size_t)in->messages.count + 1, uint32_t);
    side->numbers = in->numbers;
    m->bytes += (uint64_t)pg_get_i64(rows, row, "bytes");
    if (side->bits > m->bits)
        m->bits = side->bits;
    m->count++;
    return 0;
}

/* So many of the level's that one segment can hold their messages; the others stay as they are. */
static int read_inputs(struct merging *m, struct error *err)
{
    struct pg_rows rows = {0};
    uint64_t total = 0;
    int rc = 0;

    if (pg_run(pg_pool(), &sql_text_level_segments,
               PG_ARGS(pg_i64(m->c->account_id), pg_i32(m->level)), &rows, err) < 0)
        return -1;
    for (size_t i = 0; rc == 0 && i < rows.count && i < INPUTS_MAX; i++) {
        total += (uint64_t)pg_get_i32(&rows, i, "message_count");
        if (i > 0 && total > SEGMENT_MESSAGES_MAX)
            break;
        rc = read_input(m, &rows, i, err);
    }
    pg_rows_free(&rows);
    return rc;
}

/* ---- who is still there ------------------------------------------------------------------------ */

/* The messages of all inputs in order; numbers begin as their place among them. */
static int list_messages(struct merging *m, struct error *err)
{
    size_t total = 0;

    for (size_t i = 0; i < m->count; i++)
        total += m->inputs[i].messages.count;
    if (total > SEGMENT_MESSAGES_MAX)
        return damaged(m, err);
    m->messages.ids = ARENA_ARRAY(m->arena, total + 1, int64_t);
    m->messages.is_opaque = ARENA_ARRAY(m->arena, total + 1, bool);
    return 0;
}

struct alive {
    struct merging *m;
    size_t input;
    uint32_t at; /* of its messages */
    int64_t before;
};

/* Up to this id, only this one is alive. */
static int take_alive(struct alive *a, int64_t id, struct error *err)
{
    struct merging *m = a->m;

    for (; a->input < m->count; a->input++, a->at = 0) {
        struct input *in = &m->inputs[a->input];
        for (; a->at < in->messages.count; a->at++) {
            int64_t here = in->messages.ids[a->at];
            if (here > id)
                return 0;
            if (here <= a->before)
                return damaged(m, err); /* segments overlap */
            a->before = here;
            in->numbers[a->at] = SEGMENT_GONE;
            if (here < id)
                continue;
            in->numbers[a->at] = m->messages.count;
            m->messages.ids[m->messages.count] = id;
            m->messages.is_opaque[m->messages.count++] = in->messages.is_opaque[a->at];
        }
    }
    return 0;
}

static int64_t first_id(const struct merging *m)
{
    return m->inputs[0].messages.ids[0];
}

static int64_t last_id(const struct merging *m)
{
    const struct segment_messages *last = &m->inputs[m->count - 1].messages;

    return last->ids[last->count - 1];
}

static int number_messages(struct merging *m, struct error *err)
{
    struct alive alive = {.m = m};
    int64_t from = first_id(m), to = last_id(m);
    size_t count = ALIVE_SLICE;
    int rc = list_messages(m, err);

    while (rc == 0 && count == ALIVE_SLICE) {
        struct pg_rows rows = {0};
        int column;

        rc =
            pg_run(pg_pool(), &sql_text_alive,
                   PG_ARGS(pg_i64(m->c->account_id), pg_i64(from), pg_i64(to), pg_i64(ALIVE_SLICE)),
                   &rows, err);
        count = rows.count;
        column = rc == 0 ? pg_column(&rows, "message_id") : 0;
        for (size_t i = 0; rc == 0 && i < count; i++)
            rc = take_alive(&alive, pg_i64_at(&rows, i, column), err);
        if (rc == 0 && count > 0)
            from = pg_i64_at(&rows, count - 1, column) + 1;
        pg_rows_free(&rows);
    }
    return rc == 0 ? take_alive(&alive, INT64_MAX, err) : rc;
}

/* ---- buckets ----------------------------------------------------------------------------------- */

static void choose_bits(struct merging *m)
{
    while (m->bits < SEGMENT_BITS_MAX && m->bytes >> m->bits > SEGMENT_BUCKET_SIZE)
        m->bits++;
}

static size_t find_input(const struct merging *m, int64_t segment_id)
{
    size_t i = 0;

    while (i < m->count && m->inputs[i].segment_id != segment_id)
        i++;
    return i;
}

static int take_buckets(struct merging *m, const struct pg_rows *rows, struct arena *a,
                        struct error *err)
{
    struct str *v = ARENA_ARRAY(a, rows->count + 1, struct str);
    size_t row = 0;

    for (size_t i = 0; i < m->count; i++)
        m->sides[i].buckets = NULL;
    for (; row < rows->count; row++) {
        size_t i = find_input(m, pg_get_i64(rows, row, "segment_id"));
        v[row] = pg_get_str(rows, row, "data");
        if (i < m->count && m->sides[i].buckets == NULL)
            m->sides[i].buckets = &v[row];
    }
    for (size_t i = 0; i < m->count; i++) {
        row -= m->sides[i].bucket_count;
        if (m->sides[i].buckets == NULL)
            return damaged(m, err);
    }
    return row == 0 ? 0 : damaged(m, err);
}

/* Those of the inputs that hold the terms of the range. */
static int read_buckets(struct merging *m, struct arena *a, struct pg_rows *rows, struct error *err)
{
    int64_t ids[INPUTS_MAX];
    int32_t first[INPUTS_MAX], last[INPUTS_MAX];

    for (size_t i = 0; i < m->count; i++) {
        unsigned shift = m->bits - m->sides[i].bits;
        ids[i] = m->inputs[i].segment_id;
        first[i] = (int32_t)(m->from >> shift);
        last[i] = (int32_t)((m->to - 1) >> shift);
        m->sides[i].first_bucket = (uint32_t)first[i];
        m->sides[i].bucket_count = (uint32_t)(last[i] - first[i] + 1);
    }
    if (pg_run(pg_pool(), &sql_text_buckets,
               PG_ARGS(pg_i64(m->c->account_id), pg_i64_array(ids, m->count),
                       pg_i32_array(first, m->count), pg_i32_array(last, m->count)),
               rows, err) < 0)
        return -1;
    return take_buckets(m, rows, a, err);
}

static void merge_on_thread(void *arg)
{
    struct merging *m = arg;

    m->rc = segment_merge(m->sides, m->count, m->bits, m->messages.count, m->from, m->to, m->out,
                          &m->error);
    m->is_damaged = m->rc < 0;
}

static int write_range(struct merging *m, struct arena *a, struct error *err)
{
    size_t count = m->to - m->from;
    struct str *buckets = ARENA_ARRAY(a, count, struct str);

    for (size_t i = 0; i < count; i++) {
        buckets[i] = buf_str(&m->out[i]);
        m->bytes_written += m->out[i].n;
    }
    return pg_run(pg_pool(), &sql_text_continue_merge,
                  PG_ARGS(pg_i64(m->c->account_id), pg_i64(m->c->claim), pg_i32(TEXT_CLAIM_S),
                          pg_i64(m->segment_id), pg_i32((int32_t)m->from),
                          pg_bytea_array(buckets, count)),
                  NULL, err);
}

static int merge_range(struct merging *m, struct error *err)
{
    struct arena *a = arena_new();
    struct pg_rows rows = {0};
    int rc = read_buckets(m, a, &rows, err);

    if (rc == 0) {
        m->out = ARENA_ARRAY(a, m->to - m->from, struct buf);
        for (uint32_t i = 0; i < m->to - m->from; i++)
            buf_init(&m->out[i], SIZE_MAX);
        offload(merge_on_thread, m);
        rc = m->rc < 0 ? fail(err, m->error.kind, "%s", m->error.text) : write_range(m, a, err);
        for (uint32_t i = 0; i < m->to - m->from; i++)
            buf_fini(&m->out[i]);
    }
    pg_rows_free(&rows);
    arena_free(&a);
    return rc;
}

static int merge_ranges(struct merging *m, struct error *err)
{
    uint32_t total = 1u << m->bits, step = RANGE_COUNT;
    int rc = 0;

    while (step > 1 && (m->bytes >> m->bits) * step > RANGE_BYTES)
        step /= 2;
    for (uint32_t from = 0; rc == 0 && from < total; from += step) {
        m->from = from;
        m->to = from + step < total ? from + step : total;
        rc = merge_range(m, err);
        if (rc == 0 && fiber_sleep(1) == WAKE_CANCELLED)
            rc = fiber_wake_error(WAKE_CANCELLED, err);
    }
    return rc;
}

/* ---- the whole --------------------------------------------------------------------------------- */

static int begin_merge(struct merging *m, struct error *err)
{
    struct pg_rows rows = {0};

    if (pg_run(pg_pool(), &sql_text_begin_merge,
               PG_ARGS(pg_i64(m->c->account_id), pg_i64(m->c->claim), pg_i32(TEXT_CLAIM_S)), &rows,
               err) < 0)
        return -1;
    m->segment_id = pg_get_i64(&rows, 0, "segment_id");
    pg_rows_free(&rows);
    return 0;
}

static int end_merge(struct merging *m, struct error *err)
{
    int64_t ids[INPUTS_MAX];

    for (size_t i = 0; i < m->count; i++)
        ids[i] = m->inputs[i].segment_id;
    return pg_run(pg_pool(), &sql_text_end_merge,
                  PG_ARGS(pg_i64(m->c->account_id), pg_i64(m->c->claim), pg_i32(TEXT_CLAIM_S),
                          pg_i64(m->segment_id), pg_i64_array(ids, m->count), pg_i32(m->level + 1),
                          pg_i32((int32_t)m->bits), pg_i64(first_id(m)), pg_i64(last_id(m)),
                          pg_i32((int32_t)m->messages.count), pg_i64((int64_t)m->bytes_written),
                          pg_bytea(segment_write_messages(m->arena, &m->messages))),
                  NULL, err);
}

static int merge_level(struct merging *m, struct error *err)
{
    if (read_inputs(m, err) < 0)
        return -1;
    if (m->count == 0)
        return 0;
    choose_bits(m);
    if (number_messages(m, err) < 0 || begin_merge(m, err) < 0)
        return -1;
    if (m->messages.count > 0 && merge_ranges(m, err) < 0)
        return -1;
    return end_merge(m, err);
}

static int find_level(struct text_claim *c, int32_t *level, struct error *err)
{
    struct pg_rows rows = {0};

    if (pg_run(pg_pool(), &sql_text_levels,
               PG_ARGS(pg_i64(c->account_id), pg_i64(MERGE_COUNT), pg_i32(LEVEL_MAX)), &rows,
               err) < 0)
        return -1;
    *level = rows.count > 0 ? pg_get_i32(&rows, 0, "level") : -1;
    pg_rows_free(&rows);
    return 0;
}

static int start_anew(struct text_claim *c, struct error *err)
{
    log_error(NULL, "text_index_dropped", KV("account", c->account_id));
    return pg_run(pg_pool(), &sql_text_reset, PG_ARGS(pg_i64(c->account_id)), NULL, err);
}

int text_merge_some(struct text_claim *c, bool *merged, struct error *err)
{
    struct merging *m;
    struct arena *a;
    struct error cause = {0};
    bool is_damaged;
    int32_t level;
    int rc;

    *merged = false;
    if (find_level(c, &level, err) < 0)
        return -1;
    if (level < 0)
        return 0;
    a = arena_new();
    m = ARENA_NEW(a, struct merging);
    m->c = c;
    m->arena = a;
    m->level = level;
    rc = merge_level(m, &cause);
    is_damaged = m->is_damaged;
    arena_free(&a);
    *merged = rc == 0;
    if (is_damaged && start_anew(c, err) < 0)
        return -1;
    return rc < 0 ? fail(err, cause.kind, "%s", cause.text) : 0;
}
