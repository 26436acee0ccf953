/* guard.h - holds the outgoing mail of accounts that seem to be misused.
 *
 * Whoever stole a password sends as much as he can, to addresses that bounce, from anywhere. Each submission is counted
 * and judged (guard_judge.h) from memory; workers share counts about once a second, and the past of an account is read when
 * it first submits here. When an account jumps, what it has in the queue is held, what it submits is taken and held, and it
 * and the administrators are told. Nothing is lost: an administrator releases the mail or purges it. Workers and
 * hosts learn of a hold or a release by the bus, and ask once a minute in case they missed it. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include "mail/store/sending_guard.h"
#include "server/base/arena.h"
#include "server/base/error.h"
#include "server/base/str.h"
#include "server/run/fiber.h"

struct guard_submission {
    int64_t account_id;                                 /* who logged in; 0: nobody, who is never held */
    size_t recipients;                                  /* groups expanded or not, as the caller has them */
    size_t recipients_away;                             /* of them, on other servers */
    const struct sockaddr_storage *client;              /* NULL: not over the network */
    const char *language;                               /* of the message ("id", message_language.h), for what we write; or NULL */
};
struct guard_answer {
    bool is_held;                                       /* take it and hold it, recipients here too (struct submit.held) */
    char reason[200];                                   /* "account misused? 1204 recipients ..."; empty when not */
};

/* Counts a submission and says what to do with it. Parks only at the first submission of an account in an hour. -1 when the
 * database is away: ERR_TRY_LATER. */
PARKS int guard_admit(const struct guard_submission *in, struct guard_answer *out, struct error *err);
/* Another server refused a recipient of its mail for good. */
void guard_note_bounce(int64_t account_id);
/* From memory: what was read of the queue before may be held by now. */
bool guard_is_held(int64_t account_id);

void guard_start(unsigned worker_index);
PARKS void guard_stop(void);                            /* what is counted goes to the database, if it is there */
/* Everything that the guard's fiber does, now; for tests. */
PARKS int guard_reconcile(struct error *err);

/* --- administration --------------------------------------------------------------------------------- */
/* held: what waits now; counts are recipients. Each tells the workers, who apply it within a second, and the trace. */
/* Its mail goes on, and what it did counts as usual for guard_forgiveness. *was_held: by the guard. */
PARKS int guard_release(int64_t account_id, bool *was_held, int64_t *count, struct error *err);
/* Deletes what is held of the account; nobody is told. The account stays held, and what it did is not its past. */
PARKS int guard_purge(int64_t account_id, int64_t *count, struct error *err);
/* off: it is never held again. What is held stays so. */
PARKS int guard_set_off(int64_t account_id, bool is_off, struct error *err);
