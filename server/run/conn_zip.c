/* conn_zip.c - zlib's raw streams, with as little memory as idle connections deserve. */
#include "server/run/conn_zip.h"

#include <assert.h>
#include <stdlib.h>
#include <zlib.h>

#include "server/base/list.h"
#include "server/base/memory.h"

#define WINDOW_BITS   (-15) /* raw, as RFC 4978, 4 has it */
#define LEVEL         3     /* answers shrink to a quarter; higher costs more than it saves */
#define MEMORY_LEVEL  8
#define AT_BLOCK_EDGE 128 /* z_stream.data_type: between two blocks, no bits left of a byte */

/* ---- decompressing --------------------------------------------------------------------------- */

struct conn_zip *conn_zip_new(void)
{
    return memory_alloc(sizeof(struct conn_zip));
}

static void inflater_wake(struct conn_zip *z)
{
    z->inflater = memory_alloc(sizeof *z->inflater);
    if (inflateInit2(z->inflater, WINDOW_BITS) != Z_OK)
        memory_exhausted("decompressor", 0);
    if (z->history_size > 0)
        inflateSetDictionary(z->inflater, z->history, z->history_size);
    free(z->history);
    z->history = NULL;
    z->history_size = 0;
}

static void inflater_free(struct conn_zip *z)
{
    if (z->inflater == NULL)
        return;
    inflateEnd(z->inflater);
    free(z->inflater);
    z->inflater = NULL;
}

/* Only between blocks the history is all there is to remember. */
static void inflater_rest(struct conn_zip *z)
{
    if (z->inflater == NULL || z->is_full || z->in.n > 0 || !z->is_at_edge ||
        inflateGetDictionary(z->inflater, NULL, &z->history_size) != Z_OK)
        return;
    if (z->history_size > 0) {
        z->history = memory_alloc(z->history_size);
        inflateGetDictionary(z->inflater, z->history, &z->history_size);
    }
    inflater_free(z);
}

enum conn_zip_result conn_zip_read(struct conn_zip *z, void *to, size_t size, size_t *got)
{
    struct str in = conn_buffer_str(&z->in);
    z_stream *s;
    int status;

    if (z->has_ended)
        return CONN_ZIP_END;
    if (in.n == 0 && !z->is_full)
        return CONN_ZIP_HUNGRY;
    if (z->inflater == NULL)
        inflater_wake(z);
    s = z->inflater;
    s->next_in = (unsigned char *)(uintptr_t)in.p;
    s->avail_in = (unsigned)in.n;
    s->next_out = to;
    s->avail_out = (unsigned)size;
    status = inflate(s, Z_SYNC_FLUSH);
    conn_buffer_drop(&z->in, in.n - s->avail_in);
    *got = size - s->avail_out;
    if (*got > 0 || s->avail_in < in.n) /* a call without effect says nothing */
        z->is_at_edge = s->data_type == AT_BLOCK_EDGE;
    z->fruitless = *got > 0 ? 0 : z->fruitless + (in.n - s->avail_in);
    z->has_ended = status == Z_STREAM_END;
    z->is_full = s->avail_out == 0 && !z->has_ended;
    if (*got > 0)
        return CONN_ZIP_DONE;
    if (z->has_ended)
        return CONN_ZIP_END;
    if (z->fruitless > CONN_ZIP_FRUITLESS_MAX)
        return CONN_ZIP_BROKEN;
    return status == Z_OK || status == Z_BUF_ERROR ? CONN_ZIP_HUNGRY : CONN_ZIP_BROKEN;
}

/* ---- compressing ----------------------------------------------------------------------------- */

struct compressor {
    struct list link; /* the longest unused first */
    struct conn_zip *owner;
    z_stream stream;
};

static struct {
    struct list all;
    unsigned count;
} pool = {.all = {&pool.all, &pool.all}};

static struct compressor *compressor_new(void)
{
    struct compressor *c = memory_alloc(sizeof *c);

    if (deflateInit2(&c->stream, LEVEL, Z_DEFLATED, WINDOW_BITS, MEMORY_LEVEL,
                     Z_DEFAULT_STRATEGY) != Z_OK)
        memory_exhausted("compressor", 0);
    pool.count++;
    return c;
}

static void compressor_free(struct compressor *c)
{
    list_remove(&c->link);
    deflateEnd(&c->stream);
    free(c);
    pool.count--;
}

static struct compressor *compressor_first(void)
{
    return list_is_empty(&pool.all) ? NULL : CONTAINER_OF(pool.all.next, struct compressor, link);
}

static struct compressor *compressor_take(struct conn_zip *z)
{
    struct compressor *c = z->compressor;

    if (c == NULL) {
        struct compressor *first = compressor_first();
        bool is_free = first != NULL && first->owner == NULL;

        c = is_free || pool.count == CONN_ZIP_COMPRESSORS_MAX ? first : compressor_new();
        if (c->owner != NULL)
            c->owner->compressor = NULL;
        deflateReset(&c->stream);
        c->owner = z;
        z->compressor = c;
    }
    list_remove(&c->link);
    list_append(&pool.all, &c->link);
    return c;
}

static void compressor_give_back(struct conn_zip *z)
{
    if (z->compressor == NULL)
        return;
    z->compressor->owner = NULL;
    list_remove(&z->compressor->link);
    list_prepend(&pool.all, &z->compressor->link);
    z->compressor = NULL;
}

void conn_zip_write(struct conn_zip *z, struct conn_buffer *plain)
{
    struct str in = conn_buffer_str(plain);
    z_stream *s = &compressor_take(z)->stream;

    s->next_in = (unsigned char *)(uintptr_t)in.p;
    s->avail_in = (unsigned)in.n;
    do {
        size_t room = conn_buffer_room(&z->out, CONN_ZIP_OUT_MAX);

        assert(room > 0);
        s->next_out = (unsigned char *)conn_buffer_end(&z->out);
        s->avail_out = (unsigned)room;
        deflate(s, Z_SYNC_FLUSH);
        conn_buffer_added(&z->out, room - s->avail_out);
    } while (s->avail_out == 0);
    conn_buffer_drop(plain, in.n);
}

/* ---- rest and end ---------------------------------------------------------------------------- */

void conn_zip_rest(struct conn_zip *z)
{
    inflater_rest(z);
    if (z->in.n == 0)
        conn_buffer_release(&z->in);
    conn_buffer_release(&z->out);
}

void conn_zip_free(struct conn_zip **zip)
{
    struct conn_zip *z = *zip;

    *zip = NULL;
    if (z == NULL)
        return;
    inflater_free(z);
    compressor_give_back(z);
    conn_buffer_release(&z->in);
    conn_buffer_release(&z->out);
    free(z->history);
    free(z);
}

void conn_zip_pool_fini(void)
{
    while (compressor_first() != NULL)
        compressor_free(compressor_first());
}
