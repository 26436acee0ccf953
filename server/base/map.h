/* map.h - a hash table from byte-string or 64-bit keys to pointers.
 *
 * Keys are hashed with SipHash under a key drawn at start, so a client that picks the keys cannot
 * make them collide. Byte-string keys are copied into the map. Values are borrowed. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "server/base/str.h"

struct map;

struct map *map_new(void);
void map_free(struct map **m);                          /* not the values */
size_t map_count(const struct map *m);

void *map_get(const struct map *m, struct str key);     /* NULL when absent */
void *map_put(struct map *m, struct str key, void *value);   /* returns the value replaced, or NULL */
void *map_remove(struct map *m, struct str key);        /* returns the value removed, or NULL */

static inline struct str map_key_u64(const uint64_t *key) { return (struct str){(const char *)key, sizeof *key}; }

/* Visits every entry in no order; the visited entry may be removed inside. `at` starts at 0. */
bool map_each(const struct map *m, size_t *at, struct str *key, void **value);

uint64_t siphash(struct str s);                         /* keyed per process: never store it */
