/* imap_progress.h - "still at it", for commands that take long (INPROGRESS, RFC 9585). */
#pragma once
#include "mail/imap/imap_session.h"
#include "server/run/channel.h"
#include "server/run/loop.h"

/* To be called now and then by whatever runs long: tells the client once in
 * config.imap_progress_interval, the first time that long after the first call. `done` of
 * `total` steps; what is counted is the command's affair. c may be NULL: nothing is told. */
PARKS void imap_tell_progress(struct imap_session *s, struct imap_command *c, uint64_t done,
                              uint64_t total);

/* The same while one call of the store is at work, which gives no numbers: between begin and end
 * nobody else may write to the connection. */
struct imap_progress {
    struct timer timer;
    struct imap_session *s;
    struct imap_command *c;
    struct fiber *teller; /* NULL: nobody is telling just now */
    struct wait_queue told;
};
void imap_progress_begin(struct imap_progress *p, struct imap_session *s, struct imap_command *c);
PARKS void imap_progress_end(struct imap_progress *p);
