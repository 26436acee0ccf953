/* channel.h - how fibers of one worker wait for each other.
 *
 * A wait_queue is a condition: look, and if it is not so yet, wait and look again.
 * A channel carries pointers first in, first out, between producers and consumers. */
#pragma once
#include "server/base/list.h"
#include "server/run/fiber.h"

struct wait_queue {
    struct list waiters;
};

void wait_queue_init(struct wait_queue *q);
PARKS enum wake wait_queue_wait(struct wait_queue *q, int64_t deadline_ms);
bool wait_queue_wake_one(struct wait_queue *q);         /* the longest waiting; false when nobody waits */
void wait_queue_wake_all(struct wait_queue *q);

struct channel;

struct channel *channel_new(size_t count_max);
void channel_free(struct channel **c);                  /* must hold nothing and have no waiters */
PARKS enum wake channel_send(struct channel *c, void *item, int64_t deadline_ms);   /* waits while full */
bool channel_try_send(struct channel *c, void *item);
PARKS enum wake channel_receive(struct channel *c, void **item, int64_t deadline_ms);
size_t channel_count(const struct channel *c);
