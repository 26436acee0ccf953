/* imap_sort_order.h - puts messages of a view into the order of a sort program (RFC 5256, 3; RFC
 * 5957). */
#pragma once
#include "mail/imap/imap_search_options.h"
#include "mail/store/mailbox_index.h"
#include "server/run/fiber.h"

/* Orders seqs[] in place: equal ones by number. scores: for RELEVANCY, by seq - 1. Messages
 * that vanished meanwhile are left out; *count is what stays. ERR_LIMIT when the worker's memory
 * for sorting is used up. */
PARKS int imap_sort_order(struct mailbox_view *view, struct mailbox_key mailbox,
                          const struct sort_program *program, const uint8_t *scores,
                          uint32_t *seqs, size_t *count, struct error *err);

/* The message_ids of seqs[], in memory from the arena; vanished ones are taken out of both. */
int64_t *imap_sort_ids(struct mailbox_view *view, struct arena *a, uint32_t *seqs, size_t *count);

/* Memory that sorting may use in a worker, over all its sessions. Taken as it is needed, given
 * back when the command ends. */
int imap_sort_memory_take(size_t size, struct error *err);
void imap_sort_memory_give(size_t size);
