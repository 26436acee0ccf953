/* memory.c - the allocations behind buf, arena and map, and the one way they end.
 *
 * Not an allocator: glibc's is good. Only the answer to failure lives here, so that no caller
 * carries a branch that has never been run. */
#include "server/base/memory.h"
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

void memory_exhausted(const char *who, size_t size)
{
    char line[128];
    int n = snprintf(line, sizeof line, "level=error event=out_of_memory where=%s size=%zu\n", who,
                     size);

    if (write(STDERR_FILENO, line, (size_t)n) < 0) {
        /* Nobody reads standard error; there is no one else to tell. */
    }
    abort();
}

void *memory_alloc(size_t size)
{
    void *p = calloc(1, size != 0 ? size : 1);

    if (p == NULL)
        memory_exhausted("memory_alloc", size);
    return p;
}

void *memory_array(size_t count, size_t size)
{
    size_t total;

    if (__builtin_mul_overflow(count, size, &total))
        memory_exhausted("memory_array", SIZE_MAX);
    return memory_alloc(total);
}

void *memory_resize(void *p, size_t size)
{
    void *moved = realloc(p, size != 0 ? size : 1);

    if (moved == NULL)
        memory_exhausted("memory_resize", size);
    return moved;
}

char *memory_copy_str(struct str s)
{
    char *copy = memory_resize(NULL, s.n + 1);

    if (s.n != 0)
        memcpy(copy, s.p, s.n);
    copy[s.n] = '\0';
    return copy;
}
