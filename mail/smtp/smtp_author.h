/* smtp_author.h - what somebody who logged in writes: in whose name they may, and what a submission server adds (RFC 6409).
 *
 * From must name addresses that the account owns or was granted (server/directory/grants.h); Sender is added where
 * somebody writes on another's behalf. In resent mail that holds for Resent-From, and From may be anybody's who is not of
 * ours. Date and Message-ID are added, Bcc is taken out (mail/queue/submission_fix.h). */
#pragma once
#include "mail/queue/submit.h"
#include "mail/smtp/smtp_internal.h"

/* Fills m->message and m->room_size (with the message as it goes out), m->copies (for the Sent mailboxes that want one),
 * m->language, m->is_ours and m->hold_until_us, and sets m->is_utf8 when what was added needs it. message: as received, with
 * room_size bytes before it that may be overwritten, and its header as well: a header that changed is written before the
 * body where it stands, so use m->message from then on. ERR_SYNTAX, ERR_TOO_BIG: no message that could be sent; ERR_DENIED: in
 * somebody else's name; each says what to do. */
PARKS int smtp_author_prepare(struct smtp_session *s, struct str message, size_t room_size, struct submit *m, struct error *err);
