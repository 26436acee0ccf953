/* imap_command.h - a command is collected whole before it is parsed.
 *
 * Lines and literals go into one buffer, within config.imap_line_max and imap_literal_max;
 * synchronising literals are invited with "+ OK". Before log-in the limits are small. APPEND
 * stops at its message. */
#pragma once
#include "mail/imap/imap_session.h"

enum imap_read {
    IMAP_READ_DONE,    /* tag, verb and args are set */
    IMAP_READ_REFUSED, /* answered already; read the next one */
    IMAP_READ_ENDED,   /* the connection: err says why */
};

PARKS enum imap_read imap_command_read(struct imap_session *s, struct imap_command *c,
                                       struct error *err);

/* Reads and throws away; ends with the error of the connection. */
PARKS int imap_discard(struct imap_session *s, uint64_t size, struct error *err);
/* The same with a literal that does not wait for us, and what follows it up to the end of its
 * command or where the client waits: no byte of it must be taken for a command. */
PARKS int imap_discard_command(struct imap_session *s, struct imap_literal literal,
                               struct error *err);
/* Time for the client to go on: renewed at every line and block. */
void imap_renew_deadline(struct imap_session *s);

/* The verb table, imap_verbs.c. */
const struct imap_verb *imap_verb_find(struct str name, bool after_uid);
