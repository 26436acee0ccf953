/* smtp_author.h - what somebody who logged in writes: in whose name they may, and what a submission server adds (RFC 6409).
 *
 * From and Sender must be addresses that the account owns or was granted (server/directory/grants.h); Sender is added where
 * somebody writes on another's behalf. Date and Message-ID are added, Bcc is taken out (mail/queue/submission_fix.h). */
#pragma once
#include "mail/queue/submit.h"
#include "mail/smtp/smtp_internal.h"

/* Fills m->message and m->room_size (with the message as it goes out), m->copies (for the Sent mailboxes that want one), m->language
 * and m->is_ours. message: as received, with room_size bytes before it that may be overwritten. ERR_SYNTAX: no message that could
 * be sent; ERR_DENIED: in somebody else's name; each says what to do. */
PARKS int smtp_author_prepare(struct smtp_session *s, struct str message, size_t room_size, struct submit *m, struct error *err);
