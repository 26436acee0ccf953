/* metrics.c - one row of shared memory per process, mapped before the workers are forked.
 *
 * A row is written by its process alone and summed by whoever answers /metrics. A row outlives
 * its process: the counters of a worker that died stay in the sum, its gauges are zeroed when a
 * successor takes the row. */
#include "server/run/metrics.h"
#include <assert.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include "server/base/memory.h"

#define CACHE_LINE_CELLS (64 / sizeof(int64_t))
#define HEARTBEAT        METRIC_COUNT /* the cell behind the metrics */
/* Whole cache lines, so that two workers never write to the same one. */
#define ROW_CELLS ((METRIC_COUNT + 1 + CACHE_LINE_CELLS - 1) / CACHE_LINE_CELLS * CACHE_LINE_CELLS)

static const struct metric_info {
    const char *name;
    const char *help;
    bool is_gauge;
} infos[METRIC_COUNT] = {
#define COUNTER(name, help) {#name, help, false},
#define GAUGE(name, help)   {#name, help, true},
#include "server/run/metrics.def"
#undef COUNTER
#undef GAUGE
};

/* Stands in until metrics_init(), so that command-line tools and tests may count, too. */
static int64_t private_row[ROW_CELLS];

int64_t *metrics_slot = private_row;

static int64_t *rows = private_row;
static unsigned row_count = 1;

static int64_t *row_at(unsigned row)
{
    assert(row < row_count);
    return rows + (size_t)row * ROW_CELLS;
}

/* One row more than workers: the last is the supervisor's. */
void metrics_init(unsigned slots)
{
    size_t size = ((size_t)slots + 1) * sizeof private_row;
    void *shared = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (shared == MAP_FAILED)
        memory_exhausted("metrics_init", size);
    rows = shared;
    row_count = slots + 1;
    metrics_slot = row_at(slots);
    memcpy(metrics_slot, private_row, sizeof private_row);
}

void metrics_use_slot(unsigned slot)
{
    metrics_slot = row_at(slot);
    for (unsigned m = 0; m < METRIC_COUNT; m++)
        if (infos[m].is_gauge)
            metrics_slot[m] = 0;
}

static int64_t cell(unsigned row, unsigned index)
{
    return __atomic_load_n(&row_at(row)[index], __ATOMIC_RELAXED);
}

int64_t metrics_sum(enum metric m)
{
    int64_t sum = 0;

    for (unsigned row = 0; row < row_count; row++)
        sum += cell(row, m);
    return sum;
}

void metrics_print(struct buf *out)
{
    for (unsigned m = 0; m < METRIC_COUNT; m++) {
        const struct metric_info *info = &infos[m];
        const char *suffix = info->is_gauge ? "" : "_total";

        buf_addf(out, "# HELP merpati_%s%s %s\n", info->name, suffix, info->help);
        buf_addf(out, "# TYPE merpati_%s%s %s\n", info->name, suffix,
                 info->is_gauge ? "gauge" : "counter");
        buf_addf(out, "merpati_%s%s %lld\n", info->name, suffix,
                 (long long)metrics_sum((enum metric)m));
    }
}

void metrics_heartbeat(int64_t now_ms)
{
    __atomic_store_n(&metrics_slot[HEARTBEAT], now_ms, __ATOMIC_RELAXED);
}

int64_t metrics_last_heartbeat(unsigned slot)
{
    return cell(slot, HEARTBEAT);
}
