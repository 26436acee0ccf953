/* metrics.h - counters that every worker keeps in shared memory, so that any worker can print the sum.
 *
 * Each worker writes its own slot only: no atomics needed beyond aligned 64-bit stores. */
#pragma once
#include <stdint.h>
#include "server/base/buf.h"

enum metric {
#define COUNTER(name, help) METRIC_##name,
#define GAUGE(name, help) METRIC_##name,
#include "server/run/metrics.def"
#undef COUNTER
#undef GAUGE
    METRIC_COUNT
};

void metrics_init(unsigned slots);                      /* supervisor, before forking; tests may skip it */
void metrics_use_slot(unsigned slot);                   /* worker: its own; gauges of a dead predecessor are zeroed */
extern int64_t *metrics_slot;                           /* this process's row */

static inline void metric_add(enum metric m, int64_t by) { metrics_slot[m] += by; }
static inline void metric_inc(enum metric m) { metrics_slot[m]++; }

int64_t metrics_sum(enum metric m);
void metrics_print(struct buf *out);                    /* Prometheus text exposition, version 0.0.4 */

/* Sign of life for the supervisor's watchdog. A new worker's row holds its predecessor's last one
 * until it sends its own. */
void metrics_heartbeat(int64_t now_ms);
int64_t metrics_last_heartbeat(unsigned slot);
