/* queue_hop.c - the slots of each hop, and who gets the next free one.
 *
 * A hop begins with few slots and gets one more with every message it takes. One that could not be reached keeps one slot
 * for finding out whether it can again, and none until its pause is over. Hops that have not shown yet that they take mail
 * share three quarters of all slots: however many dead servers there are, and however long they let us wait, the
 * others go on. */
#include "mail/queue/queue_internal.h"

#include "server/base/memory.h"
#include "server/run/config.h"
#include "server/run/loop.h"
#include "server/run/metrics.h"
#include <stdlib.h>
#include <unistd.h>

#define LIMIT_FIRST  2
#define HOPS_MAX     10000
#define IDLE_KEPT_MS 600000

/* ---- finding --------------------------------------------------------------------------------- */

struct hop *hop_find(struct str name)
{
    return map_get(queue.hops, name);
}

static unsigned limit_max(void)
{
    long workers = config.workers > 0 ? config.workers : sysconf(_SC_NPROCESSORS_ONLN);
    long limit = config.queue_destination_concurrency / (workers > 0 ? workers : 1);

    return limit > 1 ? (unsigned)limit : 1;
}

struct hop *hop_get(struct str name)
{
    struct hop *h = hop_find(name);

    if (h == NULL) {
        h = memory_alloc(sizeof *h);
        *h = (struct hop){.limit = LIMIT_FIRST < limit_max() ? LIMIT_FIRST : limit_max()};
        h->name.p = memory_copy_str(name);
        h->name.n = name.n;
        list_init(&h->waiting);
        map_put(queue.hops, h->name, h);
    }
    list_remove(&h->link);
    list_append(&queue.hop_list, &h->link);
    h->used_ms = loop_now_ms();
    return h;
}

static void hop_free(struct hop *h)
{
    map_remove(queue.hops, h->name);
    list_remove(&h->link);
    list_remove(&h->runnable);
    free((char *)h->name.p);
    free(h);
}

static bool is_forgettable(const struct hop *h, bool all)
{
    if (h->running > 0 || h->waiting_count > 0)
        return false;
    return all || map_count(queue.hops) > HOPS_MAX ||
           (!hop_is_blocked(h) && h->used_ms + IDLE_KEPT_MS < loop_now_ms());
}

void hops_trim(bool all)
{
    LIST_EACH_SAFE (at, &queue.hop_list) {
        struct hop *h = CONTAINER_OF(at, struct hop, link);

        if (is_forgettable(h, all))
            hop_free(h);
        else if (!all && map_count(queue.hops) <= HOPS_MAX &&
                 h->used_ms + IDLE_KEPT_MS >= loop_now_ms())
            return;
    }
}

bool hop_is_blocked(const struct hop *h)
{
    return h->blocked_until_ms > loop_now_ms();
}

/* ---- slots ----------------------------------------------------------------------------------- */

static bool has_slot(const struct hop *h)
{
    unsigned all = (unsigned)config.queue_deliveries_max;

    if (queue.is_stopping || hop_is_blocked(h) || h->running >= h->limit || queue.running >= all)
        return false;
    return h->is_proven || queue.running_unproven < all - all / 4;
}

static void prove(struct hop *h, bool is_proven)
{
    if (h->is_proven == is_proven)
        return;
    h->is_proven = is_proven;
    if (is_proven)
        queue.running_unproven -= h->running;
    else
        queue.running_unproven += h->running;
}

static void count_running(struct hop *h, int by)
{
    h->running += (unsigned)by;
    queue.running += (unsigned)by;
    if (!h->is_proven)
        queue.running_unproven += (unsigned)by;
    metric_add(METRIC_queue_running, by);
}

/* As many fibers as it has jobs for and slots. */
static void hop_start(struct hop *h)
{
    size_t wanted = h->waiting_count;

    while (wanted > 0 && has_slot(h)) {
        count_running(h, 1);
        fiber_start("delivery", attempt_run, h);
        wanted--;
    }
    list_remove(&h->runnable);
    if (wanted > 0 && !queue.is_stopping && !hop_is_blocked(h) && h->running < h->limit)
        list_append(&queue.runnable, &h->runnable);
}

void hop_slot_free(struct hop *h)
{
    struct list *at;

    count_running(h, -1);
    if (h->waiting_count > 0)
        hop_start(h);
    /* Each hop in line gets its chance once; those that go on waiting stand in line again. */
    for (size_t n = map_count(queue.hops);
         n > 0 && queue.running < (unsigned)config.queue_deliveries_max; n--) {
        at = list_take_first(&queue.runnable);
        if (at == NULL)
            break;
        hop_start(CONTAINER_OF(at, struct hop, runnable));
        if (queue.running_unproven >= (unsigned)config.queue_deliveries_max * 3 / 4)
            break;
    }
    if (h->waiting_count == 0 && h->running == 0)
        h->used_ms = loop_now_ms();
}

void hop_add(struct hop *h, struct job *j)
{
    struct list *at = h->waiting.prev;

    while (at != &h->waiting &&
           CONTAINER_OF(at, struct job, link)->claim.o.priority < j->claim.o.priority)
        at = at->prev;
    list_insert_before(at->next, &j->link);
    j->hop = h;
    h->waiting_count++;
    hop_start(h);
}

struct job *hop_take(struct hop *h)
{
    struct list *at;

    if (queue.is_stopping || hop_is_blocked(h) || h->running > h->limit)
        return NULL;
    at = list_take_first(&h->waiting);
    if (at == NULL)
        return NULL;
    h->waiting_count--;
    return CONTAINER_OF(at, struct job, link);
}

/* ---- news ------------------------------------------------------------------------------------ */

/* Other workers may know that it had failed: the first success is told to the database. */
void hop_succeeded(struct hop *h)
{
    if (!h->is_proven || h->failures > 0)
        commit_hop_news(h->name, false, STR(""));
    h->failures = 0;
    h->blocked_until_ms = 0;
    prove(h, true);
    if (h->limit < limit_max())
        h->limit++;
    hop_start(h);
}

void hop_give_back(struct hop *h)
{
    struct list *at;

    while ((at = list_take_first(&h->waiting)) != NULL) {
        h->waiting_count--;
        commit_back(CONTAINER_OF(at, struct job, link));
    }
    list_remove(&h->runnable);
}

void hop_block(struct hop *h, int failures, int64_t blocked_ms)
{
    h->failures = failures;
    h->blocked_until_ms = loop_deadline(blocked_ms);
    h->limit = 1;
    prove(h, false);
    hop_give_back(h);
}

/* For how long, the database says; until it does, for the shortest pause. */
void hop_failed(struct hop *h, struct str why)
{
    hop_block(h, h->failures > 0 ? h->failures : 1, config.queue_backoff_min);
    commit_hop_news(h->name, true, why);
    metric_inc(METRIC_queue_hops_blocked);
}

/* Those that have enough to do here. How long one is left alone is the database's to say. */
size_t hops_to_skip(struct arena *a, size_t window, struct str **names)
{
    size_t n = 0;

    *names = ARENA_ARRAY(a, map_count(queue.hops), struct str);
    LIST_EACH (at, &queue.hop_list) {
        const struct hop *h = CONTAINER_OF(at, struct hop, link);

        if (h->waiting_count > window / 2)
            (*names)[n++] = arena_str(a, h->name);
    }
    return n;
}
