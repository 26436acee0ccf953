/* imap_status.h - counters of a mailbox, for STATUS and LIST RETURN (STATUS ...) (RFC 9051,
 * 6.3.11; RFC 5819). */
#pragma once
#include "mail/imap/imap_session.h"
#include "mail/store/mailbox.h"

/* "(MESSAGES UNSEEN)"; *items is a set of bits for imap_add_status. */
int imap_parse_status_items(struct imap_parser *p, unsigned *items, struct error *err);
bool imap_status_wants_modseq(unsigned items);
/* What is told of a mailbox without being asked (RFC 5465, 5). */
unsigned imap_status_items_of_news(bool with_modseq, bool with_unseen);
bool imap_status_wants_unseen(unsigned items); /* then, for mailboxes of others: access_count_unseen */
bool imap_status_wants_deleted_bytes(unsigned items); /* then: mailbox_count_deleted */
/* A whole "* STATUS" line; mailbox->path is the name as the client writes it (imap_place.name). */
void imap_add_status(const struct imap_session *s, struct buf *out, const struct mailbox *mailbox,
                     unsigned items);
