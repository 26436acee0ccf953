/* routing_internal.h - the way on from where an address leads, for routing.c. */
#pragma once
#include "server/directory/routing.h"

struct routing_start {
    int64_t account_id;                                 /* 0: the address */
    struct str address;                                 /* elsewhere */
    bool may_lead_on;                                   /* known to be open to the sender: saves a round trip */
    bool is_for_postmaster;                             /* anyone may post */
};

/* Follows groups and forwards. Fills all of the routes but address and detail of accounts; none when nobody is reached.
 * ERR_DENIED and ERR_LIMIT as of directory_route. */
PARKS int routing_walk(struct arena *a, const struct routing_start *start, const struct routing_sender *from,
                       struct routes *out, struct error *err);
