/* buf.h - bytes that grow, up to a limit given at birth.
 *
 * Overflow is sticky: once an append would pass size_max, it and every later append do nothing
 * and buf_ok() says so; a reply is built in a straight line and asked once at the end.
 * Running out of memory ends the process. */
#pragma once
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include "server/base/str.h"

struct buf {
    char *p;
    size_t n;             /* bytes in use       */
    size_t cap;           /* bytes allocated    */
    size_t size_max;      /* never grows beyond */
    bool overflowed;
};

void buf_init(struct buf *b, size_t size_max);          /* allocates nothing yet */
void buf_fini(struct buf *b);                           /* gives the memory back; b may be init'ed again */
void buf_clear(struct buf *b);                          /* empties, forgets overflow, keeps the memory */

static inline bool buf_ok(const struct buf *b) { return !b->overflowed; }
static inline struct str buf_str(const struct buf *b) { return (struct str){b->p, b->n}; }

void buf_add(struct buf *b, struct str s);
void buf_add_bytes(struct buf *b, const void *p, size_t n);
void buf_addc(struct buf *b, char c);
void buf_adds(struct buf *b, const char *c_string);
void buf_addf(struct buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
void buf_vaddf(struct buf *b, const char *format, va_list ap);
void buf_add_u64(struct buf *b, uint64_t value);        /* decimal; the fast path for IMAP answers */

/* Room for n more bytes to be written at the returned place, then buf_commit(n). NULL on overflow. */
char *buf_reserve(struct buf *b, size_t n);
void buf_commit(struct buf *b, size_t n);

void buf_consume(struct buf *b, size_t n);              /* drops n bytes from the front */
void buf_truncate(struct buf *b, size_t n);             /* keeps the first n bytes      */

/* NUL behind the last byte (not counted in n), for libraries that need a C string; "" when empty. */
const char *buf_c(struct buf *b);

/* Hands the bytes to the caller, who frees them with free(); b is as after buf_init. */
char *buf_take(struct buf *b, size_t *n);
