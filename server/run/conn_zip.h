/* conn_zip.h - DEFLATE between a connection's buffers and its socket or TLS (RFC 4978, RFC 1951).
 *
 * What is written is flushed each time, so that the peer can read all of it, and ends at a byte
 * between two blocks. That is why a compressor may be taken away from a connection at any such
 * moment: the next one begins without memory of what went before, which costs some bytes and is no
 * error. A worker keeps CONN_ZIP_COMPRESSORS_MAX of them, of about 270 KB each, for all connections.
 *
 * A decompressor must remember the last 32 KiB. At rest that memory alone is kept, as much as there
 * is of it, and its 42 KB of state are given back. Nothing is decompressed before somebody has room
 * for it, so a small input that would become a huge one meets the reader's limits like any other.
 * The opposite, empty blocks without end, which no reader would ever see, is broken after
 * CONN_ZIP_FRUITLESS_MAX bytes; flushes between commands are far from that. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "server/run/conn_buffer.h"

#define CONN_ZIP_COMPRESSORS_MAX 32
#define CONN_ZIP_FRUITLESS_MAX   (64u << 10)
#define CONN_ZIP_OUT_MAX         (1u << 20) /* what the largest output buffer becomes at worst */

struct conn_zip {
    struct conn_buffer in, out;         /* as they come from and go to the wire */
    struct z_stream_s *inflater;        /* NULL at rest */
    unsigned char *history;             /* at rest: what was read last, for references back to it */
    unsigned history_size;
    bool is_full;                       /* the last read filled its room: there may be more without input */
    bool is_at_edge;                    /* the last read ended between two blocks */
    bool has_ended;                     /* the peer's stream is over */
    size_t fruitless;                   /* bytes read since the last that became something */
    struct compressor *compressor;      /* lent by the pool; NULL: none, or another connection has it now */
};

enum conn_zip_result {
    CONN_ZIP_DONE,
    CONN_ZIP_HUNGRY,                    /* give it more input */
    CONN_ZIP_END,                       /* the peer has ended its stream */
    CONN_ZIP_BROKEN,
};

struct conn_zip *conn_zip_new(void);
void conn_zip_free(struct conn_zip **z);

/* Decompresses from `in` into the room given; DONE: *got > 0. */
enum conn_zip_result conn_zip_read(struct conn_zip *z, void *to, size_t size, size_t *got);
/* Compresses and flushes all of `plain` behind `out`. */
void conn_zip_write(struct conn_zip *z, struct conn_buffer *plain);
/* Gives back what a connection at rest does not need. */
void conn_zip_rest(struct conn_zip *z);
void conn_zip_pool_fini(void);
