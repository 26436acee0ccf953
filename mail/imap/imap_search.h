/* imap_search.h - what SEARCH, SORT, THREAD and ESEARCH have in common. */
#pragma once
#include "mail/imap/imap_search_answer.h"
#include "mail/imap/imap_search_run.h"

/* After a parser refused: the response code that says why, and "$" is emptied where it must be.
 * Returns -1. */
int imap_search_refused(struct imap_session *s, struct imap_command *c,
                        const struct search_request *r, const struct error *err);
/* What the session forbids: CHARSET, sequence numbers, a tag in use. */
int imap_search_check(struct imap_session *s, struct imap_command *c,
                      const struct search_request *r, struct error *err);
/* Runs the request over the selected mailbox: *found is in mailbox order. With `is_ordered` all
 * messages are found, else only as many as the answer needs. */
PARKS int imap_search_selected(struct imap_session *s, struct imap_command *c,
                               const struct search_request *r, bool is_ordered,
                               struct search_found *found, struct error *err);
