/* smtp_rate.h - how much somebody has done lately: connections, messages and recipients of a network, an account, a domain.
 *
 * Counting and asking never wait: a worker counts in memory, and a fiber brings what was counted to the database and the
 * sum of all workers and hosts back, every second while there is any. So a limit is passed by what arrives everywhere
 * in about a second, and never by more. The window slides: of the one before, the part that is still inside counts. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "server/base/error.h"
#include "server/base/str.h"
#include "server/run/fiber.h"

enum smtp_rate_what { SMTP_RATE_CONNECTIONS, SMTP_RATE_MESSAGES, SMTP_RATE_RECIPIENTS, SMTP_RATE_WHAT_COUNT };

#define SMTP_RATE_KEY_MAX 300                           /* bytes: "network 192.0.2.7", "account 17", "domain example.org" */

/* Counts one, unless that would be more than limit (0: no limit) within the window: then false, and nothing is counted. */
bool smtp_rate_take(struct str key, enum smtp_rate_what what, int64_t limit);
/* Takes one back that was counted. */
void smtp_rate_return(struct str key, enum smtp_rate_what what);

void smtp_rate_start(void);
PARKS void smtp_rate_stop(void);                        /* what is counted goes to the database, if it is there */
PARKS int smtp_rate_reconcile(struct error *err);       /* now; for tests */
