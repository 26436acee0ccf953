/* imap_notify.h - NOTIFY (RFC 5465): news of any mailbox, told also between commands; and the
 * METADATA responses that ENABLE METADATA asks for (RFC 5464, 4.4), told with commands and in IDLE.
 *
 * What a session wants costs it about 600 bytes and the names it gave, however many mailboxes it
 * watches; what happens is followed once for all sessions of a worker (mailbox_watch.h). */
#pragma once
#include "mail/imap/imap_mailbox_name.h"
#include "mail/imap/imap_notify_parse.h"
#include "mail/imap/imap_session.h"
#include "mail/store/mailbox_watch.h"
#include "mail/store/metadata.h"

struct imap_notify;

/* Forgets everything, as for a new session. */
void imap_notify_stop(struct imap_session *s);
/* Are news told although no command runs? */
bool imap_notify_at_rest(const struct imap_session *s);
/* Must removals in the selected mailbox wait for a command then (SELECTED-DELAYED)? */
bool imap_notify_delays_expunges(const struct imap_session *s);
/* What is told of the selected mailbox: NOTIFY_MESSAGES, NOTIFY_FLAGS; all without NOTIFY. */
unsigned imap_notify_selected_events(const struct imap_session *s);

/* Lets the selected mailbox wake the session, or not, as IDLE and NOTIFY have it now. */
void imap_notify_watch_view(struct imap_session *s);
/* News of other mailboxes and of annotations. */
PARKS void imap_notify_send(struct imap_session *s);
/* FETCH responses for new messages of the selected mailbox, from that one on. */
PARKS void imap_notify_send_arrivals(struct imap_session *s, uint32_t from_seq);
/* false: not now, or too many mailboxes. */
PARKS bool imap_notify_enable_metadata(struct imap_session *s);

/* --- the session's own doing, of which it is not told ------------------------------------------ */
/* One of EVENT_CREATED, REMOVED, RENAMED (the new name), SUBSCRIPTION. `place` lives as long as
 * the command. */
void imap_notify_did(struct imap_session *s, enum mailbox_event_kind kind,
                     const struct imap_place *place);
void imap_notify_did_annotate(struct imap_session *s, int64_t account_id,
                              const struct metadata_change *change);
/* Messages with these UIDs were put into a mailbox. */
void imap_notify_did_add(struct imap_session *s, struct mailbox_key mailbox, uint32_t from,
                         uint32_t to);
