/* routing.h - where mail for an address of ours goes: to accounts, and to addresses elsewhere.
 *
 * An address leads to an account, on through groups to their members and through forwards to their targets; remote
 * aliases, remote members, forwards and catch-alls end at addresses of other servers. Nearly every address is one
 * account that keeps its mail: that costs one query. Nothing is lost on the way: an account whose forwards lead back to
 * it, or to nobody, keeps its copy. What admins change is in routing_admin.h, who may write in whose name in grants.h. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "server/base/arena.h"
#include "server/base/error.h"
#include "server/base/str.h"
#include "server/run/fiber.h"

#define RECIPIENTS_MAX  10000                           /* of one address, groups and forwards followed; more is ERR_LIMIT */
#define ROUTE_DEPTH_MAX 20                              /* groups in groups and forwards of forwards */

enum route_kind { ROUTE_ACCOUNT, ROUTE_REMOTE };

struct route {
    enum route_kind kind;
    int64_t account_id;                                 /* ROUTE_ACCOUNT */
    struct str address;                                 /* as it was found, canonical; of ROUTE_REMOTE: where to, local part without quotes */
    struct str detail;                                  /* "shop" of ani+shop, or empty */
    int64_t bytes_free;                                 /* until the quota; INT64_MAX: without limit; <= 0: full */
    int64_t through_account_id;                         /* whose forward or group leads there; 0: the address itself */
    bool needs_srs;                                     /* ROUTE_REMOTE: the sender's domain is not ours, so its SPF would fail */
};

struct routes {
    struct route *v;
    size_t n;
    bool is_group;                                      /* the address stands for several: of a group, or of a forward that keeps a copy */
    int64_t size_max;                                   /* largest message that the domain takes; 0: as large as the server's */
};

/* Who writes: decides who may post to a group. Addresses of ours count only when who logged in may use them, or a
 * trusted neighbour (LMTP) vouches for them; addresses of others count as they are written. */
struct routing_sender {
    struct str address;                                 /* of the envelope; empty: the null path */
    int64_t account_id;                                 /* who logged in; 0: nobody */
    bool is_trusted;
};

/* local may hold a +detail, tried whole first and then without where the domain has details. postmaster@ and abuse@ of
 * our domains lead somewhere always, and anyone may write there: without a row of their own to the domain's postmaster,
 * else to the oldest active person of that domain, or of the server. At least one route, each once, on success.
 * ERR_UNSUPPORTED: not our domain, the caller may relay; ERR_NOT_FOUND: no such recipient in our domain; ERR_DENIED: may not post to
 * this group, with the rule and whom to ask; ERR_LIMIT: leads to too many, or too far; ERR_SYNTAX; ERR_TRY_LATER. */
PARKS int directory_route(struct arena *a, struct str local, struct str domain, const struct routing_sender *from,
                          struct routes *out, struct error *err);
