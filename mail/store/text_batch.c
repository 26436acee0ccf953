/* text_batch.c - pending messages -> their texts -> one segment.
 *
 *   text_pending -> portions of some MB: kept texts, blobs -> helper thread: decode, fold, trigrams
 *                -> new texts are kept            ... -> helper thread: sort, encode -> text_add_segment
 *
 * A copy finds the text of its original and decodes nothing. */
#include "mail/store/text_batch.h"

#include <stdlib.h>

#include "mail/mime/message_text.h"
#include "mail/store/kept_text.h"
#include "mail/store/text_index.h"
#include "server/pg/pg.h"
#include "server/run/metrics.h"
#include "server/run/offload.h"
#include "sql_queries.h"

#define BATCH_MESSAGES_MAX 500
#define BATCH_PAIRS_BYTES  ((size_t)16 << 20)
#define PORTION_BYTES      ((int64_t)2 << 20)
#define PORTION_MESSAGES   128

struct pending {
    int64_t message_id, blob_id, size;
};

/* As read; the strs point into rows. */
struct source {
    struct str raw;  /* p NULL: not there */
    struct str text; /* packed; p NULL: not there, or of no use */
};

struct batch {
    struct text_claim *c;
    struct arena *arena;
    struct pending *pending;
    size_t count;
    struct segment_builder *builder;
    /* Of the portion: */
    size_t from, to;
    struct arena *portion;
    struct source *sources;
    struct str *made; /* texts of those that had none, packed */
    struct segment segment;
};

/* ---- what waits ------------------------------------------------------------------------------ */

static int read_pending(struct batch *b, struct error *err)
{
    struct pg_rows rows = {0};

    if (pg_run(pg_pool(), &sql_text_pending,
               PG_ARGS(pg_i64(b->c->account_id), pg_i64(b->c->indexed_message_id),
                       pg_i64(b->c->last_message_id), pg_i64(BATCH_MESSAGES_MAX)),
               &rows, err) < 0)
        return -1;
    b->count = rows.count;
    b->pending = ARENA_ARRAY(b->arena, rows.count + 1, struct pending);
    for (size_t i = 0; i < rows.count; i++)
        b->pending[i] = (struct pending){.message_id = pg_get_i64(&rows, i, "message_id"),
                                         .blob_id = pg_get_i64(&rows, i, "blob_id"),
                                         .size = pg_get_i64(&rows, i, "size")};
    pg_rows_free(&rows);
    return 0;
}

/* ---- on a helper thread ---------------------------------------------------------------------- */

/* Lines of the header belong to different places. */
static void add_header(struct segment_builder *b, struct str lines)
{
    struct str line, name, value;

    while (lines.n > 0) {
        str_cut(lines, '\n', &line, &lines);
        str_cut(line, ':', &name, &value);
        segment_add_text(b, text_place_of_field(name), line);
    }
}

static void add_texts(struct segment_builder *b, struct str header, struct str parts,
                      struct str body)
{
    add_header(b, header);
    segment_add_text(b, PLACE_HEADER, parts);
    segment_add_text(b, PLACE_BODY, body);
}

/* A text that was cut is not all there is to index. */
static bool add_kept(struct segment_builder *b, struct str packed, struct buf *room)
{
    struct kept_text kept;

    if (packed.p == NULL || !kept_text_unpack(packed, room, &kept) || kept.is_cut)
        return false;
    add_texts(b, kept.header, kept.parts, kept.body);
    return true;
}

static struct str add_decoded(struct batch *b, struct str raw)
{
    struct arena *a = arena_new();
    struct message_text text;
    struct kept_text kept;
    struct str packed;

    message_text_init(&text);
    message_text_extract(&text, mime_parse(a, raw), raw);
    add_texts(b->builder, buf_str(&text.header), buf_str(&text.parts), buf_str(&text.body));
    if (!buf_ok(&text.header) || !buf_ok(&text.parts) || !buf_ok(&text.body))
        segment_make_opaque(b->builder);
    kept = kept_text_of(&text);
    packed = kept_text_pack(b->portion, &kept);
    message_text_fini(&text);
    arena_free(&a);
    return packed;
}

/* A message that has neither text nor blob was purged this very moment. */
static void index_portion(void *arg)
{
    struct batch *b = arg;
    struct buf room;

    buf_init(&room, SIZE_MAX);
    for (size_t i = b->from; i < b->to; i++) {
        const struct source *s = &b->sources[i - b->from];
        segment_add_message(b->builder, b->pending[i].message_id);
        if (s->raw.p != NULL)
            b->made[i - b->from] = add_decoded(b, s->raw);
        else if (!add_kept(b->builder, s->text, &room))
            segment_make_opaque(b->builder);
    }
    buf_fini(&room);
}

static void finish_segment(void *arg)
{
    struct batch *b = arg;

    segment_finish(b->builder, b->arena, &b->segment);
}

/* ---- reading ----------------------------------------------------------------------------------- */

/* Calls back for each message of the portion whose blob is in the row. */
static void spread(struct batch *b, const struct pg_rows *rows, size_t row,
                   void (*take)(struct source *s, const struct pg_rows *rows, size_t row))
{
    int64_t blob_id = pg_get_i64(rows, row, "blob_id");

    for (size_t i = b->from; i < b->to; i++)
        if (b->pending[i].blob_id == blob_id)
            take(&b->sources[i - b->from], rows, row);
}

static void take_text(struct source *s, const struct pg_rows *rows, size_t row)
{
    struct str packed = pg_get_str(rows, row, "data");

    if (!kept_text_is_cut(packed))
        s->text = packed;
}

static void take_raw(struct source *s, const struct pg_rows *rows, size_t row)
{
    s->raw = pg_get_str(rows, row, "data");
}

static int read_sources(struct batch *b, const struct sql_query *query,
                        void (*take)(struct source *, const struct pg_rows *, size_t),
                        struct pg_rows *rows, struct error *err)
{
    int64_t *ids = ARENA_ARRAY(b->portion, b->to - b->from + 1, int64_t);
    size_t count = 0;

    for (size_t i = b->from; i < b->to; i++)
        if (b->sources[i - b->from].text.p == NULL)
            ids[count++] = b->pending[i].blob_id;
    if (count == 0)
        return 0;
    if (pg_run(pg_pool(), query, PG_ARGS(pg_i64_array(ids, count)), rows, err) < 0)
        return -1;
    for (size_t row = 0; row < rows->count; row++)
        spread(b, rows, row, take);
    return 0;
}

/* ---- keeping texts --------------------------------------------------------------------------- */

static int keep_new(const struct batch *b, struct error *err)
{
    size_t room = b->to - b->from, count = 0;
    int64_t *blob_ids = ARENA_ARRAY(b->portion, room, int64_t);
    struct str *texts = ARENA_ARRAY(b->portion, room, struct str);

    for (size_t i = 0; i < room; i++)
        if (b->made[i].p != NULL) {
            blob_ids[count] = b->pending[b->from + i].blob_id;
            texts[count++] = b->made[i];
        }
    if (count == 0)
        return 0;
    return pg_run(pg_pool(), &sql_text_keep,
                  PG_ARGS(pg_i64_array(blob_ids, count), pg_bytea_array(texts, count)), NULL, err);
}

/* ---- the whole ------------------------------------------------------------------------------- */

static size_t portion_end(const struct batch *b)
{
    int64_t bytes = 0;
    size_t to = b->from;

    while (to < b->count && to - b->from < PORTION_MESSAGES &&
           (to == b->from || bytes + b->pending[to].size <= PORTION_BYTES))
        bytes += b->pending[to++].size;
    return to;
}

static int run_portion(struct batch *b, struct error *err)
{
    struct pg_rows texts = {0}, blobs = {0};
    size_t count = b->to - b->from;
    int rc;

    b->portion = arena_new();
    b->sources = ARENA_ARRAY(b->portion, count, struct source);
    b->made = ARENA_ARRAY(b->portion, count, struct str);
    rc = read_sources(b, &sql_text_read, take_text, &texts, err);
    if (rc == 0)
        rc = read_sources(b, &sql_message_blobs, take_raw, &blobs, err);
    if (rc == 0)
        offload(index_portion, b);
    pg_rows_free(&texts);
    pg_rows_free(&blobs);
    if (rc == 0)
        rc = keep_new(b, err);
    arena_free(&b->portion);
    return rc;
}

/* All of what waits was looked at, or the batch is full. */
static int64_t reached(const struct batch *b, size_t done)
{
    if (done == b->count && b->count < BATCH_MESSAGES_MAX)
        return b->c->last_message_id;
    return b->pending[done - 1].message_id;
}

static int write_segment(struct batch *b, int64_t to, struct error *err)
{
    struct text_claim *c = b->c;
    const struct segment *s = &b->segment;
    struct pg_arg buckets =
        pg_bytea_array(s->buckets, s->buckets != NULL ? (size_t)1 << s->bits : 0);

    if (pg_run(pg_pool(), &sql_text_add_segment,
               PG_ARGS(pg_i64(c->account_id), pg_i64(c->claim), pg_i32(TEXT_CLAIM_S),
                       pg_i64(c->indexed_message_id), pg_i64(to), pg_i32((int32_t)s->bits),
                       pg_i64(s->first_message_id), pg_i64(s->last_message_id),
                       pg_i32((int32_t)s->message_count), pg_bytea(s->messages), buckets),
               NULL, err) < 0)
        return -1;
    metric_add(METRIC_text_messages_indexed, s->message_count);
    c->indexed_message_id = to;
    return 0;
}

static int run_batch(struct batch *b, struct error *err)
{
    size_t done = 0;

    if (read_pending(b, err) < 0)
        return -1;
    while (done < b->count && segment_builder_size(b->builder) < BATCH_PAIRS_BYTES) {
        b->from = done;
        b->to = done = portion_end(b);
        if (run_portion(b, err) < 0)
            return -1;
    }
    if (done > 0)
        offload(finish_segment, b);
    return write_segment(b, done > 0 ? reached(b, done) : b->c->last_message_id, err);
}

int text_index_batch(struct text_claim *c, struct error *err)
{
    struct batch b = {.c = c, .arena = arena_new(), .builder = segment_builder_new()};
    int rc = run_batch(&b, err);

    segment_builder_free(&b.builder);
    arena_free(&b.arena);
    return rc;
}
