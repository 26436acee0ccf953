/* channel.c - waiting for each other within one worker.
 *
 * A wake that is given to a waiter is never lost: when the waiter was cancelled in the same
 * turn, it passes the wake on to the next one in line. */
#include "server/run/channel.h"

#include <assert.h>
#include <stdlib.h>

#include "server/base/memory.h"

struct waiter {
    struct list link;
    struct fiber *fiber;
    bool is_chosen; /* somebody woke us, and took us off the queue */
};

void wait_queue_init(struct wait_queue *q)
{
    list_init(&q->waiters);
}

/* Not inlined: the compiler would take the link from the queue to the waiter's stack for a leak of it. */
static __attribute__((noinline)) void enqueue(struct wait_queue *q, struct waiter *w)
{
    list_append(&q->waiters, &w->link);
}

PARKS enum wake wait_queue_wait(struct wait_queue *q, int64_t deadline_ms)
{
    struct waiter self = {.fiber = fiber_self()};
    enum wake wake = WAKE_READY;

    enqueue(q, &self);
    while (!self.is_chosen && wake == WAKE_READY)
        wake = fiber_park(deadline_ms);
    list_remove(&self.link);
    if (!self.is_chosen)
        return wake;
    if (wake == WAKE_CANCELLED) {
        wait_queue_wake_one(q);
        return WAKE_CANCELLED;
    }
    return WAKE_READY;
}

bool wait_queue_wake_one(struct wait_queue *q)
{
    struct list *first = list_take_first(&q->waiters);
    struct waiter *w;

    if (first == NULL)
        return false;
    w = CONTAINER_OF(first, struct waiter, link);
    w->is_chosen = true;
    fiber_wake(w->fiber);
    return true;
}

void wait_queue_wake_all(struct wait_queue *q)
{
    while (wait_queue_wake_one(q))
        ;
}

/* ---- channels ------------------------------------------------------------------------------ */

struct channel {
    struct wait_queue senders;
    struct wait_queue receivers;
    size_t at, count, count_max;
    void *items[]; /* a ring: count items from `at` on */
};

struct channel *channel_new(size_t count_max)
{
    struct channel *c;

    assert(count_max > 0);
    assert(count_max < SIZE_MAX / sizeof(void *) - sizeof *c);
    c = memory_alloc(sizeof *c + count_max * sizeof(void *));
    c->count_max = count_max;
    wait_queue_init(&c->senders);
    wait_queue_init(&c->receivers);
    return c;
}

void channel_free(struct channel **c)
{
    if (*c == NULL)
        return;
    assert((*c)->count == 0);
    assert(list_is_empty(&(*c)->senders.waiters));
    assert(list_is_empty(&(*c)->receivers.waiters));
    free(*c);
    *c = NULL;
}

bool channel_try_send(struct channel *c, void *item)
{
    if (c->count == c->count_max)
        return false;
    c->items[(c->at + c->count++) % c->count_max] = item;
    wait_queue_wake_one(&c->receivers);
    return true;
}

PARKS enum wake channel_send(struct channel *c, void *item, int64_t deadline_ms)
{
    while (!channel_try_send(c, item)) {
        enum wake wake = wait_queue_wait(&c->senders, deadline_ms);

        if (wake != WAKE_READY)
            return wake;
    }
    return WAKE_READY;
}

static bool channel_try_receive(struct channel *c, void **item)
{
    if (c->count == 0)
        return false;
    *item = c->items[c->at];
    c->at = (c->at + 1) % c->count_max;
    c->count--;
    wait_queue_wake_one(&c->senders);
    return true;
}

PARKS enum wake channel_receive(struct channel *c, void **item, int64_t deadline_ms)
{
    while (!channel_try_receive(c, item)) {
        enum wake wake = wait_queue_wait(&c->receivers, deadline_ms);

        if (wake != WAKE_READY)
            return wake;
    }
    return WAKE_READY;
}

size_t channel_count(const struct channel *c)
{
    return c->count;
}
