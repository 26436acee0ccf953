/* smtp_verdict.h - is a message from outside what it says it is, and what do we do about it?
 *
 * Runs SPF, DKIM, ARC and DMARC (mail/authentic/authentic.h) for strangers' mail, obeys what the author's domain asks for,
 * takes out Authentication-Results fields that claim to be ours, and counts what its owner wants reported. */
#pragma once
#include "mail/authentic/authentic.h"
#include "mail/smtp/smtp_internal.h"

struct smtp_verdict {
    bool is_checked;                    /* false: the client is trusted, or checks are off; the rest is empty then */
    struct authentic checked;
    struct str field;                   /* Authentication-Results, with CRLF */
    struct str results;                 /* what follows our name in it: for a seal */
    bool is_junk;                       /* the domain asks to put it aside */
    struct str message;                 /* without forged fields; what was given when there were none. Has room_size bytes */
    size_t room_size;                   /* before it that may be overwritten */
};

/* message: header and body as received, in the transaction's buffer, with room_size bytes before it. 1: refused, as its
 * domain asks for, or put off, as the domain's DNS did not answer so that nobody can tell; it was said and traced. */
PARKS int smtp_verdict_make(struct smtp_session *s, struct str message, size_t room_size, struct smtp_verdict *out);
