/* arena.h - memory of one lifetime, given back all at once.
 *
 * One arena per connection, mail transaction or command. A function that takes an arena returns
 * memory from it. Blocks come from malloc; a reset keeps the first block only, so that an arena
 * that once held much does not hold it for ever. Never returns NULL: out of memory ends the worker. */
#pragma once
#include <stdarg.h>
#include <stddef.h>
#include "server/base/str.h"

struct arena;

struct arena *arena_new(void);
void arena_free(struct arena **a);
void arena_reset(struct arena *a);
size_t arena_size(const struct arena *a);               /* bytes held from malloc */

void *arena_alloc(struct arena *a, size_t size);        /* zeroed, aligned for anything */
void *arena_array(struct arena *a, size_t count, size_t size);   /* zeroed; overflow ends the worker */
void *arena_copy(struct arena *a, const void *p, size_t size);
struct str arena_str(struct arena *a, struct str s);    /* a copy, with a NUL behind it */
const char *arena_c(struct arena *a, struct str s);     /* the same as a C string */
struct str arena_printf(struct arena *a, const char *format, ...) __attribute__((format(printf, 2, 3)));
struct str arena_vprintf(struct arena *a, const char *format, va_list ap);
struct str arena_lower(struct arena *a, struct str s);  /* ASCII lower case copy */

#define ARENA_NEW(a, type) ((type *)arena_alloc((a), sizeof(type)))
#define ARENA_ARRAY(a, count, type) ((type *)arena_array((a), (count), sizeof(type)))
