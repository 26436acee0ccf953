/* queue.h - mail on its way to other servers: the scheduler of each worker.
 *
 * What this worker accepts it usually delivers at once from memory; what waits in the database (mail/store/outbound.h) is
 * claimed by whichever worker of whichever host has room. Memory is bounded (queue_memory_messages, queue_memory_max),
 * however long the queue. Each destination has slots of its own, few until it has taken something; one that cannot be
 * reached is left alone for longer and longer, and only its own mail waits. */
#pragma once
#include "mail/queue/remote.h"
#include "mail/store/delivery.h"
#include "mail/store/outbound.h"
#include "server/base/error.h"
#include "server/run/fiber.h"

struct queue_options {
    unsigned worker;                                    /* its place on this host */
    void (*deliver)(struct arena *a, struct remote_job *job);  /* remote_deliver */
};

/* Supervisor, before workers are forked: the number by which restarted workers find what dead ones held. */
int queue_prepare(struct error *err);
void queue_start(const struct queue_options *options);
/* Ends what is running (within drain_timeout) and gives back what waits. */
PARKS void queue_stop(void);

/* mail_deliver_all(), and what goes to other servers is on its way when this returns. Whoever brings in mail for others calls
 * this. */
PARKS int queue_deliver_all(struct mail_item *items, size_t count, struct error *err);
static inline int queue_deliver(const struct message_prepared *m, struct delivery *v, size_t count, struct outbound *o,
                                struct error *err)
{
    return queue_deliver_all(&(struct mail_item){m, v, count, o}, 1, err);
}

/* All mail of an account that waits, until an administrator releases it: it seems to be misused. What it submits
 * afterwards is its submitter's to hold (outbound.held). */
PARKS int queue_hold_account(int64_t account_id, struct str reason, int64_t *count, struct error *err);
