/* imap_mailbox_name.h - mailbox names on the wire and as paths of the store.
 *
 * The wire has modified UTF-7 (RFC 3501, 5.1.3) until the client enables IMAP4rev2, then UTF-8.
 * Plain UTF-8 is understood always: no valid UTF-8 beyond ASCII can be modified UTF-7. */
#pragma once
#include "mail/imap/imap_session.h"

/* Reads a mailbox argument and makes it a canonical path. A name that cannot exist is refused
 * with [CANNOT]. */
int imap_parse_mailbox(struct imap_session *s, struct imap_command *c, struct str *path,
                       struct error *err);
/* Name or pattern to UTF-8; false when it is neither valid modified UTF-7 nor UTF-8. */
bool imap_name_decode(struct arena *a, struct str wire, bool is_utf8, struct str *out);
void imap_add_mailbox(const struct imap_session *s, struct buf *out, struct str path); /* quoted */
