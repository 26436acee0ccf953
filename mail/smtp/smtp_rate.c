/* smtp_rate.c - counts in memory, and the fiber that shares them.
 *
 * An entry lives as long as its window and the next one. What was counted but not shared yet ("add") is part of the
 * estimate, so one worker alone keeps to a limit exactly. While a batch is on its way entries may change, but none
 * that is part of it goes. */
#include "mail/smtp/smtp_rate.h"

#include <assert.h>
#include <stdlib.h>

#include "mail/store/smtp_policy_store.h"
#include "server/base/date.h"
#include "server/base/list.h"
#include "server/base/log.h"
#include "server/base/map.h"
#include "server/base/memory.h"
#include "server/run/channel.h"
#include "server/run/config.h"
#include "server/run/loop.h"

#define SHARE_INTERVAL_MS 1000
#define SWEEP_INTERVAL_MS 60000
#define ENTRIES_MAX       50000 /* beyond, strangers who are new are not counted in this worker */

_Static_assert(SMTP_RATE_WHAT_COUNT == SMTP_COUNTS, "the store knows the same counts");

struct entry {
    struct list link; /* of changed ones; unlinked: nothing to share */
    char *key;
    int64_t window;
    int64_t add[SMTP_COUNTS], current[SMTP_COUNTS], previous[SMTP_COUNTS];
    bool is_away; /* part of the batch */
};

static struct {
    struct map *entries;
    struct list changed;
    struct fiber *keeper;
    struct wait_queue due, ended;
    int64_t sweep_at_ms;
    bool is_sharing, complained;
} rates = {.changed = {&rates.changed, &rates.changed}};

/* ---- windows -------------------------------------------------------------------------------------- */

static int64_t window_now(int64_t now_us)
{
    return now_us / (config.smtp_rate_window * 1000);
}

/* What is not shared yet counts as of the new window: about a second's worth. */
static void roll(struct entry *e, int64_t window)
{
    for (size_t k = 0; k < SMTP_COUNTS; k++) {
        e->previous[k] = window == e->window + 1 ? e->current[k] : 0;
        e->current[k] = 0;
    }
    e->window = window;
}

static int64_t estimate(const struct entry *e, enum smtp_rate_what what, int64_t now_us)
{
    int64_t length_us = config.smtp_rate_window * 1000, passed_us = now_us % length_us;
    double share = 1.0 - (double)passed_us / (double)length_us;

    return e->add[what] + e->current[what] + (int64_t)((double)e->previous[what] * share);
}

static struct entry *find(struct str key, int64_t now_us)
{
    struct entry *e;

    if (rates.entries == NULL)
        rates.entries = map_new();
    e = map_get(rates.entries, key);
    if (e == NULL) {
        if (map_count(rates.entries) >= ENTRIES_MAX || key.n > SMTP_RATE_KEY_MAX)
            return NULL;
        e = memory_alloc(sizeof *e);
        e->key = memory_copy_str(key);
        e->window = window_now(now_us);
        map_put(rates.entries, key, e);
    }
    if (e->window != window_now(now_us))
        roll(e, window_now(now_us));
    return e;
}

/* ---- counting ------------------------------------------------------------------------------------- */

static void mark_changed(struct entry *e)
{
    if (list_is_linked(&e->link))
        return;
    list_append(&rates.changed, &e->link);
    if (rates.keeper != NULL)
        wait_queue_wake_all(&rates.due);
}

bool smtp_rate_take(struct str key, enum smtp_rate_what what, int64_t limit)
{
    int64_t now_us = time_now_us();
    struct entry *e;

    if (limit == 0 || (e = find(key, now_us)) == NULL)
        return true;
    if (estimate(e, what, now_us) >= limit)
        return false;
    e->add[what]++;
    mark_changed(e);
    return true;
}

void smtp_rate_return(struct str key, enum smtp_rate_what what)
{
    struct entry *e = rates.entries == NULL ? NULL : map_get(rates.entries, key);

    if (e == NULL)
        return;
    e->add[what]--;
    mark_changed(e);
}

/* ---- sharing -------------------------------------------------------------------------------------- */

static size_t take_batch(struct entry **batch, struct smtp_counts *v)
{
    struct list *at;
    size_t n = 0;

    while (n < SMTP_COUNTS_BATCH_MAX && (at = list_take_first(&rates.changed)) != NULL) {
        struct entry *e = CONTAINER_OF(at, struct entry, link);

        batch[n] = e;
        v[n] = (struct smtp_counts){.key = str_c(e->key), .window = e->window};
        memcpy(v[n].add, e->add, sizeof e->add);
        e->is_away = true;
        n++;
    }
    return n;
}

static void settle(struct entry *e, const struct smtp_counts *v, bool is_done)
{
    e->is_away = false;
    if (!is_done) {
        mark_changed(e);
        return;
    }
    for (size_t k = 0; k < SMTP_COUNTS; k++) {
        e->add[k] -= v->add[k];
        if (e->window == v->window) {
            e->current[k] = v->current[k];
            e->previous[k] = v->previous[k];
        } else if (e->window == v->window + 1)
            e->previous[k] = v->current[k];
    }
}

/* Changed while the batch was away: another turn is due. */
static int share_batch(struct entry **batch, struct smtp_counts *v, size_t *count,
                       struct error *err)
{
    int status;

    *count = take_batch(batch, v);
    if (*count == 0)
        return 0;
    status = smtp_counts_add(v, *count, err);
    for (size_t i = 0; i < *count; i++)
        settle(batch[i], &v[i], status == 0);
    return status;
}

int smtp_rate_reconcile(struct error *err)
{
    struct entry **batch;
    struct smtp_counts *v;
    size_t count;
    int status;

    if (rates.is_sharing) /* the keeper is at it */
        return 0;
    rates.is_sharing = true;
    batch = memory_array(SMTP_COUNTS_BATCH_MAX, sizeof *batch);
    v = memory_array(SMTP_COUNTS_BATCH_MAX, sizeof *v);
    do
        status = share_batch(batch, v, &count, err);
    while (status == 0 && count == SMTP_COUNTS_BATCH_MAX);
    free(v);
    free(batch);
    rates.is_sharing = false;
    return status;
}

/* ---- forgetting ------------------------------------------------------------------------------------ */

static void free_entry(struct entry *e)
{
    list_remove(&e->link);
    free(e->key);
    free(e);
}

static void sweep(void)
{
    int64_t window = window_now(time_now_us());
    struct str key;
    size_t at = 0;
    void *value;

    rates.sweep_at_ms = loop_deadline(SWEEP_INTERVAL_MS);
    while (rates.entries != NULL && map_each(rates.entries, &at, &key, &value)) {
        struct entry *e = value;

        if (e->window >= window - 1 || e->is_away || list_is_linked(&e->link))
            continue;
        map_remove(rates.entries, key);
        free_entry(e);
    }
    smtp_counts_forget(window - 1, NULL);
}

static void forget_all(void)
{
    struct str key;
    size_t at = 0;
    void *value;

    if (rates.entries == NULL)
        return;
    while (map_each(rates.entries, &at, &key, &value))
        free_entry(value);
    map_free(&rates.entries);
}

/* ---- the keeper ------------------------------------------------------------------------------------ */

/* Without a database everybody is counted by this worker alone; once is enough to say so. */
static void share(void)
{
    struct error err = {0};

    if (smtp_rate_reconcile(&err) == 0)
        rates.complained = false;
    else if (!rates.complained) {
        rates.complained = true;
        log_warn(NULL, "rates_not_shared", KV_ERR(&err));
    }
}

static void keeper_run(void *arg)
{
    while (!fiber_cancelled()) {
        if (list_is_empty(&rates.changed))
            wait_queue_wait(&rates.due, rates.sweep_at_ms);
        else if (fiber_sleep(SHARE_INTERVAL_MS) == WAKE_TIMED_OUT)
            share();
        if (!fiber_cancelled() && loop_now_ms() >= rates.sweep_at_ms)
            sweep();
    }
    rates.keeper = NULL;
    wait_queue_wake_all(&rates.ended);
}

void smtp_rate_start(void)
{
    wait_queue_init(&rates.due);
    wait_queue_init(&rates.ended);
    rates.sweep_at_ms = loop_deadline(SWEEP_INTERVAL_MS);
    rates.keeper = fiber_start("smtp_rates", keeper_run, NULL);
}

void smtp_rate_stop(void)
{
    if (rates.keeper != NULL)
        fiber_cancel(rates.keeper);
    while (rates.keeper != NULL && !fiber_cancelled())
        wait_queue_wait(&rates.ended, NO_DEADLINE);
    share();
    forget_all();
}
