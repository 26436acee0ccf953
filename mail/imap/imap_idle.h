/* imap_idle.h - IDLE (RFC 2177): between the command and DONE the session rests without a stack. */
#pragma once
#include "mail/imap/imap_session.h"

PARKS int imap_idle_end(struct imap_session *s,
                        struct error *err);  /* input came: DONE, or -1 for the connection's end */
void imap_idle_stop(struct imap_session *s); /* without an answer */
