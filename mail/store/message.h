/* message.h - messages of a mailbox: read in sets, flagged, copied, moved, removed.
 *
 * Every write is one transaction under the account's row lock and returns the modseq it made;
 * the caller need not publish it: these functions call bus_publish after the commit. Reads are
 * in sets, never message by message. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "mail/store/mailbox.h"
#include "server/base/arena.h"
#include "server/base/error.h"
#include "server/base/str.h"
#include "server/run/fiber.h"

enum message_flag {
    FLAG_SEEN = 1,
    FLAG_ANSWERED = 2,
    FLAG_FLAGGED = 4,
    FLAG_DELETED = 8,
    FLAG_DRAFT = 16,
    FLAG_SYSTEM_ALL = 31,
    FLAG_KEYWORDS = 32, /* in masks only: every keyword */
    FLAG_ALL = 63,
};

#define KEYWORD_SIZE_MAX         100
#define KEYWORDS_PER_MESSAGE_MAX 64

/* As read: sorted by lower case, without repeats; the case first seen stays. Given in any order. */
struct keywords {
    const struct str *v;
    size_t n;
};

/* --- reading ---------------------------------------------------------------------------------- */
/* What to read: columns cost bytes. */
enum message_columns {
    MESSAGE_ROW = 1, /* thread_id, blob_id, size, received_at, saved_at */
    MESSAGE_ENVELOPE = 2,
    MESSAGE_STRUCTURE = 4,
    MESSAGE_HEADERS = 8,
    MESSAGE_BLOB = 16, /* the raw message */
    MESSAGE_SIZE = 32, /* size alone: comes free with envelope, structure or headers */
    MESSAGE_PREVIEW = 128,
    MESSAGE_TEXT = 64, /* what searches look into, where it is kept already */
};

struct message {
    int64_t message_id;
    int64_t thread_id, blob_id;
    uint64_t size;
    int64_t received_us, saved_us; /* Unix time in microseconds */
    int64_t sent_us;               /* INT64_MIN: no usable Date field */
    struct str envelope, structure, blob;
    struct str preview; /* the first words, one line of UTF-8 (mail/mime/preview.h) */
    struct str headers; /* p NULL although asked for: too large to be kept, read the blob */
    /* The three texts of mail/mime/message_text.h. p NULL although asked for: not kept (yet), read
     * the blob. Cut: what is not found here may be in the blob. */
    struct str text_header, text_parts, text_body;
    bool text_is_cut;
};

/* Reads messages of one account by message_id (any order, repeats allowed) and calls `each` once
 * for every one that still exists, in the order of ids[]. Works in batches bounded by bytes, so
 * that a million messages or gigabytes of blobs need a few MB. The strs are borrowed until
 * `each` returns; `each` may park; -1 from it stops the reading. */
struct message_reader {
    int64_t account_id;
    const int64_t *ids;
    const uint32_t
        *sizes; /* of the messages in bytes, parallel to ids; optional, helps with blobs */
    size_t count;
    unsigned columns; /* enum message_columns */
    /* Of MESSAGE_BLOB, so many bytes from there on instead of all; blob_size 0: all. */
    uint64_t blob_offset, blob_size;
    PARKS int (*each)(void *arg, size_t index, const struct message *m, struct error *err);
    void *arg;
};
PARKS int message_read(const struct message_reader *r, struct error *err);

/* The message that has a UID now; ERR_NOT_FOUND. */
PARKS int message_find(struct mailbox_key mailbox, uint32_t uid, int64_t *message_id,
                       struct error *err);

/* Messages of a mailbox from a UID on, ascending, at most `limit`; the owner's \Seen. */
struct message_listed {
    int64_t message_id;
    uint32_t uid, flags;
};
PARKS int message_list(struct arena *a, struct mailbox_key mailbox, uint32_t from_uid, uint32_t limit,
                       struct message_listed **out, size_t *count, struct error *err);

/* Is this header field among those kept in `headers`, so that its absence there is an answer? */
bool message_header_is_cached(struct str name);

/* --- writing ---------------------------------------------------------------------------------- */
enum flag_change { FLAGS_ADD, FLAGS_REMOVE, FLAGS_REPLACE };

struct message_state { /* of one message after a change */
    uint32_t uid;
    uint32_t flags;
    uint64_t modseq;
    struct keywords keywords;
};

/* user_id is who does it: \Seen is each user's own, everything else is the mailbox's.
 * UIDs that no longer exist are passed over. unchanged_since: UINT64_MAX for none; messages
 * changed later are left alone and listed in *conflicts. Only messages that really changed get a
 * new modseq; `out` has the state of all that were asked for and exist, ascending by UID. A huge
 * set is changed in several transactions; on failure `out` has what was done. */
PARKS int message_store_flags(struct arena *a, struct mailbox_key mailbox, int64_t user_id,
                              const uint32_t *uids, size_t count, enum flag_change change,
                              uint32_t flags, struct keywords keywords, uint64_t unchanged_since,
                              struct message_state **out, size_t *out_count, uint32_t **conflicts,
                              size_t *conflict_count, struct error *err);

struct uid_pair {
    uint32_t from, to;
};
/* All or nothing (ERR_OVER_QUOTA, ERR_NOT_FOUND for the target). Flags, keywords and received_at
 * come along. A copy is a new message sharing the blob; a moved one keeps its message_id. UIDs
 * that no longer exist are passed over. */
PARKS int message_copy(struct arena *a, struct mailbox_key from, struct mailbox_key to,
                       int64_t user_id, const uint32_t *uids, size_t count,
                       struct uid_pair **pairs, size_t *pair_count, uint32_t *to_uid_validity,
                       struct error *err);
PARKS int message_move(struct arena *a, struct mailbox_key from, struct mailbox_key to,
                       int64_t user_id, const uint32_t *uids, size_t count,
                       struct uid_pair **pairs, size_t *pair_count, uint32_t *to_uid_validity,
                       struct error *err);

/* Removes those of uids[] (NULL: of the whole mailbox) that are flagged \Deleted; only_deleted =
 * false removes them regardless. *modseq: of the last removal, 0 when there was none. A huge set
 * is removed in several transactions; on failure `removed` has what was done. */
PARKS int message_expunge(struct arena *a, struct mailbox_key mailbox, const uint32_t *uids,
                          size_t count, bool only_deleted, uint32_t **removed,
                          size_t *removed_count, uint64_t *modseq, struct error *err);

/* The same for a user who may not change every flag: `may` masks what is changed, and what comes
 * along with a copy (rights_flags() of access.h). */
PARKS int message_store_masked(struct arena *a, struct mailbox_key mailbox, int64_t user_id,
                               uint32_t may, const uint32_t *uids, size_t count,
                               enum flag_change change, uint32_t flags, struct keywords keywords,
                               uint64_t unchanged_since, struct message_state **out,
                               size_t *out_count, uint32_t **conflicts, size_t *conflict_count,
                               struct error *err);
PARKS int message_copy_masked(struct arena *a, struct mailbox_key from, struct mailbox_key to,
                              int64_t user_id, uint32_t may, const uint32_t *uids, size_t count,
                              struct uid_pair **pairs, size_t *pair_count,
                              uint32_t *to_uid_validity, struct error *err);
PARKS int message_move_masked(struct arena *a, struct mailbox_key from, struct mailbox_key to,
                              int64_t user_id, uint32_t may, const uint32_t *uids, size_t count,
                              struct uid_pair **pairs, size_t *pair_count,
                              uint32_t *to_uid_validity, struct error *err);
