/* memory.h - malloc that ends the process rather than fail.
 *
 * A worker without memory cannot answer anybody; its supervisor starts another. Whoever allocates
 * by a size from outside has checked that size before. Freed with free(3). */
#pragma once
#include <stddef.h>
#include "server/base/str.h"

void *memory_alloc(size_t size);                        /* zeroed */
void *memory_array(size_t count, size_t size);          /* zeroed; overflow ends the process */
void *memory_resize(void *p, size_t size);              /* new bytes are not zeroed */
char *memory_copy_str(struct str s);                    /* with a NUL behind it */

/* Says why on standard error and aborts. */
void memory_exhausted(const char *who, size_t size) __attribute__((noreturn, cold));
