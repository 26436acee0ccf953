/* imap_fetch.h - FETCH responses that no FETCH command asked for (RFC 5465, 5.2). */
#pragma once
#include "mail/imap/imap_sequence.h"
#include "mail/imap/imap_session.h"

/* `items` as imap_parse_fetch_items takes them; `seqs` resolved, of the view. */
PARKS int imap_fetch_unasked(struct imap_session *s, struct str items, struct imap_set seqs,
                             struct error *err);
