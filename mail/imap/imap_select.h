/* imap_select.h - opening and leaving a mailbox. */
#pragma once
#include "mail/imap/imap_session.h"

/* Forgets the view and the saved search; harmless when nothing is selected. */
void imap_deselect(struct imap_session *s);
/* Somebody removed the selected mailbox: says so and goes back to AUTHENTICATED. */
PARKS void imap_mailbox_is_gone(struct imap_session *s);
