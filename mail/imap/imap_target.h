/* imap_target.h - which messages a command is about. */
#pragma once
#include "mail/imap/imap_sequence.h"
#include "mail/imap/imap_session.h"

/* Turns a parsed set of UIDs, of sequence numbers or "$" into resolved ranges of sequence
 * numbers of the view. UIDs that do not exist are passed over; a sequence number beyond the last
 * message is ERR_SYNTAX. */
int imap_target_resolve(const struct imap_session *s, struct imap_set *set, bool by_uid,
                        struct error *err);
/* RFC 9738: leaves the last so many of resolved ranges as one command may work on; when these are
 * not all, the OK will say so. */
void imap_target_limit(const struct imap_session *s, struct imap_command *c, struct imap_set *seqs);
/* The same for what can be done as a whole only: [MESSAGELIMIT]. */
int imap_target_check_saved(struct imap_command *c, struct arena *a, const struct imap_set *seqs,
                            struct error *err);
/* The UIDs of resolved ranges, ascending. */
uint32_t *imap_target_uids(const struct imap_session *s, const struct imap_set *seqs,
                           size_t *count);

/* "* VANISHED (EARLIER) ..." for what was expunged since modseq; known NULL: all. */
PARKS int imap_tell_vanished_earlier(struct imap_session *s, uint64_t modseq,
                                     const struct imap_set *known, struct error *err);
