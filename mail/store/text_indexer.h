/* text_indexer.h - keeps the text index up, behind the deliveries.
 *
 * Each worker notes the accounts that it delivered to and indexes them when they have been quiet
 * for text_index_delay and enough waits (under lasting load after a while all the same). What a
 * dead worker had noted is found at the start of the next one, and by a look at all accounts now
 * and then. An account is claimed by a row, so that no two workers of any host index it. */
#pragma once
#include <stdint.h>
#include "server/base/error.h"
#include "server/run/fiber.h"

void text_indexer_start(void);
PARKS void text_indexer_stop(void); /* waits for the step in progress */

/* This account got a message, or more. Cheap, also without an indexer. */
void text_indexer_note(int64_t account_id);

/* Indexes all that the account has now, however little, and merges. ERR_CONFLICT while another
 * worker is at it. */
PARKS int text_index_account(int64_t account_id, struct error *err);
