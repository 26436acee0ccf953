/* mailbox_watch.h - what happens to the mailboxes of an account, for those who look at many.
 *
 * The worker keeps one picture of an account's mailboxes for all who watch it, and brings it up to
 * date with one round trip after a notice, however many they are. A watch is a place in that
 * picture's history and costs about 100 bytes; the picture costs about 250 bytes a mailbox. Several
 * changes of one mailbox between two takes are one event, and nothing queues up for who is slow. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "mail/store/mailbox.h"
#include "mail/store/metadata.h"
#include "server/base/arena.h"
#include "server/base/error.h"
#include "server/base/str.h"
#include "server/run/fiber.h"

struct mailbox_watch;

enum mailbox_event_kind {
    EVENT_MESSAGES = 1, /* arrivals or removals */
    EVENT_FLAGS = 2,    /* flags or keywords, and perhaps nothing a client can see */
    EVENT_CREATED = 4,
    EVENT_REMOVED = 8,
    EVENT_RENAMED = 16, /* itself: not because a mailbox above it was */
    EVENT_CHILDREN = 32, /* one right below it was created or removed */
    EVENT_SUBSCRIPTION = 64,
    EVENT_PROPERTIES = 128, /* its role or who may use it */
    EVENT_MOVED = 256,      /* because one above it was renamed; told after that */
};

struct mailbox_event {
    unsigned kinds;
    struct mailbox mailbox; /* as it is now; of a removed one as it was, with the path last told */
    struct str old_path;    /* of a renamed or moved one: the path last told */
};

/* Watches from now on. `changed` is called on the loop when there may be something to take, and
 * must not park; NULL: never. ERR_LIMIT: more than config.imap_notify_mailboxes_max mailboxes. */
PARKS struct mailbox_watch *mailbox_watch_open(int64_t account_id, void (*changed)(void *arg),
                                               void *arg, struct error *err);
void mailbox_watch_close(struct mailbox_watch **);

/* What happened since the last take, in an order in which it can be told: see mailbox_watch.c.
 * ERR_LIMIT as above: nothing more will be heard. */
PARKS int mailbox_watch_take(struct mailbox_watch *w, struct arena *a, struct mailbox_event **out,
                             size_t *count, struct error *err);
/* The same for annotations of the account that the user can see; mailbox number 0: private ones
 * of the server. ERR_LIMIT: more than METADATA_CHANGES_MAX. */
PARKS int mailbox_watch_take_annotations(struct mailbox_watch *w, struct arena *a, int64_t user_id,
                                         struct annotation **out, size_t *count,
                                         struct error *err);
/* As the picture has it; false when there is no such mailbox. */
bool mailbox_watch_find(const struct mailbox_watch *w, struct arena *a, int64_t mailbox_id,
                        struct mailbox *out);
/* All of them, in no order. */
struct mailbox *mailbox_watch_all(const struct mailbox_watch *w, struct arena *a, size_t *count);
