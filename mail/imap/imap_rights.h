/* imap_rights.h - what the user may do in the selected mailbox (RFC 4314, 4).
 *
 * The rights are read with SELECT and again when the mailbox's grants have changed, which its index
 * learns with everything else, or after some seconds, as groups change too. One's own mailboxes
 * cost nothing. */
#pragma once
#include "mail/imap/imap_session.h"
#include "mail/store/access.h"

/* The mailbox has just been selected by `mailbox->rights`; s->is_examined is set. */
void imap_rights_take(struct imap_session *s, const struct mailbox *mailbox);
/* Before a command, and before the client is told news. Tells the client what has changed; -1 when
 * the mailbox may be read no more (it is closed then, ERR_NOT_FOUND), or when nobody can say. */
PARKS int imap_rights_refresh(struct imap_session *s, struct error *err);
/* The same, asked of the database whatever is known: the news of a change may still be on its way. */
PARKS int imap_rights_read(struct imap_session *s, struct error *err);

/* Has the user one of `rights`, and was the mailbox not opened by EXAMINE? */
static inline bool imap_may(const struct imap_session *s, unsigned rights)
{
    return !s->is_read_only && (s->rights & rights) != 0;
}
/* The same as an error: [NOPERM] or [READ-ONLY]. */
int imap_require(struct imap_session *s, struct imap_command *c, unsigned rights,
                 struct error *err);
/* "READ-ONLY" or "READ-WRITE", as RFC 4314, 5.2 has it. */
const char *imap_rights_code(const struct imap_session *s);
