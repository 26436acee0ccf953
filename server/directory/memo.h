/* memo.h - remembers for a while, in this process only, that something was so.
 *
 * What is remembered is a digest under a key that never leaves the process. At most count_max facts; the oldest
 * gives way. Forgetting early is always harmless to the caller: it asks again. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "server/base/str.h"

struct memo;

struct memo *memo_new(size_t count_max);
void memo_free(struct memo **m);                        /* accepts a NULL inside */

bool memo_holds(struct memo *m, const struct str *parts, size_t count);
void memo_add(struct memo *m, const struct str *parts, size_t count, int64_t duration_ms);
