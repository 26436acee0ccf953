/* message.c - reading messages in sets.
 *
 *   ids[] -> batches -> rows and cached forms in one round trip -> blobs -> each()
 *
 * A batch whose ids lie close together is read as a range of the primary key, any other as a
 * list. Rows come back sorted by message_id and are given out in the order that was asked for.
 * Blobs are read by their own number: the store never joins them to messages. While a batch is
 * given out the next one is read, with its blobs when those are no more than a portion; larger
 * ones are read portion by portion when their turn comes, so that they are held once. */
#include "mail/store/message.h"
#include <stdlib.h>
#include "mail/store/kept_text.h"
#include "server/base/memory.h"
#include "server/pg/pg.h"
#include "server/run/channel.h"
#include "sql_queries.h"

#define BATCH_ROWS_MAX                                                                             \
    500 /* what PostgreSQL's socket holds while we are busy with the batch before */
#define BATCH_BLOBS_MAX                                                                            \
    100 /* the same for batches with blobs: a client must not wait for all of them */
#define BATCH_BLOB_BYTES ((uint64_t)2 << 20)
#define BATCH_TEXT_BYTES ((uint64_t)8 << 20)
#define READERS_AT_EASE  16 /* more of them at once get smaller batches each */
#define TEXT_SIZE_USUAL  ((uint64_t)512 << 10)
#define MESSAGE_META     (MESSAGE_ENVELOPE | MESSAGE_STRUCTURE | MESSAGE_HEADERS | MESSAGE_PREVIEW)

/* One id asked for, and where its row is in each result; -1: nowhere. */
struct slot {
    int64_t id;
    uint32_t index; /* within the batch */
    int32_t row, meta_row, blob_row, text_row;
};

struct row_columns {
    int message_id, thread_id, blob_id, size, received_at, saved_at;
};
struct meta_columns {
    int message_id, size, sent_at, envelope, structure, headers, preview;
};
struct blob_columns {
    int blob_id, data;
};
struct batch {
    struct message_reader reader; /* its ids are looked at only while the batch is made */
    struct arena *arena;
    size_t from, count;     /* of reader->ids */
    struct slot *sorted;    /* by id */
    struct slot **in_order; /* as asked for */
    struct pg_rows rows, meta, blobs, texts;
    struct row_columns row_columns;
    struct meta_columns meta_columns;
    struct blob_columns blob_columns;
    struct blob_columns text_columns;
    struct buf text_room; /* the text given out */
    bool has_blobs;       /* or texts: of all its messages, read ahead with the rows */
};

/* Reads going on in this worker. Their clients may be slow, and hold what was read for them. */
static unsigned reader_count;

static uint64_t share_of(uint64_t all, uint64_t at_least)
{
    uint64_t share = reader_count <= READERS_AT_EASE ? all : all * READERS_AT_EASE / reader_count;

    return share > at_least ? share : at_least;
}

static uint64_t batch_bytes_max(void)
{
    return share_of(BATCH_BLOB_BYTES, 64 * 1024);
}

static bool wants(const struct message_reader *r, unsigned columns)
{
    return (r->columns & columns) != 0;
}

/* Rows are needed for the blobs' numbers, too, and to know that a message exists when nothing is
 * asked of it. */
static bool wants_rows(const struct message_reader *r)
{
    return wants(r, MESSAGE_ROW | MESSAGE_BLOB | MESSAGE_TEXT) || !wants(r, MESSAGE_META);
}

/* ---- the question ---------------------------------------------------------------------------- */

static int compare_slots(const void *a, const void *b)
{
    const struct slot *x = a, *y = b;

    if (x->id != y->id)
        return x->id < y->id ? -1 : 1;
    return (x->index > y->index) - (x->index < y->index);
}

static bool slots_are_sorted(const struct batch *b)
{
    for (size_t i = 1; i < b->count; i++)
        if (b->sorted[i].id < b->sorted[i - 1].id)
            return false;
    return true;
}

static void batch_sort(struct batch *b)
{
    b->sorted = ARENA_ARRAY(b->arena, b->count, struct slot);
    b->in_order = ARENA_ARRAY(b->arena, b->count, struct slot *);
    for (size_t i = 0; i < b->count; i++)
        b->sorted[i] = (struct slot){b->reader.ids[b->from + i], (uint32_t)i, -1, -1, -1, -1};
    if (!slots_are_sorted(b))
        qsort(b->sorted, b->count, sizeof b->sorted[0], compare_slots);
    for (size_t i = 0; i < b->count; i++)
        b->in_order[b->sorted[i].index] = &b->sorted[i];
}

/* A range may read up to a quarter more rows than were asked for: still cheaper than looking
 * each up. */
static bool batch_is_dense(const struct batch *b)
{
    uint64_t span = (uint64_t)b->sorted[b->count - 1].id - (uint64_t)b->sorted[0].id;

    return span < b->count + b->count / 4;
}

static struct pg_arg ids_arg(const struct batch *b)
{
    int64_t *ids = ARENA_ARRAY(b->arena, b->count, int64_t);
    size_t n = 0;

    for (size_t i = 0; i < b->count; i++)
        if (n == 0 || ids[n - 1] != b->sorted[i].id)
            ids[n++] = b->sorted[i].id;
    return pg_i64_array(ids, n);
}

static size_t add_args(struct batch *b, struct pg_arg *args)
{
    args[0] = pg_i64(b->reader.account_id);
    if (!batch_is_dense(b)) {
        args[1] = ids_arg(b);
        return 2;
    }
    args[1] = pg_i64(b->sorted[0].id);
    args[2] = pg_i64(b->sorted[b->count - 1].id);
    return 3;
}

static struct pg_call rows_call(struct batch *b)
{
    struct pg_arg *args = ARENA_ARRAY(b->arena, 3, struct pg_arg);
    size_t count = add_args(b, args);

    return (struct pg_call){batch_is_dense(b) ? &sql_message_rows_between : &sql_message_rows_any,
                            {args, count}};
}

static struct pg_call meta_call(struct batch *b)
{
    struct pg_arg *args = ARENA_ARRAY(b->arena, 7, struct pg_arg);
    size_t count = add_args(b, args);

    args[count++] = pg_bool(wants(&b->reader, MESSAGE_ENVELOPE));
    args[count++] = pg_bool(wants(&b->reader, MESSAGE_STRUCTURE));
    args[count++] = pg_bool(wants(&b->reader, MESSAGE_HEADERS));
    args[count++] = pg_bool(wants(&b->reader, MESSAGE_PREVIEW));
    return (struct pg_call){batch_is_dense(b) ? &sql_message_meta_between : &sql_message_meta_any,
                            {args, count}};
}

/* ---- the answer ------------------------------------------------------------------------------ */

static void find_row_columns(struct batch *b)
{
    b->row_columns = (struct row_columns){
        pg_column(&b->rows, "message_id"),  pg_column(&b->rows, "thread_id"),
        pg_column(&b->rows, "blob_id"),     pg_column(&b->rows, "size"),
        pg_column(&b->rows, "received_at"), pg_column(&b->rows, "saved_at"),
    };
}

static void find_meta_columns(struct batch *b)
{
    b->meta_columns = (struct meta_columns){
        pg_column(&b->meta, "message_id"), pg_column(&b->meta, "size"),
        pg_column(&b->meta, "sent_at"),    pg_column(&b->meta, "envelope"),
        pg_column(&b->meta, "structure"),  pg_column(&b->meta, "headers"),
        pg_column(&b->meta, "preview"),
    };
}

/* Both sides are sorted by id; an id asked for twice finds the same row. `member` is the slot's
 * member to set. */
static void match(struct batch *b, const struct pg_rows *rows, int id_column, size_t member)
{
    size_t row = 0;

    for (size_t i = 0; i < b->count && row < rows->count; i++) {
        while (row < rows->count && pg_i64_at(rows, row, id_column) < b->sorted[i].id)
            row++;
        if (row < rows->count && pg_i64_at(rows, row, id_column) == b->sorted[i].id)
            *(int32_t *)((char *)&b->sorted[i] + member) = (int32_t)row;
    }
}

static int fetch_rows(struct batch *b, struct error *err)
{
    struct pg_call calls[2];
    struct pg_rows rows[2] = {{0}};
    size_t count = 0;

    if (wants_rows(&b->reader))
        calls[count++] = rows_call(b);
    if (wants(&b->reader, MESSAGE_META))
        calls[count++] = meta_call(b);
    if (pg_run_batch(pg_pool(), calls, count, rows, err) < 0)
        return -1;
    count = 0;
    if (wants_rows(&b->reader)) {
        b->rows = rows[count++];
        find_row_columns(b);
        match(b, &b->rows, b->row_columns.message_id, offsetof(struct slot, row));
    }
    if (wants(&b->reader, MESSAGE_META)) {
        b->meta = rows[count];
        find_meta_columns(b);
        match(b, &b->meta, b->meta_columns.message_id, offsetof(struct slot, meta_row));
    }
    return 0;
}

static bool slot_exists(const struct batch *b, const struct slot *s)
{
    return (!wants_rows(&b->reader) || s->row >= 0) &&
           (!wants(&b->reader, MESSAGE_META) || s->meta_row >= 0) &&
           (!wants(&b->reader, MESSAGE_BLOB) || s->blob_row >= 0);
}

static struct str wanted_str(const struct batch *b, const struct slot *s, unsigned column,
                             int number)
{
    size_t row = (size_t)s->meta_row;

    if (!wants(&b->reader, column) || pg_null_at(&b->meta, row, number))
        return STR_NULL;
    return pg_str_at(&b->meta, row, number);
}

/* A text that is damaged counts as not kept. */
static void fill_text(struct batch *b, size_t row, struct message *m)
{
    struct kept_text kept;

    if (!kept_text_unpack(pg_str_at(&b->texts, row, b->text_columns.data), &b->text_room, &kept))
        return;
    m->text_header = kept.header;
    m->text_parts = kept.parts;
    m->text_body = kept.body;
    m->text_is_cut = kept.is_cut;
}

static void fill_message(struct batch *b, const struct slot *s, struct message *m)
{
    *m = (struct message){.message_id = s->id, .sent_us = INT64_MIN};
    if (s->row >= 0) {
        m->thread_id = pg_i64_at(&b->rows, (size_t)s->row, b->row_columns.thread_id);
        m->blob_id = pg_i64_at(&b->rows, (size_t)s->row, b->row_columns.blob_id);
        m->size = (uint64_t)pg_i64_at(&b->rows, (size_t)s->row, b->row_columns.size);
        m->received_us = pg_time_us_at(&b->rows, (size_t)s->row, b->row_columns.received_at);
        m->saved_us = pg_time_us_at(&b->rows, (size_t)s->row, b->row_columns.saved_at);
    }
    if (s->meta_row >= 0) {
        m->size = (uint64_t)pg_i64_at(&b->meta, (size_t)s->meta_row, b->meta_columns.size);
        if (!pg_null_at(&b->meta, (size_t)s->meta_row, b->meta_columns.sent_at))
            m->sent_us = pg_time_us_at(&b->meta, (size_t)s->meta_row, b->meta_columns.sent_at);
        m->envelope = wanted_str(b, s, MESSAGE_ENVELOPE, b->meta_columns.envelope);
        m->structure = wanted_str(b, s, MESSAGE_STRUCTURE, b->meta_columns.structure);
        m->headers = wanted_str(b, s, MESSAGE_HEADERS, b->meta_columns.headers);
        m->preview = wanted_str(b, s, MESSAGE_PREVIEW, b->meta_columns.preview);
    }
    if (s->blob_row >= 0)
        m->blob = pg_str_at(&b->blobs, (size_t)s->blob_row, b->blob_columns.data);
    if (s->text_row >= 0)
        fill_text(b, (size_t)s->text_row, m);
}

/* Gives out the messages from..to of the batch, in the order asked for. */
static int give_out(struct batch *b, size_t from, size_t to, struct error *err)
{
    const struct message_reader *r = &b->reader;
    struct message m;

    for (size_t i = from; i < to; i++) {
        if (!slot_exists(b, b->in_order[i]))
            continue;
        fill_message(b, b->in_order[i], &m);
        if (r->each(r->arg, b->from + i, &m, err) < 0)
            return -1;
        fiber_pause();
    }
    return 0;
}

/* ---- blobs ----------------------------------------------------------------------------------- */

static int64_t slot_blob_id(const struct batch *b, const struct slot *s)
{
    return pg_i64_at(&b->rows, (size_t)s->row, b->row_columns.blob_id);
}

/* The text of a large message is rarely large. */
static uint64_t blob_size_read(const struct batch *b, const struct slot *s)
{
    uint64_t size = (uint64_t)pg_i64_at(&b->rows, (size_t)s->row, b->row_columns.size);
    uint64_t size_max = wants(&b->reader, MESSAGE_BLOB) ? b->reader.blob_size : TEXT_SIZE_USUAL;

    return size_max != 0 && size_max < size ? size_max : size;
}

/* As many messages from `from` on as their sizes allow, at least one. */
static size_t portion_end(const struct batch *b, size_t from)
{
    uint64_t bytes_max = wants(&b->reader, MESSAGE_BLOB) ? batch_bytes_max() : BATCH_TEXT_BYTES;
    uint64_t bytes = 0;
    size_t to = from;

    for (; to < b->count && (to == from || bytes < bytes_max); to++)
        if (b->in_order[to]->row >= 0)
            bytes += blob_size_read(b, b->in_order[to]);
    return to;
}

static int compare_i64(const void *a, const void *b)
{
    const int64_t *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

/* The row of a blob in an answer, which is sorted by number. */
static int32_t find_blob(const struct pg_rows *rows, int column, int64_t blob_id)
{
    size_t row = pg_find_i64(rows, column, blob_id);

    return row == SIZE_MAX ? -1 : (int32_t)row;
}

/* A blob is below 1 GB, as every value in PostgreSQL. */
static struct pg_arg clamped_i32(uint64_t n)
{
    return pg_i32(n < INT32_MAX ? (int32_t)n : INT32_MAX);
}

static int read_blobs(struct batch *b, const int64_t *ids, size_t count, struct error *err)
{
    const struct message_reader *r = &b->reader;
    struct pg_arg array = pg_i64_array(ids, count);
    uint64_t first = r->blob_offset < INT32_MAX ? r->blob_offset + 1 : INT32_MAX;

    if (r->blob_size == 0)
        return pg_run(pg_pool(), &sql_message_blobs, PG_ARGS(array), &b->blobs, err);
    return pg_run(pg_pool(), &sql_message_blob_slices,
                  PG_ARGS(array, clamped_i32(first), clamped_i32(r->blob_size)), &b->blobs, err);
}

static void find_rows_of_blob(const struct batch *b, struct slot *s)
{
    int64_t blob_id = slot_blob_id(b, s);

    if (wants(&b->reader, MESSAGE_BLOB))
        s->blob_row = find_blob(&b->blobs, b->blob_columns.blob_id, blob_id);
    if (wants(&b->reader, MESSAGE_TEXT))
        s->text_row = find_blob(&b->texts, b->text_columns.blob_id, blob_id);
}

static int read_texts(struct batch *b, const int64_t *ids, size_t count, struct error *err)
{
    if (pg_run(pg_pool(), &sql_text_read, PG_ARGS(pg_i64_array(ids, count)), &b->texts, err) < 0)
        return -1;
    b->text_columns =
        (struct blob_columns){pg_column(&b->texts, "blob_id"), pg_column(&b->texts, "data")};
    return 0;
}

static int fetch_blobs(struct batch *b, size_t from, size_t to, struct error *err)
{
    int64_t *ids = ARENA_ARRAY(b->arena, to - from, int64_t);
    size_t count = 0;

    for (size_t i = from; i < to; i++)
        if (b->in_order[i]->row >= 0)
            ids[count++] = slot_blob_id(b, b->in_order[i]);
    qsort(ids, count, sizeof ids[0], compare_i64);
    if (wants(&b->reader, MESSAGE_TEXT) && read_texts(b, ids, count, err) < 0)
        return -1;
    if (wants(&b->reader, MESSAGE_BLOB) && read_blobs(b, ids, count, err) < 0)
        return -1;
    if (wants(&b->reader, MESSAGE_BLOB))
        b->blob_columns =
            (struct blob_columns){pg_column(&b->blobs, "blob_id"), pg_column(&b->blobs, "data")};
    for (size_t i = from; i < to; i++)
        if (b->in_order[i]->row >= 0)
            find_rows_of_blob(b, b->in_order[i]);
    return 0;
}

/* What fits a portion comes with the rows, while the batch before is given out. */
static int batch_fetch(struct batch *b, struct error *err)
{
    if (fetch_rows(b, err) < 0)
        return -1;
    if (!wants(&b->reader, MESSAGE_TEXT | MESSAGE_BLOB) || portion_end(b, 0) < b->count)
        return 0;
    b->has_blobs = true;
    return fetch_blobs(b, 0, b->count, err);
}

static int give_out_with_blobs(struct batch *b, struct error *err)
{
    size_t to;
    int rc = 0;

    for (size_t from = 0; rc == 0 && from < b->count; from = to) {
        to = b->has_blobs ? b->count : portion_end(b, from);
        if (!b->has_blobs)
            rc = fetch_blobs(b, from, to, err);
        if (rc == 0)
            rc = give_out(b, from, to, err);
        pg_rows_free(&b->blobs);
        pg_rows_free(&b->texts);
    }
    return rc;
}

/* ---- batches --------------------------------------------------------------------------------- */

/* With known sizes a batch for blobs is one portion, so that no row is read long before it is
 * needed. */
static size_t batch_count(const struct message_reader *r, size_t from)
{
    size_t left = r->count - from;
    size_t rows_max =
        (size_t)share_of(wants(r, MESSAGE_BLOB) ? BATCH_BLOBS_MAX : BATCH_ROWS_MAX, 20);
    size_t count_max = left < rows_max ? left : rows_max;
    uint64_t bytes = 0;
    size_t count = 0;

    if (r->sizes == NULL || !wants(r, MESSAGE_BLOB))
        return count_max;
    while (count < count_max && (count == 0 || bytes < batch_bytes_max()))
        bytes += r->sizes[from + count++];
    return count;
}

static int batch_give_out(struct batch *b, struct error *err)
{
    return wants(&b->reader, MESSAGE_BLOB | MESSAGE_TEXT) ? give_out_with_blobs(b, err)
                                                          : give_out(b, 0, b->count, err);
}

/* ---- reading ahead --------------------------------------------------------------------------- */

/* A batch that a fiber of its own is reading, while the one before is given out. The reader may lose
 * interest before the answer is there; then the fiber cleans up. */
struct fetch {
    struct batch batch;
    struct error error;
    int rc;
    bool is_done, is_abandoned;
    struct wait_queue done;
};

static void fetch_free(struct fetch *f)
{
    pg_rows_free(&f->batch.rows);
    pg_rows_free(&f->batch.meta);
    pg_rows_free(&f->batch.blobs);
    pg_rows_free(&f->batch.texts);
    buf_fini(&f->batch.text_room);
    arena_free(&f->batch.arena);
    free(f);
}

static void fetch_run(void *arg)
{
    struct fetch *f = arg;

    f->rc = batch_fetch(&f->batch, &f->error);
    f->is_done = true;
    wait_queue_wake_all(&f->done);
    if (f->is_abandoned)
        fetch_free(f);
}

static struct fetch *fetch_new(const struct message_reader *r, size_t from)
{
    struct fetch *f = memory_alloc(sizeof *f);

    f->batch = (struct batch){
        .reader = *r, .arena = arena_new(), .from = from, .count = batch_count(r, from)};
    buf_init(&f->batch.text_room, SIZE_MAX);
    wait_queue_init(&f->done);
    batch_sort(&f->batch);
    return f;
}

static struct fetch *fetch_start(const struct message_reader *r, size_t from)
{
    struct fetch *f;

    if (from >= r->count)
        return NULL;
    f = fetch_new(r, from);
    fiber_start("read_ahead", fetch_run, f);
    return f;
}

static void fetch_drop(struct fetch *f)
{
    if (f == NULL)
        return;
    if (f->is_done)
        fetch_free(f);
    else
        f->is_abandoned = true;
}

static int fetch_await(struct fetch *f, struct error *err)
{
    enum wake wake = WAKE_READY;

    while (!f->is_done && wake == WAKE_READY)
        wake = wait_queue_wait(&f->done, NO_DEADLINE);
    if (!f->is_done)
        return fiber_wake_error(wake, err);
    return f->rc == 0 ? 0 : fail(err, f->error.kind, "%s", f->error.text);
}

/* The first batch is read in our own fiber: most reads are no longer than that. */
int message_read(const struct message_reader *r, struct error *err)
{
    struct fetch *now, *next;
    int rc;

    if (r->count == 0)
        return 0;
    reader_count++;
    now = fetch_new(r, 0);
    next = fetch_start(r, now->batch.count);
    rc = batch_fetch(&now->batch, err);
    now->is_done = true;
    for (;;) {
        if (rc == 0)
            rc = batch_give_out(&now->batch, err);
        fetch_drop(now);
        if (rc < 0 || next == NULL)
            break;
        now = next;
        next = fetch_start(r, now->batch.from + now->batch.count);
        rc = fetch_await(now, err);
    }
    fetch_drop(next);
    reader_count--;
    return rc;
}

int message_find(struct mailbox_key mailbox, uint32_t uid, int64_t *message_id, struct error *err)
{
    struct error cause = {0};
    struct pg_rows rows = {0};

    if (pg_run(pg_pool(), &sql_message_find,
               PG_ARGS(pg_i64(mailbox.account_id), pg_i64(mailbox.mailbox_id), pg_i64(uid)), &rows,
               &cause) < 0)
        return cause.kind == ERR_NOT_FOUND ? fail(err, ERR_NOT_FOUND, "no such message")
                                           : fail(err, cause.kind, "%s", cause.text);
    *message_id = pg_get_i64(&rows, 0, "message_id");
    pg_rows_free(&rows);
    return 0;
}

int message_list(struct arena *a, struct mailbox_key mailbox, uint32_t from_uid, uint32_t limit,
                 struct message_listed **out, size_t *count, struct error *err)
{
    struct pg_rows rows;
    int uid, message_id, flags;

    if (pg_run(pg_pool(), &sql_index_load,
               PG_ARGS(pg_i64(mailbox.account_id), pg_i64(mailbox.mailbox_id), pg_i64(from_uid),
                       pg_i64(limit)),
               &rows, err) < 0)
        return -1;
    uid = pg_column(&rows, "uid");
    message_id = pg_column(&rows, "message_id");
    flags = pg_column(&rows, "flags");
    *count = rows.count;
    *out = ARENA_ARRAY(a, rows.count, struct message_listed);
    for (size_t i = 0; i < rows.count; i++)
        (*out)[i] = (struct message_listed){pg_i64_at(&rows, i, message_id),
                                            (uint32_t)pg_i64_at(&rows, i, uid),
                                            (uint32_t)pg_i64_at(&rows, i, flags)};
    pg_rows_free(&rows);
    return 0;
}
