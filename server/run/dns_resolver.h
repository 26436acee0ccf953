/* dns_resolver.h - one question to libunbound, by the way that is right here to trust its answers.
 *
 * For dns.c alone, which knows names, the cache and records. A query lives on its fiber's stack: one that was started is
 * waited for, whatever becomes of others. */
#pragma once
#include <unbound.h>
#include "server/base/list.h"
#include "server/run/dns.h"

#define RCODE_NXDOMAIN 3                                /* RFC 1035, 4.1.1 */

struct resolver;

struct resolver_leg {                                   /* the question to one context */
    struct fiber *waiter;
    struct resolver *resolver;                          /* NULL: it was not asked */
    int id;
    bool is_done;
    int status;                                         /* libunbound's; 0: there is a result */
    struct ub_result *result;
};

struct resolver_query {
    struct list link;
    struct fiber *waiter;                               /* NULL: not started */
    struct resolver_leg checking, plain;
    struct ub_result *result;                           /* after the wait; to be freed by ub_resolve_free() */
    bool is_provisional;                                /* not to be remembered: the next answer may be a checked one */
};

/* Opens libunbound, once. */
PARKS int resolver_need(struct error *err);
int resolver_query_start(struct resolver_query *q, const char *name, enum dns_type type, struct error *err);
/* ERR_TRY_LATER when there is no answer in time. What it says is for the caller to judge: SERVFAIL and bogus are answers. */
PARKS int resolver_query_wait(struct resolver_query *q, int64_t deadline_ms, struct error *err);
