/* maildrop.h - the inbox as POP3 sees it: one session at a time, and messages with the sizes they
 * are sent with.
 *
 * A claim is a row that every worker and host sees. It lives as long as its session: the worker
 * renews all of its claims together, and what is not renewed ends after MAILDROP_CLAIM_S. A worker
 * that takes a dead one's place ends its predecessor's claims at once. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "mail/store/mailbox.h"
#include "server/base/error.h"
#include "server/base/list.h"
#include "server/run/fiber.h"

#define MAILDROP_CLAIM_S 30

struct maildrop_claim {
    struct list link; /* linked while it is held */
    int64_t account_id, session;
    bool is_lost; /* could not be renewed in time, and another session has it now */
};

/* ERR_CONFLICT: another session has the maildrop. */
PARKS int maildrop_claim(struct maildrop_claim *c, int64_t account_id, struct error *err);
/* Is it still ours? When it is, or nobody has it, it is so for MAILDROP_CLAIM_S more. ERR_CONFLICT: it is lost. */
PARKS int maildrop_confirm(struct maildrop_claim *c, struct error *err);
PARKS void maildrop_release(struct maildrop_claim *c); /* harmless when it is not held */

/* The size of each message of the mailbox up to uid_max, ascending: in lines that end in CR LF, without stuffed dots. */
PARKS int maildrop_read_sizes(struct mailbox_key mailbox, uint32_t uid_max,
                              void (*each)(void *arg, uint32_t uid, uint64_t size), void *arg,
                              struct error *err);

void maildrop_prepare(void);                    /* supervisor, before workers are forked */
void maildrop_keeper_start(unsigned worker);    /* worker: renews its claims */
PARKS void maildrop_keeper_stop(void);
PARKS int maildrop_renew_all(struct error *err); /* one round, now */
