/* imap_capability.h - what this server can do, as its clients are told. */
#pragma once
#include "mail/imap/imap_session.h"

/* "CAPABILITY IMAP4rev1 ..." as it is true on this connection now. */
void imap_add_capabilities(const struct imap_session *s, struct buf *out);
/* A command that needs modseqs was used (RFC 7162, 3.1). */
PARKS void imap_enable_condstore(struct imap_session *s);
