/* submit_internal.h - a submission on its way, shared by the files behind submit.h.
 *
 *   submit_recipients.c  whom it leads to: accounts here, entries of the queue
 *   submit_copies.c      what filters make of it, and where copies go
 *   submit_name.c        under whose name it leaves: sender, signature, seal, and the bytes
 *   submit_outcome.c     what became of it, for the submitter and the trace
 *   submit.c             all of it in one transaction
 *   submit_release.c     what was held, when it is let go */
#pragma once
#include <string.h>
#include "mail/queue/submit.h"
#include "mail/store/delivery.h"

enum { SUBMIT_DIRECT, SUBMIT_PASSED_ON, SUBMIT_ENTRIES };

/* An account that gets the message. */
struct submit_taker {
    struct submit_filtered f;
    struct submit_decision d;
    enum delivery_status status; /* of its copies together: the best of them */
};

/* A copy on its way into a mailbox. */
struct submit_place {
    struct submit_taker *taker; /* NULL: one beside those of the recipients */
    struct str mailbox;
    struct str message; /* p NULL: as it came */
};

struct submit_plan {
    struct arena *arena;
    struct submit *s;
    struct submit_taker *takers; /* by account, each once */
    size_t taker_count, taker_room;
    struct submit_place *copies;     /* those of the message as it came first */
    struct delivery *places; /* where each goes */
    size_t copy_count, edited_count;
    struct mail_item *items; /* the message as it came, then those that filters edited */
    struct outbound entries[SUBMIT_ENTRIES];
    size_t entry_room[SUBMIT_ENTRIES];
    bool is_kept_back; /* copies wait in the queue, too */
    struct str
        passed_through; /* the recipient, an address of ours, that others are reached through; empty: none */
    struct str raw; /* everything, with the Return-Path */
};

/* What is empty may have no place at all, which memcpy() must not be given. */
static inline char *submit_put(char *at, struct str s)
{
    if (s.n > 0)
        memcpy(at, s.p, s.n);
    return at + s.n;
}

/* --- submit_recipients.c --------------------------------------------------------------------------- */
void submit_plan_recipients(struct submit_plan *p);
/* A forward, a group or an alias of ours leads there: the sender wrote to somebody else. */
bool submit_is_passed_on(const struct route *route);
/* It is resolved anew when its time comes. */
bool submit_waits_unresolved(const struct submit_plan *p, const struct submit_recipient *r);

/* --- submit_copies.c ------------------------------------------------------------------------------- */
PARKS int submit_decide(struct submit_plan *p, struct error *err);
PARKS int submit_run_before(struct submit_plan *p, struct error *err);
PARKS void submit_run_after(struct submit_plan *p);
void submit_plan_copies(struct submit_plan *p);

/* --- submit_name.c --------------------------------------------------------------------------------- */
PARKS int submit_plan_entries(struct submit_plan *p, struct error *err);
/* Signature or seal; may be empty. */
PARKS int submit_added_fields(struct submit_plan *p, struct str *fields, struct error *err);
void submit_put_together(struct submit_plan *p, struct str fields);

/* --- submit_outcome.c ------------------------------------------------------------------------------ */
void submit_tell(struct submit_plan *p);
