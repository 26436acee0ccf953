/* queue_hop.c - the slots of each hop, and who gets the next free one.
 *
 * A hop begins with one slot and gets one more with every message it takes. One that could not be reached keeps one slot
 * for finding out whether it can again, and none until its pause is over.
 *
 * However many dead servers there are, and however long they let us wait, the others go on. Hops that have not shown yet
 * that they take mail share three quarters of the slots and a quarter of the jobs in hand, two each. An attempt that has
 * come to nothing after two seconds is set aside: it goes on for as long as its timeouts let it, but takes nobody's slot, job
 * or memory, and what waits behind it goes back to the database. */
#include "mail/queue/queue_internal.h"

#include "server/base/memory.h"
#include "server/run/config.h"
#include "server/run/loop.h"
#include "server/run/metrics.h"
#include <stdlib.h>
#include <unistd.h>

#define LIMIT_FIRST  1
#define LIMIT_SLOW   2 /* while the first message takes its time */
#define SLOW_FACTOR  5 /* times queue_deliveries_max */
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
        *h = (struct hop){.limit = LIMIT_FIRST};
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

static bool has_slot_for_all(void)
{
    return queue.running - queue.slow < (unsigned)config.queue_deliveries_max;
}

static bool has_slot_for_new(void)
{
    unsigned all = (unsigned)config.queue_deliveries_max;

    return has_slot_for_all() && queue.running_unproven < all - all / 4;
}

static bool has_slot(const struct hop *h)
{
    if (queue.is_stopping || hop_is_blocked(h) || h->running >= h->limit)
        return false;
    return h->is_proven ? has_slot_for_all() : has_slot_for_new();
}

static void prove(struct hop *h, bool is_proven)
{
    if (h->is_proven == is_proven)
        return;
    h->is_proven = is_proven;
    list_remove(&h->runnable);
    if (is_proven) {
        queue.running_unproven -= h->running - h->slow;
        queue.waiting_new -= h->waiting_count;
    } else {
        queue.running_unproven += h->running - h->slow;
        queue.waiting_new += h->waiting_count;
    }
}

static void count_waiting(struct hop *h, int by)
{
    h->waiting_count += (size_t)by;
    if (!h->is_proven)
        queue.waiting_new += (size_t)by;
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
        list_append(h->is_proven ? &queue.runnable : &queue.runnable_new, &h->runnable);
}

/* Each hop in line gets its chance once; those that go on waiting stand in line again. */
static void give_slots(struct list *line, bool (*has_more)(void))
{
    struct list *at;

    for (size_t n = map_count(queue.hops); n > 0 && has_more(); n--) {
        at = list_take_first(line);
        if (at == NULL)
            return;
        hop_start(CONTAINER_OF(at, struct hop, runnable));
    }
}

static void give_free_slots(void)
{
    give_slots(&queue.runnable, has_slot_for_all);
    give_slots(&queue.runnable_new, has_slot_for_new);
}

void hop_slot_free(struct hop *h)
{
    count_running(h, -1);
    if (h->waiting_count > 0)
        hop_start(h);
    give_free_slots();
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
    count_waiting(h, 1);
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
    count_waiting(h, -1);
    if (h->may_have_more && hop_takes_more(h)) {
        h->may_have_more = false;
        queue.has_more = true;
        queue_wake_scheduler();
    }
    return CONTAINER_OF(at, struct job, link);
}

/* ---- news ------------------------------------------------------------------------------------ */

/* Other workers may know that it had failed: the first success is told to the database. */
void hop_succeeded(struct hop *h)
{
    if (!h->is_proven || h->failures > 0) {
        commit_hop_news(h->name, false, STR(""));
        queue.has_more = true;
        queue_wake_scheduler();
    }
    h->failures = 0;
    h->blocked_until_ms = 0;
    h->succeeded_ms = loop_now_ms();
    prove(h, true);
    if (h->limit < limit_max())
        h->limit++;
    hop_start(h);
}

void hop_give_back(struct hop *h)
{
    struct list *at;

    while ((at = list_take_first(&h->waiting)) != NULL) {
        count_waiting(h, -1);
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

/* ---- slow attempts ----------------------------------------------------------------------------- */

/* Nothing got through since it began. Without a session the server may be dead, and others need not find that out, too; what
 * waits here is better off in the database in any case. */
static void doubt(struct hop *h, bool has_session)
{
    if (!has_session && !hop_is_blocked(h)) {
        hop_failed(h, STR("no answer yet"));
        return;
    }
    prove(h, false);
    hop_give_back(h);
    if (has_session && h->limit < LIMIT_SLOW && h->limit < limit_max())
        h->limit++;
}

bool hop_set_aside(struct hop *h, int64_t began_ms, bool has_session)
{
    if (h->succeeded_ms < began_ms)
        doubt(h, has_session);
    if (queue.slow >= (unsigned)config.queue_deliveries_max * SLOW_FACTOR)
        return false;
    h->slow++;
    queue.slow++;
    if (!h->is_proven)
        queue.running_unproven--;
    give_free_slots();
    if (queue.has_more)
        queue_wake_scheduler();
    return true;
}

/* It goes on, or ends, as one that takes a slot. */
void hop_slow_ended(struct hop *h)
{
    h->slow--;
    queue.slow--;
    if (!h->is_proven)
        queue.running_unproven++;
}

/* ---- what is claimed --------------------------------------------------------------------------- */

bool hop_takes_more(const struct hop *h)
{
    if (h->is_proven)
        return h->waiting_count <= CLAIM_WINDOW / 2;
    return h->slow == 0 ? h->waiting_count < CLAIM_WINDOW_NEW
                        : h->running + h->waiting_count < h->limit;
}

bool hops_take_new(void)
{
    return queue.waiting_new * 4 < (size_t)config.queue_memory_messages;
}

/* How long one is left alone is the database's to say. */
void hops_sort(struct arena *a, struct outbound_claim_limits *limits)
{
    struct str *skip = ARENA_ARRAY(a, map_count(queue.hops), struct str);
    struct str *proven = ARENA_ARRAY(a, map_count(queue.hops), struct str);

    limits->skip = skip;
    limits->proven = proven;
    LIST_EACH (at, &queue.hop_list) {
        const struct hop *h = CONTAINER_OF(at, struct hop, link);

        if (!hop_takes_more(h))
            skip[limits->skip_count++] = arena_str(a, h->name);
        else if (h->is_proven)
            proven[limits->proven_count++] = arena_str(a, h->name);
    }
}
