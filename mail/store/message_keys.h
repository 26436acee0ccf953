/* message_keys.h - reads what messages are sorted and threaded by, in sets, through a cache.
 *
 * These keys never change while a message exists, so what the worker has read once is never
 * wrong. It keeps MESSAGE_KEYS_CACHE_MAX bytes of them at most, the least recently used go. */
#pragma once
#include <stdint.h>
#include "mail/store/sort_keys.h"
#include "server/base/error.h"
#include "server/run/fiber.h"

#define MESSAGE_KEYS_CACHE_MAX ((size_t)64 << 20)

struct message_keys {
    int64_t sent_us;     /* the Date field, or else received_us (RFC 5256, 2.2) */
    int64_t received_us; /* Unix time in microseconds */
    uint64_t size;
    struct sort_keys keys;
};

/* Calls `each` once for every message of ids[] that exists, in no order; ids[] has no repeats. The
 * keys are borrowed until it returns; it must not park. -1 from it stops the reading. */
struct message_keys_reader {
    int64_t account_id;
    const int64_t *ids;
    size_t count;
    int (*each)(void *arg, size_t index, const struct message_keys *m, struct error *err);
    void *arg;
};
PARKS int message_keys_read(const struct message_keys_reader *r, struct error *err);

void message_keys_cache_clear(void); /* at exit */
