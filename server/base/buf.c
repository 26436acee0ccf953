/* buf.c - growing, and the sticky limit.
 *
 * Memory doubles, starting small, and one byte more than `cap` is always allocated, so that
 * buf_c() and buf_take() can close with a NUL even when the buffer is full to its limit. */
#include "server/base/buf.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include "server/base/memory.h"

#define BUF_FIRST_SIZE 240 /* with NUL and malloc's head: 256 */

void buf_init(struct buf *b, size_t size_max)
{
    *b = (struct buf){.size_max = size_max};
}

void buf_fini(struct buf *b)
{
    free(b->p);
    buf_init(b, b->size_max);
}

void buf_clear(struct buf *b)
{
    b->n = 0;
    b->overflowed = false;
}

static void grow(struct buf *b, size_t needed)
{
    size_t cap = b->cap == 0 ? BUF_FIRST_SIZE : b->cap;

    while (cap < needed && cap <= b->size_max / 2)
        cap *= 2;
    if (cap < needed || cap > b->size_max)
        cap = b->size_max;
    b->p = memory_resize(b->p, cap + 1);
    b->cap = cap;
}

char *buf_reserve(struct buf *b, size_t n)
{
    if (b->overflowed || n > b->size_max - b->n) {
        b->overflowed = true;
        return NULL;
    }
    if (b->p == NULL || n > b->cap - b->n)
        grow(b, b->n + n);
    return b->p + b->n;
}

void buf_commit(struct buf *b, size_t n)
{
    assert(n <= b->cap - b->n);
    b->n += n;
}

void buf_add_bytes(struct buf *b, const void *p, size_t n)
{
    char *to;

    if (n == 0)
        return;
    to = buf_reserve(b, n);
    if (to == NULL)
        return;
    memcpy(to, p, n);
    b->n += n;
}

void buf_add(struct buf *b, struct str s)
{
    buf_add_bytes(b, s.p, s.n);
}

void buf_addc(struct buf *b, char c)
{
    buf_add_bytes(b, &c, 1);
}

void buf_adds(struct buf *b, const char *c_string)
{
    buf_add(b, str_c(c_string));
}

void buf_addf(struct buf *b, const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    buf_vaddf(b, format, ap);
    va_end(ap);
}

void buf_vaddf(struct buf *b, const char *format, va_list ap)
{
    size_t room = b->cap - b->n; /* the NUL has a byte of its own */
    va_list again;
    char *to;
    int n;

    if (b->overflowed)
        return;
    va_copy(again, ap);
    n = vsnprintf(b->p != NULL ? b->p + b->n : NULL, b->p != NULL ? room + 1 : 0, format, ap);
    assert(n >= 0);
    if (b->p != NULL && (size_t)n <= room) {
        b->n += (size_t)n;
    } else if ((to = buf_reserve(b, (size_t)n)) != NULL) {
        vsnprintf(to, (size_t)n + 1, format, again);
        b->n += (size_t)n;
    }
    va_end(again);
}

void buf_add_u64(struct buf *b, uint64_t value)
{
    char digits[20];
    size_t at = sizeof digits;

    do {
        digits[--at] = (char)('0' + value % 10);
        value /= 10;
    } while (value != 0);
    buf_add_bytes(b, digits + at, sizeof digits - at);
}

void buf_consume(struct buf *b, size_t n)
{
    assert(n <= b->n);
    b->n -= n;
    if (n != 0 && b->n != 0)
        memmove(b->p, b->p + n, b->n);
}

void buf_truncate(struct buf *b, size_t n)
{
    if (n < b->n)
        b->n = n;
}

const char *buf_c(struct buf *b)
{
    if (b->p == NULL)
        return "";
    b->p[b->n] = '\0';
    return b->p;
}

char *buf_take(struct buf *b, size_t *n)
{
    char *taken = b->p != NULL ? b->p : memory_alloc(1);

    taken[b->n] = '\0';
    if (n != NULL)
        *n = b->n;
    buf_init(b, b->size_max);
    return taken;
}
