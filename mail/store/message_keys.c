/* message_keys.c - sort keys from the cache, or else from the database.
 *
 * The cache is a set of chunks, one for CHUNK_IDS consecutive message_ids of an account: one look
 * into the map serves hundreds of messages. A chunk holds those that were asked for, one record
 * behind the other:
 *
 *   sent_us 8 | received_us 8 | size 8 | packed size 4 | packed keys (sort_keys.h)
 *
 * Whoever reads more messages than the cache is made for passes it by, so that one search of a
 * huge mailbox does not push out everybody's. What the cache does not have is read by two fibers,
 * a slice each at a time, so that PostgreSQL works for one while the other looks at its answer. */
#include "mail/store/message_keys.h"

#include <stdlib.h>

#include "server/base/list.h"
#include "server/base/map.h"
#include "server/base/memory.h"
#include "server/pg/pg.h"
#include "server/run/channel.h"
#include "sql_queries.h"

#define CHUNK_IDS        256
#define SLICE_COUNT      1000   /* messages of one query */
#define CACHED_COUNT_MAX 200000 /* messages of one reading that are kept */
#define RECORD_HEAD_SIZE 28

struct chunk_key {
    int64_t account_id, number;
};

struct chunk {
    struct list link; /* least recently used first */
    struct chunk_key key;
    uint32_t at[CHUNK_IDS]; /* where the record begins, plus 1; 0: not here */
    char *bytes;
    size_t n, cap;
};

static struct map *chunks;
static struct list recent;
static size_t cached_bytes;

/* ---- chunks ---------------------------------------------------------------------------------- */

static struct str key_str(const struct chunk_key *key)
{
    return str_of((const char *)key, sizeof *key);
}

static struct chunk_key key_of(int64_t account_id, int64_t message_id)
{
    return (struct chunk_key){account_id, message_id / CHUNK_IDS};
}

static size_t slot_of(int64_t message_id)
{
    return (size_t)((uint64_t)message_id % CHUNK_IDS);
}

static void chunk_free(struct chunk *c)
{
    map_remove(chunks, key_str(&c->key));
    list_remove(&c->link);
    cached_bytes -= sizeof *c + c->cap;
    free(c->bytes);
    free(c);
}

static struct chunk *chunk_new(struct chunk_key key)
{
    struct chunk *c = memory_alloc(sizeof *c);

    c->key = key;
    cached_bytes += sizeof *c;
    map_put(chunks, key_str(&key), c);
    list_append(&recent, &c->link);
    return c;
}

static struct chunk *chunk_find(struct chunk_key key)
{
    struct chunk *c;

    if (chunks == NULL) {
        chunks = map_new();
        list_init(&recent);
    }
    c = map_get(chunks, key_str(&key));
    if (c != NULL) {
        list_remove(&c->link);
        list_append(&recent, &c->link);
    }
    return c;
}

static char *chunk_reserve(struct chunk *c, size_t size)
{
    if (c->cap - c->n < size) {
        size_t cap = c->cap + c->cap / 2 + size + 512;
        c->bytes = memory_resize(c->bytes, cap);
        cached_bytes += cap - c->cap;
        c->cap = cap;
    }
    c->n += size;
    return c->bytes + c->n - size;
}

static void forget_oldest(void)
{
    while (cached_bytes > MESSAGE_KEYS_CACHE_MAX && !list_is_empty(&recent))
        chunk_free(CONTAINER_OF(recent.next, struct chunk, link));
}

void message_keys_cache_clear(void)
{
    if (chunks == NULL)
        return;
    while (!list_is_empty(&recent))
        chunk_free(CONTAINER_OF(recent.next, struct chunk, link));
    map_free(&chunks);
}

/* ---- records --------------------------------------------------------------------------------- */

struct record {
    int64_t sent_us, received_us;
    uint64_t size;
    struct str packed;
};

static void chunk_put(struct chunk *c, int64_t message_id, const struct record *r)
{
    uint32_t packed_size = (uint32_t)r->packed.n;
    size_t at = c->n;
    char *p;

    if (c->at[slot_of(message_id)] != 0)
        return; /* another fiber was faster */
    p = chunk_reserve(c, RECORD_HEAD_SIZE + r->packed.n);
    memcpy(p, &r->sent_us, 8);
    memcpy(p + 8, &r->received_us, 8);
    memcpy(p + 16, &r->size, 8);
    memcpy(p + 24, &packed_size, 4);
    if (r->packed.n > 0)
        memcpy(p + RECORD_HEAD_SIZE, r->packed.p, r->packed.n);
    c->at[slot_of(message_id)] = (uint32_t)at + 1;
}

static bool chunk_get(const struct chunk *c, int64_t message_id, struct record *out)
{
    uint32_t at = c->at[slot_of(message_id)], packed_size;
    const char *p;

    if (at == 0)
        return false;
    p = c->bytes + at - 1;
    memcpy(&out->sent_us, p, 8);
    memcpy(&out->received_us, p + 8, 8);
    memcpy(&out->size, p + 16, 8);
    memcpy(&packed_size, p + 24, 4);
    out->packed = str_of(p + RECORD_HEAD_SIZE, packed_size);
    return true;
}

static int give_out(const struct message_keys_reader *r, size_t index, const struct record *record,
                    struct error *err)
{
    struct message_keys m = {
        .sent_us = record->sent_us, .received_us = record->received_us, .size = record->size};

    sort_keys_read(record->packed, &m.keys);
    return r->each(r->arg, index, &m, err);
}

/* ---- from the cache -------------------------------------------------------------------------- */

struct wanted {
    int64_t id;
    size_t index; /* of the reader's ids */
};

/* Gives out what is cached of ids[from..to) and lists the rest in missing[]. */
static int give_out_cached(const struct message_keys_reader *r, size_t from, size_t to,
                           struct wanted *missing, size_t *missing_count, struct error *err)
{
    struct chunk_key last = {-1, -1};
    struct chunk *c = NULL;
    struct record record;

    *missing_count = 0;
    for (size_t i = from; i < to; i++) {
        struct chunk_key key = key_of(r->account_id, r->ids[i]);
        if (key.number != last.number) {
            c = chunk_find(key);
            last = key;
        }
        if (c == NULL || !chunk_get(c, r->ids[i], &record))
            missing[(*missing_count)++] = (struct wanted){r->ids[i], i};
        else if (give_out(r, i, &record, err) < 0)
            return -1;
    }
    return 0;
}

/* ---- from the database ----------------------------------------------------------------------- */

static int compare_wanted(const void *a, const void *b)
{
    const struct wanted *x = a, *y = b;

    return (x->id > y->id) - (x->id < y->id);
}

static void sort_wanted(struct wanted *v, size_t count)
{
    for (size_t i = 1; i < count; i++)
        if (v[i].id < v[i - 1].id) {
            qsort(v, count, sizeof *v, compare_wanted);
            return;
        }
}

/* A range may read up to a quarter more than was asked for: still cheaper than looking each up. */
static PARKS int fetch(const struct message_keys_reader *r, const struct wanted *v, size_t count,
                       struct pg_rows *rows, struct error *err)
{
    struct arena *a;
    int64_t *ids;
    int rc;

    if ((uint64_t)(v[count - 1].id - v[0].id) < count + count / 4)
        return pg_run(pg_pool(), &sql_message_keys_between,
                      PG_ARGS(pg_i64(r->account_id), pg_i64(v[0].id), pg_i64(v[count - 1].id)),
                      rows, err);
    a = arena_new();
    ids = ARENA_ARRAY(a, count, int64_t);
    for (size_t i = 0; i < count; i++)
        ids[i] = v[i].id;
    rc = pg_run(pg_pool(), &sql_message_keys_any,
                PG_ARGS(pg_i64(r->account_id), pg_i64_array(ids, count)), rows, err);
    arena_free(&a);
    return rc;
}

struct key_columns {
    int message_id, size, sent_at, received_at, sort_keys;
};

static struct record record_at(const struct pg_rows *rows, size_t row, const struct key_columns *c)
{
    int64_t received_us = pg_time_us_at(rows, row, c->received_at);

    return (struct record){
        .received_us = received_us,
        .sent_us =
            pg_null_at(rows, row, c->sent_at) ? received_us : pg_time_us_at(rows, row, c->sent_at),
        .size = (uint64_t)pg_i64_at(rows, row, c->size),
        .packed = pg_str_at(rows, row, c->sort_keys),
    };
}

static void cache_record(int64_t account_id, int64_t message_id, const struct record *record)
{
    struct chunk_key key = key_of(account_id, message_id);
    struct chunk *c = chunk_find(key);

    chunk_put(c != NULL ? c : chunk_new(key), message_id, record);
}

/* Both sides ascend by id. */
static int give_out_rows(const struct message_keys_reader *r, const struct wanted *v, size_t count,
                         const struct pg_rows *rows, struct error *err)
{
    struct key_columns c = {pg_column(rows, "message_id"), pg_column(rows, "size"),
                            pg_column(rows, "sent_at"), pg_column(rows, "received_at"),
                            pg_column(rows, "sort_keys")};
    size_t row = 0;

    for (size_t i = 0; i < count; i++) {
        struct record record;
        while (row < rows->count && pg_i64_at(rows, row, c.message_id) < v[i].id)
            row++;
        if (row == rows->count || pg_i64_at(rows, row, c.message_id) != v[i].id)
            continue;
        record = record_at(rows, row, &c);
        if (r->count <= CACHED_COUNT_MAX)
            cache_record(r->account_id, v[i].id, &record);
        if (give_out(r, v[i].index, &record, err) < 0)
            return -1;
    }
    return 0;
}

/* ---- the whole ------------------------------------------------------------------------------- */

/* Both fibers hold it; the one that waits may lose interest, and then its reader is gone. */
struct reading {
    const struct message_keys_reader *r; /* NULL: nobody waits any more */
    size_t next;                         /* of the reader's ids: the slice to be taken next */
    unsigned holders;
    int rc;
    struct error error;
    struct wait_queue done;
};

static void reading_leave(struct reading *w)
{
    if (--w->holders == 0)
        free(w);
    else
        wait_queue_wake_all(&w->done);
}

static PARKS int read_missing(struct reading *w, struct wanted *v, size_t count, struct error *err)
{
    struct pg_rows rows = {0};
    int rc;

    sort_wanted(v, count);
    rc = fetch(w->r, v, count, &rows, err);
    if (rc == 0 && w->r != NULL)
        rc = give_out_rows(w->r, v, count, &rows, err);
    pg_rows_free(&rows);
    forget_oldest();
    return rc;
}

static PARKS int read_slice(struct reading *w, struct wanted *missing, struct error *err)
{
    size_t from = w->next, left = w->r->count - from, missing_count;

    w->next += left < SLICE_COUNT ? left : SLICE_COUNT;
    if (give_out_cached(w->r, from, w->next, missing, &missing_count, err) < 0)
        return -1;
    return missing_count > 0 ? read_missing(w, missing, missing_count, err) : 0;
}

static PARKS void read_slices(struct reading *w)
{
    struct wanted *missing = memory_array(SLICE_COUNT, sizeof *missing);
    struct error err = {0};

    while (w->r != NULL && w->rc == 0 && w->next < w->r->count) {
        if (read_slice(w, missing, &err) < 0 && w->rc == 0) {
            w->rc = -1;
            w->error = err;
        }
        fiber_pause();
    }
    free(missing);
}

static void helper_fiber(void *arg)
{
    struct reading *w = arg;

    read_slices(w);
    reading_leave(w);
}

static PARKS int await_helper(struct reading *w, struct error *err)
{
    enum wake wake = WAKE_READY;

    while (w->holders > 1 && wake == WAKE_READY)
        wake = wait_queue_wait(&w->done, NO_DEADLINE);
    return wake == WAKE_READY ? 0 : fiber_wake_error(wake, err);
}

int message_keys_read(const struct message_keys_reader *r, struct error *err)
{
    struct reading *w = memory_alloc(sizeof *w);
    int rc;

    *w = (struct reading){.r = r, .holders = 1};
    wait_queue_init(&w->done);
    if (r->count > SLICE_COUNT) {
        w->holders++;
        fiber_start("read_keys", helper_fiber, w);
    }
    read_slices(w);
    rc = await_helper(w, err);
    if (rc == 0 && w->rc < 0)
        rc = fail(err, w->error.kind, "%s", w->error.text);
    w->r = NULL;
    reading_leave(w);
    return rc;
}
