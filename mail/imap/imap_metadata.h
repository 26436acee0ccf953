/* imap_metadata.h - METADATA answers (RFC 5464; LIST RETURN (METADATA ...) of RFC 9590). */
#pragma once
#include "mail/imap/imap_session.h"
#include "mail/store/metadata.h"

/* What was found for some mailboxes of one account. */
struct imap_metadata {
    struct metadata_query query;
    int64_t account_id;
    struct annotation *v; /* by mailbox number */
    size_t count;
};

/* One query for all of v[], which are mailboxes of one account. `out->query` says what for. */
PARKS int imap_metadata_read(struct imap_session *s, int64_t account_id, const struct mailbox *v,
                             size_t count, struct imap_metadata *out, struct error *err);
/* A whole "* METADATA" line of one of them; `name` is as the client knows the mailbox. Nothing
 * when there is nothing to tell. *longest: the largest value that was too long, 0: none. */
void imap_add_metadata(const struct imap_session *s, struct buf *out, struct str name,
                       const struct mailbox *mailbox, const struct imap_metadata *found,
                       uint64_t *longest);
/* An entry's name: an atom where it can be one. */
void imap_add_metadata_entry(struct buf *out, struct str entry);
