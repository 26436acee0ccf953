/* text_batch.h - one step of indexing: the next messages of an account become a segment.
 *
 * Who calls has claimed the account; the step is committed when it returns. Messages are decoded
 * on helper threads, so that no session waits. Safe to kill at any moment: what was not committed is
 * done again. A message that makes no sense, or is huge, is indexed as far as it goes. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "server/base/error.h"
#include "server/run/fiber.h"

#define TEXT_CLAIM_S       30
#define TEXT_WAITING_BYTES ((int64_t)1 << 20)

struct text_claim {
    int64_t account_id;
    int64_t claim; /* drawn by the worker */
    int64_t indexed_message_id, last_message_id;
};

/* ERR_CONFLICT when another worker took over. Moves indexed_message_id on. */
PARKS int text_index_batch(struct text_claim *c, struct error *err);
/* One merge, if there is enough to merge; *merged says whether. A damaged index is dropped, to be made anew
 * from its beginning. */
PARKS int text_merge_some(struct text_claim *c, bool *merged, struct error *err);
