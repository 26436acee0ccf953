/* smtp_scan.h - what scanners (mail/spam/scanner.h) say of a message that came in, done.
 *
 * A virus is refused, from strangers and our own people alike, unless the setting virus_action says otherwise; of Rspamd's
 * actions reject and discard refuse, soft reject puts off, quarantine holds, add header and rewrite subject lead to Junk. LMTP
 * goes past (a neighbour has scanned), and so do our own people with scan_submissions = no. */
#pragma once
#include "mail/queue/submit.h"
#include "mail/smtp/smtp_internal.h"

/* After milters have changed the message. 0: go on; 1: refused or put off, said and traced; -1: err. */
PARKS int smtp_scan_submit(struct smtp_session *s, struct submit *m, struct error *err);
