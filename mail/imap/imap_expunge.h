/* imap_expunge.h - removing what is \Deleted. */
#pragma once
#include "mail/imap/imap_session.h"

/* Everything \Deleted in the selected mailbox, which the user may expunge. Messages that the index
 * knows are named, so that nobody looks through a large mailbox for them; behind that the
 * mailbox's counter says whether there are others. */
PARKS int imap_expunge_deleted(struct imap_session *s, size_t *count, struct error *err);
