/* delivery.h - a message goes in: parsed once, stored once, filed for any number of accounts.
 *
 * One round trip and one transaction for the blob and all copies; when it returns 0 everything
 * is committed with fsync. */
#pragma once
#include <stdint.h>
#include "mail/store/message.h"
#include "mail/store/outbound.h"
#include "server/base/arena.h"
#include "server/base/error.h"
#include "server/base/str.h"
#include "server/run/fiber.h"

/* What a message must share with another one to be of its thread (RFC 8621, 3). */
struct thread_marks {
    int64_t *refs; /* hashes of Message-ID, In-Reply-To and References; sorted, without repeats */
    size_t ref_count;
    int64_t subject_hash;
};
/* From a header, or from the fields of it that are kept. Never fails. */
void message_thread_marks(struct arena *a, struct str header, struct thread_marks *out);

/* What is known of a message from reading it once. */
struct message_prepared {
    struct str raw; /* borrowed: must outlive the delivery */
    struct str envelope, structure;
    struct str headers;   /* p NULL: too large to be kept */
    struct str sort_keys; /* see sort_keys.h */
    struct str preview;   /* see mail/mime/preview.h */
    int64_t sent_us;    /* INT64_MIN: none */
    struct thread_marks thread;
    size_t growth; /* bytes more when sent as lines that end in CR LF */
};
/* Large messages are parsed on a helper thread. Never fails. */
PARKS void message_prepare(struct arena *a, struct str raw, struct message_prepared *out);

/* mailbox_id of the mailbox with that special use (RFC 6154), wherever it is; the inbox when there is none. */
#define MAILBOX_SENT (-3)
#define MAILBOX_JUNK (-5)

enum delivery_status { DELIVERED, DELIVERY_OVER_QUOTA, DELIVERY_NO_MAILBOX, DELIVERY_NO_ACCOUNT };

struct delivery {
    int64_t account_id;
    int64_t mailbox_id; /* 0: the inbox; or MAILBOX_SENT, MAILBOX_JUNK */
    int64_t user_id;    /* whose \Seen `flags` sets; 0: the account's own */
    uint32_t flags;
    struct keywords keywords;
    int64_t received_us;
    bool may_exceed_quota; /* admitted at RCPT: what came in is not refused by a race */
    /* Answer: */
    enum delivery_status status;
    uint32_t uid_validity, uid;
    int64_t message_id, thread_id;
    uint64_t modseq;
};

/* A message, the accounts that get it (SMTP, LMTP), and its way to others' servers. outbound may be NULL, and count 0
 * then has no effect; with outbound->ends, what those report ends in the same transaction (see outbound.h). */
struct mail_item {
    const struct message_prepared *m;
    struct delivery *v;
    size_t count;
    struct outbound *outbound;
};

/* All of them in one transaction: what a filter makes of a message comes and goes with the message. An account may be over
 * quota while others get theirs: see status. */
PARKS int mail_deliver_all(struct mail_item *items, size_t count, struct error *err);

static inline int mail_deliver(const struct message_prepared *m, struct delivery *v, size_t count,
                               struct outbound *outbound, struct error *err)
{
    return mail_deliver_all(&(struct mail_item){m, v, count, outbound}, 1, err);
}

/* One message comes and another goes, in one transaction: the quota counts the difference.
 * ERR_NOT_FOUND when the old one is not there any more. */
PARKS int mail_replace(const struct message_prepared *m, struct delivery *d,
                       struct mailbox_key old_mailbox, uint32_t old_uid, struct error *err);

/* Many messages to one mailbox, all or nothing (APPEND, MULTIAPPEND, imports): the first status
 * that is not DELIVERED is an error. */
PARKS int mail_append(const struct message_prepared *m, struct delivery *v, size_t count,
                      struct error *err);
