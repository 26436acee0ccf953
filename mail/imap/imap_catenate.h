/* imap_catenate.h - the bytes that a URL of a CATENATE names (RFC 4469). */
#pragma once
#include "mail/imap/imap_session.h"

/* Appends them to out, size_max at most. ERR_SYNTAX or ERR_NOT_FOUND when the URL names nothing,
 * ERR_TOO_BIG. */
PARKS int imap_catenate_url(struct imap_session *s, struct str url, size_t size_max,
                            struct buf *out, struct error *err);
/* The response code, for struct imap_command's refusal. */
const char *imap_catenate_badurl(struct arena *a, struct str url);
