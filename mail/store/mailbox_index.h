/* mailbox_index.h - the open mailbox: UIDs, flags and modseqs in memory, shared by the worker's
 * sessions.
 *
 * The index is one per mailbox and worker, however many sessions look at it; it follows the
 * database by modseq. Each session has a view: which UIDs it was told of, in order, so that its
 * sequence numbers change only when it says so. A view is a reference to a shared list of UIDs
 * and a count; the list is copied only when messages vanish while others still look at the old
 * one. Per message: 4 bytes a list (shared), 24 bytes the index (shared), while it is read anew
 * both twice. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "mail/store/mailbox.h"
#include "mail/store/message.h"
#include "server/base/arena.h"
#include "server/base/error.h"
#include "server/run/fiber.h"

struct mailbox_index;
struct mailbox_view;

struct index_entry {
    int64_t message_id;
    uint64_t modseq;
    uint32_t uid;
    uint32_t flags;                  /* enum message_flag */
    const struct keywords *keywords; /* NULL: none; interned, valid until the view rests */
};

/* Opens a view up to date with the database, as user_id sees it: \Seen is each user's own.
 * ERR_NOT_FOUND when the mailbox is gone. */
PARKS struct mailbox_view *mailbox_view_open(struct mailbox_key mailbox, int64_t user_id,
                                             struct error *err);
void mailbox_view_close(struct mailbox_view **v);

/* --- the session's numbers -------------------------------------------------------------------- */
uint32_t view_count(const struct mailbox_view *v);             /* EXISTS as the session knows it */
uint32_t view_uid(const struct mailbox_view *v, uint32_t seq); /* seq 1..count */
uint32_t view_seq(const struct mailbox_view *v, uint32_t uid); /* 0: not in the view */
uint32_t view_uid_max(const struct mailbox_view *v);           /* 0 when empty */
/* The first seq whose uid is not below it; count + 1 when there is none. */
uint32_t view_seq_at_least(const struct mailbox_view *v, uint32_t uid);
/* State of a message of the view; false when it is expunged already although the session was not
 * told. */
bool view_entry(const struct mailbox_view *v, uint32_t uid, struct index_entry *out);
/* The same by sequence number, without a search as long as nothing was expunged. */
bool view_entry_at(const struct mailbox_view *v, uint32_t seq, struct index_entry *out);
/* Everything up to here was shown to the session. */
uint64_t view_highest_modseq(const struct mailbox_view *v);
uint32_t view_uid_next(const struct mailbox_view *v);
uint32_t view_uid_validity(const struct mailbox_view *v);
/* Of the last change of the mailbox itself, grants among them, as far as the index knows. */
uint64_t view_changed_modseq(const struct mailbox_view *v);
/* Every keyword in use in the mailbox, for FLAGS and PERMANENTFLAGS, and perhaps some that were; as
 * long as the generation stays none is taken away. */
size_t view_keywords(const struct mailbox_view *v, struct arena *a, struct str **out);
uint32_t view_keyword_generation(const struct mailbox_view *v);

/* Keywords of a message that the session has read past the index; it may be gone before the index
 * sees it. */
void view_learn_keywords(struct mailbox_view *v, const struct keywords *k);

/* Keywords of entries may be looked at between hold, which opening implies, and rest. */
void view_hold(struct mailbox_view *v);
void view_rest(struct mailbox_view *v);

/* --- keeping up ------------------------------------------------------------------------------- */
/* Brings the shared index up to the database (cheap when nothing was announced since). */
PARKS int view_refresh(struct mailbox_view *v, struct error *err);
/* The session met something in the database that the index may not know, such as a message that is
 * gone: the next refresh looks, announced or not. */
void view_doubt(struct mailbox_view *v);
/* Does the index know something the session was not told? */
bool view_is_behind(const struct mailbox_view *v);

/* What changed since the session was last told; afterwards it counts as told. To be sent in this
 * order: expunged_seqs one after the other (each counts after those before it), exists, flags
 * with flag_seqs. Without `expunges`, vanished messages are left for a later call and keep their
 * numbers, and view_highest_modseq stays; arrivals and flags are told all the same. */
struct view_changes {
    uint32_t *expunged_seqs;
    uint32_t *expunged_uids;
    size_t expunged_count;
    bool exists_changed;
    uint32_t exists;
    struct index_entry *flags; /* of messages told before, ascending by UID; own changes left out */
    uint32_t *flag_seqs;
    size_t flag_count;
    bool is_gone; /* the mailbox was removed: nothing else is set */
};
void view_take_changes(struct mailbox_view *v, struct arena *a, bool expunges,
                       struct view_changes *out);
/* The session itself made this change and tells (or need not tell) its client: the next take
 * leaves it out. */
void view_mark_told(struct mailbox_view *v, uint32_t uid, uint64_t modseq);
/* Was something marked that the index may not know yet? */
bool view_is_ahead(const struct mailbox_view *v);

/* Calls `changed` when something happened in the account that may concern the view (on the loop:
 * must not park). */
void view_watch(struct mailbox_view *v, void (*changed)(void *arg), void *arg);
void view_unwatch(struct mailbox_view *v);

struct uid_range {
    uint32_t first, last;
};
/* UIDs expunged since a modseq, for QRESYNC; ascending, apart from one another. */
PARKS int mailbox_vanished_since(struct arena *a, struct mailbox_key mailbox, uint64_t modseq,
                                 struct uid_range **ranges, size_t *count, struct error *err);
void mailbox_index_cache_clear(void); /* unused indexes kept for quick re-opening; at exit */
