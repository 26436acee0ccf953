/* imap_search_index.h - asks the text index, once, what a search's texts leave over. */
#pragma once
#include "mail/imap/imap_search_parse.h"
#include "server/run/fiber.h"

/* Sets the candidates of the keys that look for a text, before `message_count` messages of the
 * account are matched. */
PARKS int search_use_index(struct search_key *root, int64_t account_id, uint64_t message_count,
                           struct arena *a, struct error *err);
