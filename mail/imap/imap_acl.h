/* imap_acl.h - access control lists (RFC 4314), for LIST RETURN (MYRIGHTS), RFC 8440. */
#pragma once
#include "mail/imap/imap_session.h"

/* A whole "* MYRIGHTS" line. */
void imap_add_myrights(const struct imap_session *s, struct buf *out, struct str name,
                       unsigned rights);
