/* upkeep.h - what the store does by itself: purges what the retention period has released,
 * collects unused blobs, forgets old tombstones, corrects miscounted blobs.
 *
 * Any number of workers and hosts may start it: a task is claimed by a row of store_upkeep, so
 * that one of them does it per period. Small transactions; safe to kill at any moment. */
#pragma once
#include <stdint.h>
#include "server/base/error.h"
#include "server/run/fiber.h"

void store_upkeep_start(void); /* a fiber that wakes every few minutes */
void store_upkeep_stop(void);
/* One round, now: messages removed so long ago, and unused blobs. */
PARKS int store_purge(int64_t retention_ms, struct error *err);
/* Drops tombstones older than that. */
PARKS int store_forget(int64_t age_ms, struct error *err);
/* Compares every blob's count of uses with the rows that use it, and corrects it. *count: how
 * many were wrong. */
PARKS int store_audit_blobs(int64_t *count, struct error *err);
/* Drops what is known of the sizes of messages that are gone for good, account by account. */
PARKS int store_forget_growth(struct error *err);
