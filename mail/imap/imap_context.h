/* imap_context.h - results of SEARCH and SORT that are kept up to date (RFC 5267): RETURN (UPDATE),
 * CANCELUPDATE.
 *
 * A context is named by the tag of its command and lives until it is cancelled or the mailbox is
 * left. It knows which messages its client has in the list, and the highest modseq that it has
 * looked at, and the highest UID: what has a higher one is matched again when news are told. */
#pragma once
#include "mail/imap/imap_search_answer.h"
#include "mail/imap/imap_search_options.h"

#define CONTEXTS_MAX         20
#define CONTEXT_MESSAGES_MAX 1000000 /* in all contexts of a session */

/* Before the search runs: is UPDATE possible with this tag? */
int imap_context_check(const struct imap_session *s, const struct imap_command *c,
                       const struct search_request *r, struct error *err);
/* After its answer: nothing when UPDATE was not asked for, NO [NOUPDATE] when there are too many.
 * program NULL: in mailbox order. */
PARKS void imap_context_add(struct imap_session *s, struct imap_command *c,
                            const struct search_request *r, const struct sort_program *program,
                            const struct search_found *found);
/* The same with a correlator of its own: "TAG ... MAILBOX ...". */
PARKS void imap_context_add_named(struct imap_session *s, struct imap_command *c,
                                  struct str correlator, bool by_uid,
                                  const struct search_request *r,
                                  const struct sort_program *program,
                                  const struct search_found *found);
PARKS void imap_context_refuse(struct imap_session *s, struct imap_command *c, const char *why);

/* When news are told: before EXPUNGE and after FETCH (RFC 5267, 4.3.2). */
PARKS void imap_contexts_expunge(struct imap_session *s, const struct view_changes *changes);
PARKS void imap_contexts_update(struct imap_session *s);
bool imap_contexts_are_stale(const struct imap_session *s); /* the last update failed */
void imap_contexts_clear(struct imap_session *s);
