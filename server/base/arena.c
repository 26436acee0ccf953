/* arena.c - a chain of blocks, cut from the front.
 *
 * Blocks double from 4 KiB to 64 KiB. What would fill a good part of a block gets one of its own
 * and is chained behind the current one, so that a single large value does not waste the room
 * that is left. Under AddressSanitizer the unused part of every block is poisoned: a slice that
 * outlives its arena's reset is found at once. */
#include "server/base/arena.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#if defined(__SANITIZE_ADDRESS__) || defined(__clang__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(p, size)   ((void)(p), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(p, size) ((void)(p), (void)(size))
#endif
#include "server/base/memory.h"

#define ALIGNMENT        _Alignof(max_align_t)
#define BLOCK_SIZE_FIRST (4 * 1024 - 16) /* with malloc's own head: 4 KiB */
#define BLOCK_SIZE_MAX   (64 * 1024)

struct block {
    struct block *next; /* older, or an outsized one */
    size_t size;        /* of bytes[] */
    size_t used;
    max_align_t bytes[];
};

struct arena {
    struct block *current; /* small values are cut from here */
    struct block *first;   /* survives a reset; NULL until needed */
    size_t size;
};

struct arena *arena_new(void)
{
    return memory_alloc(sizeof(struct arena));
}

static void block_free(struct block *b)
{
    ASAN_UNPOISON_MEMORY_REGION(b->bytes, b->size);
    free(b);
}

static void free_blocks_except(struct arena *a, struct block *kept)
{
    struct block *b = a->current, *next;

    for (; b != NULL; b = next) {
        next = b->next;
        if (b != kept)
            block_free(b);
    }
}

void arena_free(struct arena **a)
{
    if (*a == NULL)
        return;
    free_blocks_except(*a, NULL);
    free(*a);
    *a = NULL;
}

void arena_reset(struct arena *a)
{
    struct block *b = a->first;

    free_blocks_except(a, b);
    a->current = b;
    a->size = 0;
    if (b == NULL)
        return;
    b->next = NULL;
    b->used = 0;
    ASAN_POISON_MEMORY_REGION(b->bytes, b->size);
    a->size = sizeof *b + b->size;
}

size_t arena_size(const struct arena *a)
{
    return sizeof *a + a->size;
}

static struct block *block_new(struct arena *a, size_t size)
{
    struct block *b;

    if (size > SIZE_MAX / 2)
        memory_exhausted("arena", size);
    b = malloc(sizeof *b + size);
    if (b == NULL)
        memory_exhausted("arena", size);
    b->next = NULL;
    b->size = size;
    b->used = 0;
    ASAN_POISON_MEMORY_REGION(b->bytes, b->size);
    a->size += sizeof *b + size;
    return b;
}

static void *block_cut(struct block *b, size_t size)
{
    char *p = (char *)b->bytes + b->used;
    size_t rounded = (size + ALIGNMENT - 1) & ~(ALIGNMENT - 1);

    b->used = rounded < b->size - b->used ? b->used + rounded : b->size;
    ASAN_UNPOISON_MEMORY_REGION(p, size);
    return p;
}

static void add_block(struct arena *a)
{
    size_t size = BLOCK_SIZE_FIRST - sizeof(struct block);
    struct block *b;

    if (a->current != NULL)
        size = a->current->size < BLOCK_SIZE_MAX / 2 ? a->current->size * 2 : BLOCK_SIZE_MAX;
    b = block_new(a, size);
    b->next = a->current;
    a->current = b;
    if (a->first == NULL)
        a->first = b;
}

static void *cut_outsized(struct arena *a, size_t size)
{
    struct block *b = block_new(a, size);

    if (a->current == NULL)
        add_block(a);
    b->next = a->current->next;
    a->current->next = b;
    return block_cut(b, size);
}

/* Not zeroed. Sizes that differ by their last bytes are kept apart by the rounding in block_cut. */
static void *cut(struct arena *a, size_t size)
{
    if (size == 0)
        size = 1;
    if (a->current != NULL && size <= a->current->size - a->current->used)
        return block_cut(a->current, size);
    if (size > BLOCK_SIZE_FIRST / 2)
        return cut_outsized(a, size);
    add_block(a);
    return block_cut(a->current, size);
}

void *arena_alloc(struct arena *a, size_t size)
{
    return memset(cut(a, size), 0, size);
}

void *arena_array(struct arena *a, size_t count, size_t size)
{
    size_t total;

    if (__builtin_mul_overflow(count, size, &total))
        memory_exhausted("arena_array", SIZE_MAX);
    return arena_alloc(a, total);
}

void *arena_copy(struct arena *a, const void *p, size_t size)
{
    void *copy = cut(a, size);

    if (size != 0)
        memcpy(copy, p, size);
    return copy;
}

struct str arena_str(struct arena *a, struct str s)
{
    char *copy = cut(a, s.n + 1);

    if (s.n != 0)
        memcpy(copy, s.p, s.n);
    copy[s.n] = '\0';
    return str_of(copy, s.n);
}

const char *arena_c(struct arena *a, struct str s)
{
    return arena_str(a, s).p;
}

struct str arena_printf(struct arena *a, const char *format, ...)
{
    struct str text;
    va_list ap;

    va_start(ap, format);
    text = arena_vprintf(a, format, ap);
    va_end(ap);
    return text;
}

struct str arena_vprintf(struct arena *a, const char *format, va_list ap)
{
    va_list again;
    char *text;
    int n;

    va_copy(again, ap);
    n = vsnprintf(NULL, 0, format, ap);
    assert(n >= 0);
    text = cut(a, (size_t)n + 1);
    vsnprintf(text, (size_t)n + 1, format, again);
    va_end(again);
    return str_of(text, (size_t)n);
}

struct str arena_lower(struct arena *a, struct str s)
{
    char *copy = cut(a, s.n + 1);

    for (size_t i = 0; i < s.n; i++)
        copy[i] = ascii_lower(s.p[i]);
    copy[s.n] = '\0';
    return str_of(copy, s.n);
}
