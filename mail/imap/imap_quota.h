/* imap_quota.h - the warning that a quota is exceeded (RFC 9208, 4.3.1). */
#pragma once
#include "mail/imap/imap_session.h"

/* Messages arrived in the selected mailbox: did they put its account over a limit? Told once, until
 * there is room again. */
PARKS void imap_quota_warn(struct imap_session *s);
