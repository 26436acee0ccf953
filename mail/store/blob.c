/* blob.c - raw messages in PostgreSQL's table of blobs.
 *
 * Rows are written by deliveries (delivery.c), counted by the SQL functions that use them and
 * collected by upkeep.c. Here they are numbered and read. */
#include "mail/store/blob.h"
#include "server/pg/pg.h"
#include "sql_queries.h"

#define IDS_PER_BLOCK 1000 /* the sequence's increment */

static int64_t next_id;
static int64_t ids_left;

/* Fibers that run dry together each fetch a block; the later one wins, and what was left of the
 * other is a gap. */
int blob_next_id(int64_t *blob_id, struct error *err)
{
    struct pg_rows rows = {0};

    if (ids_left == 0) {
        if (pg_run(pg_pool(), &sql_mail_blob_block, PG_NO_ARGS, &rows, err) < 0)
            return -1;
        next_id = pg_get_i64(&rows, 0, "first_id");
        ids_left = IDS_PER_BLOCK;
        pg_rows_free(&rows);
    }
    *blob_id = next_id++;
    ids_left--;
    return 0;
}

static int read_whole(int64_t blob_id, struct pg_rows *rows, struct error *err)
{
    return pg_run(pg_pool(), &sql_mail_blob_read, PG_ARGS(pg_i64(blob_id)), rows, err);
}

/* A blob is below 1 GB, as every value in PostgreSQL. */
static int read_slice(int64_t blob_id, uint64_t offset, uint64_t size, struct pg_rows *rows,
                      struct error *err)
{
    int32_t from = offset < INT32_MAX ? (int32_t)offset + 1 : INT32_MAX;
    int32_t length = size < INT32_MAX ? (int32_t)size : INT32_MAX;

    if (length > INT32_MAX - from)
        length = INT32_MAX - from;
    return pg_run(pg_pool(), &sql_mail_blob_read_slice,
                  PG_ARGS(pg_i64(blob_id), pg_i32(from), pg_i32(length)), rows, err);
}

int blob_read(int64_t blob_id, uint64_t offset, uint64_t size, struct buf *out, struct error *err)
{
    struct pg_rows rows = {0};
    int rc = offset == 0 && size == UINT64_MAX ? read_whole(blob_id, &rows, err)
                                               : read_slice(blob_id, offset, size, &rows, err);

    if (rc < 0)
        return -1;
    buf_add(out, pg_get_str(&rows, 0, "data"));
    pg_rows_free(&rows);
    return buf_ok(out) ? 0 : fail(err, ERR_TOO_BIG, "the message is too large to be read here");
}
