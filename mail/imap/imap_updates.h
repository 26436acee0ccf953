/* imap_updates.h - what happened in the selected mailbox, told at the moments when the protocol
 * allows it. */
#pragma once
#include "mail/imap/imap_session.h"

/* EXPUNGE (or VANISHED), EXISTS and FETCH for changes not told yet. Without `expunges` sequence
 * numbers stay. */
PARKS void imap_updates_send(struct imap_session *s, bool expunges);
/* The same for what the session did itself, or asks for: all of it, whatever NOTIFY says. */
PARKS void imap_updates_send_all(struct imap_session *s);
/* FLAGS and PERMANENTFLAGS, when keywords came up that the client has not heard of. */
PARKS void imap_tell_keywords(struct imap_session *s, bool always);
/* "* 7 FETCH (", or with UIDONLY "* 9 UIDFETCH (". */
void imap_add_fetch_start(const struct imap_session *s, struct buf *out, uint32_t seq,
                          uint32_t uid);
/* "* 7 FETCH (UID 9 FLAGS (\Seen) MODSEQ (12))" with what the session wants to know. */
void imap_add_flag_update(const struct imap_session *s, struct buf *out, uint32_t seq,
                          const struct index_entry *entry, bool with_uid, bool with_flags,
                          bool with_modseq);
