/* sts_store.h - MTA-STS policies of other domains between deliveries, for all workers and hosts (RFC 8461, 3.3). */
#pragma once
#include <stdint.h>
#include "server/base/arena.h"
#include "server/base/error.h"
#include "server/base/str.h"
#include "server/run/fiber.h"

struct sts_stored {
    struct str id, text;                                /* text empty: there is none, or it has expired */
    int64_t fetched_us, expires_us;                     /* unix time */
};

PARKS int sts_store_get(struct arena *a, struct str domain, struct sts_stored *out, struct error *err);
/* Texts that are no UTF-8 are refused with ERR_SYNTAX. Forgets some that have expired. */
PARKS int sts_store_put(struct str domain, struct str id, struct str text, int64_t max_age_s, struct error *err);
