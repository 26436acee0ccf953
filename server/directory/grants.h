/* grants.h - who may write in whose name.
 *
 * Everyone may send as their own addresses. For those of another account (a shared mailbox, a chief's, a group's) a
 * grant is needed, given to a person or to a group for all its members: to send as it, so that nobody sees who wrote,
 * or on its behalf, where the Sender field must name an address of who wrote (RFC 5322, 3.6.2). Being in a group is no
 * grant to send as it. Administrators have none either, unless a domain gives them all its addresses
 * (domain_settings.administrators_send_as). */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "server/base/arena.h"
#include "server/base/error.h"
#include "server/base/str.h"
#include "server/run/fiber.h"

enum send_right { SEND_DENIED, SEND_ON_BEHALF, SEND_AS };

struct send_address {
    struct str address;                                 /* in: as written, any case; may have a +detail */
    enum send_right right;                              /* out */
    int64_t owner_id;                                   /* whose address it is; 0: nobody's here */
    bool is_in_our_domain;                              /* also where nobody has it, or it leads elsewhere */
    bool wants_sent_copy;                               /* file what is sent so in the owner's Sent too */
};

/* What the account that sends wants of its own mail. */
struct send_wishes {
    bool wants_sent_copy;                               /* in its Sent */
    int64_t undo_ms;                                    /* for so long it waits, to be called back; 0: not at all */
};

/* All addresses in one query; wishes may be NULL. What is no address is SEND_DENIED, not a failure. */
PARKS int directory_may_send_as(int64_t account_id, struct send_address *v, size_t count, struct send_wishes *wishes,
                                struct error *err);

/* --- managing -------------------------------------------------------------------------------------- */
/* address: whose; grantee: a person or a group, both by any of their addresses. Granted already: changed to the new right. */
PARKS int grant_add(struct str address, struct str grantee, enum send_right right, struct error *err);
PARKS int grant_remove(struct str address, struct str grantee, struct error *err);
struct grant { struct str grantee; enum send_right right; };
PARKS int grant_list(struct arena *a, struct str address, struct grant **out, size_t *count, struct error *err);
const char *send_right_name(enum send_right right);     /* "none", "on-behalf", "as" */
