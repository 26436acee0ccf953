/* conn_buffer.h - the bytes a connection has read or will write, in blocks that many connections share.
 *
 * An empty buffer owns no memory after conn_buffer_release(). The usual block comes from a pool of
 * the worker; what outgrows it comes from malloc and goes back there. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include "server/base/str.h"

#define CONN_BLOCK_SIZE (16 * 1024)                     /* one TLS record */

struct conn_buffer {
    char *p;
    uint32_t at, n, cap;                                /* n bytes from p + at on */
};

static inline struct str conn_buffer_str(const struct conn_buffer *b)
{
    return b->n == 0 ? STR_NULL : str_of(b->p + b->at, b->n);
}

/* Makes room behind the bytes, growing to size_max at most, and returns how much there is; 0: full. */
size_t conn_buffer_room(struct conn_buffer *b, size_t size_max);
static inline char *conn_buffer_end(struct conn_buffer *b) { return b->p + b->at + b->n; }
static inline void conn_buffer_added(struct conn_buffer *b, size_t n) { b->n += (uint32_t)n; }

/* The bytes dropped stay where they are until room is made. */
static inline void conn_buffer_drop(struct conn_buffer *b, size_t n)
{
    b->at += (uint32_t)n;
    b->n -= (uint32_t)n;
}

void conn_buffer_release(struct conn_buffer *b);        /* whatever it holds */
void conn_buffer_pool_fini(void);
