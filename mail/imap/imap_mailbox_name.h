/* imap_mailbox_name.h - mailbox names on the wire and as paths of the store.
 *
 * The wire has modified UTF-7 (RFC 3501, 5.1.3) until the client enables IMAP4rev2, then UTF-8.
 * Plain UTF-8 is understood always: no valid UTF-8 beyond ASCII can be modified UTF-7. */
#pragma once
#include "mail/imap/imap_session.h"
#include "mail/store/access.h"

/* Where a name leads: into one's own account, or another's by one of the other namespaces. */
struct imap_place {
    int64_t account_id;
    struct str path; /* canonical, within that account */
    struct str name; /* canonical, as this user writes it: what answers show */
};

/* Reads a mailbox argument. A name that cannot exist is refused with [CANNOT]; one in an account
 * of which the user may know nothing, with [NONEXISTENT]. */
PARKS int imap_parse_mailbox(struct imap_session *s, struct imap_command *c, struct imap_place *out,
                             struct error *err);
/* Is the user's own account, where every right is theirs? */
static inline bool imap_place_is_own(const struct imap_session *s, const struct imap_place *place)
{
    return place->account_id == s->account_id;
}
/* A mailbox argument that need not lead anywhere: its canonical name only. */
int imap_parse_mailbox_name(struct imap_session *s, struct imap_command *c, struct str *name,
                            struct error *err);
/* The mailbox of that name, when the user has all of `rights` (enum mailbox_right) there. Without
 * any of RIGHTS_KNOWING it does not exist for them; other rights missing: [NOPERM]. */
PARKS int imap_find_mailbox(struct imap_session *s, struct imap_command *c,
                            const struct imap_place *place, unsigned rights, struct mailbox *out,
                            struct error *err);
static inline struct mailbox_key imap_mailbox_key(const struct imap_place *place,
                                                  const struct mailbox *mailbox)
{
    return (struct mailbox_key){place->account_id, mailbox->mailbox_id};
}
/* Name or pattern to UTF-8; false when it is neither valid modified UTF-7 nor UTF-8. */
bool imap_name_decode(struct arena *a, struct str wire, bool is_utf8, struct str *out);
void imap_add_mailbox(const struct imap_session *s, struct buf *out, struct str name); /* quoted */
/* [NOPERM], unless `rights` are all there. */
int imap_require_rights(unsigned has, unsigned rights, struct error *err);
