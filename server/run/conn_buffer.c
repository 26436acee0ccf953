/* conn_buffer.c - a free list of equal blocks. A sanitizer build has none, so that it sees every misuse. */
#include "server/run/conn_buffer.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "server/base/memory.h"

#if defined(__SANITIZE_ADDRESS__)
#define POOL_COUNT_MAX 0u
#else
#define POOL_COUNT_MAX 64u
#endif

/* Below this a read is hardly worth its system call, and the bytes are moved to the front. */
#define ROOM_MIN 2048

struct block {
    struct block *next;
};

static struct {
    struct block *free;
    unsigned count;
} pool;

static char *block_take(void)
{
    struct block *b = pool.free;

    if (b == NULL) {
        char *fresh = malloc(CONN_BLOCK_SIZE);

        if (fresh == NULL)
            memory_exhausted("connection buffer", CONN_BLOCK_SIZE);
        return fresh;
    }
    pool.free = b->next;
    pool.count--;
    return (char *)b;
}

static void block_put(char *p)
{
    struct block *b = (struct block *)p;

    if (pool.count + 1 > POOL_COUNT_MAX) { /* 0 under ASan: each buffer is its own */
        free(p);
        return;
    }
    b->next = pool.free;
    pool.free = b;
    pool.count++;
}

static void memory_put(char *p, size_t cap)
{
    if (cap == CONN_BLOCK_SIZE)
        block_put(p);
    else
        free(p);
}

static void grow(struct conn_buffer *b, size_t cap)
{
    char *p = cap == CONN_BLOCK_SIZE ? block_take() : memory_resize(NULL, cap);

    if (b->p != NULL) {
        memcpy(p, b->p + b->at, b->n);
        memory_put(b->p, b->cap);
    }
    *b = (struct conn_buffer){.p = p, .n = b->n, .cap = (uint32_t)cap};
}

static size_t tail(const struct conn_buffer *b)
{
    return b->cap - b->at - b->n;
}

size_t conn_buffer_room(struct conn_buffer *b, size_t size_max)
{
    assert(size_max >= CONN_BLOCK_SIZE);
    if (b->p == NULL)
        grow(b, CONN_BLOCK_SIZE);
    if (b->n == 0)
        b->at = 0;
    if (b->at > 0 && tail(b) < ROOM_MIN) {
        memmove(b->p, b->p + b->at, b->n);
        b->at = 0;
    }
    if (tail(b) == 0 && b->cap < size_max)
        grow(b, 2 * (size_t)b->cap < size_max ? 2 * (size_t)b->cap : size_max);
    return tail(b);
}

void conn_buffer_release(struct conn_buffer *b)
{
    if (b->p != NULL)
        memory_put(b->p, b->cap);
    *b = (struct conn_buffer){0};
}

void conn_buffer_pool_fini(void)
{
    while (pool.free != NULL)
        free(block_take());
}
