/* mailbox.h - folders of an account: found, listed, made, renamed, removed.
 *
 * Paths are UTF-8 with '/' between levels; INBOX is matched without regard to case. Making
 * "a/b/c" makes what is missing above it. INBOX and mailboxes with a role cannot be removed. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "server/base/arena.h"
#include "server/base/error.h"
#include "server/base/str.h"
#include "server/run/fiber.h"

#define INBOX_ID 1 /* mailbox_id of every account's INBOX */

#define MAILBOX_PATH_SIZE_MAX     1000
#define MAILBOX_DEPTH_MAX         50
#define ACCOUNT_MAILBOXES_MAX     10000 /* kept by sql/migrations/0005_mailbox.sql */
#define MAILBOX_SUBSCRIPTIONS_MAX 10000

/* A mailbox by its numbers, which no rename changes. */
struct mailbox_key {
    int64_t account_id; /* whose */
    int64_t mailbox_id;
};

struct mailbox {
    int64_t account_id, mailbox_id;
    struct str path;
    struct str role; /* "inbox", "drafts", "sent", "archive", "junk", "trash" or empty */
    uint32_t uid_validity, uid_next;
    uint64_t modseq; /* highest of its messages and itself */
    uint32_t message_count, unseen_count, deleted_count; /* unseen: by the owner */
    uint64_t bytes;
    uint64_t deleted_bytes; /* set by mailbox_count_deleted only */
    bool is_subscribed; /* by the owner */
    bool has_children; /* set by mailbox_list only */
    unsigned rights;   /* of who asked (access.h): all of them unless access_find or access_list did */
};

/* Canonical path: INBOX folded, NFC, no empty levels, controls, '*' or '%'. ERR_SYNTAX
 * otherwise. */
int mailbox_path_canonical(struct arena *a, struct str path, struct str *out, struct error *err);

PARKS int mailbox_find(struct arena *a, int64_t account_id, struct str path, struct mailbox *out,
                       struct error *err);
PARKS int mailbox_get(struct arena *a, int64_t account_id, int64_t mailbox_id, struct mailbox *out,
                      struct error *err);
PARKS int mailbox_find_role(struct arena *a, int64_t account_id, struct str role,
                            struct mailbox *out, struct error *err);
/* All of the account, ordered by path with INBOX first. */
PARKS int mailbox_list(struct arena *a, int64_t account_id, struct mailbox **out, size_t *count,
                       struct error *err);

/* Sets deleted_bytes, the sizes of what is flagged \Deleted, in all of v[], which are of one
 * account. */
PARKS int mailbox_count_deleted(int64_t account_id, struct mailbox *v, size_t count,
                                struct error *err);

/* role: empty, or one that no other mailbox has (ERR_EXISTS). ERR_UNSUPPORTED for a name below
 * those of mailboxes of others (access.h). */
PARKS int mailbox_create(int64_t account_id, struct str path, struct str role, int64_t *mailbox_id,
                         struct error *err);
/* Its messages go to message_removed, a portion at a time, but it is gone at once. Subscriptions of
 * its name stay. ERR_DENIED for INBOX and roles, ERR_CONFLICT while it has children. */
PARKS int mailbox_remove(int64_t account_id, struct str path, struct error *err);
/* With everything below it, and the owner's subscriptions. Renaming INBOX moves its messages into
 * a new mailbox and leaves INBOX empty (RFC 9051, 6.3.6): a huge one in several transactions. */
PARKS int mailbox_rename(int64_t account_id, struct str from, struct str to, struct error *err);

/* Messages without \Seen of this user; user_id 0 and the account itself: of the owner. */
PARKS int mailbox_unseen_count(struct mailbox_key mailbox, int64_t user_id, uint32_t *count,
                               struct error *err);

/* Subscriptions are names as the user sees them, of own mailboxes their paths. A name need not lead
 * anywhere: it stays when its mailbox goes (RFC 9051, 6.3.7), and whether to take one that leads
 * nowhere is the caller's to decide. New mailboxes are subscribed by their owner. ERR_LIMIT. */
PARKS int mailbox_subscribe(int64_t account_id, struct str name, bool subscribed,
                            struct error *err);
/* In the order of mailbox_list, only that INBOX is not first. */
PARKS int mailbox_subscriptions(struct arena *a, int64_t account_id, struct str **names,
                                size_t *count, struct error *err);

/* Quota counters of the account. limits 0: without. */
struct mail_usage {
    int64_t bytes, messages, bytes_max, messages_max;
};
PARKS int mail_usage(int64_t account_id, struct mail_usage *out, struct error *err);

/* The default folders, as part of account_add's transaction: see sql function
 * mail_account_prepare. */
