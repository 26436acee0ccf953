/* notify.h - change notices between sessions, workers and hosts.
 *
 * A topic is a 64-bit number, in practice an account_id. bus_publish() after a commit: subscribers of this
 * worker are called before it returns; other workers learn by NOTIFY, merged and sent outside any transaction
 * (at once when quiet, at most one every 20 ms when busy). A notice only says "look": when the listening
 * connection was lost, every subscriber is called after it is back, since something may have been missed. */
#pragma once
#include <stdint.h>
#include "server/base/list.h"
#include "server/run/fiber.h"

struct bus_subscription {
    struct list link;
    uint64_t topic;
    void (*changed)(
        struct bus_subscription *); /* on the loop or in the publisher's fiber: must not park */
};

void bus_subscribe(struct bus_subscription *s, uint64_t topic,
                   void (*changed)(struct bus_subscription *));
void bus_unsubscribe(struct bus_subscription *s); /* harmless when not subscribed */
void bus_publish(uint64_t topic);

void bus_start(void);      /* starts the fiber that listens and sends, to pg_conninfo() */
PARKS void bus_stop(void); /* sends what is still due */
