/* imap_notify_parse.h - which events of which mailboxes NOTIFY SET asks for (RFC 5465, 8). */
#pragma once
#include "mail/imap/imap_mailbox_name.h"
#include "mail/imap/imap_session.h"

#define NOTIFY_GROUPS_MAX     50
#define NOTIFY_NAMES_MAX      500
#define NOTIFY_ITEMS_SIZE_MAX 4096 /* of the items fetched of new messages, as text */

enum notify_event {
    NOTIFY_MESSAGES = 1, /* MessageNew and MessageExpunge: always both */
    NOTIFY_FLAGS = 2,
    NOTIFY_NAMES = 4,
    NOTIFY_SUBSCRIPTIONS = 8,
    NOTIFY_METADATA = 16,
    NOTIFY_SERVER_METADATA = 32,
};

enum notify_filter {
    FILTER_SELECTED,
    FILTER_SELECTED_DELAYED,
    FILTER_PERSONAL, /* "inboxes", too: mail may be delivered to any mailbox */
    FILTER_SUBSCRIBED,
    FILTER_SUBTREE,
    FILTER_MAILBOXES,
};

struct notify_group {
    enum notify_filter filter;
    unsigned events; /* enum notify_event */
    struct imap_place *places; /* of FILTER_SUBTREE and FILTER_MAILBOXES */
    size_t place_count;
};

struct notify_request {
    bool wants_status;
    bool is_delayed;   /* SELECTED-DELAYED */
    bool has_selected; /* one of the two was there */
    unsigned selected_events;
    bool wants_modseq; /* among the items */
    struct str items; /* "(UID FLAGS)" of MessageNew; empty: none */
    struct notify_group *groups; /* the others */
    size_t group_count;
};

/* Behind "SET". Names of mailboxes that the user may not know of, or that cannot be, are passed
 * over (RFC 5465, 3.1). c->refusal says BADEVENT or NOTIFICATIONOVERFLOW. */
PARKS int imap_parse_notify(struct imap_session *s, struct imap_command *c,
                            struct notify_request *out, struct error *err);
