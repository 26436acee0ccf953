/* imap_reply.h - status answers: OK, NO with its response code (RFC 5530), BAD, BYE; and small
 * pieces of data.
 *
 * The one table from error kinds to IMAP is in imap_reply.c. */
#pragma once
#include "mail/imap/imap_session.h"

PARKS void imap_reply_done(struct imap_session *s, const struct imap_command *c);
PARKS void imap_reply_error(struct imap_session *s, struct imap_command *c,
                            const struct error *err);
PARKS void imap_bye(struct imap_session *s, const char *text); /* and the session ends */

/* A handler's read failed: nothing more can be answered. Returns -1. */
int imap_connection_lost(struct imap_session *s, struct imap_command *c);

/* "\Seen \Flagged $Work" with parentheses. */
void imap_add_flags(struct buf *out, uint32_t flags, const struct keywords *keywords);
void imap_add_quoted(struct buf *out, struct str s); /* s holds neither CR, LF nor NUL */
void imap_add_string(struct buf *out, struct str s); /* quoted, or a literal where it must be */
/* The same for UTF-8, quoted too when this client takes that. */
void imap_add_text(const struct imap_session *s, struct buf *out, struct str utf8);
/* A buffer for the answer's data, written with imap_flush_buf. */
PARKS void imap_write_buf(struct imap_session *s, struct buf *out); /* writes, empties */
