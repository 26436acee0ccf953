/* filter_hooks.h - what scripts ask of the store: mailboxes, annotations, other scripts, what came already. */
#pragma once
#include "mail/filter/filter_reply.h"
#include "mail/filter/filter_scripts.h"
#include "mail/sieve/sieve.h"
#include "mail/store/mailbox.h"
#include "mail/store/message.h"
#include "server/base/arena.h"
#include "server/base/error.h"

/* Of one run. */
struct filter_place {
    struct arena *arena;
    int64_t account_id;
    const struct filter_scripts *scripts;
    struct mailbox *mailboxes;                          /* of the account, once they were read */
    size_t mailbox_count;
    struct error cause;                                 /* why a hook could not answer */
};

/* hooks->context is the place. */
void filter_hooks_fill(struct filter_place *place, struct sieve_hooks *hooks);

/* A mailbox of the account; NULL: there is none. By path (any spelling of INBOX), by its name that lasts (RFC 8474), or by a special
 * use such as "\\Junk". -1: the database is away. */
PARKS int filter_find_mailbox(struct filter_place *p, struct str path, const struct mailbox **out, struct error *err);
PARKS int filter_find_mailbox_id(struct filter_place *p, struct str id, const struct mailbox **out, struct error *err);
PARKS int filter_find_special_use(struct filter_place *p, struct str attribute, const struct mailbox **out, struct error *err);
/* Makes it; NULL when it cannot be. */
PARKS int filter_make_mailbox(struct filter_place *p, struct str path, const struct mailbox **out, struct error *err);
/* Where a script wants a message: NULL when there is no such mailbox, nor one that it says to make; `makes` makes that one. */
PARKS int filter_find_target(struct filter_place *p, const struct sieve_target *t, bool makes, const struct mailbox **out,
                             struct error *err);

/* The flags of a target beside those that are there already. */
void filter_add_flags(struct arena *a, const struct sieve_target *target, uint32_t *flags, struct keywords *keywords);

/* ERR_NOT_FOUND: the account is gone. */
PARKS int filter_read_author(struct arena *a, int64_t account_id, struct filter_author *out, struct error *err);
