/* smtp_greylist.h - strangers come again: the first try of a letter is put off, as only real servers keep one.
 *
 * Off unless config.smtp_greylist says otherwise. A network (IPv4 /24, IPv6 /64: large senders try again from a
 * neighbour) of which one letter came through is not asked again for smtp_greylist_keep. */
#pragma once
#include "mail/smtp/smtp_internal.h"

/* 0: go on; 1: put off, and said so; -1: the database is away. */
PARKS int smtp_greylist(struct smtp_session *s, const struct smtp_path *rcpt, struct error *err);
PARKS void smtp_greylist_passed(struct smtp_session *s);       /* a message was taken after that */
void smtp_greylist_fini(void);
